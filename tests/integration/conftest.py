"""Sandboxes that several modules need: with options, with two apps, and with a key that cannot read campaigns."""

from __future__ import annotations

import pytest

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
