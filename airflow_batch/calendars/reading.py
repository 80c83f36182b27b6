"""From a calendar file to a calendar: what each key may hold, and the errors that say so with file and line.

What the values are as YAML is in ``nodes.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date
from os import PathLike
from pathlib import Path
from typing import Any

from airflow_batch._campaigns.reference import check_token
from airflow_batch.calendars.model import CalendarCampaign, CampaignCalendar
from airflow_batch.calendars.nodes import MAX_DEPTH, CalendarFile, Entry, json_value
from airflow_batch.exceptions import BatchConfigurationError, BatchError
from airflow_batch.payloads import check_payload, shown
from airflow_batch.windows import CampaignWindow

CALENDAR_KEYS = ("timezone", "campaigns")
CAMPAIGN_KEYS = ("name", "app", "token", "windows", "except_dates", "definition")
OPTIONAL_KEYS = frozenset({"app", "except_dates", "definition"})
WINDOW_KEYS = ("on", "off", "start", "end")
MAX_DEFINITION_VALUES = 1_000_000
"""Values of all definitions together; aliases can write more in a few lines than a memory holds."""
MAX_WINDOWS = 100_000
"""Windows of all campaigns together, each counted once for the same ``except_dates``."""

_Windows = tuple[CampaignWindow, ...]


def read_calendar(path: str | PathLike[str]) -> CampaignCalendar:
    """Return what a calendar file says.

    ::

        timezone: Europe/Paris
        campaigns:
          - name: Summer sale          # what the campaign is called in Batch
            app: ios                   # where the connection has api_keys
            token: d9d5e5a52ca08110d4893af3254ec21b
            windows:                   # live when any of them says so
              - {on: "0 9 * * 1-5", off: "0 18 * * 1-5"}
              - {start: 2026-07-04T10:00, end: 2026-07-05T20:00}
            except_dates: [2026-12-25] # not live on these dates
            definition: sale.json      # what it was created from: a JSON file beside the calendar, or an object

    ``app``, ``except_dates`` and ``definition`` may be left out. A window is that of
    :class:`~airflow_batch.windows.CampaignWindow`. A key of the file that begins with ``x-`` is for your own anchors.
    Dates, times, names and tokens are read as they are written, whatever YAML thinks of them.

    :param path: The file; UTF-8, at most 10 MB.
    :raises BatchConfigurationError: for anything else, with file, line, what was found and what is allowed.
    """
    return _Reader(Path(path).absolute()).calendar()


class _Reader:
    def __init__(self, path: Path) -> None:
        self.file = CalendarFile(path)
        self.timezone = "UTC"
        self.windows_read: dict[tuple[int, tuple[date, ...]], _Windows] = {}
        self.window_read: dict[tuple[Any, ...], CampaignWindow] = {}
        self.files_read: dict[Path, dict[str, Any]] = {}
        self.definition_values = 0
        self.windows_counted = 0

    def calendar(self) -> CampaignCalendar:
        root = self.file.root()
        kept = self._mapping(root, "the file", CALENDAR_KEYS, own_keys="x-")
        zone = kept["timezone"]
        self.timezone = self._text(zone, "timezone")
        # Any window will do: it refuses a zone that is not known, here with the zone's own line.
        self._window({"on": "0 9 * * *", "off": "0 18 * * *"}, {}, zone.line, ())
        items = self._list(kept["campaigns"], "campaigns", "a campaign")
        campaigns: list[CalendarCampaign] = []
        lines: dict[tuple[str | None, str], int] = {}
        for item in items:
            campaign = self._campaign(item)
            first = lines.setdefault((campaign.app, campaign.token), campaign.line)
            if len(lines) == len(campaigns):
                app = f" of app {campaign.app!r}" if campaign.app else ""
                self.file.refuse(
                    campaign.line,
                    f"campaign {campaign.token!r}{app} again, which stands in line {first}. A campaign may be there "
                    "once, with several windows.",
                )
            campaigns.append(campaign)
        return CampaignCalendar(path=self.file.path, timezone=self.timezone, campaigns=tuple(campaigns))

    def _campaign(self, item: Entry) -> CalendarCampaign:
        kept = self._mapping(item, "a campaign", CAMPAIGN_KEYS, OPTIONAL_KEYS)
        token, excepted = kept["token"], self._dates(kept.get("except_dates"))
        try:
            check_token(self._text(token, "token"))
        except BatchError as error:
            self.file.refuse(token.line, str(error))
        return CalendarCampaign(
            token=self._text(token, "token"),
            app=self._text(kept["app"], "app") if "app" in kept else None,
            name=self._text(kept["name"], "name", strip=False),
            windows=self._windows(kept["windows"], excepted),
            definition=self._definition(kept["definition"]) if "definition" in kept else None,
            line=item.line,
        )

    def _windows(self, entry: Entry, excepted: tuple[date, ...]) -> _Windows:
        known = (id(entry), excepted)
        if known not in self.windows_read:
            windows = []
            for item in self._list(entry, "windows", 'a window such as {on: "0 9 * * 1-5", off: "0 18 * * 1-5"}'):
                kept = self._mapping(item, "a window", WINDOW_KEYS, frozenset(WINDOW_KEYS))
                texts = {key: self._text(value, key) for key, value in kept.items()}
                lines = {key: value.line for key, value in kept.items()}
                windows.append(self._window(texts, lines, item.line, excepted))
                self.windows_counted += 1
                if self.windows_counted > MAX_WINDOWS:
                    self.file.refuse(item.line, f"more than {MAX_WINDOWS:,} windows, aliases included.")
            self.windows_read[known] = tuple(windows)
        return self.windows_read[known]

    def _window(
        self, texts: Mapping[str, str], lines: Mapping[str, int], line: int, excepted: tuple[date, ...]
    ) -> CampaignWindow:
        known = (*sorted(texts.items()), excepted)
        if known not in self.window_read:
            arguments: dict[str, Any] = dict(texts)
            try:
                window = CampaignWindow(**arguments, timezone=self.timezone, except_dates=excepted)
            except BatchConfigurationError as error:
                about = re.match(r"(on|off|start|end)\b", str(error))
                found = str(error).replace("A CampaignWindow takes", "A window takes")
                raise self.file.error(lines.get(about[1], line) if about else line, found) from None
            self.window_read[known] = window
        return self.window_read[known]

    def _dates(self, entry: Entry | None) -> tuple[date, ...]:
        days = []
        items = [] if entry is None or entry.value == [] else self._list(entry, "except_dates", "a date")
        for item in items:
            text = self._text(item, "a date of except_dates")
            try:
                days.append(date.fromisoformat(text))
            except ValueError:
                self.file.refuse(item.line, f"except_dates holds {shown(text)}. Dates such as 2026-12-25 are allowed.")
        return tuple(sorted(set(days)))

    def _definition(self, entry: Entry) -> dict[str, Any]:
        if isinstance(entry.value, str):
            path = self.file.path.parent / entry.value
            if path not in self.files_read:
                self.files_read[path] = self._definition_file(entry.line, entry.value, path)
            return self.files_read[path]
        if not isinstance(entry.value, dict):
            self.file.refuse(entry.line, "definition is a list. The name of a JSON file, or an object, is allowed.")
        self._count(entry, 0)
        return self._checked(entry.line, json_value(entry), "definition")

    def _definition_file(self, line: int, name: str, path: Path) -> dict[str, Any]:
        try:
            found = json.loads(CalendarFile(path).text())
        except BatchConfigurationError as error:
            raise self.file.error(line, f"definition file {error} It must be beside the calendar.") from None
        except (ValueError, RecursionError) as error:
            raise self.file.error(line, f"definition file {name!r} is not JSON: {error}.") from None
        return self._checked(line, found, f"definition file {name!r}")

    def _checked(self, line: int, definition: Any, source: str) -> dict[str, Any]:
        try:
            return check_payload(definition, source)
        except BatchError as error:
            found = str(error)
            raise self.file.error(line, found if source in found else f"{source}: {found}") from None

    def _count(self, entry: Entry, depth: int) -> None:
        """Refuse what aliases make too deep or too much of."""
        if depth > MAX_DEPTH:
            self.file.refuse(
                entry.line, f"nested too deep by aliases. At most {MAX_DEPTH} levels are allowed in a definition."
            )
        self.definition_values += 1
        if self.definition_values > MAX_DEFINITION_VALUES:
            self.file.refuse(
                entry.line, f"definitions of more than {MAX_DEFINITION_VALUES:,} values, aliases included."
            )
        items = entry.value.values() if isinstance(entry.value, dict) else entry.value
        for item in items if not isinstance(items, str) and items is not None else ():
            self._count(item, depth + 1)

    def _mapping(
        self,
        entry: Entry,
        what: str,
        allowed: tuple[str, ...],
        optional: frozenset[str] = frozenset(),
        own_keys: str | None = None,
    ) -> dict[str, Entry]:
        """Return the entries of a mapping that hold something, once its keys are known to be the allowed ones."""
        hint = f"Allowed in {what}: {', '.join(allowed)}"
        if not isinstance(entry.value, dict):
            self.file.refuse(entry.line, f"{what} must be a mapping, not {_kind(entry)}. {hint}.")
        also = f", and keys that begin with {own_keys!r} for your own anchors" if own_keys else ""
        for key in entry.value:
            if key not in allowed and not (own_keys and key.startswith(own_keys)):
                self.file.refuse(entry.keys[key], f"unknown key {shown(key)}. {hint}{also}.")
        needed = [key for key in allowed if key not in optional]
        for key in needed:
            if key not in entry.value:
                self.file.refuse(entry.line, f"{what} has no {key}. Needed: {', '.join(needed)}. {hint}.")
            if entry.value[key].value is None:
                self.file.refuse(entry.keys[key], f"{key} has no value. Needed: {', '.join(needed)}.")
        return {key: value for key, value in entry.value.items() if key in allowed and value.value is not None}

    def _list(self, entry: Entry, name: str, of: str) -> list[Entry]:
        if not isinstance(entry.value, list):
            self.file.refuse(entry.line, f"{name} must be a list, not {_kind(entry)}. Each item is {of}.")
        if not entry.value:
            self.file.refuse(entry.line, f"{name} is empty. At least one item is needed: {of}.")
        return entry.value

    def _text(self, entry: Entry, name: str, *, strip: bool = True) -> str:
        if not isinstance(entry.value, str) or not entry.value.strip():
            self.file.refuse(entry.line, f"{name} must be text, not {_kind(entry)}.")
        return entry.value.strip() if strip else entry.value


def _kind(entry: Entry) -> str:
    if isinstance(entry.value, dict):
        return "a mapping"
    if isinstance(entry.value, list):
        return "a list"
    return "nothing" if entry.value is None else f"the text {shown(entry.value)}"
