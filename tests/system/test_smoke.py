"""One private Airflow, all examples parsed, one of them run: the smoke test of every supported version of Airflow.

Short, since it runs for each row of the matrix. What needs more than one run is in test_scheduler.py.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from canary import APP_KEYS, REST_KEY, assert_free
from private_airflow import PrivateAirflow
from samples import MORNING_NEWS

from airflow_batch.sandbox import BatchSandbox, Fault

TESTS = Path(__file__).resolve().parents[1]
EXAMPLES = TESTS.parent / "dags_examples"
DAG_ID = "scheduled_campaign_toggle"


@pytest.fixture(scope="module")
def sandbox():
    with BatchSandbox(rest_key=REST_KEY, apps={"ios": APP_KEYS}) as running:
        running.add_campaign(MORNING_NEWS)
        running.inject(Fault("answer", "update", status=429, headers={"Retry-After": "9"}))
        yield running


@pytest.fixture(scope="module")
def airflow(sandbox, tmp_path_factory):
    private = PrivateAirflow(
        tmp_path_factory.mktemp("airflow"),
        dags=[file for file in EXAMPLES.glob("*.*") if file.name != "demo.py"],
        connections={"batch_default": sandbox.connection()},
    )
    private.env["PYTHONPATH"] += f":{TESTS / 'guard'}"
    with private.running(timeout=180):
        yield private


@pytest.fixture(scope="module")
def run_id(airflow, sandbox):
    """The run of the example, ended."""
    (token,) = sandbox.tokens()
    made = airflow.trigger(DAG_ID, {"campaign": token, "name": "Morning news", "live": "on"}, timeout=180)
    assert airflow.wait_for_run(DAG_ID, made, timeout=240) == "success"
    return made


def test_the_example_toggle_makes_the_campaign_live_after_one_429_without_a_retry(airflow, sandbox, run_id):
    asked = [(record.operation, record.status) for record in sandbox.requests]
    assert asked[:4] == [("view", 200), ("update", 429), ("view", 200), ("update", 200)]
    (attempt,) = airflow.tries(DAG_ID, run_id, "toggle")
    assert (attempt["try_number"], len(attempt["reschedules"])) == (1, 1)
    assert airflow.xcom(DAG_ID, run_id, "toggle")["changed"] is True


def test_the_sensor_of_the_example_toggle_takes_the_operators_result(airflow, sandbox, run_id):
    (token,) = sandbox.tokens()
    confirmed = airflow.xcom(DAG_ID, run_id, "confirm")
    assert (confirmed["campaign_token"], confirmed["live"]) == (token, True)


def test_every_example_is_imported_by_the_dag_processor(airflow, run_id):
    files = {path.name for path in airflow.dags.glob("*.py")}
    errors = "SELECT filename, stacktrace FROM import_error"
    parsed = "SELECT DISTINCT relative_fileloc AS file FROM dag"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not airflow.query(errors):
        if {row["file"] for row in airflow.query(parsed)} == files:
            break
        time.sleep(0.5)
    assert airflow.query(errors) == []
    assert {row["file"] for row in airflow.query(parsed)} == files


def test_the_api_server_returns_the_connection_form_of_the_provider(airflow):
    (form,) = [one for one in airflow.api("GET", "/ui/connections/hook_meta") if one["connection_type"] == "batch"]
    assert form["hook_name"] == "Batch (batch.com)"
    assert form["standard_fields"]["password"]["title"] == "Company REST API key"
    assert form["standard_fields"]["url_schema"]["hidden"] is True


def test_no_key_is_in_a_log_after_the_example_toggle(airflow, run_id):
    for path, text in airflow.all_logs():
        assert_free(text, path.relative_to(airflow.home))
