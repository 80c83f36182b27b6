"""What every test shares: a private AIRFLOW_HOME, the sandbox and connections to it, a clock."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

# Before Airflow is imported: it reads its home and configuration then.
_home = tempfile.mkdtemp(prefix="airflow-batch-tests-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith("AIRFLOW")]:
    del os.environ[_name]
os.environ |= {"AIRFLOW_HOME": _home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "NO_COLOR": "1"}

import pytest  # noqa: E402
import time_machine  # noqa: E402

from airflow_batch._campaigns.protocol import SystemClock  # noqa: E402
from airflow_batch.sandbox import BatchSandbox  # noqa: E402

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture
def sandbox():
    """A running sandbox of one app."""
    with BatchSandbox() as running:
        yield running


@pytest.fixture
def connect(monkeypatch):
    """Return a function that puts an Airflow connection into the environment."""

    def put(connection, conn_id="batch_default"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))

    return put


@pytest.fixture
def batch(sandbox, connect):
    """A running sandbox that ``batch_default`` leads to."""
    connect(sandbox.connection())
    return sandbox


class MovedClock:
    """Advances the clock instead of waiting.

    :param slept: The seconds of each wait in a worker slot.
    """

    def __init__(self, travel):
        self._travel = travel
        self.slept = []
        self.while_asleep = lambda seconds: None

    def sleep(self, seconds):
        self.slept.append(round(seconds, 1))
        self._travel.shift(timedelta(seconds=seconds))
        self.while_asleep(seconds)

    def move(self, time):
        self._travel.shift(time)


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances when a task waits in its worker slot, so that no test waits in real time."""
    with time_machine.travel(datetime.now(UTC), tick=True) as travel:
        moved = MovedClock(travel)
        monkeypatch.setattr(SystemClock, "sleep", lambda self, seconds: moved.sleep(seconds))
        yield moved
