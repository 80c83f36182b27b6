"""Comparing campaigns, and turning what Batch's view shows into what its update takes. Pure functions.

View and update do not promise the same form (docs/assumptions.md): ``gcm_collapse_key`` is shown as text and sent as an
object, and view adds what only Batch sets. Nothing else is translated.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypedDict

from airflow_batch._values import FIRST_DATE, LAST_DATE

Campaign = Mapping[str, Any]

PUSH_TIMES = frozenset({"push_time", "local_push_time"})
READ_ONLY = frozenset({"campaign_token", "from_api", "dev_only", "created_date", "trigger"})
"""What view adds to the creation format (https://doc.batch.com/developer/api/mep/campaigns/get-campaign)."""
UNORDERED_LEVELS = 3
"""How many lists within each other are compared without regard to the order of their items."""
MOMENTS = frozenset({*PUSH_TIMES, "end_date"})


class ParameterDifference(TypedDict):
    """One parameter of a campaign as it is and as it would be. ``now`` is null where the campaign cannot be read."""

    parameter: str
    now: Any
    wanted: Any


def read_moment(value: Any) -> datetime | None:
    """Return a time that Batch wrote as an aware datetime, in UTC where it names no zone; None where it is not one.

    It is cut to the years 1900 to 9000, so that time can be added to it and taken from it.
    """
    try:
        moment = datetime.fromisoformat(value)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        return min(max(moment, FIRST_DATE), LAST_DATE)
    except (ValueError, TypeError, OverflowError):
        return None


def request_form(seen: Campaign) -> dict[str, Any]:
    """Return a viewed campaign as update takes it: without what only Batch sets and without nulls."""
    form = {name: value for name, value in seen.items() if name not in READ_ONLY and value is not None}
    if isinstance(form.get("gcm_collapse_key"), str):
        # View's sample (DOCUMENTED) shows the text; clients send the object (OBSERVED).
        form["gcm_collapse_key"] = {"enabled": True, "key": form["gcm_collapse_key"]}
    return form


def overlaid(base: Campaign, desired: Campaign) -> dict[str, Any]:
    """Return a campaign with the desired parameters in place, each replaced whole; one push time replaces the other."""
    replaced = PUSH_TIMES if any(desired.get(name) is not None for name in PUSH_TIMES) else frozenset()
    return {**{name: value for name, value in base.items() if name not in replaced}, **desired}


def differences(desired: Campaign, seen: Campaign) -> list[str]:
    """Return the names of the desired parameters that a campaign does not have as desired.

    ``push_time: "now"`` is left out: what it did shows in ``live`` and in a new ``push_time``.
    """
    shown = request_form(seen)
    return [
        name
        for name, value in desired.items()
        if not (name == "push_time" and value == "now") and not agrees(value, shown.get(name), name)
    ]


def difference_rows(payload: Campaign, seen: Campaign | None) -> list[ParameterDifference]:
    """Return parameter by parameter how a payload would change a campaign. A ``push_time`` of ``now`` always does."""
    shown = {} if seen is None else request_form(seen)
    return [
        {"parameter": name, "now": shown.get(name), "wanted": value}
        for name, value in payload.items()
        if not agrees(value, shown.get(name), name)
    ]


def lost_parameters(before: Campaign, after: Campaign, replaced: Campaign) -> list[str]:
    """Return the places of what a campaign had before a write and has no more, but for what the write replaced."""
    names = set(replaced) | (PUSH_TIMES if not PUSH_TIMES.isdisjoint(replaced) else frozenset())
    kept = {name: value for name, value in request_form(before).items() if name not in names}
    return _lost(kept, request_form(after), "")


def same_name(one: Any, other: Any) -> bool:
    """Compare two campaign names. Batch may trim a name (UNKNOWN), and Unicode has several forms of one text."""
    return isinstance(one, str) and isinstance(other, str) and _plain(one) == _plain(other)


def agrees(desired: Any, seen: Any, name: str = "", levels: int = UNORDERED_LEVELS) -> bool:
    """Compare a desired value with the one that Batch shows; of objects, only the keys that are desired.

    A number may be shown as text, a moment with ``Z``, text trimmed, and a list in another order.
    """
    if isinstance(desired, Mapping) and isinstance(seen, Mapping):
        return all(key in seen and agrees(value, seen[key], key, levels) for key, value in desired.items())
    if isinstance(desired, list) and isinstance(seen, list):
        return len(desired) == len(seen) and None not in _partners(desired, seen, levels)
    if isinstance(desired, str) and isinstance(seen, str):
        if name in MOMENTS and read_moment(desired) is not None:
            return read_moment(desired) == read_moment(seen)
        return _plain(desired) == _plain(seen)
    if isinstance(desired, bool) or isinstance(seen, bool):
        return desired is seen
    try:
        return bool(desired == seen or (desired is not None and seen is not None and float(desired) == float(seen)))
    except (TypeError, ValueError, OverflowError):
        return False


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _partners(first: list[Any], second: list[Any], levels: int) -> list[int | None]:
    """Return for each item of one list the index of the other's item that agrees with it, each used once.

    Below some levels of lists only the items of the same index are compared, so that the time stays bounded.
    """
    free = list(range(len(second)))
    partners: list[int | None] = []
    for index, item in enumerate(first):
        candidates = free if levels else [index] if index < len(second) else []
        partner = next((other for other in candidates if agrees(item, second[other], "", max(levels - 1, 0))), None)
        if partner is not None and levels:
            free.remove(partner)
        partners.append(partner)
    return partners


def is_empty(value: Any) -> bool:
    """Return whether a value stands for none, of which view may have several forms (docs/assumptions.md)."""
    return value is None or (isinstance(value, str | list | Mapping) and len(value) == 0)


def _lost(before: Any, after: Any, place: str) -> list[str]:
    if is_empty(before):
        return []
    if is_empty(after):
        return [place]
    if isinstance(before, Mapping):
        if not isinstance(after, Mapping):
            return [place]
        return [
            gone
            for key, value in before.items()
            for gone in _lost(value, after.get(key), f"{place}.{key}" if place else str(key))
        ]
    if isinstance(before, list):
        if not isinstance(after, list):
            return [place]
        partners = _partners(before, after, UNORDERED_LEVELS)
        rest = iter([item for index, item in enumerate(after) if index not in partners])
        return [
            gone
            for index, item in enumerate(before)
            if partners[index] is None
            for gone in _lost(item, next(rest, None), f"{place}[{index}]")
        ]
    # Text that became false is lost; other values may have changed.
    return [place] if isinstance(before, str) and after is False else []
