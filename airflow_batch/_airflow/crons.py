"""A cron as Airflow runs it: read, checked, written, and when it last came. Pure functions.

What two crons make together is in ``windows.py``.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NoReturn

from airflow_batch._values import short_repr
from airflow_batch.exceptions import BatchConfigurationError

PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
}
"""Airflow's own presets that are crons."""

MAX_CRON = 500
"""Characters; one that lists every minute, hour, day, month and weekday has fewer."""
_RANDOM = re.compile(r"(?<![a-z])[hr](?![a-z])", re.IGNORECASE)


def read_cron(value: Any, name: str) -> str:
    """Return a cron as it was given, spaces apart, once it is known to be one that fires.

    :param name: What messages call it.
    :raises BatchConfigurationError: for anything else.
    """
    from croniter import croniter  # type: ignore[import-untyped]

    allowed = f"A cron of five fields (minute hour day month weekday, such as '0 9 * * 1-5') or {', '.join(PRESETS)}"
    if not isinstance(value, str) or len(value) > MAX_CRON:
        refuse(
            f"{name} must be a cron of at most {MAX_CRON} characters, not {short_repr(value)}. {allowed} is allowed."
        )
    fields = value.split()
    cron = " ".join(fields)
    if cron not in PRESETS and len(fields) != 5:
        hint = " Seconds and years have no field: leave them out." if len(fields) > 5 else ""
        refuse(
            f"{name}={value!r} has {len(fields)} field{'' if len(fields) == 1 else 's'}. {allowed} is allowed.{hint}"
        )
    if cron not in PRESETS and _RANDOM.search(cron):
        refuse(f"{name}={value!r} has a random field (H or R), whose moments are not known. Write numbers instead.")
    try:
        schedule = croniter(PRESETS.get(cron, cron), datetime(2024, 1, 1))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = "".join(letter if letter.isprintable() else "?" for letter in str(error))
        refuse(f"{name}={value!r} is no cron: {reason}. {allowed} is allowed.")
    try:
        schedule.get_next(datetime)
    except ValueError:
        refuse(f"{name}={value!r} never fires. Correct its day and month.")
    return cron


def meaning(cron: str) -> Any:
    """Return what is equal for two crons that fire at the same moments."""
    from croniter import croniter

    schedule = croniter(PRESETS.get(cron, cron))
    return schedule.expanded, schedule.nth_weekday_of_month


@cache
def as_airflow_runs_it(cron: str | None) -> tuple[str, ...]:
    """Return the crons that Airflow is given for one of a window's; see ``CampaignWindow.timetable``."""
    from croniter import croniter

    if cron is None:
        return ()
    cron = PRESETS.get(cron, cron)
    hours, *days = croniter(cron).expanded[1:5]
    if hours != ["*"] or all(field == ["*"] for field in days):
        return (cron,)
    minute, _, *rest = cron.split()
    return tuple(" ".join((minute, half, *rest)) for half in ("0-11", "12-23"))


def newest_moment(cron: str | None, local: datetime) -> datetime | None:
    """Return the local time at or before ``local`` at which a cron last came, None where it never did."""
    from croniter import croniter

    if cron is None:
        return None
    minute_after = local.replace(second=0, microsecond=0) + timedelta(minutes=1)
    try:
        newest: datetime = croniter(PRESETS.get(cron, cron), minute_after).get_prev(datetime)
    except (ValueError, OverflowError):
        return None
    return newest


def dated_cron(moment: datetime) -> str:
    """Return the cron of a date and time, which comes again each year."""
    return f"{moment.minute} {moment.hour} {moment.day} {moment.month} *"


def refuse(message: str) -> NoReturn:
    """Raise the error about a window."""
    raise BatchConfigurationError(message)
