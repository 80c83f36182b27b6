"""How long an attempt waits in its worker slot, or in a callback (rules 7 and 11).

What a task does when Batch throttles it is in docs/throttling-and-retries.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from airflow_batch._airflow.backoff import BATCH_FLOOR
from airflow_batch._campaigns.protocol import Clock, Log, Schedule
from airflow_batch.exceptions import BatchApiError, BatchRateLimitError

AGAIN_AFTER = (5.0, 15.0)
"""Seconds before a request is repeated of which nothing was sent, and a read before a stop (rules 4 and 7)."""
MAX_IN_SLOT = timedelta(minutes=5)
"""How long an attempt waits in its worker slot in all (rule 7)."""
MAX_SHORT_THROTTLE, SPREAD = 8.0, 2.0
"""Seconds: a throttle of up to so long is waited out once in the slot, and up to so much longer, so that tasks that
were refused together do not come back together. Another start of a worker takes longer, and reads again."""
PAUSE_BEFORE_WRITE = 1.0
"""Seconds between the read and the write of a task that Batch throttles. Tasks that send both at once mostly get one
through, and have to read again: 60 of them took twice as long."""
STOP_READ_LIMIT, WRITE_RESERVE = 5.0, 5.0
"""In a callback: seconds that the read before a stop gets at most, and that are left for the write (rule 11)."""


@dataclass
class Waiting:
    """The waits of one attempt.

    :param live: The desired state: only a wait that Batch asks for passes the next change of a window.
    :param budget: How long the whole attempt may take, for a callback. None: only the waits are limited.
    :param allowed: How long the attempt may wait in all, where there is no budget.
    :param spread: From 0 to 1, different for each task.
    :param may_wait_out: Whether a short throttle is still to be waited out. Not by a mapped task that was never
        rescheduled: its siblings need the slot.
    """

    clock: Clock
    log: Log
    live: bool | Schedule | None
    budget: timedelta | None = None
    allowed: timedelta = MAX_IN_SLOT
    spread: float = 0.0
    may_wait_out: bool = True
    waited: timedelta = timedelta(0)
    started: datetime = field(init=False)
    not_before: datetime = field(init=False)
    """When Batch allows the next request."""
    throttle: BatchApiError | None = None
    """The last throttle."""

    def __post_init__(self) -> None:
        self.started = self.not_before = self.clock.now()

    def left(self) -> float:
        """Return how many seconds of a callback's time are left for a request, at least half a second."""
        left = self.started + (self.budget or timedelta(0)) - self.clock.now()
        return max(0.5, left.total_seconds())

    def note_throttle(self, error: BatchApiError) -> None:
        """Note when Batch allows the next request."""
        self.throttle = error
        self.not_before = self.clock.now() + timedelta(seconds=max(BATCH_FLOOR, error.retry_after or 0.0))

    def until_allowed(self) -> None:
        """Wait until Batch allows the next request.

        :raises BatchApiError: the throttle, where that is longer than the attempt may wait.
        """
        if self.throttle is not None and self.is_closed() and not self.for_throttle():
            raise self.throttle

    def is_closed(self) -> bool:
        """Return whether Batch does not allow a request yet."""
        return self.clock.now() < self.not_before

    def for_throttle(self, longer: float = 0.0) -> bool:
        """Wait as long as Batch asks, past a change of the window as well; return False where that is too long."""
        seconds = (self.not_before - self.clock.now()).total_seconds() + longer
        return bool(self.allowed) and self.pause(seconds, str(self.throttle), may_be_cut=False)

    def for_short_throttle(self) -> bool:
        """Wait as long as Batch asks after a 429, once in an attempt and where that is short; else return False."""
        seconds = (self.not_before - self.clock.now()).total_seconds()
        is_short = isinstance(self.throttle, BatchRateLimitError) and seconds <= MAX_SHORT_THROTTLE
        if not self.may_wait_out or not is_short or self.budget is not None:
            return False
        self.may_wait_out = False
        return self.for_throttle(SPREAD * self.spread)

    def pause_before_write(self) -> bool:
        """Wait between the read and the write of a throttled task; return False for one that may not wait."""
        if self.budget is not None or not self.allowed:
            return False
        self.waited += timedelta(seconds=PAUSE_BEFORE_WRITE)
        self.clock.sleep(PAUSE_BEFORE_WRITE)
        return True

    def pause(self, seconds: float, why: str, *, may_be_cut: bool = True) -> bool:
        """Wait; return False where the wait is too long.

        :param may_be_cut: Whether to wait no further than the next change of the window.
        """
        now = self.clock.now()
        changes = getattr(self.live, "changes", None)
        change = next(iter(changes(now)), None) if changes and may_be_cut else None
        if change is not None:
            seconds = min(seconds, (change[0] - now).total_seconds() + 0.1)
        left = self.left() - WRITE_RESERVE if self.budget else (self.allowed - self.waited).total_seconds()
        if seconds > left:
            return False
        self.log.info("Waiting %.0f s: %s.", seconds, why.rstrip("."))
        self.waited += timedelta(seconds=seconds)
        self.clock.sleep(seconds)
        return True
