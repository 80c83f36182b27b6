"""Deferred sensors on a real triggerer, which is killed while they wait."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from canary import APP_KEYS, REST_KEY, assert_free
from cryptography.fernet import Fernet
from private_airflow import PrivateAirflow, wait_until

from airflow_batch.sandbox import BatchSandbox, Fault

HERE = Path(__file__).parent
CAMPAIGN = {"name": "Morning news", "live": False, "push_time": "2099-01-05T08:00:00", "messages": []}
MAPPED = 8


class DeferredRun:
    """The run, and what was recorded about it."""

    def __init__(self, sandbox: BatchSandbox, airflow: PrivateAirflow) -> None:
        self.sandbox = sandbox
        self.airflow = airflow
        self.run_id = ""
        self.triggers: list[dict[str, object]] = []
        self.campaigns: list[str] = []
        self.gone = ""
        self.at_the_kill = 0
        self.state = ""

    def states(self) -> list[str]:
        return [task["state"] for task in self.airflow.task_instances("deferrals", self.run_id)]

    def run(self) -> None:
        self.campaigns = [self.sandbox.add_campaign(CAMPAIGN) for _ in range(MAPPED)]
        self.gone = self.sandbox.add_campaign(CAMPAIGN)
        conf = {"campaigns": self.campaigns, "gone": self.gone}
        self.run_id = self.airflow.trigger("deferrals", conf)
        wait_until(lambda: self.states().count("deferred") == MAPPED + 2 or "failed" in self.states())
        assert "failed" not in self.states(), self.airflow.task_log("deferrals", self.run_id, "all")
        ours = "SELECT * FROM trigger WHERE classpath LIKE '%BatchCampaignTrigger'"
        assigned = f"{ours} AND triggerer_id IS NOT NULL"
        wait_until(lambda: len(self.airflow.query(assigned)) == MAPPED + 2)
        self.triggers = self.airflow.query(ours)
        self.airflow.kill("triggerer")
        self.at_the_kill = len(self.sandbox.requests)
        self.airflow.start_again("triggerer")
        for token in self.campaigns:
            body = {**self.sandbox.campaign(token), "campaign_token": token, "live": True}
            self.sandbox.inject(Fault("answer", "view", token=token, status=200, body=body, times=None))
        listed = [{"campaign_token": token, "name": "Morning news", "live": True} for token in self.campaigns]
        self.sandbox.inject(Fault("answer", "list", status=200, body=listed, times=None))
        self.sandbox.inject(Fault("answer", "view", token=self.gone, status=404, times=None))
        self.state = self.airflow.wait_for_run("deferrals", self.run_id, timeout=180)


@pytest.fixture(scope="module")
def deferred_run(shared_airflow) -> Iterator[DeferredRun]:
    for file in (HERE / "deferral_dags").glob("*.py"):
        shared_airflow.add_dag(file)
    with BatchSandbox(rest_key=REST_KEY, apps={"ios": APP_KEYS}) as sandbox:
        extra = json.dumps({"api_keys": {"ios": APP_KEYS["live"]}})
        body = {"connection_id": "in_the_database", **sandbox.connection("api_keys"), "extra": extra}
        shared_airflow.api("POST", "/api/v2/connections", body)
        run = DeferredRun(sandbox, shared_airflow)
        run.run()
        yield run


def test_deferred_sensors_end_as_they_should_after_the_triggerer_was_killed(deferred_run):
    tasks = deferred_run.airflow.task_instances("deferrals", deferred_run.run_id)
    assert {task["task_id"]: task["state"] for task in tasks} == {
        "campaigns": "success",
        "each": "success",
        "all": "success",
        "gone": "failed",
    }
    assert [task["state"] for task in tasks if task["task_id"] == "each"] == ["success"] * MAPPED
    assert deferred_run.state == "failed"


def test_the_xcom_of_a_deferred_sensor_is_what_its_trigger_read(deferred_run):
    for index, token in enumerate(deferred_run.campaigns):
        summary = deferred_run.airflow.xcom("deferrals", deferred_run.run_id, "each", index)
        assert (summary["campaign_token"], summary["live"], summary["app"]) == (token, True, "ios")
    everyone = deferred_run.airflow.xcom("deferrals", deferred_run.run_id, "all")
    assert [summary["campaign_token"] for summary in everyone] == deferred_run.campaigns


def test_the_map_index_of_a_deferred_sensor_is_labelled_with_app_and_name(deferred_run):
    tasks = [t for t in deferred_run.airflow.task_instances("deferrals", deferred_run.run_id) if t["task_id"] == "each"]
    assert {task["rendered_map_index"] for task in tasks} == {"ios Morning news"}


def test_a_sensor_that_fails_in_the_triggerer_raises_the_error_of_this_provider(deferred_run):
    log = deferred_run.airflow.task_log("deferrals", deferred_run.run_id, "gone")
    assert "BatchNotFoundError" in log
    assert "TaskDeferralError" not in log


def test_the_new_triggerer_polls_again_and_sends_only_reads(deferred_run):
    assert len(deferred_run.sandbox.requests) > deferred_run.at_the_kill
    assert {record.operation for record in deferred_run.sandbox.requests} == {"view", "list"}
    assert not [record for record in deferred_run.sandbox.requests if record.applied or record.method != "GET"]


def test_no_key_is_in_airflows_table_of_triggers(deferred_run):
    fernet = Fernet(deferred_run.airflow.env["AIRFLOW__CORE__FERNET_KEY"])
    assert len(deferred_run.triggers) == MAPPED + 2
    kept = [str(row["kwargs"]) for row in deferred_run.triggers]
    # Airflow does not encrypt what a worker has deferred.
    opened = [text if text.startswith("{") else fernet.decrypt(text.encode()).decode() for text in kept]
    assert sum(deferred_run.campaigns[0] in text for text in opened) == 2  # that of the one, and that of all
    assert_free(json.dumps(opened), "the triggers' arguments")
    assert_free(json.dumps(deferred_run.triggers, default=str), "the trigger table")
