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
    """A hook whose requests go through a gate. For one thread at a time."""

    def __init__(self, batch_conn_id: str, app: str | None, gate: RateLimiter) -> None:
        super().__init__(batch_conn_id, app)
        self.gate = gate
        self.clock_offset = gate.clock_offset
        self.still_wanted: Callable[[], bool] = lambda: True
        """Asked when a write's turn has come; where it says no, the write raises :class:`Outdated`."""

    def _request(self, endpoint: Endpoint, token: str, **request: Any) -> Answer:
        send = partial(super()._request, endpoint, token, **request)
        try:
            return self.gate.send(endpoint, send, lambda: self.still_wanted())
        finally:
            if self.has_answered:
                self.gate.clock_offset = self.clock_offset


class ThreadHooks:
    """Makes hooks of one reading of the connection, which share a gate."""

    def __init__(self, base: BatchHook, gate: RateLimiter) -> None:
        self.base = base
        self.gate = gate
        self._local = threading.local()

    def own(self, app: str | None) -> RateLimitedHook:
        """Return this thread's hook for an app: a session is not shared between threads.

        :raises BatchConfigurationError: for an app that the connection does not know.
        """
        hooks: dict[str | None, RateLimitedHook] = self._local.__dict__.setdefault("hooks", {})
        if app not in hooks:
            self.base.settings.api_key(app)
            hooks[app] = self.base.with_settings(RateLimitedHook(self.base.batch_conn_id, app, self.gate))
        return hooks[app]


def connect(batch_conn_id: str, gate: RateLimiter | None) -> ThreadHooks:
    """Read a connection and return what makes hooks of it; its ``requests_per_second`` is the gate's limit."""
    base = BatchHook(batch_conn_id)
    return ThreadHooks(base, gate or RateLimiter(base.settings.requests_per_second))
