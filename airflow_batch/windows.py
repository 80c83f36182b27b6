"""When a campaign should be live: cron windows, one-off windows, time zones.

Pure functions of the moment they are given: no clock, no network, no Batch. The moments of change are those at which
the timetable made from the same window runs the DAG, daylight-saving time included. croniter and Airflow's timetables
are loaded at the first use, not with the module.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import islice
from typing import TYPE_CHECKING, Any

import pendulum

from airflow_batch._airflow.crons import as_airflow_runs_it, dated_cron, meaning, newest_moment, read_cron, refuse
from airflow_batch._values import FIRST_DATE, LAST_DATE, as_datetime, short_repr, whole_number

if TYPE_CHECKING:
    from airflow.timetables.trigger import MultipleCronTriggerTimetable

MAX_COUNT = 1_000_000
"""Changes that ``next_changes`` returns."""
SEARCH_STEPS = 2_000
"""``next_changes`` ends after this many moments of the crons without a change. A cron itself is searched 50 years
ahead, croniter's own bound."""

_NOT_GIVEN: Any = object()
_FURTHEST = timedelta(hours=26)
"""Further than any change of the clocks reaches, the 24 hours of Pacific/Apia in 2011 included."""
_AFTERWARDS = timedelta(hours=2)
"""After so long the fires of an hourly cron no longer depend on those before a change of the clocks."""


