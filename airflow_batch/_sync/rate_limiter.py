"""Where the requests of many threads wait for their turn.

How fast they may go is decided in ``_sync/adaptive_rate.py``, what they ask for in ``_sync/run.py``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol, TypeVar

from airflow_batch._airflow.backoff import delay_floor, required_wait
from airflow_batch._campaigns.protocol import CampaignApi
from airflow_batch._http.endpoints import LIST, Endpoint
from airflow_batch._sync.adaptive_rate import AdaptiveRate
from airflow_batch.exceptions import BatchApiError, BatchError, BatchMaintenanceError, BatchSyncIncompleteError

T = TypeVar("T")

# Seconds of one throttle, and of throttles without an answer between them, for which the worker slot is kept.
HOLD, HOLD_IN_ALL = 30.0, 120.0
# How often what may succeed later is tried, and the seconds before the second try, doubled for each one after it.
TRIES, BETWEEN_TRIES = 4, 5.0
# Between two checks of a waiting thread whether the limiter was closed.
POLL_SECONDS = 0.5


class RateLimiterClosed(Exception):
    """No request may be sent any more. Not a BatchError: it is no failure of the campaign that was to be next."""

    def __init__(self, reason: BatchError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Outdated(Exception):
    """What was to be written is not desired any more now that its turn has come."""


class RateLimiter:
    """Lets the requests of all threads out at the rate that Batch allows, and counts them."""

    poll_seconds = POLL_SECONDS

    def __init__(
        self,
        limit: float | None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        *,
        burst: int = 1,
    ) -> None:
        self._lock, self._next_in_line = threading.Lock(), threading.Lock()
        self._monotonic, self._sleep = monotonic, sleep
        self._rate = AdaptiveRate(limit, monotonic(), burst)
        self._refused_since: dict[bool, float] = {}
        """Since when reads (False) and writes (True) are refused: reads may be answered while writes are not."""
        self._closed: BatchError | None = None
        self.requests = 0
        self.clock_offset = timedelta(0)
        """That of the hook that was answered last, for hooks that have not asked anything yet."""

    def acquire(self) -> float:
        """Wait for a turn and return the moment, for :meth:`refused`.

        :raises RateLimiterClosed: also while it waits.
        """
        # One waits for its turn, the others for that one: turns that were given out ahead would be lost, or come all at
        # once, when a request is refused meanwhile.
        with self._next_in_line:
            moment = self._next_slot()
            while True:
                self._wait_until(moment)
                later = self._next_slot()
                if later <= self._monotonic():
                    with self._lock:
                        self._rate.take(moment)
                        self.requests += 1
                    return self._monotonic()
                moment = later

    def send(self, endpoint: Endpoint, request: Callable[[], T], still_desired: Callable[[], bool]) -> T:
        """Make a request when its turn has come, and return what it returns.

        A read that is throttled is repeated, and so is a page of the list that fails for a reason that may pass: the
        pages before it would have to be read again. A write is not: the desired state is computed anew then.

        :raises Outdated: for a write that is not desired any more.
        :raises RateLimiterClosed: where nothing is to be sent any more.
        """
        tries = 0
        while True:
            sent = self.acquire()
            if endpoint.writes and not still_desired():
                raise Outdated
            try:
                answer = request()
            except BatchApiError as error:
                if error.throttled:
                    self.refused(sent, error, writes=endpoint.writes)
                    if endpoint.writes:
                        raise
                    continue
                self.answered(writes=endpoint.writes)
                tries += 1
                if endpoint is not LIST or not error.transient or tries == TRIES:
                    raise
            else:
                self.answered(writes=endpoint.writes)
                return answer
            self.rest(tries)

    def _next_slot(self) -> float:
        with self._lock:
            return self._rate.next_slot(self._monotonic())

    def rest(self, tries: int) -> None:
        """Wait before something is tried again that was tried so often."""
        self.pause(BETWEEN_TRIES * 2 ** (tries - 1))

    def pause(self, seconds: float) -> None:
        """Wait, but not after it was closed."""
        self._wait_until(self._monotonic() + seconds)

    def close(self, reason: BatchError) -> None:
        """Let nothing out any more. Takes no lock, for a signal's handler may call it."""
        self._closed = self._closed or reason

    def stop(self) -> None:
        """Close it, for the task is to end."""
        self.close(BatchSyncIncompleteError("The task was stopped. The changes that were completed are kept."))

    def answered(self, *, writes: bool) -> None:
        """Note that Batch has answered a request other than by a throttle."""
        with self._lock:
            self._refused_since.pop(False, None)
            if writes:
                self._refused_since.pop(True, None)

    def refused(self, sent: float, error: BatchApiError, *, writes: bool) -> None:
        """Note a throttle; close the limiter where the worker slot should not be kept so long."""
        seconds = delay_floor(error) if isinstance(error, BatchMaintenanceError) else required_wait(error)
        with self._lock:
            now = self._monotonic()
            since = self._refused_since.setdefault(writes, now)
            if seconds <= HOLD and now + seconds - since <= HOLD_IN_ALL:
                self._rate.refused(sent, now, seconds)
            else:
                self.close(error)

    @property
    def refusals(self) -> int:
        return self._rate.refusals

    @property
    def paused(self) -> float:
        return self._rate.paused

    def _wait_until(self, moment: float) -> None:
        while self._closed is None:
            left = moment - self._monotonic()
            if left <= 0:
                return
            self._sleep(min(left, self.poll_seconds))
        raise RateLimiterClosed(self._closed)


class RateLimitedApi(CampaignApi, Protocol):
    """A hook whose requests wait for their turn. For one thread at a time."""

    still_desired: Callable[[], bool]
    """Asked when a write's turn has come; where it says no, the write raises :class:`Outdated`."""
    refusals_at_read: int
    """How many requests had been throttled when this hook began to read: what was read before a throttle is old."""


class HooksForApps(Protocol):
    """What makes hooks of one reading of the connection: one for each thread and app."""

    limiter: RateLimiter

    @property
    def read_only_reason(self) -> str:
        """Why nothing may be written through the connection; empty where writes are allowed."""

    def for_app(self, app: str | None) -> RateLimitedApi:
        """Return this thread's hook for an app.

        :raises BatchConfigurationError: for an app that the connection does not know.
        """
