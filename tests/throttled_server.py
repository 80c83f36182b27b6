"""A server that throttles, and clients that use the adaptive rate, on a simulated clock: for tests and benchmarks."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import count
from math import inf

from airflow_batch._sync.adaptive_rate import AdaptiveRate


class Bucket:
    """A token bucket, with which servers throttle; its rate may change at given moments."""

    def __init__(self, rate: float | Sequence[tuple[float, float]], burst: float) -> None:
        self.rates = [(inf, float(rate))] if isinstance(rate, int | float) else list(rate)
        self.burst, self.tokens, self.last = burst, float(burst), 0.0

    def rate(self, now: float) -> float:
        return next(rate for until, rate in self.rates if now < until)

    def take(self, now: float) -> bool:
        self.tokens = min(self.burst, self.tokens + (now - self.last) * self.rate(now))
        self.last = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Run:
    """Requests through a rate limiter to a server, some in flight at a time, as in ``_sync/rate_limiter.py``.

    :param requests: Ends when so many were granted.
    :param until: Ends at this moment.
    """

    def __init__(
        self,
        bucket: Bucket,
        latency: float,
        *,
        requests: float = inf,
        until: float = inf,
        in_flight: int = 4,
        limit: float | None = None,
        wait: float = 5.0,
    ) -> None:
        self.pacer = AdaptiveRate(limit, 0.0)
        self.sent: list[float] = []
        self.refusals: list[tuple[float, float]] = []
        self.rates: list[float] = []
        self.granted = 0
        self.took = 0.0
        events: list[tuple[float, int, tuple[float, bool] | None]] = []
        number, idle, waiting = count(), in_flight, False
        now = 0.0
        while self.granted < requests:
            if idle and not waiting:
                # One client waits for its slot, the others for that client.
                waiting = True
                heapq.heappush(events, (self.pacer.next_slot(now), next(number), None))
            now, _, answer = heapq.heappop(events)
            if now > until:
                break
            if answer is None:
                slot = self.pacer.next_slot(now)
                if slot > now + 1e-9:
                    heapq.heappush(events, (slot, next(number), None))
                    continue
                self.pacer.take(now)
                self.sent.append(now)
                idle, waiting = idle - 1, False
                heapq.heappush(events, (now + latency, next(number), (now, bucket.take(now + latency / 2))))
                continue
            moment, granted = answer
            idle += 1
            self.granted += granted
            self.took = now
            if not granted:
                self.refusals.append((now, moment))
                self.pacer.refused(moment, now, wait)
                self.rates.append(self.pacer.rate(now))
