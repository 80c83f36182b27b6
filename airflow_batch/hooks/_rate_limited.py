"""Hooks whose requests share a rate limiter: one for each thread and app of a sync."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from airflow_batch._http.endpoints import Endpoint
from airflow_batch._http.responses import Answer
from airflow_batch._sync.rate_limiter import RateLimiter
from airflow_batch.hooks.batch import BatchHook


class RateLimitedHook(BatchHook):
    """A hook whose requests wait for their turn. For one thread at a time."""

    def __init__(self, batch_conn_id: str, app: str | None, limiter: RateLimiter) -> None:
        super().__init__(batch_conn_id, app)
        self.limiter = limiter
        self.clock_offset = limiter.clock_offset
        self.still_desired: Callable[[], bool] = lambda: True
        self.refusals_at_read = 0

    def _request(self, endpoint: Endpoint, token: str, **request: Any) -> Answer:
        if not endpoint.writes:
            self.refusals_at_read = self.limiter.refusals
        send = partial(super()._request, endpoint, token, **request)
        try:
            return self.limiter.send(endpoint, send, lambda: self.still_desired())
        finally:
            if self.has_answered:
                self.limiter.clock_offset = self.clock_offset


class ThreadHooks:
    """Makes hooks of one reading of the connection, which share a rate limiter."""

    def __init__(self, base: BatchHook, limiter: RateLimiter) -> None:
        self.base = base
        self.limiter = limiter
        self._local = threading.local()

    @property
    def read_only_reason(self) -> str:
        """Why nothing may be written through the connection; empty where writes are allowed."""
        return self.base.read_only_reason

    def for_app(self, app: str | None) -> RateLimitedHook:
        """Return this thread's hook for an app: a session is not shared between threads."""
        hooks: dict[str | None, RateLimitedHook] = self._local.__dict__.setdefault("hooks", {})
        if app not in hooks:
            self.base.settings.api_key(app)
            hooks[app] = self.base.with_settings(RateLimitedHook(self.base.batch_conn_id, app, self.limiter))
        return hooks[app]


def connect(batch_conn_id: str, limiter: RateLimiter | None) -> ThreadHooks:
    """Read a connection and return what makes hooks of it; its ``requests_per_second`` is the limit."""
    base = BatchHook(batch_conn_id)
    return ThreadHooks(base, limiter or RateLimiter(base.settings.requests_per_second, burst=base.settings.burst))
