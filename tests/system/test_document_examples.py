"""The code that the documents show: each file of docs/examples does what its document says of it."""

from __future__ import annotations

import json
import runpy
from datetime import UTC, datetime
from pathlib import Path

import pytest
from airflow.sdk import Connection
from samples import SUMMER_SALE

from airflow_batch._http.settings import read_settings
from airflow_batch.sandbox import BatchSandbox

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture(scope="module")
def sandbox():
    with BatchSandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def airflow(shared_airflow, sandbox):
    """An Airflow whose connections are those of docs/connection.md, in a secrets backend."""
    ours = sandbox.connection()
    stored = json.loads((EXAMPLES / "connections.json").read_text())
    stored["batch_default"] |= {key: ours[key] for key in ("host", "password", "login")}
    stored["batch_http"] = {**stored["batch_default"], "conn_type": "http"}
    shared_airflow.add_connections(stored)
    for file in EXAMPLES.glob("*_*.py"):
        shared_airflow.add_dag(file)
    return shared_airflow


@pytest.fixture(scope="module")
def run(airflow):
    """Return a function that runs a DAG, which must succeed, and returns the id of the run."""

    def run_dag(dag_id, conf=None):
        run_id = airflow.trigger(dag_id, conf)
        assert airflow.wait_for_run(dag_id, run_id, timeout=180) == "success", airflow.task_instances(dag_id, run_id)
        return run_id

    return run_dag


@pytest.fixture(scope="module")
def toggled(run, sandbox):
    """The campaign and the run of the DAG on_and_off, and whether its window was open before."""
    before = runpy.run_path(str(EXAMPLES / "after_http_operator.py"))["window"].is_live_at(datetime.now(UTC))
    token = sandbox.add_campaign({**SUMMER_SALE, "live": not before})
    return token, run("on_and_off", {"campaign": token}), before


def test_the_two_dags_with_http_operator_in_the_documents_switch_on_and_off(run, sandbox):
    token = sandbox.add_campaign(SUMMER_SALE)
    for dag_id, live in (("http_on", True), ("http_off", False)):
        run(dag_id, {"campaign": token})
        assert sandbox.campaign(token)["live"] is live


def test_the_dag_instead_of_http_operator_in_the_documents_applies_the_state_of_its_window(sandbox, toggled):
    token, _, before = toggled
    window = runpy.run_path(str(EXAMPLES / "after_http_operator.py"))["window"]
    # The window may have changed meanwhile.
    assert sandbox.campaign(token)["live"] in {before, window.is_live_at(datetime.now(UTC))}
    assert [record.operation for record in sandbox.requests if record.campaign_token == token and record.applied] == [
        "update"
    ]


def test_the_result_in_the_documents_has_the_keys_of_a_real_one(airflow, toggled):
    shown = json.loads((EXAMPLES / "result.json").read_text())
    _, run_id, _ = toggled
    assert list(airflow.xcom("on_and_off", run_id, "switch")) == list(shown)


def test_the_tasks_in_the_documents_create_change_and_delete_a_campaign(run, sandbox):
    before = set(sandbox.tokens())
    run("campaign_tasks")
    assert set(sandbox.tokens()) == before
    writes = [record.operation for record in sandbox.requests if record.applied][-4:]
    assert writes == ["create", "update", "update", "delete"]


def test_the_task_in_the_documents_that_uses_the_hook_reads_the_list(airflow, run, sandbox):
    sandbox.add_campaign({**SUMMER_SALE, "name": "Summer evenings", "live": True})
    run_id = run("hook_in_a_task", {"prefix": "Summer e"})
    assert airflow.xcom("hook_in_a_task", run_id, "live_campaigns") == ["Summer evenings"]


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
