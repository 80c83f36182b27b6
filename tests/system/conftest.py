"""One running Airflow for all modules that need no configuration of their own: its start takes half a minute.

A module adds its DAGs, and its connections to a file that Airflow reads each time it needs one. These modules run last,
one after the other, so that the Airflow takes no processor time from the other tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from canary import APP_KEYS, REST_KEY
from private_airflow import PrivateAirflow
from samples import MORNING_NEWS

from airflow_batch.sandbox import BatchSandbox

TESTS = Path(__file__).resolve().parents[1]


class SharedAirflow(PrivateAirflow):
    """A private Airflow to which DAGs and connections are added while it runs."""

    def __init__(self, home: Path, secrets: Path, **arguments: Any) -> None:
        self._secrets = secrets
        backend = {
            "secrets.backend": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
            "secrets.backend_kwargs": json.dumps({"connections_file_path": str(secrets)}),
        }
        super().__init__(home, config={**backend, **arguments.pop("config", {})}, **arguments)
        secrets.write_text("{}")

    def add_connections(self, connections: Mapping[str, Mapping[str, Any]]) -> None:
        """Add connections to the file, or replace those of the same id."""
        known = json.loads(self._secrets.read_text())
        unfinished = self._secrets.with_name(f"new-{self._secrets.name}")
        unfinished.write_text(json.dumps({**known, **connections}))
        unfinished.replace(self._secrets)


@pytest.fixture(scope="session")
def environment_sandbox() -> Iterator[BatchSandbox]:
    """The sandbox of the connection ``from_environment``, with one live campaign."""
    with BatchSandbox(rest_key=REST_KEY, apps={"ios": APP_KEYS}) as running:
        running.add_campaign({**MORNING_NEWS, "live": True})
        yield running


@pytest.fixture(scope="session")
def shared_airflow(environment_sandbox, tmp_path_factory) -> Iterator[SharedAirflow]:
    airflow = SharedAirflow(
        tmp_path_factory.mktemp("airflow"),
        tmp_path_factory.mktemp("secrets") / "connections.json",
        connections={"from_environment": environment_sandbox.connection()},
        config={
            "logging.logging_level": "DEBUG",  # so that the search for keys covers all that can be logged
            # How soon another triggerer takes over: 30 s by default.
            "triggerer.triggerer_health_check_threshold": "4",
            "triggerer.job_heartbeat_sec": "1",
        },
    )
    airflow.env["PYTHONPATH"] += f":{TESTS / 'guard'}"
    with airflow.running(timeout=180):
        yield airflow


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the modules that share the Airflow after all others."""
    items.sort(key=lambda item: "shared_airflow" in getattr(item, "fixturenames", ()))
