"""Tasks that are killed at any moment, on a real scheduler; and scheduler and triggerer that are killed with them.

Which task, when, and what it must have come to is a table: kill_dags/kill_cases.py. All cases run together on one
private Airflow; each has an app of the sandbox to itself. How a sync with four requests in flight goes on is in
test_scheduler.py, what becomes of many deferred sensors in test_deferral.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from private_airflow import PrivateAirflow, wait_until
from samples import MORNING_NEWS
from system.kill_dags.kill_cases import KILLED, RESTARTED, Case

from airflow_batch._airflow import compat
from airflow_batch.sandbox import BatchSandbox, Fault, RequestRecord

pytestmark = pytest.mark.skipif(not compat.HAS_RETRY_POLICY, reason="below 3.3 Airflow keeps nothing between attempts")

HERE = Path(__file__).parent
HELD = 50.0
"""Seconds by which an answer is late that is not to come before the kill."""
THROTTLED = {"Retry-After": "35"}
"""Above 30 s, a sync gives its slot back."""
BY_THE_TEST = ("applied", "drafted", "going_live", "between", "supervised", "orphaned")
"""Moments at which the test kills; at the others the task does, or everything is killed."""
SENSORS = ("sensor_rescheduled", "sensor_deferred")
CREATIONS = ("create", "launch")


class Story:
    """What happened: read by the tests."""

    def __init__(self, sandbox: BatchSandbox, airflow: PrivateAirflow) -> None:
        self.sandbox = sandbox
        self.airflow = airflow
        self.campaigns: dict[str, list[str]] = {}
        self.runs: dict[str, str] = {}
        self.requests_at_the_restart = 0

    def given(self, case: Case) -> list[str]:
        """Put the campaigns of a case in place, and what goes wrong with its requests; return their tokens."""
        count = {"create": 0, "launch": 0, "sync": 5}.get(case.task, 1)
        campaign = {**MORNING_NEWS, "live": case.task == "off"}
        tokens = [self.sandbox.add_campaign(campaign, app=case.name) for _ in range(count)]
        # A sync is caught at its third campaign.
        which: dict[str, Any] = {"app": case.name, "token": tokens[2] if case.task == "sync" else None}
        write: Any = {"create": "create", "launch": "create", "delete": "delete"}.get(case.task, "update")
        held = Fault("delay", write, delay=HELD, **which)
        faults = {
            "applied": held,
            "going_live": Fault("delay", "update", delay=HELD, **which),
            "drafted": Fault("silence", "view", **which),
            "supervised": held,
            "running": held,
            "orphaned": Fault("delay", write, delay=5, **which),
            "between": Fault("silence", "view", **which),
            "rescheduled": Fault("answer", write, status=429, headers=THROTTLED, times=None, **which),
        }
        if case.moment in faults:
            self.sandbox.inject(faults[case.moment])
        return tokens

    def play(self) -> None:
        self.trigger("restarted", RESTARTED)
        wait_until(self.all_are_caught, timeout=600)
        self.requests_at_the_restart = len(self.sandbox.requests)
        self.airflow.kill("scheduler")
        self.airflow.kill("triggerer")
        self.sandbox.clear_faults()
        self.airflow.start_again("scheduler")
        self.trigger("killed", KILLED)
        self.airflow.start_again("triggerer")
        self.kill_processes()
        for dag_id, run_id in self.runs.items():
            self.airflow.wait_for_run(dag_id, run_id, timeout=600)

    def trigger(self, dag_id: str, cases: list[Case]) -> None:
        conf: dict[str, Any] = {}
        for case in cases:
            tokens = self.campaigns[case.name] = self.given(case)
            conf[case.name] = tokens[0] if tokens else {**MORNING_NEWS, "live": case.task == "launch"}
            if case.task == "sync":
                conf[case.name] = [{"campaign": token, "live": True} for token in tokens]
        self.runs[dag_id] = self.airflow.trigger(dag_id, conf)

    def all_are_caught(self) -> bool:
        """Tell whether every task of RESTARTED is where it is to be killed."""
        tasks = self.airflow.task_instances("restarted", self.runs["restarted"])
        states = {task["task_id"]: task["state"] for task in tasks}
        waiting = {case.name: "up_for_reschedule" for case in RESTARTED if case.moment != "running"}
        waiting |= {"sensor_rescheduled": "up_for_reschedule", "sensor_deferred": "deferred"}
        running = [case for case in RESTARTED if case.moment == "running"]
        return waiting.items() <= states.items() and all(self.is_held(case) for case in running)

    def is_held(self, case: Case) -> bool:
        """Tell whether the request has come whose answer is kept back."""
        return any(record.fault in ("delay", "silence") for record in self.requests(case))

    def kill_processes(self) -> None:
        """Kill the processes that do not kill themselves, each once its request is held."""
        left = [case for case in KILLED if case.moment in BY_THE_TEST]

        def each_once() -> bool:
            for case in [case for case in left if self.is_held(case)]:
                newest = max(self.airflow.home.glob(f"{case.name}.*.pids"))
                task, supervisor = (psutil.Process(int(pid)) for pid in newest.read_text().split())
                # The supervisor first: it would report the end of the other.
                for process in {"supervised": (supervisor, task), "orphaned": (supervisor,)}.get(case.moment, (task,)):
                    process.kill()
                left.remove(case)
            return not left

        wait_until(each_once, timeout=600)

    def requests(self, case: Case) -> list[RequestRecord]:
        return [record for record in self.sandbox.requests if record.app == case.name]

    def writes(self, case: Case) -> tuple[list[str | None], list[str | None]]:
        """Return the campaigns of the requests that took effect: before it was killed (for good), and after it."""
        if case in RESTARTED:
            before = {record.sequence for record in self.sandbox.requests[: self.requests_at_the_restart]}
        else:
            ended = self.tries(case)[-2]["end_date"]
            before = {record.sequence for record in self.requests(case) if record.time < ended}
        applied = [record for record in self.requests(case) if record.applied]
        return (
            [record.campaign_token for record in applied if record.sequence in before],
            [record.campaign_token for record in applied if record.sequence not in before],
        )

    def tries(self, case: Case) -> list[dict[str, Any]]:
        dag_id = "killed" if case in KILLED else "restarted"
        return self.airflow.tries(dag_id, self.runs[dag_id], case.name)

    def result(self, case: Case) -> Any:
        dag_id = "killed" if case in KILLED else "restarted"
        return self.airflow.xcom(dag_id, self.runs[dag_id], case.name)


@pytest.fixture(scope="module")
def story(tmp_path_factory) -> Iterator[Story]:
    with BatchSandbox(apps=[case.name for case in (*KILLED, *RESTARTED)]) as sandbox:
        connection = sandbox.connection("api_keys")
        airflow = PrivateAirflow(
            tmp_path_factory.mktemp("airflow"),
            dags=[*(HERE / "kill_dags").glob("*.py")],
            connections={"kills": {**connection, "extra": {**connection["extra"], "timeout": [10, HELD + 5]}}},
            config={
                "core.parallelism": "12",  # some of them wait for their end
                # When a task without a supervisor counts as dead: 300 s by default.
                "scheduler.task_instance_heartbeat_timeout": "30",
                "scheduler.task_instance_heartbeat_timeout_detection_interval": "3",
                # How often a scheduler looks for the tasks of one that is gone: every 300 s by default.
                "scheduler.orphaned_tasks_check_interval": "4",
            },
        )
        airflow.env["PYTHONPATH"] += f":{HERE.parent / 'guard'}"
        with airflow.running():
            told = Story(sandbox, airflow)
            told.play()
            yield told


def every(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@every([*KILLED, *RESTARTED])
def test_the_task_succeeds_and_the_campaigns_are_as_asked(story, case):
    tries = story.tries(case)
    assert (len(tries), tries[-1]["state"]) == (case.attempt, "success")
    campaigns = [story.sandbox.campaign(token) for token in story.sandbox.tokens(case.name)]
    if case.task == "delete":
        assert campaigns == []
    elif case.task in ("update", "blind_update"):
        assert [campaign["name"] for campaign in campaigns] == ["Renamed"]
    elif case.task not in CREATIONS:
        assert [campaign["live"] for campaign in campaigns] == [case.task != "off"] * len(story.campaigns[case.name])


@every([case for case in [*KILLED, *RESTARTED] if case.task in CREATIONS])
def test_the_campaign_that_was_created_is_live_if_asked_and_nothing_but_drafts_remains_besides(story, case):
    live = {token: story.sandbox.campaign(token)["live"] for token in story.sandbox.tokens(case.name)}
    assert live.pop(story.result(case)["campaign_token"]) is (case.task == "launch")
    assert list(live.values()) == [False] * case.drafts


@every([*KILLED, *RESTARTED])
def test_every_campaign_is_written_and_none_again_that_can_be_read(story, case):
    before, after = story.writes(case)
    assert (len(before), len(after)) == case.writes
    if case.task not in (*CREATIONS, "blind_update"):
        assert Counter([*before, *after]) == Counter(story.campaigns[case.name])


@every([*KILLED, *RESTARTED])
def test_the_result_tells_of_all_attempts(story, case):
    result = story.result(case)
    if case.task == "sync":
        assert (result["total"], result["changed"] + result["unchanged"], result["failed"]) == (5, 5, 0)
        assert {campaign["attempt"] for campaign in result["campaigns"]} == {case.attempt}
    else:
        assert (result["app"], result["attempt"], result["changed"]) == (case.name, case.attempt, case.changed)
        assert result["campaign_token"] in (story.campaigns[case.name] or story.sandbox.tokens(case.name))


@every([case for case in KILLED + RESTARTED if case.task == "sync"])
def test_a_sync_is_not_sure_of_what_was_written_before_it_was_killed_and_sure_of_what_it_wrote_afterwards(story, case):
    changed = {campaign["campaign_token"]: campaign["changed"] for campaign in story.result(case)["campaigns"]}
    before, after = story.writes(case)
    assert changed == dict.fromkeys(before, case.changed) | dict.fromkeys(after, True)


@pytest.mark.parametrize("sensor", SENSORS)
def test_a_sensor_waits_on_after_the_restart_and_sees_what_it_waits_for(story, sensor):
    (attempt,) = story.airflow.tries("restarted", story.runs["restarted"], sensor)
    summary = story.airflow.xcom("restarted", story.runs["restarted"], sensor)
    assert attempt["state"] == "success"
    assert (summary["campaign_token"], summary["live"]) == (story.campaigns["on_rescheduled"][0], True)
