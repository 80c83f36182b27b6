"""Reads a calendar from its file: what each key may hold, and one error with the line of every mistake.

Reading YAML is in ``nodes.py``.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints
from pydantic_core import ErrorDetails

from airflow_batch._campaigns.payload import check_payload
from airflow_batch._values import check_token, short_repr
from airflow_batch.calendars.model import CalendarCampaign, CampaignCalendar
from airflow_batch.calendars.nodes import Mistake, file_error, json_value, line_of, read_text, read_yaml
from airflow_batch.exceptions import BatchConfigurationError, BatchError
from airflow_batch.windows import CampaignWindow, read_dates, read_timezone

OWN_KEYS = "x-"
"""Prefix of keys of the file that are for the author's anchors."""

_shared_window = lru_cache(maxsize=10_000)(CampaignWindow)
"""One object for each window, however many campaigns have it."""


def read_calendar(path: str | PathLike[str]) -> CampaignCalendar:
    """Read a calendar file.

    ::

        timezone: Europe/Paris
        campaigns:
          - name: Summer sale          # the name of the campaign in Batch
            app: ios                   # where the connection has api_keys
            token: d9d5e5a52ca08110d4893af3254ec21b
            windows:                   # live when any of them is open
              - {on: "0 9 * * 1-5", off: "0 18 * * 1-5"}
              - {start: 2026-07-04T10:00, end: 2026-07-05T20:00}
            except_dates: [2026-12-25] # not live on these dates
            definition: sale.json      # the payload that created it: a JSON file beside the calendar, or an object

    ``app``, ``except_dates`` and ``definition`` may be left out. A window is that of
    :class:`~airflow_batch.windows.CampaignWindow`. A key of the file that begins with ``x-`` is for your own anchors.
    Dates, times, names and tokens are read as they are written, not as YAML would interpret them.

    :param path: The file; UTF-8, at most 10 MB.
    :raises BatchConfigurationError: for anything else, with the file, and for every mistake its line, what was found,
        and what is allowed.
    """
    path = Path(path).absolute()
    root, mistakes = read_yaml(path)
    known = root
    if isinstance(root, dict):
        known = {key: value for key, value in root.items() if not key.startswith(OWN_KEYS)}
    found: dict[str, Any] = {}
    try:
        found = dict(_File.model_validate(known, context=_Reading(path.parent)))
    except pydantic.ValidationError as failed:
        mistakes += [_mistake(root, error) for error in failed.errors(include_url=False)]
    if mistakes:
        raise file_error(path, mistakes)
    return CampaignCalendar(path, found["timezone"], tuple(found["campaigns"]))


@dataclass
class _Reading:
    """What the values of one file share."""

    folder: Path
    timezone: str = "UTC"
    lines: dict[tuple[str | None, str], list[int]] = field(default_factory=dict)
    """The lines of each app and token."""
    definitions: dict[Path, dict[str, Any] | ValueError] = field(default_factory=dict)


def _checked_by(check: Callable[[Any, Any], Any]) -> AfterValidator:
    """Return a validator whose refusals are mistakes of the file."""

    def validate(value: Any, info: pydantic.ValidationInfo) -> Any:
        try:
            return check(value, info)
        except BatchError as error:
            raise ValueError(str(error)) from None

    return AfterValidator(validate)


def _timezone(value: str, info: Any) -> str:
    info.context.timezone = read_timezone(value)
    return value


def _window(value: _Window, info: Any) -> CampaignWindow:
    excepted = info.data.get("except_dates") or ()
    return _shared_window(**dict(value), timezone=info.context.timezone, except_dates=excepted)


def _definition(value: Any, info: Any) -> Any:
    if isinstance(value, str):
        path = info.context.folder / value
        if path not in info.context.definitions:
            info.context.definitions[path] = _definition_file(value, path)
        found = info.context.definitions[path]
        if isinstance(found, ValueError):
            raise found
        return found
    if isinstance(value, list):
        raise ValueError("definition is a list. The name of a JSON file, or an object, is allowed.")
    return None if value is None else check_payload(json_value(value), "definition")


