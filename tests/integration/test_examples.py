"""The example DAGs: what they are. System tests run them on a scheduler."""

from __future__ import annotations

import re
import runpy
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from airflow.sdk import BaseOperator
from airflow.timetables.trigger import MultipleCronTriggerTimetable

from airflow_batch._airflow.compat import HAS_RETRY_POLICY

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLES = CHECKOUT / "dags_examples"
PARIS = ZoneInfo("Europe/Paris")
BY_SCHEDULE = {"live": "by schedule"}


def load(name):
    module = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    (dag,) = {task.dag for task in module.values() if isinstance(task, BaseOperator)}
    return module, dag


def paris(text):
    return SimpleNamespace(run_after=datetime.fromisoformat(text).replace(tzinfo=PARIS).astimezone(ZoneInfo("UTC")))


@pytest.fixture(params=["scheduled_campaign_toggle", "summer_sale"])
def example(request):
    return load(request.param)


def test_one_example_dag_switches_on_and_off_without_catchup(example):
    _, dag = example
    assert isinstance(dag.timetable, MultipleCronTriggerTimetable)
    assert (dag.catchup, dag.max_active_runs) == (False, 1)
    assert dag.task_ids == ["toggle", "confirm"]
    assert dag.get_task("confirm").upstream_task_ids == {"toggle"}


def test_every_example_is_in_the_readme():
    readme = (CHECKOUT / "README.md").read_text()
    for file in EXAMPLES.glob("*.py"):
        assert f"dags_examples/{file.name}" in readme, file.name


def test_the_campaign_of_the_demo_is_a_param_of_the_run():
    _, dag = load("scheduled_campaign_toggle")
    assert dag.params["campaign"] == ""
    assert dag.get_task("toggle").campaign == "{{ params.campaign }}"


MOMENTS = [
    ("2026-11-23T09:00:00", True),
    ("2026-11-23T17:59:59", True),
    ("2026-11-23T18:00:00", False),
    ("2026-11-23T08:59:59", False),
    # The Mondays after the clocks changed: 09:00 in Paris is 07:00 UTC in summer, 08:00 in winter.
    ("2026-03-30T09:00:00", True),
    ("2026-03-30T18:00:00", False),
    ("2026-10-26T09:00:00", True),
    ("2026-10-26T18:00:00", False),
]


@pytest.mark.parametrize(("moment", "live"), MOMENTS)
def test_the_state_in_the_toggle_example_is_that_of_the_runs_moment_in_paris(moment, live):
    desired_live = load("scheduled_campaign_toggle")[0]["desired_live"]
    assert desired_live(paris(moment), BY_SCHEDULE) is live


def test_the_window_of_summer_sale_has_the_same_moments():
    module, _ = load("summer_sale")
    for moment, live in MOMENTS:
        assert module["window"].is_live_at(paris(moment).run_after) is live, moment


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_every_window_of_an_example_names_its_timezone(file):
    for call in re.findall(r"CampaignWindow\((?:[^()]|\([^()]*\))*\)", file.read_text()):
        assert "timezone=" in call


def test_a_pipeline_that_failed_and_stopped_its_campaign_is_a_failed_run():
    """The state of a run is that of its last tasks, and the task that stops the campaign succeeds."""
    _, dag = load("stop_on_failure")
    assert [task.task_id for task in dag.tasks if not task.downstream_task_ids] == ["watcher"]
    assert dag.get_task("watcher").trigger_rule == "one_failed"
    assert dag.get_task("watcher").upstream_task_ids == {"check_offers", "publish_offers", "stop"}


@pytest.mark.skipif(not HAS_RETRY_POLICY, reason="SyncCallback runs under a supervisor from Airflow 3.3 on")
def test_the_deadline_in_the_documents_is_a_dag_with_both_notifiers():
    dag = runpy.run_path(str(CHECKOUT / "docs/examples/deadline.py"))["dag"]
    assert [alert.callback.path.rpartition(".")[2] for alert in dag.deadline] == [
        "SetCampaignLiveNotifier",
        "SmtpNotifier",
    ]


def test_the_toggle_example_switches_off_on_weekends():
    desired_live = load("scheduled_campaign_toggle")[0]["desired_live"]
    saturday = datetime(2026, 11, 21, 0, 0, tzinfo=PARIS)
    hours = [saturday + timedelta(hours=hour) for hour in range(48)]
    assert not any(desired_live(SimpleNamespace(run_after=hour), BY_SCHEDULE) for hour in hours)


@pytest.mark.parametrize(("asked", "live"), [("on", True), ("off", False)])
def test_a_manual_run_of_the_toggle_example_applies_the_state_of_its_param(asked, live):
    desired_live = load("scheduled_campaign_toggle")[0]["desired_live"]
    assert desired_live(paris("2026-11-23T12:00:00"), {"live": asked}) is live
