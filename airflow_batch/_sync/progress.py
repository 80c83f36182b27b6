"""What has become of many campaigns so far, and the log line that says it. Sends nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from airflow_batch._campaigns.request import Outcome
from airflow_batch._sync.rate_limiter import RateLimiter
from airflow_batch.exceptions import BatchError, BatchSyncError, BatchSyncIncompleteError

log = logging.getLogger(__name__)

BETWEEN_LINES_SECONDS = 5.0
MAX_NAMED = 10
"""Failures that the error of the task names."""


@dataclass
class Progress:
    """What is known of each campaign, by its index. A failed one may have an outcome as well."""

    total: int
    to: logging.Logger = log
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    failed: dict[int, BatchError] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    would_change: set[int] = field(default_factory=set)
    as_desired: set[int] = field(default_factory=set)
    """Those to which this attempt had nothing to send; an earlier one may have written them."""

    def __post_init__(self) -> None:
        self._began = self._logged = time.monotonic()
        self._writing: tuple[float, int] | None = None

    @property
    def changed(self) -> set[int]:
        """Those that this attempt has changed, or may have by an unconfirmed request."""
        return (
            set(self.outcomes.copy()) - self.failed.keys() - self.skipped.keys() - self.would_change - self.as_desired
        )

    @property
    def unchanged(self) -> set[int]:
        """Those that needed no write."""
        return self.as_desired - self.failed.keys() - self.skipped.keys()

    def writing_begins(self) -> None:
        """Note that what comes from now on takes longer than the comparison did."""
        self._writing = time.monotonic(), self._done()

    def _done(self) -> int:
        return len(self.changed | self.unchanged) + len(self.failed) + len(self.skipped)

    def raise_for_failures(self, tokens: Sequence[str], max_failures: int, to: logging.Logger) -> None:
        """Log what failed and what was skipped.

        :raises BatchSyncIncompleteError: when more failed than may, and trying again may help.
        :raises BatchSyncError: when it does not help.
        """
        for index, error in self.failed.items():
            to.error("Campaign %r: %s", tokens[index], error)
        for index, reason in self.skipped.items():
            to.warning("Campaign %r: %s", tokens[index], reason)
        if len(self.failed) <= max_failures:
            return
        named = islice(self.failed.items(), MAX_NAMED)
        first = "; ".join(f"{tokens[index]!r}: {str(error)[:200]}" for index, error in named)
        more = f"; and {len(self.failed) - MAX_NAMED} more" if len(self.failed) > MAX_NAMED else ""
        kind = BatchSyncIncompleteError if any(error.transient for error in self.failed.values()) else BatchSyncError
        raise kind(
            f"{len(self.failed)} of {self.total} campaigns failed, more than max_failures={max_failures}; "
            f"{len(self.changed)} were changed. {first}{more}"
        )

    def log(self, limiter: RateLimiter, *, last: bool = False) -> None:
        """Log a line, unless there was one a moment ago."""
        now = time.monotonic()
        if not last and now - self._logged < BETWEEN_LINES_SECONDS:
            return
        self._logged = now
        done, left = self._done(), ""
        if not last and self._writing and done > self._writing[1]:
            each = (now - self._writing[0]) / (done - self._writing[1])
            left = f"; about {each * (self.total - done):.0f} s left"
        self.to.info(
            "%d of %d campaigns: %d changed, %d unchanged, %d failed%s%s. "
            "%d requests, %.1f a second; %d refused (429), %.0f s waited for them%s.",
            done,
            self.total,
            len(self.changed),
            len(self.unchanged),
            len(self.failed),
            f", {len(self.skipped)} skipped" if self.skipped else "",
            f", {len(self.would_change)} would change" if self.would_change else "",
            limiter.requests,
            limiter.requests / max(now - self._began, 0.001),
            limiter.refusals,
            limiter.paused,
            left,
        )
