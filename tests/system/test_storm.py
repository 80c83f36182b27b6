"""Many toggles on two worker slots, refused together: while they wait, another DAG's task gets a slot.

The limit is lifted only once that task has started, so what is asserted is an order and not a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from private_airflow import PrivateAirflow, wait_until

from airflow_batch.sandbox import BatchSandbox

HERE = Path(__file__).parent
CAMPAIGN = {
    "name": "Morning news",
    "live": False,
    "push_time": "2099-01-05T08:00:00",
    "messages": [{"language": "en", "body": "Good morning"}],
}
TOGGLES = 30
ADMITTED = 8
"""Requests that are answered before all others are refused: enough for a few toggles."""
PATIENCE = 400
"""Seconds for each step; what is asserted does not depend on them."""


@dataclass
class Story:
    """What happened: read by the tests."""

    sandbox: BatchSandbox
    airflow: PrivateAirflow
    campaigns: list[str]
    run_id: str = ""
    state: str = ""
    toggles: list[dict[str, Any]] = field(default_factory=list)
    bystander: dict[str, Any] = field(default_factory=dict)

    def play(self) -> None:
        # An earlier logical date, so that Airflow prefers what is ready of the storm.
        self.run_id = self.airflow.trigger(
            "storm", {"campaigns": self.campaigns}, logical_date=datetime.now(UTC), timeout=PATIENCE
        )
        wait_until(lambda: {record.campaign_token for record in self.sandbox.requests} == set(self.campaigns))
        bystander = self.airflow.trigger("bystander", logical_date=datetime.now(UTC), timeout=PATIENCE)
        self.airflow.wait_for_run("bystander", bystander, timeout=PATIENCE)
        self.sandbox.set_throttle(None)
        self.state = self.airflow.wait_for_run("storm", self.run_id, timeout=PATIENCE)
        tasks = self.airflow.task_instances("storm", self.run_id)
        self.toggles = [task for task in tasks if task["task_id"] == "toggle"]
        (self.bystander,) = self.airflow.task_instances("bystander", bystander)


@pytest.fixture(scope="module")
def story(tmp_path_factory) -> Iterator[Story]:
    with BatchSandbox(rate=0.001, burst=ADMITTED) as sandbox:
        campaigns = [sandbox.add_campaign(CAMPAIGN) for _ in range(TOGGLES)]
        airflow = PrivateAirflow(
            tmp_path_factory.mktemp("airflow"),
            dags=[*(HERE / "storm_dags").glob("*.py")],
            connections={"batch_default": sandbox.connection()},
            config={"core.parallelism": "2"},
        )
        told = Story(sandbox, airflow, campaigns)
        with airflow.running(timeout=PATIENCE):
            told.play()
            yield told


def test_all_toggles_succeed_without_a_retry(story):
    mismatches = story.airflow.query("SELECT extra FROM log WHERE event = 'state mismatch'")
    assert [task["state"] for task in story.toggles] == ["success"] * TOGGLES, mismatches
    assert [task["try_number"] for task in story.toggles] == [1] * TOGGLES, mismatches
    assert story.state == "success"
    assert all(story.sandbox.campaign(token)["live"] for token in story.campaigns)


def test_nothing_is_planned_or_sent_within_10_s_of_a_429(story):
    planned, waited = [], []
    for index, token in enumerate(story.campaigns):
        asked = [record for record in story.sandbox.requests if record.campaign_token == token]
        refused = [record.time for record in asked if record.status == 429]
        (attempt,) = story.airflow.tries("storm", story.run_id, "toggle", index)
        again = [row["reschedule_date"] for row in attempt["reschedules"]]
        planned += [(later - earlier).total_seconds() for earlier, later in zip(refused, again, strict=False)]
        waited += [(b.time - a.time).total_seconds() for a, b in pairwise(asked) if a.status == 429]
    assert len(planned) >= TOGGLES - ADMITTED
    assert len(waited) == len(planned)
    assert min(planned) >= 10
    assert min(waited) >= 10


def test_another_dags_task_gets_a_slot_while_they_wait(story):
    started = story.bystander["start_date"]
    still_to_come = [task for task in story.toggles if task["end_date"] > started]
    assert story.bystander["state"] == "success"
    assert len(still_to_come) >= TOGGLES - ADMITTED
