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
LOWERED = 0.7
"""Part of the rate that was refused with which to go on."""
RECOVERY = 300.0
"""Seconds after a refusal in which the rate grows back to what was refused, and on from there at the same pace."""
KNOWN_RECOVERY = 60.0
"""The same below a known limit, which is never exceeded."""
MEASURED = 2.0
"""Seconds over which the rate of requests that were really sent is measured."""


class Pacer:
    """The moments at which requests may go out. For one REST key, so for all its apps together. Not thread-safe.

    Moments are seconds of any clock that does not go back.

    :param limit: Requests a second that are never exceeded; None where the limit is not known: then it is found.
    :param now: The present moment.
    """

    def __init__(self, limit: float | None, now: float) -> None:
        self.limit = limit
        self.paused = 0.0
        """Seconds for which Batch has asked to wait, so far."""
        self.refusals = 0
        self._began = now
        self._refused_at: float | None = None
        self._lowered = self._ceiling = limit or START
        self._last: float | None = None
        self._not_before = now
        self._sent: deque[float] = deque()

    @property
    def not_before(self) -> float:
        """The moment before which nothing goes out, after a refusal."""
        return self._not_before

    def slot(self, now: float) -> float:
        """Take the next slot: return the moment, now or later, at which one request may be sent."""
        moment = max(now, self._not_before)
        if self._last is not None:
            moment = max(moment, self._last + 1 / self.rate(max(now, self._last)))
        self._last = moment
        self._sent.append(moment)
        while self._sent[0] < moment - MEASURED:
            self._sent.popleft()
        return moment

    def rate(self, now: float) -> float:
        """Return the requests a second that are allowed at a moment."""
        if self._refused_at is None:
            return self.limit or min(START * 2 ** min(now - self._began, 60.0), MOST)
        recovery = KNOWN_RECOVERY if self.limit else RECOVERY
        grown = self._lowered + (self._ceiling - self._lowered) * max(now - self._refused_at, 0.0) / recovery
        return max(LEAST, min(grown, self.limit or MOST))

    def refused(self, sent: float, now: float, wait: float) -> None:
        """Note that a request was refused: nothing goes out for ``wait`` seconds, and then less often.

        A request that was already on its way when an earlier one was refused lowers the rate no further.

        :param sent: When the refused request was sent.
        """
        self.refusals += 1
        until = max(self._not_before, now + wait)
        self.paused += until - max(self._not_before, now)
        first = self._refused_at is None or sent >= self._refused_at
        if first:
            self._ceiling = min(self.rate(now), max(self._measured(now), LEAST))
            self._lowered = max(LEAST, LOWERED * self._ceiling)
        self._not_before = until
        if first or self._refused_at is None or until > self._refused_at:
            # The pause is no time in which the rate recovers.
            self._refused_at = until

    def _measured(self, now: float) -> float:
        recent = [moment for moment in self._sent if now - MEASURED <= moment <= now]
        if len(recent) < 2:
            return self.rate(now)
        return (len(recent) - 1) / max(recent[-1] - recent[0], 0.001)
