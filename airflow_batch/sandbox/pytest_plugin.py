"""The pytest plugin: a fixture `batch_sandbox` for tests of DAGs.

Belongs here: the fixture, its marker. Does not belong here: the sandbox (server.py), the block of other hosts
(loopback.py). pytest loads this file in every run of everybody who has installed the package, so it imports neither
Airflow nor the web server; both come with the first test that uses the fixture.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow_batch.sandbox import BatchSandbox

MARKER = "batch_sandbox"
# A proxy on this machine would carry requests to other hosts.
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}(conn_id='batch_default', **options): how the fixture {MARKER} is made: the Airflow connection that "
        "leads to it, and the arguments of BatchSandbox, such as rate=1, burst=5, apps=('ios', 'android'), clock=...",
    )


@pytest.fixture
def batch_sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchSandbox]:
    """A running Batch sandbox that the Airflow connection `batch_default` leads to; every other host is blocked.

    The marker `batch_sandbox` changes it: `conn_id`, and what `BatchSandbox` takes. With several apps the connection
    has the keys of all of them, so that each task names its `app`.
    """
    from airflow_batch.sandbox import BatchSandbox
    from airflow_batch.sandbox.loopback import loopback_only

    options = _options(request.node)
    conn_id = options.pop("conn_id", "batch_default")

    def note(message: str) -> None:
        # Shown when the test fails, also where the code under test has swallowed the error.
        request.node.add_report_section("call", "batch_sandbox", message)

    for name in _PROXIES:
        for spelling in (name, name.upper()):
            monkeypatch.delenv(spelling, raising=False)
    with BatchSandbox(**options) as sandbox, loopback_only(note):
        connection = sandbox.connection("login" if len(sandbox.apps) == 1 else "api_keys")
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
        yield sandbox


def _options(node: Any) -> dict[str, Any]:
    """Return what the markers say, those of the test over those of its class and module."""
    options: dict[str, Any] = {}
    for marker in reversed(list(node.iter_markers(MARKER))):
        if marker.args:
            raise pytest.UsageError(f"{node.nodeid}: the marker {MARKER} takes its options by name, such as rate=1")
        options |= marker.kwargs
    return options
