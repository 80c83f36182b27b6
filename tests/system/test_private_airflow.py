"""The private Airflow itself: does it run, tell what happened, and leave nothing behind?"""

from __future__ import annotations

from typing import NamedTuple

import psutil
import pytest
from private_airflow import PrivateAirflow, is_alive

SECRET = "a-password-nobody-prints"
DAG = """
from datetime import timedelta
from airflow.sdk import BaseHook, dag, task, timezone
try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:
    from airflow.exceptions import AirflowRescheduleException

@dag(schedule=None)
def patient():
    @task(retries=0)
    def comes_back(dag_run=None, task_reschedule_count=None):
        if not task_reschedule_count:
            print("I would rather come back")
            raise AirflowRescheduleException(timezone.utcnow() + timedelta(seconds=dag_run.conf["seconds"]))
        return {"login": BaseHook.get_connection(dag_run.conf["conn_id"]).login}

    @task
    def counts(number):
        print(f"number {number}")
        return number

    comes_back()
    counts.expand(number=[7, 8])

patient()
"""


class Finished(NamedTuple):
    airflow: PrivateAirflow
    run_id: str
    state: str
    seen_running: set[psutil.Process]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    airflow = PrivateAirflow(
        tmp_path_factory.mktemp("airflow"),
        dags=[("patient.py", DAG)],
        connections={"from_environment": {"conn_type": "generic", "login": "env"}},
    )
    airflow.add_stored_connection("stored", {"conn_type": "generic", "login": "ada", "password": SECRET})
    with airflow.running():
        run_id = airflow.trigger("patient", {"seconds": 10, "conn_id": "stored"}, run_id="first")
        state = airflow.wait_for_run("patient", run_id, timeout=90)
        seen_running = {process for process in airflow.recorded if is_alive(process)}
    return Finished(airflow, run_id, state, seen_running)


def test_a_task_that_asks_to_run_again_succeeds_in_its_first_try(finished):
    assert (finished.run_id, finished.state) == ("first", "success")
    assert [(row["task_id"], row["map_index"], row["state"]) for row in _rows(finished)] == [
        ("comes_back", -1, "success"),
        ("counts", 0, "success"),
        ("counts", 1, "success"),
    ]
    assert {(row["try_number"], row["start_date"] <= row["end_date"]) for row in _rows(finished)} == {(1, True)}


def test_every_reschedule_is_told_with_the_try_it_belongs_to(finished):
    (only_try,) = finished.airflow.tries("patient", "first", "comes_back")
    (reschedule,) = only_try["reschedules"]
    assert (only_try["try_number"], only_try["max_tries"], only_try["state"]) == (1, 0, "success")
    assert reschedule["start_date"] < reschedule["reschedule_date"] <= only_try["start_date"]


def test_an_xcom_comes_back_decoded_and_a_stored_connection_is_found(finished):
    assert finished.airflow.xcom("patient", "first", "comes_back") == {"login": "ada"}
    assert finished.airflow.xcom("patient", "first", "counts", map_index=1) == 8
    with pytest.raises(KeyError):
        finished.airflow.xcom("patient", "first", "comes_back", key="another")


def test_the_log_of_a_task_contains_what_it_printed(finished):
    assert "I would rather come back" in finished.airflow.task_log("patient", "first", "comes_back")
    assert "number 7" in finished.airflow.task_log("patient", "first", "counts", map_index=0)


def test_nothing_that_was_started_is_left_running(finished):
    assert len(finished.seen_running) > 4, "the four components and the executor's workers"
    assert finished.seen_running <= finished.airflow.recorded
    assert not {process for process in finished.airflow.recorded if is_alive(process)}


def test_a_leak_search_sees_every_log_and_every_cell_and_finds_no_stored_password(finished):
    logs = {path.name: text for path, text in finished.airflow.all_logs()}
    cells = list(finished.airflow.database_cells())
    assert {"scheduler.log", "dag-processor.log", "triggerer.log", "api-server.log", "attempt=1.log"} <= logs.keys()
    assert ("connection", "login", "ada") in cells
    assert any("I would rather come back" in text for _, _, text in cells), "the source of the DAG"
    assert not [name for name, text in logs.items() if SECRET in text]
    assert not [(table, column) for table, column, text in cells if SECRET in text]


def test_one_process_can_run_the_same_dag_without_a_scheduler(finished):
    result = finished.airflow.run_dag("patient", {"seconds": 1, "conn_id": "from_environment"})
    assert result.returncode == 0, result.output
    assert "I would rather come back" in result.output


def _rows(finished: Finished) -> list[dict]:
    return finished.airflow.task_instances("patient", finished.run_id)
