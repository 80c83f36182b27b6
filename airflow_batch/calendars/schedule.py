"""When a DAG of a calendar runs: at every change of every window, and for the periodic check. Pure functions.

Windows of crons bring their crons, one-off windows their moments. A cron whose moments the periodic check has anyway is
left out.

Many windows in one timetable need more than their own crons. Airflow steps from run to run by the wall clock, so where
the clocks go forward or back, the run of one cron may make it pass over a moment of another: with 02:30 and 03:00 in
Paris, the skipped 02:30 (due at 03:30) is passed over by the run of 03:00. A cron of every hour of every day is the
exception, for Airflow steps it by real time. So for crons whose hours the zone's clocks ever skip or repeat, their
minutes are added as such a cron: ``30 2 * * *`` adds ``30 * * * *``. The periodic check mostly has them already.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pendulum

from airflow_batch._values import duration_text
from airflow_batch.exceptions import BatchConfigurationError
from airflow_batch.windows import CampaignWindow

HOUR, DAY = 60, 24 * 60
PERIODS = {
    **{minutes: f"*/{minutes} * * * *" for minutes in range(2, HOUR) if HOUR % minutes == 0},
    **{hours * HOUR: f"0 */{hours} * * *" for hours in range(2, 24) if 24 % hours == 0},
    **{1: "* * * * *", HOUR: "0 * * * *", DAY: "0 0 * * *"},
}
"""Minutes from one periodic check to the next, and the cron of each."""

_YEARS = datetime(2020, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
"""The years whose changes of the clocks show which hours a zone skips or repeats. Long enough for Ramadan in Morocco,
and fixed, so that the same file always makes the same timetable."""


def crons_of(windows: Iterable[CampaignWindow], timezone: str, reconcile_every: timedelta | None) -> tuple[str, ...]:
    """Return the crons in ``timezone``, each once: those of the windows, those for the clocks, the periodic check.

    :raises BatchConfigurationError: when ``reconcile_every`` is none of ``PERIODS``.
    """
    check = None if reconcile_every is None else _check(reconcile_every)
    checked, hours = _fields(check) if check else (frozenset(), frozenset())
    covered = checked if hours is None else frozenset()
    crons = dict.fromkeys(cron for window in dict.fromkeys(windows) for cron in window.crons())
    sparse = sorted(_minutes_at_risk(crons, timezone))
    crons = {cron: None for cron in crons if not covered.issuperset(_fields(cron)[0])}
    if not covered.issuperset(sparse):
        crons["* * * * *" if len(sparse) == HOUR else f"{','.join(map(str, sparse))} * * * *"] = None
    if check:
        crons[check] = None
    return tuple(crons)


def _check(every: Any) -> str:
    minutes = every / timedelta(minutes=1) if isinstance(every, timedelta) else 0
    if minutes in PERIODS:
        return PERIODS[int(minutes)]
    allowed = ", ".join(duration_text(timedelta(minutes=period)) for period in sorted(PERIODS))
    raise BatchConfigurationError(
        f"reconcile_every is {every!r}. A timedelta of {allowed} is allowed, so that the checks are evenly spaced over "
        "the day, and None for no checks between the changes."
    )


def _minutes_at_risk(crons: Collection[str], timezone: str) -> set[int]:
    if not crons:
        return set()
    moved, shifts = _moved(timezone)
    uneven = {shift % HOUR for shift in shifts} - {0}
    found: set[int] = set()
    for cron in crons:
        minutes, hours = _fields(cron)
        if uneven if hours is None else hours & moved:
            found |= minutes
    while more := {(minute + shift) % HOUR for minute in found for shift in uneven} - found:
        found |= more
    return found


@cache
def _moved(timezone: str) -> tuple[frozenset[int], frozenset[int]]:
    """Return the hours of the day in which wall times are skipped, repeated, or put off to; and by how many minutes."""
    hours, shifts = set(), set()
    for moment, shift in clock_changes(timezone, *_YEARS):
        after = moment.replace(tzinfo=None)
        first = min(after, after - shift)
        for minute in range(0, int(2 * abs(shift) / timedelta(minutes=1)) + 1):
            hours.add((first + timedelta(minutes=minute)).hour)
        shifts.add(int(shift / timedelta(minutes=1)))
    return frozenset(hours), frozenset(shifts)


def clock_changes(timezone: str, first: datetime, last: datetime) -> Iterator[tuple[datetime, timedelta]]:
    """Yield the moments from ``first`` to ``last`` at which a zone's clocks change, and by how much they go forward."""
    zone = pendulum.timezone(timezone)

    def offset(moment: datetime) -> timedelta:
        return moment.astimezone(zone).utcoffset() or timedelta(0)

    day, end = (datetime.fromtimestamp(moment.timestamp(), UTC) for moment in (first, last))
    new = offset(day)
    while day < end:
        before, after = day, min(day + timedelta(days=1), end)
        day, old, new = after, new, offset(after)
        if new == old:
            continue
        while after - before > timedelta(minutes=1):
            middle = before + timedelta(minutes=(after - before) // timedelta(minutes=2))
            before, after = (middle, after) if offset(middle) == old else (before, middle)
        yield after.astimezone(zone), offset(after) - old


@cache
def _fields(cron: str) -> tuple[frozenset[int], frozenset[int] | None]:
    """Return a cron's minutes and hours; None for every hour, as Airflow steps such a cron by real time.

    So in ``airflow.timetables._cron._covers_every_hour``.
    """
    from croniter import croniter  # type: ignore[import-untyped]

    minutes, hours = croniter(cron, datetime(2024, 1, 1)).expanded[:2]
    return frozenset(range(HOUR) if minutes == ["*"] else minutes), None if hours == ["*"] else frozenset(hours)
