"""The code that the documents show: each file of docs/examples does what its document says of it."""

from __future__ import annotations

import json
import runpy
from datetime import UTC, datetime
from pathlib import Path

import pytest
from airflow.sdk import Connection
from private_airflow import PrivateAirflow
from samples import SUMMER_SALE

from airflow_batch._http.settings import read_settings
from airflow_batch.sandbox import BatchSandbox

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture(scope="module")
def sandbox():
    with BatchSandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def airflow(sandbox, tmp_path_factory):
    """An Airflow whose connections come from a secrets backend, as docs/connection.md has it."""
    home = tmp_path_factory.mktemp("airflow")
    ours = sandbox.connection()
    stored = json.loads((EXAMPLES / "connections.json").read_text())
    stored["batch_default"] |= {key: ours[key] for key in ("host", "password", "login")}
    stored["batch_http"] = {**stored["batch_default"], "conn_type": "http"}
    (home / "connections.json").write_text(json.dumps(stored))
    return PrivateAirflow(
        home,
        dags=EXAMPLES.glob("*_*.py"),
        config={
            "secrets.backend": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
            "secrets.backend_kwargs": json.dumps({"connections_file_path": str(home / "connections.json")}),
        },
    )


def decoded(value: str):
    """An XCom's value, which is JSON, and from some versions of Airflow JSON of that."""
    once = json.loads(value)
    return json.loads(once) if isinstance(once, str) else once


def test_the_two_dags_with_http_operator_in_the_documents_switch_on_and_off(airflow, sandbox):
    token = sandbox.add_campaign(SUMMER_SALE)
    for dag_id, live in (("http_on", True), ("http_off", False)):
        result = airflow.run_dag(dag_id, {"campaign": token})
        assert result.returncode == 0, result.output[-3000:]
        assert sandbox.campaign(token)["live"] is live


def test_the_dag_instead_of_http_operator_in_the_documents_applies_the_state_of_its_window(airflow, sandbox):
    window = runpy.run_path(str(EXAMPLES / "after_http_operator.py"))["window"]
    before = window.is_live_at(datetime.now(UTC))
    token = sandbox.add_campaign({**SUMMER_SALE, "live": not before})
    result = airflow.run_dag("on_and_off", {"campaign": token})
    assert result.returncode == 0, result.output[-3000:]
    # The window may have changed meanwhile.
    assert sandbox.campaign(token)["live"] in {before, window.is_live_at(datetime.now(UTC))}
    assert [record.operation for record in sandbox.requests if record.campaign_token == token and record.applied] == [
        "update"
    ]


def test_the_tasks_in_the_documents_create_change_and_delete_a_campaign(airflow, sandbox):
    before = set(sandbox.tokens())
    result = airflow.run_dag("campaign_tasks")
    assert result.returncode == 0, result.output[-3000:]
    assert set(sandbox.tokens()) == before
    writes = [record.operation for record in sandbox.requests if record.applied][-4:]
    assert writes == ["create", "update", "update", "delete"]


def test_the_task_in_the_documents_that_uses_the_hook_reads_the_list(airflow, sandbox):
    sandbox.add_campaign({**SUMMER_SALE, "name": "Summer evenings", "live": True})
    result = airflow.run_dag("hook_in_a_task", {"prefix": "Summer e"})
    assert result.returncode == 0, result.output[-3000:]
    (names,) = airflow.query("SELECT value FROM xcom WHERE dag_id = 'hook_in_a_task' AND key = 'return_value'")
    assert decoded(names["value"]) == ["Summer evenings"]


def test_the_windows_in_the_documents_are_open_and_closed_when_their_comments_say():
    windows = runpy.run_path(str(EXAMPLES / "windows.py"))
    expected = {
        "office_hours": ("2026-11-23T08:30+00:00", "2026-11-22T08:30+00:00"),
        "nights": ("2026-11-21T00:30+00:00", "2026-11-21T02:30+00:00"),
        "flash_weekend": ("2026-07-04T08:00+00:00", "2026-07-05T18:00+00:00"),
        "not_at_christmas": ("2026-12-24T12:00+00:00", "2026-12-25T12:00+00:00"),
    }
    for name, (live, off) in expected.items():
        assert windows[name].is_live_at(datetime.fromisoformat(live)), name
        assert not windows[name].is_live_at(datetime.fromisoformat(off)), name


def test_the_connections_in_the_documents_are_valid():
    for conn_id, fields in json.loads((EXAMPLES / "connections.json").read_text()).items():
        read_settings(Connection.from_json(json.dumps(fields), conn_id=conn_id))


def test_the_result_in_the_documents_has_the_keys_of_a_real_one(airflow, sandbox):
    shown = json.loads((EXAMPLES / "result.json").read_text())
    (row,) = airflow.query(
        "SELECT value FROM xcom WHERE dag_id = 'on_and_off' AND task_id = 'switch' AND key = 'return_value'"
    )
    assert list(decoded(row["value"])) == list(shown)
