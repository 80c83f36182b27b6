"""Shared by several modules: sandboxes with options, two apps or a key that cannot read, and a clock for sensors."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk import BaseHook

from airflow_batch.sandbox import BatchSandbox


@pytest.fixture
def sandbox_with(connect):
    """Return a function that starts a sandbox with these options, which ``batch_default`` then leads to."""
    started = []

    def start(keys="login", kind="live", extra=None, **options):
        sandbox = BatchSandbox(**options)
        sandbox.start()
        started.append(sandbox)
        connection = sandbox.connection(keys, kind=kind)
        connect({**connection, "extra": {**connection["extra"], **(extra or {})}})
        return sandbox

    yield start
    for sandbox in started:
        sandbox.stop()


@pytest.fixture
def two_apps(sandbox_with):
    """A sandbox of two apps, and a connection with a key for each."""
    return sandbox_with("api_keys", apps=("ios", "android"))


@pytest.fixture
def dev(batch, connect):
    """The sandbox, reached with a key that cannot read campaigns."""
    connect(batch.connection(kind="dev"))
    return batch


@pytest.fixture
def sensor_clock(monkeypatch):
    """The clock of the sensors, with half a second from each call to the next."""

    class Clock(datetime):
        moment = datetime(2026, 1, 1, tzinfo=UTC)

        @classmethod
        def now(cls, tz=None):
            cls.moment += timedelta(seconds=0.5)
            return cls.moment

    monkeypatch.setattr("airflow_batch.sensors._base.datetime", Clock)
    return Clock


@pytest.fixture
def no_sync_connection_in_the_loop(monkeypatch):
    """A connection that is read synchronously fails in a triggerer; here it fails in any running event loop."""
    stock = BaseHook.get_connection.__func__

    def only_outside(cls, conn_id):
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return stock(cls, conn_id)

    monkeypatch.setattr(BaseHook, "get_connection", classmethod(only_outside))