def _definition_file(name: str, path: Path) -> dict[str, Any] | ValueError:
    source = f"definition file {name!r}"
    try:
        return check_payload(json.loads(read_text(path)), source)
    except BatchConfigurationError as error:
        return ValueError(f"definition file {error} It must be beside the calendar.")
    except BatchError as error:
        found = str(error)
        return ValueError(found if source in found else f"{source}: {found}")
    except (ValueError, RecursionError) as error:
        return ValueError(f"{source} is not JSON: {error}.")


def _campaign(value: Any, read: pydantic.ValidatorFunctionWrapHandler, info: Any) -> CalendarCampaign:
    found = dict(read(value))
    del found["except_dates"]
    campaign = CalendarCampaign(**{**found, "windows": tuple(found["windows"])})
    lines = info.context.lines.setdefault((campaign.app, campaign.token), [])
    lines.append(value.line)
    if len(lines) > 1:
        app = f" of app {campaign.app!r}" if campaign.app else ""
        raise ValueError(
            f"campaign {campaign.token!r}{app} is in line {lines[0]} already. List a campaign once, with all of its "
            "windows."
        )
    return campaign


_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


_Date = Annotated[_Text, _checked_by(lambda value, _: read_dates([value])[0])]


class _Model(pydantic.BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Window(_Model):
    on: _Text | None = None
    off: _Text | None = None
    start: _Text | None = None
    end: _Text | None = None


class _Campaign(_Model):
    name: Annotated[str, StringConstraints(pattern=r"\S")]
    app: _Text | None = None
    token: Annotated[_Text, _checked_by(lambda value, _: check_token(value))]
    except_dates: Annotated[list[_Date], AfterValidator(lambda found: tuple(sorted(set(found))))] | None = None
    windows: Annotated[list[Annotated[_Window, _checked_by(_window)]], Field(min_length=1)]
    definition: Annotated[Any, _checked_by(_definition)] = None


class _File(_Model):
    timezone: Annotated[_Text, _checked_by(_timezone)]
    campaigns: Annotated[list[Annotated[_Campaign, pydantic.WrapValidator(_campaign)]], Field(min_length=1)]


_PLACES: dict[int, tuple[str, type[_Model]]] = {
    1: ("the file", _File),
    3: ("a campaign", _Campaign),
    5: ("a window", _Window),
}
"""What contains a key, by the length of the key's path."""
_ALLOWED = {"list_type": "a list", "too_short": "a list of at least one item", "model_type": "a mapping"}


def _mistake(root: Any, error: ErrorDetails) -> Mistake:
    """Return the line and the text of an error of pydantic."""
    kind, path = error["type"], error["loc"]
    if kind == "value_error":
        found = str(error["ctx"]["error"])
        # A message about a part of the value begins with its key.
        return line_of(root, (*path, re.split(r"\W", found)[0])), found
    if kind in ("extra_forbidden", "missing"):
        what, model = _PLACES[len(path)]
        key, fields = str(path[-1]), model.model_fields
        if kind == "missing":
            needed = ", ".join(name for name, field in fields.items() if field.is_required())
            return line_of(root, path), f"{what} has no {key}. Needed: {needed}."
        near = difflib.get_close_matches(key[:50], fields, n=1)
        meant = f" Is {near[0]!r} meant?" if near else ""
        own = f", and keys that begin with {OWN_KEYS!r} for your own anchors" if model is _File else ""
        return line_of(
            root, path
        ), f"unknown key {short_repr(key)}.{meant} Allowed in {what}: {', '.join(fields)}{own}."
    name = "the file" if not path else path[-1] if isinstance(path[-1], str) else f"{path[-2]}[{path[-1]}]"
    return line_of(root, path), f"{name} must be {_ALLOWED.get(kind, 'text')}, not {_kind(error['input'])}."


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "nothing" if value is None else f"the text {short_repr(value)}"
