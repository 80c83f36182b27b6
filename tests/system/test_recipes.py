"""The recipes of the documents, each as a DAG on a real Airflow: old campaigns are deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from private_airflow import PrivateAirflow
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
