"""Values as users, Airflow and Batch give them: read, checked, and named in messages. Pure functions."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

from airflow_batch.exceptions import BatchConfigurationError, BatchNotCreatedError, BatchPayloadError

FIRST_DATE, LAST_DATE = datetime(1900, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""To which a moment that Batch names is cut, so that time can be added to it and taken from it."""
MAX_DURATION = timedelta(days=366)
"""The longest duration that an argument may have."""
RESERVED_TOKENS = frozenset({"list", "create", "update", "delete", "stats"})
DRY_RUN_PREFIX = "dry-run-"
"""With which the token begins that a dry run of a creation returns."""
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{1,200}")
_DRY_RUN_TOKEN = re.compile(rf"{DRY_RUN_PREFIX}[0-9a-f]{{32}}")
_BOOLEANS = {"true": True, "false": False}
Item = TypeVar("Item")


def rendered_or_none(value: str | None) -> str | None:
    """Return a rendered argument; None where it rendered to nothing or to the text ``None``."""
    return None if value in (None, "", "None") else value


def as_boolean(value: Any) -> bool | None:
    """Return a boolean, or that of the text ``true`` or ``false``, in any case; None for anything else."""
    if isinstance(value, str):
        return _BOOLEANS.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def type_name(value: Any) -> str:
    """Name the type of a refused value."""
    return "null" if value is None else f"a value of type {type(value).__name__}"


def short_repr(value: Any) -> str:
    """Show a refused value, cut, in time and memory that do not grow with it."""
    try:
        text = _SHORT.repr(value)
    except Exception:
        return type_name(value)
    return text if len(text) <= 80 else text[:77] + "..."


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 4, 1_000, 1_000, 1_000
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = _SHORT.maxfrozenset = 20


def short_list(
    items: Collection[Item], most: int, *, show: Callable[[Item], str] = str, separator: str = ", ", noun: str = ""
) -> str:
    """Return the first ``most`` items as text, and how many are left out: ``a, b, and 3 more``.

    :param show: Returns the text of an item; called for those that are shown only.
    :param noun: What the items are, for the end: ``and 3 more mistakes``.
    """
    shown = [show(item) for item in islice(items, most)]
    if len(items) > most:
        shown.append(f"and {len(items) - most} more {noun}".rstrip())
    return separator.join(shown)


def check_token(token: Any) -> str:
    """Return a campaign token that is safe in a URL's path.

    :raises BatchPayloadError: when it is empty or the text ``None``, holds anything but letters, digits and ``._~-``,
        or is a word of the API's own routes.
    :raises BatchNotCreatedError: for the token that a dry run of a creation returned.
    """
    if not isinstance(token, str):
        raise BatchPayloadError(f"A campaign token must be text, not {type_name(token)}.")
    hint = "Pass the token that Batch returned when the campaign was created"
    if token.strip() in ("", "None"):
        raise BatchPayloadError(
            f"The campaign token is {token.strip() or 'empty'}: a template may have rendered to nothing. {hint}."
        )
    if not _TOKEN.fullmatch(token) or ".." in token or token == ".":
        also = ", or the operator's .output instead of a template of it" if "{" in token else ""
        raise BatchPayloadError(
            f"{short_repr(token)} is not a campaign token: letters, digits and ._~- are allowed. {hint}{also}."
        )
    if token.lower() in RESERVED_TOKENS:
        raise BatchPayloadError(f"{token!r} is a route of Batch's API, not a campaign token. {hint}.")
    if _DRY_RUN_TOKEN.fullmatch(token):
        raise BatchNotCreatedError(
            f"Campaign {token!r} does not exist, because its creation was a dry run. Nothing was sent."
        )
    return token


def read_duration(name: str, value: timedelta | float | None, *, also: str = "") -> timedelta | None:
    """Return a duration given as seconds or as a timedelta; None stays None.

    :param also: What else the argument may be, for the message.
    :raises BatchConfigurationError: for anything else, and for what is not above 0 and up to ``MAX_DURATION``.
    """
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds <= MAX_DURATION.total_seconds():
        raise BatchConfigurationError(
            f"{name} must be seconds above 0, a timedelta{also} or None, of at most {MAX_DURATION.days} days, not "
            f"{short_repr(value)}."
        )
    return timedelta(seconds=seconds)


def duration_text(duration: timedelta | float) -> str:
    """Return a duration in its largest whole unit: ``7 s``, ``30 min``, ``6 h``. A number is of seconds."""
    seconds = round(duration.total_seconds() if isinstance(duration, timedelta) else duration)
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Check an argument that may have a few values only.

    :raises BatchConfigurationError: for any other value.
    """
    if value not in choices:
        allowed = " or ".join(map(repr, choices))
        raise BatchConfigurationError(f"{name} must be {allowed}, not {short_repr(value)}.")


def whole_number(name: str, value: Any, least: int = 0, most: int | None = None) -> int:
    """Return a whole number, checked.

    :raises BatchConfigurationError: for a boolean, anything else that is no integer, and one out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most:,}"
        raise BatchConfigurationError(f"{name} must be a whole number {allowed}, not {short_repr(value)}.")
    return value


def as_datetime(value: Any) -> datetime | None:
    """Return a datetime, or the one of an ISO 8601 text; None for anything else."""
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return None
    return value if isinstance(value, datetime) else None


def read_moment_argument(name: str, value: Any) -> datetime | None:
    """Return the moment of a rendered argument in UTC; None where it rendered to nothing.

    :raises BatchPayloadError: for anything but an aware datetime or the ISO 8601 text of one.
    """
    if value in (None, "", "None"):
        return None
    if moment := aware_utc(as_datetime(value)):
        return moment
    raise BatchPayloadError(
        f"{name} must be a moment with a time zone such as '2026-07-01T09:00+02:00', not {short_repr(value)}."
    )


def aware_utc(moment: datetime | None) -> datetime | None:
    """Return a moment in UTC; None for a naive one, and for one that is out of Python's range there."""
    try:
        return None if moment is None or moment.utcoffset() is None else moment.astimezone(UTC)
    except OverflowError:
        return None


def iso_utc(moment: datetime) -> str:
    """Return an aware moment as ISO 8601 in UTC with offset, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
