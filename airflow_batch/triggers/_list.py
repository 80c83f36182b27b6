"""The list of an app's campaigns, read again and again: once for all event triggers of a triggerer. Reads only.

A failed poll is logged and repeated later, for ever: Airflow starts an event trigger that ends again within a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from airflow_batch._airflow.backoff import BATCH_FLOOR, delay_floor
from airflow_batch._values import duration_text
from airflow_batch.exceptions import BatchAuthenticationError, BatchError
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.triggers._connection import hook_of, in_thread
from airflow_batch.triggers._poll import PER_REQUEST_SECONDS, count_sent

log = logging.getLogger(__name__)

JOIN_SECONDS = 1.0
"""Seconds before the first poll, in which the other triggers of a starting triggerer join."""
MAX_SLEEP_SECONDS = 1.0
"""Seconds after which a sleeping poll sees that a trigger with a shorter interval has joined."""
MAX_BACKOFF_SECONDS = 300.0
"""Seconds between two failed polls, unless the interval or Retry-After is longer."""
DEFAULT_INTERVAL_SECONDS = 60.0


class Watcher(Protocol):
    """A trigger that reads the list.

    :param campaign: Token of the only campaign that it needs, None for all.
    :param poll_interval: Seconds between two polls.
    :param awaits_sends: Whether the number of pushes that its campaign has sent is needed.
    """

    campaign: str | None
    poll_interval: float
    awaits_sends: bool


@dataclass(frozen=True)
class Snapshot:
    """What was seen last.

    :param number: Counts the snapshots, from 1.
    :param began_at: When the list was asked for, by the clock of the event loop.
    :param campaigns: What the list showed, by token.
    :param is_complete: Whether it was read to its end, or only as far as needed.
    :param sent: Pushes sent, by token, for the campaigns that were asked about.
    """

    number: int
    began_at: float
    seen_at: datetime
    campaigns: Mapping[str, Mapping[str, Any]]
    is_complete: bool
    sent: Mapping[str, int]


@dataclass
class _Sends:
    """The last request for the statistics of a campaign: when, and whether the campaign was live then."""

    asked_at: float
    was_live: bool


@dataclass
class WatchedList:
    """The campaigns of one connection and app.

    All requests, those of failed polls too, are at least :data:`PER_REQUEST_SECONDS` apart: 10 in any 60 seconds.
    """

    batch_conn_id: str
    app: str | None
    watchers: dict[Watcher, float] = field(default_factory=dict)
    latest: Snapshot | None = None

    def __post_init__(self) -> None:
        self._lock = asyncio.Lock()
        self.handing_over = asyncio.Lock()
        """Taken by the trigger that fires."""
        self._hook: BatchHook | None = None
        self._not_before = 0.0
        self._listed_at: float | None = None
        self._list_was_last = False
        self._sends: dict[str, _Sends] = {}
        self._sent: dict[str, int] = {}
        self._refused: set[str] = set()
        self._failures = 0
        self._reported: type[Exception] | None = None

    @contextmanager
    def joined(self, watcher: Watcher) -> Iterator[float]:
        """Poll for a trigger, too, within the block; return the moment from which on.

        Another triggerer may have run it before, and have recorded more than an earlier poll has seen: such a poll is
        not for this trigger, and the next one is due.
        """
        self.watchers[watcher] = joined_at = _now()
        try:
            yield joined_at
        finally:
            self.watchers.pop(watcher, None)

    async def snapshots(self) -> AsyncIterator[Snapshot]:
        """Yield the latest snapshot, and each new one. Never ends and never raises."""
        await _sleep(JOIN_SECONDS)
        number = 0
        while True:
            snapshot = await self._after(number)
            number = snapshot.number
            yield snapshot

    async def _after(self, number: int) -> Snapshot:
        """Return the first snapshot after one. Whoever comes first polls; the others get what it has seen."""
        async with self._lock:
            while self.latest is None or self.latest.number <= number:
                try:
                    await self._step()
                except asyncio.CancelledError:
                    self._hook = None  # its thread may not have ended
                    raise
                except BatchError as error:
                    self._back_off(error)
                except Exception as error:
                    self._back_off(BatchError(f"Unexpected {type(error).__name__}."))
            return self.latest

    async def _step(self) -> None:
        """Make one poll of the list, or ask for the statistics of one campaign, or sleep a while."""
        now = _now()
        if now < self._not_before:
            await _sleep(min(self._not_before - now, MAX_SLEEP_SECONDS))
        elif (self._list_was_last or not self._list_is_due()) and self.latest and (token := self._next_to_ask(now)):
            self._list_was_last = False
            await self._ask(token, self.latest)
        elif self._list_is_due():
            self._list_was_last = True
            await self._read()
        else:
            await _sleep(MAX_SLEEP_SECONDS)

    @property
    def _interval(self) -> float:
        return min((watcher.poll_interval for watcher in self.watchers), default=DEFAULT_INTERVAL_SECONDS)

    def _list_is_due(self) -> bool:
        at = self._listed_at
        return at is None or _now() >= at + self._interval or any(joined > at for joined in self.watchers.values())

    async def _read(self) -> None:
        """Read the list to its end, or up to the last campaign that is needed."""
        started = _now()
        hook = await self._connected()
        tokens = {watcher.campaign for watcher in self.watchers}
        needed = None if None in tokens or not tokens else tokens
        pages = hook.list_pages()
        found: dict[str, Mapping[str, Any]] = {}
        is_complete = False
        while not is_complete and (needed is None or not needed <= found.keys()):
            await self._turn()
            page, is_complete = await in_thread(next, pages)
            found |= {campaign["campaign_token"]: campaign for campaign in page}
        self._listed_at = started
        number = self.latest.number + 1 if self.latest else 1
        self._succeeded(Snapshot(number, started, datetime.now(UTC), found, is_complete, dict(self._sent)))

    def _next_to_ask(self, now: float) -> str | None:
        """Return the campaign whose statistics are needed and were asked for longest ago.

        One that is not live sends nothing, so it is asked about once, and once more after it was stopped.
        """
        due: dict[str, float] = {}
        for watcher in self.watchers:
            if not watcher.awaits_sends or (token := watcher.campaign) is None:
                continue
            last = self._sends.get(token)
            if last is None:
                due[token] = 0.0
            elif now >= last.asked_at + watcher.poll_interval and (last.was_live or self._is_live(token)):
                due[token] = last.asked_at
        return min(due, key=lambda token: due[token], default=None)

    def _is_live(self, token: str) -> bool:
        return self.latest is not None and self.latest.campaigns.get(token, {}).get("live") is True

    async def _ask(self, token: str, latest: Snapshot) -> None:
        """Ask for the statistics of a campaign. What is wrong with one campaign does not delay the others."""
        self._sends[token] = _Sends(_now(), self._is_live(token))
        hook = await self._connected()
        await self._turn()
        try:
            self._sent[token] = count_sent(await in_thread(hook.get_campaign_stats, token))
        except BatchError as error:
            if error.transient or isinstance(error, BatchAuthenticationError):
                raise
            if token not in self._refused:
                self._refused.add(token)
                log.error("%s: the statistics of campaign %r cannot be read: %s", self, token, error)
            return
        self._refused.discard(token)
        self._succeeded(replace(latest, number=latest.number + 1, seen_at=datetime.now(UTC), sent=dict(self._sent)))

    async def _connected(self) -> BatchHook:
        if self._hook is None:
            self._hook = await hook_of(self.batch_conn_id, self.app)
        return self._hook

    async def _turn(self) -> None:
        """Wait until the next request may be sent."""
        while (left := self._not_before - _now()) > 0:
            await _sleep(left)
        self._not_before = _now() + PER_REQUEST_SECONDS

    def _succeeded(self, snapshot: Snapshot) -> None:
        if self._failures:
            log.info("%s can be read again.", self)
        self._failures, self._reported, self.latest = 0, None, snapshot

    def _back_off(self, error: BatchError) -> None:
        """Log a failed poll, and wait at least as long as after one that succeeded.

        The connection is read again before the next poll: its keys may have been changed.
        """
        has_connection, self._hook = self._hook is not None, None
        self._failures += 1
        growing = min(BATCH_FLOOR * 2.0 ** min(self._failures - 1, 10), MAX_BACKOFF_SECONDS)
        pause = max(self._interval, delay_floor(error), growing, PER_REQUEST_SECONDS)
        self._not_before = _now() + pause
        if error.transient and has_connection:
            log.warning("%s: poll failed. %s No request for %s.", self, error, duration_text(pause))
        elif self._reported is not type(error):
            self._reported = type(error)
            hint = " The keys are read again each time." if isinstance(error, BatchAuthenticationError) else ""
            log.error("%s cannot be polled until this is corrected: %s%s It is tried again.", self, error, hint)

    def __str__(self) -> str:
        app = f", app {self.app!r}" if self.app else ""
        return f"Campaign list of connection {self.batch_conn_id!r}{app}"


_LISTS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str | None], WatchedList]] = WeakKeyDictionary()
"""One list for each event loop, connection and app. They stay, so that triggers that start anew keep the pace."""


def list_of(batch_conn_id: str, app: str | None) -> WatchedList:
    """Return the list that all triggers of this event loop share."""
    lists = _LISTS.setdefault(asyncio.get_running_loop(), {})
    return lists.setdefault((batch_conn_id, app), WatchedList(batch_conn_id, app))


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)
