"""Tasks that are killed at different moments, on a real scheduler; and scheduler and triggerer killed with them.

Which task, when, and how it must end is a table: kill_dags/kill_cases.py. All cases run together on one private
Airflow; each has its own app of the sandbox. A sync with four requests in flight is in test_scheduler.py, deferred
sensors are in test_deferral.py.
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
ANSWER_DELAY = 50.0
"""Seconds by which an answer is delayed that must not come before the kill."""
THROTTLED = {"Retry-After": "35"}
"""A sync is rescheduled for more than 30 s."""
BY_THE_TEST = ("applied", "drafted", "going_live", "between", "supervised", "orphaned")
"""Moments at which the test kills; at the others the task does, or everything is killed."""
SENSORS = ("sensor_rescheduled", "sensor_deferred")
CREATIONS = ("create", "launch")


class Kills:
    """The two runs, and what was recorded about them."""

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
        # A sync is killed at its third campaign.
        which: dict[str, Any] = {"app": case.name, "token": tokens[2] if case.task == "sync" else None}
        write: Any = {"create": "create", "launch": "create", "delete": "delete"}.get(case.task, "update")
        late = Fault("delay", write, delay=ANSWER_DELAY, **which)
        faults = {
            "applied": late,
            "going_live": Fault("delay", "update", delay=ANSWER_DELAY, **which),
            "drafted": Fault("silence", "view", **which),
            "supervised": late,
            "running": late,
            "orphaned": Fault("delay", write, delay=5, **which),
            "between": Fault("silence", "view", **which),
            "rescheduled": Fault("answer", write, status=429, headers=THROTTLED, times=None, **which),
        }
        if case.moment in faults:
            self.sandbox.inject(faults[case.moment])
        return tokens

    def run(self) -> None:
        self.trigger("restarted", RESTARTED)
        wait_until(self.all_are_at_their_moment, timeout=600)
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

    def all_are_at_their_moment(self) -> bool:
        """Return whether every task of RESTARTED is at the moment at which it is killed."""
        tasks = self.airflow.task_instances("restarted", self.runs["restarted"])
        states = {task["task_id"]: task["state"] for task in tasks}
        waiting = {case.name: "up_for_reschedule" for case in RESTARTED if case.moment != "running"}
        waiting |= {"sensor_rescheduled": "up_for_reschedule", "sensor_deferred": "deferred"}
        running = [case for case in RESTARTED if case.moment == "running"]
        return waiting.items() <= states.items() and all(self.is_sent(case) for case in running)

    def is_sent(self, case: Case) -> bool:
        """Return whether the request was sent whose answer is delayed."""
        return any(record.fault in ("delay", "silence") for record in self.requests(case))

    def kill_processes(self) -> None:
        """Kill the processes that do not kill themselves, each after its request was sent."""
        left = [case for case in KILLED if case.moment in BY_THE_TEST]

        def each_once() -> bool:
            for case in [case for case in left if self.is_sent(case)]:
                newest = max(self.airflow.home.glob(f"{case.name}.*.pids"))
                task, supervisor = (psutil.Process(int(pid)) for pid in newest.read_text().split())
                # The supervisor first: it would report the end of the task's process.
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
def kills(tmp_path_factory) -> Iterator[Kills]:
    with BatchSandbox(apps=[case.name for case in (*KILLED, *RESTARTED)]) as sandbox:
        connection = sandbox.connection("api_keys")
        airflow = PrivateAirflow(
            tmp_path_factory.mktemp("airflow"),
            dags=[*(HERE / "kill_dags").glob("*.py")],
            connections={"kills": {**connection, "extra": {**connection["extra"], "timeout": [10, ANSWER_DELAY + 5]}}},
            config={
                "core.parallelism": "12",  # some of them only wait for an answer
                # When a task without a supervisor counts as dead: 300 s by default.
                "scheduler.task_instance_heartbeat_timeout": "30",
                "scheduler.task_instance_heartbeat_timeout_detection_interval": "3",
                # How often a scheduler adopts the tasks of one that has ended: every 300 s by default.
                "scheduler.orphaned_tasks_check_interval": "4",
            },
        )
        airflow.env["PYTHONPATH"] += f":{HERE.parent / 'guard'}"
        with airflow.running():
            kills = Kills(sandbox, airflow)
            kills.run()
            yield kills


def every(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@every([*KILLED, *RESTARTED])
def test_a_killed_task_succeeds_in_a_later_attempt_and_its_campaigns_are_in_the_desired_state(kills, case):
    tries = kills.tries(case)
    assert (len(tries), tries[-1]["state"]) == (case.attempt, "success")
    campaigns = [kills.sandbox.campaign(token) for token in kills.sandbox.tokens(case.name)]
    if case.task == "delete":
        assert campaigns == []
    elif case.task in ("update", "blind_update"):
        assert [campaign["name"] for campaign in campaigns] == ["Renamed"]
    elif case.task not in CREATIONS:
        assert [campaign["live"] for campaign in campaigns] == [case.task != "off"] * len(kills.campaigns[case.name])


@every([case for case in [*KILLED, *RESTARTED] if case.task in CREATIONS])
def test_a_killed_creation_leaves_its_campaign_and_only_drafts_besides(kills, case):
    live = {token: kills.sandbox.campaign(token)["live"] for token in kills.sandbox.tokens(case.name)}
    assert live.pop(kills.result(case)["campaign_token"]) is (case.task == "launch")
    assert list(live.values()) == [False] * case.drafts


@every([*KILLED, *RESTARTED])
def test_a_killed_task_writes_every_campaign_once_where_it_can_be_read(kills, case):
    before, after = kills.writes(case)
    assert (len(before), len(after)) == case.writes
    if case.task not in (*CREATIONS, "blind_update"):
        assert Counter([*before, *after]) == Counter(kills.campaigns[case.name])


@every([*KILLED, *RESTARTED])
def test_the_result_of_a_killed_task_covers_all_attempts(kills, case):
    result = kills.result(case)
    if case.task == "sync":
        assert (result["total"], result["changed"] + result["unchanged"], result["failed"]) == (5, 5, 0)
        assert {campaign["attempt"] for campaign in result["campaigns"]} == {case.attempt}
    else:
        assert (result["app"], result["attempt"], result["changed"]) == (case.name, case.attempt, case.changed)
        assert result["campaign_token"] in (kills.campaigns[case.name] or kills.sandbox.tokens(case.name))


@every([case for case in KILLED + RESTARTED if case.task == "sync"])
def test_a_killed_sync_reports_null_for_what_was_written_before_and_true_for_what_was_written_after(kills, case):
    changed = {campaign["campaign_token"]: campaign["changed"] for campaign in kills.result(case)["campaigns"]}
    before, after = kills.writes(case)
    assert changed == dict.fromkeys(before, case.changed) | dict.fromkeys(after, True)


@pytest.mark.parametrize("sensor", SENSORS)
def test_a_sensor_continues_to_wait_after_a_restart_of_airflow_and_succeeds(kills, sensor):
    (attempt,) = kills.airflow.tries("restarted", kills.runs["restarted"], sensor)
    summary = kills.airflow.xcom("restarted", kills.runs["restarted"], sensor)
    assert attempt["state"] == "success"
    assert (summary["campaign_token"], summary["live"]) == (kills.campaigns["on_rescheduled"][0], True)
