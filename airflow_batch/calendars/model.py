"""A calendar: campaigns, and the windows in which each should be live. Pure functions of the given moment.

Reading it from a file is in ``reading.py``, the moments at which Airflow evaluates it in ``schedule.py``.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby, repeat, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pendulum

from airflow_batch.windows import SEARCH_STEPS, CampaignWindow

if TYPE_CHECKING:
    from airflow_batch.timetables.calendars import CalendarTimetable


@dataclass(frozen=True)
class LiveWindows:
    """The windows of one campaign, in one time zone: it is live when any of them is open. Immutable."""

    windows: tuple[CampaignWindow, ...]

    def is_live_at(self, moment: datetime) -> bool:
        """Return whether the campaign should be live at ``moment``, an aware datetime.

        :raises BatchConfigurationError: when it is naive or no datetime.
        """
        if not isinstance(moment, datetime) or moment.utcoffset() is None:
            return self.windows[0].is_live_at(moment)
        minute = int(moment.timestamp() // 60)
        return any(_is_live_in(window, minute) for window in self.windows)

    def changes(self, after: datetime) -> Iterator[tuple[pendulum.DateTime, bool]]:
        """Yield the moments after ``after`` at which ``is_live_at`` changes, each with its value from then on.

        In UTC, as those of a window. It ends when no window changes any more, and after ``SEARCH_STEPS`` changes of
        single windows that do not change the campaign.

        :raises BatchConfigurationError: at the first one, when ``after`` is naive or no datetime.
        """
        states = [window.is_live_at(after) for window in self.windows]
        live, steps = any(states), 0
        moves = heapq.merge(
            *(zip(window.changes(after), repeat(index)) for index, window in enumerate(self.windows)),
            key=lambda move: move[0][0],
        )
        for moment, together in groupby(moves, key=lambda move: move[0][0]):
            for (_, state), index in together:
                states[index] = state
            steps += 1
            if any(states) != live:
                live, steps = not live, 0
                yield moment, live
            elif steps > SEARCH_STEPS:
                return


@lru_cache(maxsize=10_000)
def _is_live_in(window: CampaignWindow, minute: int) -> bool:
    """Return whether a window is live in a minute since 1970, for thousands of campaigns that share a few windows."""
    return window.is_live_at(datetime.fromtimestamp(60 * minute, UTC))


@dataclass(frozen=True)
class CalendarCampaign:
    """One campaign of a calendar. Immutable.

    :param token: The token that Batch returned when the campaign was created.
    :param app: Name of the app in the connection's ``api_keys``; None where the connection has one key.
    :param name: The name that the campaign must have in Batch.
    :param windows: At least one, all in the calendar's time zone; the campaign is live when any of them is open.
    :param definition: The payload that created the campaign. Shared, and not to be changed.
    """

    token: str
    app: str | None
    name: str
    windows: tuple[CampaignWindow, ...]
    definition: dict[str, Any] | None = field(default=None, hash=False)

    @property
    def live(self) -> LiveWindows:
        """Its windows as one schedule."""
        return LiveWindows(self.windows)

    def is_live_at(self, moment: datetime) -> bool:
        """Return whether the campaign should be live at ``moment``, as :meth:`LiveWindows.is_live_at` does."""
        return self.live.is_live_at(moment)


@dataclass(frozen=True)
class CampaignCalendar:
    """A calendar file, read and checked. Immutable.

    :param path: The file, absolute.
    :param timezone: IANA name of the time zone that all of its times are in.
    :param campaigns: At least one, in the file's order; no two of the same app and token.
    """

    path: Path
    timezone: str
    campaigns: tuple[CalendarCampaign, ...]

    def changes(self, after: datetime, until: datetime) -> list[tuple[pendulum.DateTime, CalendarCampaign, bool]]:
        """Return all changes after ``after`` and up to ``until``, both aware: moment in UTC, campaign, live from then.

        In order of time, at one moment in the file's order.

        :raises BatchConfigurationError: when a moment is naive or no datetime.
        """
        known: dict[tuple[CampaignWindow, ...], list[tuple[pendulum.DateTime, bool]]] = {}
        found = []
        for campaign in self.campaigns:
            if campaign.windows not in known:
                coming = campaign.live.changes(after)
                known[campaign.windows] = list(takewhile(lambda change: change[0] <= until, coming))
            found += [(moment, campaign, live) for moment, live in known[campaign.windows]]
        return sorted(found, key=lambda change: change[0])

    def timetable(self, *, reconcile_every: timedelta | None = timedelta(minutes=15)) -> CalendarTimetable:
        """Return the timetable that runs a DAG at every change, and every ``reconcile_every`` besides.

        It also runs it at moments that change nothing: see ``schedule.py``. The same calendar always has the same
        timetable: windows that are over stay in it and take no time.

        :param reconcile_every: A divisor of an hour in minutes, or of a day in hours. None: at the changes only.
        :raises BatchConfigurationError: when it is anything else.
        """
        from airflow_batch.calendars.schedule import crons_of
        from airflow_batch.timetables.calendars import CalendarTimetable

        windows = dict.fromkeys(window for campaign in self.campaigns for window in campaign.windows)
        moments = {int(moment.timestamp()) for window in windows for moment in window.moments()}
        return CalendarTimetable(crons_of(windows, self.timezone, reconcile_every), moments, self.timezone)

    def desired(self) -> list[dict[str, Any]]:
        """Return the campaigns as ``BatchSyncCampaignsOperator(campaigns=...)`` takes them.

        Each is ``{"campaign": token, "app", "live": LiveWindows, "expect_name": name, "definition"}``, without ``app``
        or ``definition`` if the campaign has none.
        """
        return [
            {"campaign": campaign.token, "live": campaign.live, "expect_name": campaign.name}
            | ({"app": campaign.app} if campaign.app else {})
            | ({} if campaign.definition is None else {"definition": campaign.definition})
            for campaign in self.campaigns
        ]

    def wanted(self) -> list[dict[str, Any]]:
        """Return :meth:`desired`. Deprecated name."""
        warnings.warn("`CampaignCalendar.wanted()` is deprecated: use `desired()`.", DeprecationWarning, stacklevel=2)
        return self.desired()

    def digest(self) -> str:
        """Return the SHA-256 of the content, definitions included; comments and layout do not change it."""
        content = [
            [item.token, item.app, item.name, [repr(window) for window in item.windows], item.definition]
            for item in self.campaigns
        ]
        return hashlib.sha256(json.dumps([self.timezone, content], sort_keys=True).encode()).hexdigest()
