"""SetCampaignLiveNotifier under Airflow's own supervisor: as the callback of a task, and of a deadline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from canary import APP_KEYS, REST_KEY
from private_airflow import wait_until
from samples import MORNING_NEWS

from airflow_batch._airflow import compat
from airflow_batch.sandbox import BatchSandbox, Fault

DAGS = Path(__file__).parent / "callback_dags" / "callbacks.py"
FAULTS = {
    "throttled": Fault("answer", "update", status=429, headers={"Retry-After": "30"}, times=None),
    "silent": Fault("silence", "view", times=None),
}
TASKS = ("stops", "throttled", "silent")

needs_deadlines = pytest.mark.skipif(
    not compat.HAS_RETRY_POLICY, reason="deadlines run a SyncCallback under a supervisor from Airflow 3.3 on"
)


@pytest.fixture(scope="module")
def sandboxes(environment_sandbox):
    made = {name: BatchSandbox(rest_key=REST_KEY, apps={"ios": APP_KEYS}) for name in (*TASKS, "stored")}
    try:
        for name, sandbox in made.items():
            sandbox.start()
            # The second one of "stored" is for the callback in the triggerer.
            for _ in range(2 if name == "stored" else 1):
                sandbox.add_campaign({**MORNING_NEWS, "live": True})
            if name in FAULTS:
                sandbox.inject(FAULTS[name])
        yield {**made, "sync": environment_sandbox}
    finally:
        for sandbox in made.values():
            sandbox.stop()


@pytest.fixture(scope="module")
def airflow(shared_airflow, sandboxes):
    source = DAGS.read_text()
    for dag, name, index in (("sync", "sync", 0), ("sync_stored", "stored", 0), ("async_stored", "stored", 1)):
        source = source.replace(f'"TOKEN_{dag}"', repr(sandboxes[name].tokens()[index]))
    shared_airflow.add_connections({name: sandboxes[name].connection() for name in TASKS})
    # Airflow's audit log would contain a login.
    stored = sandboxes["stored"].connection("api_keys")
    shared_airflow.api(
        "POST", "/api/v2/connections", {"connection_id": "stored", **stored, "extra": json.dumps(stored["extra"])}
    )
    shared_airflow.add_dag(("callbacks.py", source))
    return shared_airflow


@pytest.fixture(scope="module")
def runs(airflow, sandboxes):
    """Start all runs together and return their ids."""
    started = {}
    for name in TASKS:
        started[name] = airflow.trigger(f"callback_{name}", {"campaign": sandboxes[name].tokens()[0]}, timeout=180)
    if compat.HAS_RETRY_POLICY:
        for name in ("sync", "sync_stored", "async_stored"):
            started[name] = airflow.trigger(f"deadline_{name}", timeout=180)
    return started


def ended(airflow, runs, name):
    """Wait until the run has failed and its callback is over; return the log of the task."""
    assert airflow.wait_for_run(f"callback_{name}", runs[name], timeout=180) == "failed"
    wait_until(lambda: _is_over(log_of(airflow, runs, name)), 60)
    return log_of(airflow, runs, name)


def log_of(airflow, runs, name):
    return airflow.task_log(f"callback_{name}", runs[name], "fail")


def _is_over(log):
    return any(text in log for text in ("is now not live", "NOT switched", "overtime reached"))


def callback_of(airflow, run_id):
    """Wait until the callback of the run's deadline has ended; return its state."""
    sql = (
        "SELECT callback.state FROM callback JOIN deadline ON deadline.callback_id = callback.id "
        "JOIN dag_run ON dag_run.id = deadline.dagrun_id WHERE dag_run.run_id = ? "
        "AND callback.state IN ('success', 'failed')"
    )
    wait_until(lambda: airflow.query(sql, run_id), 120)
    return airflow.query(sql, run_id)[0]["state"]


def is_live(sandboxes, name, index=0):
    return sandboxes[name].campaign(sandboxes[name].tokens()[index])["live"]


def test_the_callback_of_a_failed_task_stops_the_campaign(airflow, sandboxes, runs):
    log = ended(airflow, runs, "stops")
    assert is_live(sandboxes, "stops") is False
    assert "NOT switched" not in log


def test_a_throttled_callback_fails_and_says_so_before_airflow_ends_it(airflow, sandboxes, runs):
    log = ended(airflow, runs, "throttled")
    assert is_live(sandboxes, "throttled") is True
    assert "was NOT switched by the callback" in log
    assert "overtime" not in log


def test_a_callback_stops_the_campaign_within_20_seconds_although_batch_does_not_answer_the_view(
    airflow, sandboxes, runs
):
    log = ended(airflow, runs, "silent")
    assert is_live(sandboxes, "silent") is False
    assert "overtime" not in log


@needs_deadlines
def test_a_missed_deadline_stops_the_campaign_with_a_connection_of_the_environment(airflow, sandboxes, runs):
    assert callback_of(airflow, runs["sync"]) == "success"
    assert is_live(sandboxes, "sync") is False


@needs_deadlines
def test_a_missed_deadline_whose_callback_may_not_read_the_connection_is_recorded_as_failed_and_never_as_success(
    airflow, sandboxes, runs
):
    """Airflow 3.3 refuses a stored connection to a callback, 3.4 allows it: the recorded state is correct in both."""
    assert (callback_of(airflow, runs["sync_stored"]), is_live(sandboxes, "stored")) in (
        ("failed", True),
        ("success", False),
    )


@needs_deadlines
def test_a_missed_deadline_stops_the_campaign_from_the_triggerer(airflow, sandboxes, runs):
    assert callback_of(airflow, runs["async_stored"]) == "success"
    assert is_live(sandboxes, "stored", 1) is False
