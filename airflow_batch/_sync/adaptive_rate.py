"""How fast the API may be called when many requests follow each other. Pure: every method takes the present moment.

Batch limits the rate of a company's REST key without saying to what ("too many requests ... wait for at least 5
seconds", https://doc.batch.com/developer/api/mep/campaigns/update, Failure). What a task does when it has to wait long
is in ``operators/sync.py``; delays between Airflow's attempts are in ``policies/retry.py``.
"""

from __future__ import annotations

from collections import deque

START = 2.0
"""Requests a second to begin with where the limit is not known; doubled every second until one is refused."""
MOST, LEAST = 1000.0, 0.1
FIRST, LOWERED, HALVED = 0.7, 0.85, 0.5
"""Part of the refused rate with which to go on: after the first refusal, which the doubling has overshot; after one
that the rate has crept up to; and after one that came soon after the last, for then the limit must be far below."""
SOON = 10.0
"""Seconds after a pause in which a refusal is such a one."""
FIRST_RECOVERY, RECOVERY, RECOVERY_REQUESTS = 140.0, 90.0, 200
"""Seconds, and at least so many requests, in which the rate grows back to what was refused. The 5 seconds of each
refusal are lost, and few of many requests should be refused."""
KNOWN_RECOVERY = 60.0
"""The same below a known limit, which is never exceeded."""
PATIENCE = 15.0
"""Seconds after which a rate that had to be halved is tried again; twice as many each time that it is refused again."""
PROBING = 5.0
"""Seconds in which it doubles then."""
MEASURED, MEASURED_REQUESTS = 2.0, 8
"""Seconds, and at most so many requests, over which the rate is measured at which they were really sent. Few: while
the rate doubles, that of two seconds ago says too little."""


class AdaptiveRate:
    """The moments at which requests may go out. For one REST key, so for all its apps together. Not thread-safe.

    Moments are seconds of any clock that does not go back.

    :param limit: Requests a second that are never exceeded; None where the limit is not known: then it is found.
    :param now: The present moment.
    :param burst: How many requests may go out at once at the start.
    """

    def __init__(self, limit: float | None, now: float, burst: int = 1) -> None:
        self.limit = limit
        self.paused = 0.0
        """Seconds for which Batch has asked to wait, so far."""
        self.refusals = 0
        self._began = now
        self._refused_at: float | None = None
        self._lowered = self._ceiling = limit or START
        self._recovery = KNOWN_RECOVERY if limit else FIRST_RECOVERY
        self._proven = self._before_halving = 0.0
        self._patience = PATIENCE
        self._last: float | None = None
        self._at_once = burst if limit else 1
        """How many more requests may go out at once."""
        self._not_before = now
        self._sent: deque[float] = deque()

    def next_slot(self, now: float) -> float:
        """Return the moment, now or later, at which the next request may be sent, by what is known now."""
        moment = max(now, self._not_before)
        if self._last is not None and (self._at_once < 1 or self._refused_at is not None):
            moment = max(moment, self._last + 1 / self.rate(max(now, self._last)))
        return moment

    def take(self, moment: float) -> None:
        """Note that the slot of this moment was used."""
        self._at_once -= 1
        self._last = moment
        self._sent.append(moment)
        while self._sent[0] < moment - MEASURED:
            self._sent.popleft()

    def rate(self, now: float) -> float:
        """Return the requests a second that are allowed at a moment."""
        if self._refused_at is None:
            return self.limit or min(START * 2 ** min(now - self._began, 60.0), MOST)
        elapsed = max(now - self._refused_at, 0.0)
        # A cube, as in TCP's CUBIC (RFC 9438): fast while below what was refused, slow around it, fast once beyond.
        rate = self._ceiling + (self._ceiling - self._lowered) * (elapsed / self._recovery - 1) ** 3
        if self._is_probing(now):
            probe = self._lowered * 2 ** min((elapsed - self._patience) / PROBING, 60.0)
            rate = max(rate, min(probe, LOWERED * self._before_halving))
        return min(max(LEAST, rate), self.limit or MOST)

    def refused(self, sent: float, now: float, wait: float) -> None:
        """Note that a request was refused: nothing goes out for ``wait`` seconds, and then less often.

        A request that was already on its way when an earlier one was refused lowers the rate no further.

        :param sent: When the refused request was sent.
        """
        self.refusals += 1
        until = max(self._not_before, now + wait)
        self.paused += until - max(self._not_before, now)
        if self._refused_at is None or sent >= self._refused_at:
            self._lower(now)
            self._refused_at = until
        self._not_before = until
        self._refused_at = max(self._refused_at, until)  # the pause is no time in which the rate recovers

    def _lower(self, now: float) -> None:
        refused = min(self.rate(now), max(self._measured(now), LEAST))
        first = self._refused_at is None
        soon = self._refused_at is not None and now - self._refused_at < SOON
        if self._is_probing(now):
            self._patience *= 2
        if soon:
            self._before_halving = max(self._before_halving, self._proven)
        elif refused >= FIRST * self._before_halving:
            self._before_halving, self._patience = 0.0, PATIENCE
        # A rate that has lasted, unlike one that doubled its way up through a burst.
        self._proven = 0.0 if first or soon else refused
        self._lowered = max(LEAST, refused * (FIRST if first else HALVED if soon else LOWERED))
        self._ceiling = self._lowered / LOWERED if soon else refused
        shortest = KNOWN_RECOVERY if self.limit else FIRST_RECOVERY if first else RECOVERY
        self._recovery = shortest if self.limit else max(shortest, RECOVERY_REQUESTS / self._ceiling)

    def _is_probing(self, now: float) -> bool:
        """Return whether a rate that had to be halved is being tried again: the limit may have been low for a while."""
        return (
            self._refused_at is not None
            and self._before_halving * FIRST > self._ceiling
            and now - self._refused_at > self._patience
        )

    def _measured(self, now: float) -> float:
        recent = [moment for moment in self._sent if now - MEASURED <= moment <= now][-MEASURED_REQUESTS:]
        if len(recent) < 2:
            return self.rate(now)
        return (len(recent) - 1) / max(recent[-1] - recent[0], 0.001)
