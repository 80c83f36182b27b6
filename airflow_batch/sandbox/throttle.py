"""How many requests the server answers. Pure: the moment is an argument, in seconds.

Belongs here: the token bucket. Does not belong here: the body and headers of a refusal (service.py).
"""

from __future__ import annotations


class TokenBucket:
    """A bucket that holds at most `burst` requests and gains `rate` of them each second. It starts full.

    Raises ValueError where `rate` is not above 0 or `burst` is below 1.
    """

    def __init__(self, rate: float, burst: float, now: float) -> None:
        if not rate > 0:
            raise ValueError("rate is a number of requests a second, above 0")
        if not burst >= 1:
            raise ValueError("burst is a number of requests, 1 or more")
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._last = now

    def left(self, now: float) -> float:
        """Return what the bucket holds at moment `now` (seconds)."""
        # A clock set back must not empty the bucket.
        return min(self.burst, self._tokens + max(0.0, now - self._last) * self.rate)

    def take(self, now: float) -> float:
        """Take one request at moment `now` (seconds). Returns 0.0 if granted, else the seconds until one will be."""
        self._tokens = self.left(now)
        self._last = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.rate
