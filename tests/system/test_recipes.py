"""The recipes of the documents, each as a DAG on a real Airflow: old campaigns are deleted, a person approves."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from private_airflow import PrivateAirflow, wait_until
from samples import MORNING_NEWS

from airflow_batch.sandbox import BatchSandbox

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
OLD = datetime.now(UTC) - timedelta(days=100)
DELETE_DRY = (EXAMPLES / "delete_old_campaigns.py").read_text()
DELETE = DELETE_DRY.replace("dry_run=True, ", "").replace('"delete_old_campaigns"', '"delete_for_good"')


@pytest.fixture(scope="module")
def sandbox():
    with BatchSandbox() as running:
        yield running


@pytest.fixture(scope="module")
def airflow(sandbox, tmp_path_factory):
    private = PrivateAirflow(
        tmp_path_factory.mktemp("airflow"),
        dags=[
            EXAMPLES / "approve_campaign.py",
            EXAMPLES / "delete_old_campaigns.py",
            ("delete_for_good.py", DELETE),
        ],
        connections={"batch_default": sandbox.connection()},
    )
    with private.running():
        yield private


def campaign(sandbox, name, *, created=OLD, **changes):
    return sandbox.add_campaign({**MORNING_NEWS, "live": False, **changes, "name": name}, created=created)


def test_old_drafts_of_a_name_are_deleted_and_no_others(airflow, sandbox):
    recent = OLD + timedelta(days=20)
    old = [campaign(sandbox, f"Test {number}") for number in range(2)]
    kept = [
        campaign(sandbox, "Test recent", created=recent),
        campaign(sandbox, "Test live", live=True),
        campaign(sandbox, "Summer sale"),
    ]

    dry = airflow.trigger("delete_old_campaigns")
    assert airflow.wait_for_run("delete_old_campaigns", dry) == "success"
    assert set(sandbox.tokens()) >= {*old, *kept}
    assert "'Test 1') would be deleted. Nothing was sent." in "".join(
        airflow.task_log("delete_old_campaigns", dry, "delete", map_index) for map_index in range(2)
    )

    run = airflow.trigger("delete_for_good")
    assert airflow.wait_for_run("delete_for_good", run) == "success"
    assert set(sandbox.tokens()) & {*old, *kept} == set(kept)


def test_no_more_campaigns_are_deleted_than_the_run_allows(airflow, sandbox):
    old = [campaign(sandbox, f"Trial {number}") for number in range(3)]

    run = airflow.trigger("delete_for_good", {"prefix": "Trial ", "at_most": 2})

    assert airflow.wait_for_run("delete_for_good", run) == "success"
    assert len(set(sandbox.tokens()) & set(old)) == 1


@pytest.mark.parametrize(("answer", "live"), [("Approve", True), ("Reject", False)])
def test_a_campaign_goes_live_only_after_a_person_has_approved(airflow, sandbox, answer, live):
    token = campaign(sandbox, f"To {answer}")
    run = airflow.trigger("approve_campaign", {"campaign": token})
    waiting = (
        "SELECT 1 FROM task_instance WHERE run_id = ? AND task_id = 'approve' "
        "AND state IN ('awaiting_input', 'deferred')"
    )
    wait_until(lambda: airflow.query(waiting, run), 60)
    task = f"/api/v2/dags/approve_campaign/dagRuns/{run}/taskInstances/approve/-1/hitlDetails"
    asked = airflow.api("GET", task)
    assert asked["subject"] == f"Switch on To {answer}?"
    assert "'parameter': 'live'" in asked["body"]
    assert sandbox.campaign(token)["live"] is False

    # Airflow may fail a task that is answered within a second: https://github.com/apache/airflow/issues/72716
    time.sleep(3)
    airflow.api("PATCH", task, {"chosen_options": [answer], "params_input": {}})

    assert airflow.wait_for_run("approve_campaign", run) == "success"
    assert sandbox.campaign(token)["live"] is live
