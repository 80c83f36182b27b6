"""What has become of many campaigns so far, and the line of a log that says it. Sends nothing."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from airflow_batch.changes import Outcome
from airflow_batch.exceptions import BatchError
from airflow_batch.gate import Gate

log = logging.getLogger(__name__)

BETWEEN_LINES = 5.0


@dataclass
class Progress:
    """What is known of each campaign, by its index."""

    total: int
    written: set[int] = field(default_factory=set)
    """Those that any attempt has changed, or may have; also where they failed after it."""
    begun: set[int] = field(default_factory=set)
    """Those that any attempt found to differ and began to write."""
    unchanged: set[int] = field(default_factory=set)
    failed: dict[int, BatchError] = field(default_factory=dict)
    would_change: set[int] = field(default_factory=set)
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._began = self._told = time.monotonic()
        self._writing: tuple[float, int] | None = None

    @property
    def changed(self) -> set[int]:
        """Those that were changed and did not fail."""
        # Copied first, and at once: threads add to it.
        return self.written.copy() - self.failed.keys()

    @property
    def done(self) -> int:
        return len(self.changed | self.unchanged) + len(self.failed)

    def writing_begins(self) -> None:
        """Note that what comes from now on takes longer than the comparison did."""
        self._writing = time.monotonic(), self.done

    def tell(self, gate: Gate, *, last: bool = False) -> None:
        """Log a line, unless there was one a moment ago."""
        now = time.monotonic()
        if not last and now - self._told < BETWEEN_LINES:
            return
        self._told = now
        done, left = self.done, ""
        if not last and self._writing and done > self._writing[1]:
            each = (now - self._writing[0]) / (done - self._writing[1])
            left = f"; about {each * (self.total - done):.0f} s left"
        log.info(
            "%d of %d campaigns: %d changed, %d unchanged, %d failed. %d requests, %.1f a second; %d refused (429), "
            "%.0f s waited for them%s.",
            done,
            self.total,
            len(self.changed),
            len(self.unchanged),
            len(self.failed),
            gate.requests,
            gate.requests / max(now - self._began, 0.001),
            gate.refusals,
            gate.paused,
            left,
        )
