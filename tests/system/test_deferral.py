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
MAPPED = 48


class Story:
    """What happened: read by the tests."""

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

    def play(self) -> None:
        self.campaigns = [self.sandbox.add_campaign(CAMPAIGN) for _ in range(MAPPED)]
        self.gone = self.sandbox.add_campaign(CAMPAIGN)
        conf = {"campaigns": self.campaigns, "gone": self.gone}
        self.run_id = self.airflow.trigger("deferrals", conf)
        wait_until(lambda: self.states().count("deferred") == MAPPED + 2 or "failed" in self.states())
        assert "failed" not in self.states(), self.airflow.task_log("deferrals", self.run_id, "all")
        taken_up = "SELECT count(*) AS number FROM trigger WHERE triggerer_id IS NOT NULL"
        wait_until(lambda: self.airflow.query(taken_up)[0]["number"] == MAPPED + 2)
        self.triggers = self.airflow.query("SELECT * FROM trigger")
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
def story(tmp_path_factory) -> Iterator[Story]:
    airflow = PrivateAirflow(
        tmp_path_factory.mktemp("airflow"),
        dags=[*(HERE / "deferral_dags").glob("*.py")],
        config={
            # How soon another triggerer takes over: 30 s by default.
            "triggerer.triggerer_health_check_threshold": "4",
            "triggerer.job_heartbeat_sec": "1",
        },
    )
    airflow.env["PYTHONPATH"] += f":{HERE.parent / 'guard'}"
    with BatchSandbox(rest_key=REST_KEY, apps={"ios": APP_KEYS}) as sandbox, airflow.running():
        stored = sandbox.connection("api_keys")
        body = {"connection_id": "stored", **stored, "extra": json.dumps({"api_keys": {"ios": APP_KEYS["live"]}})}
        airflow.api("POST", "/api/v2/connections", body)
        told = Story(sandbox, airflow)
        told.play()
        yield told


def test_every_sensor_that_waited_ends_as_it_should(story):
    tasks = story.airflow.task_instances("deferrals", story.run_id)
    assert {task["task_id"]: task["state"] for task in tasks} == {
        "campaigns": "success",
        "each": "success",
        "all": "success",
        "gone": "failed",
    }
    assert [task["state"] for task in tasks if task["task_id"] == "each"] == ["success"] * MAPPED
    assert story.state == "failed"


def test_the_result_that_the_trigger_saw_is_the_xcom(story):
    for index, token in enumerate(story.campaigns):
        summary = story.airflow.xcom("deferrals", story.run_id, "each", index)
        assert (summary["campaign_token"], summary["live"], summary["app"]) == (token, True, "ios")
    everyone = story.airflow.xcom("deferrals", story.run_id, "all")
    assert [summary["campaign_token"] for summary in everyone] == story.campaigns


def test_the_index_of_each_is_named_by_the_campaign(story):
    tasks = [t for t in story.airflow.task_instances("deferrals", story.run_id) if t["task_id"] == "each"]
    assert {task["rendered_map_index"] for task in tasks} == {"ios Morning news"}


def test_what_fails_in_the_triggerer_is_the_typed_error(story):
    log = story.airflow.task_log("deferrals", story.run_id, "gone")
    assert "BatchNotFoundError" in log
    assert "TaskDeferralError" not in log


def test_the_new_triggerer_asks_again_and_nobody_writes(story):
    assert len(story.sandbox.requests) > story.at_the_kill
    assert {record.operation for record in story.sandbox.requests} == {"view", "list"}
    assert not [record for record in story.sandbox.requests if record.applied or record.method != "GET"]


def test_no_key_is_in_the_trigger_table(story):
    fernet = Fernet(story.airflow.env["AIRFLOW__CORE__FERNET_KEY"])
    assert len(story.triggers) == MAPPED + 2
    kept = [str(row["kwargs"]) for row in story.triggers]
    # What a worker has deferred, Airflow keeps in clear.
    opened = [text if text.startswith("{") else fernet.decrypt(text.encode()).decode() for text in kept]
    assert sum(story.campaigns[0] in text for text in opened) == 2  # that of the one, and that of all
    assert_free(json.dumps(opened), "the triggers' arguments")
    assert_free(json.dumps(story.triggers, default=str), "the trigger table")


def test_no_key_is_left_anywhere_else(story):
    for path, text in story.airflow.all_logs():
        assert_free(text, path.relative_to(story.airflow.home))
    for table, column, text in story.airflow.database_cells():
        assert_free(text, f"{table}.{column}")