@dataclass(frozen=True, init=False, repr=False)
class CampaignWindow:
    """The times at which a campaign should be live. Immutable; may be an operator's argument.

    ::

        CampaignWindow(on="0 9 * * 1-5", off="0 18 * * 1-5", timezone="Europe/Paris", except_dates=["2026-12-25"])
        CampaignWindow(start="2026-07-01T09:00", end="2026-07-15T18:00", timezone="Europe/Paris")

    **on and off.** The campaign is live from a moment of ``on`` until the next moment of ``off``. Where both fall on
    one moment it is not live: stopping is the safe side.

    **except_dates.** On these dates of the window's time zone, from local midnight to the next, the campaign is not
    live; nothing else changes. At the midnight after it the campaign is live if ``on`` and ``off`` (or ``start`` and
    ``end``) say so: with ``on`` at 22:00 and ``off`` at 06:00, it is live from midnight to 06:00 on the day after.

    **Daylight-saving time.** Crons change the campaign when Airflow runs the DAG. A time that the clocks skip comes
    later by what they skip (02:30 in Paris at 03:30); a time that they repeat comes the second time only, unless the
    cron runs every hour of every day. Airflow misses a moment whose wall time a run has already passed: of 02:15 and
    02:30, both skipped, it runs the first alone, at 03:15. At every run the newest change *by the wall clock*, the
    missed ones included, decides. So such a night is without the short window rather than with one that does not end.

    :param on: Cron of five fields, or one of Airflow's presets (``@daily``), that switches the campaign on.
    :param off: The same, that switches it off.
    :param start: Moment from which on the campaign is live: a datetime or an ISO 8601 string, whole minutes. Without
        an offset it is a time of ``timezone`` (skipped by the clocks: later by what they skip; repeated: the second).
    :param end: Moment from which on it is no longer live.
    :param timezone: IANA name, or a time zone object that has one. Default UTC, with a warning.
    :param except_dates: Dates, or ISO strings of dates, on which the campaign is not live.
    :raises BatchConfigurationError: for anything else, a cron that never fires (30 February), ``on`` equal to ``off``,
        ``end`` not after ``start``, a year before 1900 or after 8999, and neither or both of the two forms.
    """

    on: str | None
    off: str | None
    start: datetime | None
    end: datetime | None
    timezone: str
    except_dates: tuple[date, ...]

    def __init__(
        self,
        *,
        on: str | None = None,
        off: str | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        timezone: str | tzinfo = _NOT_GIVEN,
        except_dates: Iterable[date | str] = (),
    ) -> None:
        values: dict[str, Any] = {"on": on, "off": off, "start": start, "end": end}
        given = [name for name, value in values.items() if value is not None]
        if given not in (["on", "off"], ["start", "end"]):
            refuse(
                f"A CampaignWindow takes on and off (two crons), or start and end (two moments); given: "
                f"{' and '.join(given) or 'none of them'}. Pass both of one pair and none of the other."
            )
        if timezone is _NOT_GIVEN:
            message = "This CampaignWindow has no timezone, so its times are UTC. Pass timezone='UTC', or an IANA name"
            warnings.warn(f"{message} such as 'Europe/Paris'.", UserWarning, stacklevel=2)
            timezone = "UTC"
        values |= {"timezone": read_timezone(timezone), "except_dates": read_dates(except_dates)}
        for name in given:
            value = values[name]
            values[name] = read_cron(value, name) if on is not None else _moment(value, name, values["timezone"])
        first, last = (values[name] for name in given)
        if on is not None and meaning(first) == meaning(last):
            refuse(f"on and off are the same cron, {first!r}: the campaign would never be live. Change one of them.")
        if start is not None and last <= first:
            refuse(f"end ({last.isoformat()}) must be after start ({first.isoformat()}). Are they swapped?")
        self.__dict__.update(values)  # a frozen dataclass refuses other ways to set its attributes

    @property
    def _zone(self) -> tzinfo:
        return pendulum.timezone(self.timezone)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that make an equal window, as JSON values."""
        ends: dict[str, Any] = {"on": self.on, "off": self.off}
        if self.start is not None and self.end is not None:
            moments = {"start": self.start, "end": self.end}
            ends = {name: moment.astimezone(self._zone).isoformat() for name, moment in moments.items()}
        return {**ends, "timezone": self.timezone, "except_dates": [day.isoformat() for day in self.except_dates]}

    def __repr__(self) -> str:
        given = (f"{name}={value!r}" for name, value in self.arguments().items() if value)
        return f"CampaignWindow({', '.join(given)})"

    def is_live_at(self, moment: datetime) -> bool:
        """Return whether the campaign should be live at ``moment``, an aware datetime.

        :raises BatchConfigurationError: when it is naive or no datetime, or not of the years 1900 to 8999.
        """
        moment = _aware(moment)
        if self.start is not None and self.end is not None:
            return self.start <= moment < self.end and self._wall(moment).date() not in self.except_dates
        known = self._clear_before(moment)
        fire = known if known == moment else self._next(known, self._crons())
        while fire is not None and known < fire <= moment:
            known, fire = fire, self._next(fire, self._crons())
        return self._live_by_wall(self._wall(known))

    def next_changes(self, after: datetime, count: int = 10) -> list[tuple[pendulum.DateTime, bool]]:
        """Return the next moments at which ``is_live_at`` changes, each with its value from then on.

        The moments are strictly after ``after`` and in UTC. There are at most ``count``; fewer when a one-off window
        ends, or when no change is found within the bounds of ``SEARCH_STEPS``.

        :raises BatchConfigurationError: when ``after`` is not an aware datetime of the years 1900 to 8999, or ``count``
            no whole number from 1 to 1,000,000.
        """
        return list(islice(self.changes(after), whole_number("count", count, 1, MAX_COUNT)))

    def changes(self, after: datetime) -> Iterator[tuple[pendulum.DateTime, bool]]:
        """Yield what ``next_changes`` returns, one by one, as long as a further change is found.

        :raises BatchConfigurationError: when ``after`` is not an aware datetime of the years 1900 to 8999.
        """
        after = _aware(after)
        found = self._cron_changes(after) if self.start is None else self._edge_changes(after)
        return ((pendulum.instance(change), live) for change, live in found if change > after)

    def crons(self) -> tuple[str, ...]:
        """Return the crons, in ``timezone``, whose moments may change the campaign; none for a one-off window.

        On the days on which the clocks change, Airflow may pass over a moment of one cron because of another's: see
        ``calendars/schedule.py``.
        """
        return self._crons() if self.start is None else ()

    def moments(self) -> list[datetime]:
        """Return the moments at which a one-off window may change, in order; none for a window of crons."""
        if self.start is None or self.end is None:
            return []
        midnights = {_from_wall(wall, self._zone, fold) for wall in self._exception_ends() for fold in (0, 1)}
        return sorted({self.start, self.end} | {edge for edge in midnights if self.start < edge < self.end})

    def timetable(self) -> MultipleCronTriggerTimetable:
        """Return Airflow's own timetable that runs a DAG at every change: ``DAG(..., schedule=window.timetable())``.

        The DAG also runs at moments that change nothing, so a run has to call ``is_live_at``. The ends of a one-off
        window and the midnights around ``except_dates`` are dated crons, which come again each year; those of a one-off
        are in UTC. A cron of every hour but not of every day (``0 * * * 1``) becomes two, of the hours 0-11 and 12-23:
        as one, Airflow carries the old offset over a change of the clocks and is an hour late or early.
        """
        from airflow.timetables.trigger import MultipleCronTriggerTimetable

        if self.start is None:
            return MultipleCronTriggerTimetable(*self._crons(), timezone=self.timezone)
        dated = dict.fromkeys(dated_cron(moment) for moment in self.moments())
        return MultipleCronTriggerTimetable(*dated, timezone="UTC")

    def _edge_changes(self, after: datetime) -> Iterator[tuple[datetime, bool]]:
        live = self.is_live_at(after)
        for edge in self.moments():
            if edge > after and self.is_live_at(edge) != live:
                live = not live
                yield edge, live

    def _cron_changes(self, after: datetime) -> Iterator[tuple[datetime, bool]]:
        """Yield the changes after ``after``, and perhaps some shortly before it.

        If no change of the clocks is near, only the crons that can end the present state are evaluated; otherwise
        every step of Airflow is followed.
        """
        now = self._clear_before(after)
        live = self._live_by_wall(self._wall(now))
        steps = 0
        while steps < SEARCH_STEPS:
            steps += 1
            crons, clear = self._crons(), self._is_clear(now)
            if clear:
                excepted = self._wall(now).date() in self.except_dates
                ending = () if excepted else as_airflow_runs_it(self.off if live else self.on)
                crons = (*ending, *self._midnights())
            fire = self._next(now, crons)
            if clear and fire is not None and not self._is_clear(fire):
                before = self._clear_before(fire)
                if before > now:
                    now = before
                    continue
                fire = self._next(now, self._crons())
            if fire is None:
                return
            now = fire
            if self._live_by_wall(self._wall(now)) != live:
                live, steps = not live, 0
                yield now, live

    def _next(self, after: datetime, crons: Iterable[str]) -> datetime | None:
        """Return when Airflow fires next, as ``airflow.timetables._cron.CronMixin._get_next`` does for each cron."""
        from croniter import croniter  # type: ignore[import-untyped]

        wall = self._wall(after)
        fires = []
        for cron in crons:
            schedule = croniter(cron, wall)
            try:
                scheduled = schedule.get_next(datetime)
                every_hour = schedule.expanded[1] == ["*"]
                fires.append(after + (scheduled - wall) if every_hour else _from_wall(scheduled, self._zone))
            except (ValueError, OverflowError):  # no match within croniter's bound, or beyond the last year
                continue
        return min(fires, default=None)

    def _live_by_wall(self, wall: datetime) -> bool:
        """Return the state after the newest moment of the crons at or before a wall time."""
        if wall.date() in self.except_dates:
            return False
        newest_on, newest_off = newest_moment(self.on, wall), newest_moment(self.off, wall)
        return newest_on is not None and (newest_off is None or newest_on > newest_off)

    def _crons(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*as_airflow_runs_it(self.on), *as_airflow_runs_it(self.off), *self._midnights())))

    def _midnights(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(dated_cron(midnight) for midnight in self._exception_ends()))

    def _exception_ends(self) -> list[datetime]:
        """Return the midnights, as wall times, at which dates without the campaign begin or end."""
        days = set(self.except_dates)
        ends = days ^ {day + timedelta(1) for day in days}
        return [datetime(day.year, day.month, day.day) for day in sorted(ends)]

    def _wall(self, moment: datetime) -> datetime:
        return moment.astimezone(self._zone).replace(tzinfo=None, fold=0)

    def _is_clear(self, moment: datetime) -> bool:
        """Return whether no change of the clocks is near, so that wall times and moments are in the same order."""

        def offsets(reach: timedelta) -> set[timedelta]:
            near = (moment - reach, moment, moment + reach)
            return {place.astimezone(self._zone).utcoffset() or timedelta(0) for place in near}

        around = offsets(_FURTHEST)
        return len(around) == 1 or len(offsets(max(around) - min(around) + _AFTERWARDS)) == 1

    def _clear_before(self, moment: datetime) -> datetime:
        while not self._is_clear(moment):
            moment -= _AFTERWARDS
        return moment


def read_timezone(timezone: Any) -> str:
    """Return the name of a time zone, given as an IANA name or as an object that has one.

    :raises BatchConfigurationError: for anything else.
    """
    name = timezone
    if isinstance(timezone, tzinfo):
        name = "UTC" if timezone is UTC else getattr(timezone, "key", None) or getattr(timezone, "name", None)
    try:
        if isinstance(name, str):
            pendulum.timezone(name)
            return name
    except (ValueError, KeyError, OSError):
        pass
    refuse(f"timezone {short_repr(timezone)} is not known. Pass an IANA name such as 'Europe/Paris' or 'UTC'.")


def read_dates(values: Any) -> tuple[date, ...]:
    """Return dates, given as such or as ISO 8601 text, in order and each once.

    :raises BatchConfigurationError: for anything else, and for years before 1900 or after 8999.
    """
    hint = "Pass dates, or strings such as '2026-12-25'"
    if isinstance(values, str | date) or not isinstance(values, Iterable):
        refuse(f"except_dates must be a list of dates, not {short_repr(values)}. {hint}.")
    days = set()
    for value in values:
        try:
            day = date.fromisoformat(value) if isinstance(value, str) else value
        except ValueError:
            day = None
        if not isinstance(day, date) or isinstance(day, datetime):
            refuse(f"except_dates holds {short_repr(value)}, which is no date. {hint}, without a time.")
        _check_year(day, f"except_dates holds {short_repr(value)}, which")
        days.add(date(day.year, day.month, day.day))
    return tuple(sorted(days))


def _from_wall(wall: datetime, zone: Any, fold: int = 1) -> datetime:
    """Return the moment of a wall time as Airflow reads it: skipped, it comes later; repeated, the second time."""
    moment: datetime = zone.convert(wall.replace(fold=fold))
    return moment.astimezone(UTC)


def _moment(value: Any, name: str, timezone: str) -> datetime:
    """Return ``start`` or ``end`` in UTC."""
    moment = as_datetime(value)
    if moment is None:
        refuse(f"{name} must be a datetime or an ISO 8601 string such as '2026-07-01T09:00', not {short_repr(value)}.")
    _check_year(moment, f"{name}={short_repr(value)}")
    if moment.second or moment.microsecond:
        refuse(
            f"{name}={short_repr(value)} has seconds; Airflow's schedules know whole minutes. Leave the seconds out."
        )
    if moment.utcoffset() is None:
        return _from_wall(moment.replace(tzinfo=None), pendulum.timezone(timezone))
    return datetime.fromtimestamp(moment.timestamp(), UTC)


def _aware(moment: Any) -> datetime:
    """Return a moment in UTC."""
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        refuse(f"A moment must be a datetime with a time zone, such as dag_run.run_after, not {short_repr(moment)}.")
    _check_year(moment, f"The moment {moment.isoformat()}")
    return datetime.fromtimestamp(moment.timestamp(), UTC)


def _check_year(day: date, what: str) -> None:
    if not FIRST_DATE.year <= day.year < LAST_DATE.year:
        refuse(f"{what} is not of the years {FIRST_DATE.year} to {LAST_DATE.year - 1}. Is it a typo?")
