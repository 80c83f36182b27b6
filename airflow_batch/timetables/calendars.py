"""When a DAG of a calendar runs: by crons, and at single moments. Airflow finds the class by ``plugin.py``.

Its path is stored in databases: it never moves. Airflow has no timetable for both. Each cron takes about a millisecond
of the scheduler's loop, so a calendar of hundreds of one-off windows would keep it busy; a sorted list takes none.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pendulum
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable
from airflow.timetables.trigger import MultipleCronTriggerTimetable


class CalendarTimetable(Timetable):
    """Runs a DAG at each moment of some crons and of a list. One run where several come together.

    :param crons: Crons of five fields.
    :param moments: Single moments, as seconds since 1970.
    :param timezone: IANA name of the time zone of the crons.
    """

    def __init__(self, crons: Iterable[str], moments: Iterable[int], timezone: str) -> None:
        self._crons, self._timezone = tuple(crons), timezone
        self._moments = sorted(set(moments))
        by_cron = MultipleCronTriggerTimetable(*self._crons, timezone=timezone) if self._crons else None
        self._by_cron = by_cron
        single = f"{len(self._moments)} single moments" if self._moments else ""
        self.description = ", ".join(part for part in (by_cron.description if by_cron else "", single) if part)

    @property
    def summary(self) -> str:
        """What the Airflow UI shows."""
        single = (f"{len(self._moments)} single moments",) if self._moments else ()
        return ", ".join((*self._crons, *single))

    def serialize(self) -> dict[str, Any]:
        """Return the arguments as JSON values."""
        return {"crons": list(self._crons), "moments": self._moments, "timezone": self._timezone}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> CalendarTimetable:
        """Return the timetable of :meth:`serialize`."""
        return cls(**data)

    def infer_manual_data_interval(self, *, run_after: pendulum.DateTime) -> DataInterval:
        """Return the data interval of a run that a person starts: the moment itself, as for a cron's trigger."""
        return DataInterval.exact(run_after)

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Return the next run: without catchup the newest one that is due, else the first that comes."""
        now = datetime.now(UTC).timestamp()
        moment = self._next_moment(last_automated_data_interval, restriction, now)
        found = [] if moment is None else [DagRunInfo.exact(pendulum.from_timestamp(moment))]
        if self._by_cron is not None:
            by_cron = self._by_cron.next_dagrun_info(
                last_automated_data_interval=last_automated_data_interval, restriction=restriction
            )
            found += [] if by_cron is None else [by_cron]
        due = [info for info in found if info.run_after.timestamp() <= now]
        if due and not restriction.catchup:
            return max(due, key=lambda info: info.run_after)
        return min(found, key=lambda info: info.run_after, default=None)

    def _next_moment(self, last: DataInterval | None, restriction: TimeRestriction, now: float) -> int | None:
        """Return the next of the single moments, by the rules of Airflow's cron triggers."""
        places = []
        if last is not None:
            places.append(bisect_right(self._moments, last.end.timestamp()))
        elif restriction.earliest is None:
            places.append(bisect_left(self._moments, now))
        if restriction.earliest is not None and not (restriction.catchup and last is not None):
            places.append(bisect_left(self._moments, restriction.earliest.timestamp()))
        if not restriction.catchup:
            places.append(bisect_right(self._moments, now) - 1)
        place = max(places)
        moment = self._moments[place] if place < len(self._moments) else None
        is_over = moment is not None and restriction.latest is not None and restriction.latest.timestamp() < moment
        return None if is_over else moment
