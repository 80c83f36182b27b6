"""Tests of a DAG of your own, against the sandbox: `pytest test_my_dag.py`."""

from __future__ import annotations

# [START tests]
import os
import runpy
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_batch.sandbox import BatchSandbox

CAMPAIGN = {
    "name": "Summer sale",
    "live": False,
    "push_time": "2099-06-01T09:00:00",
    "messages": [{"language": "en", "body": "20 % off"}],
}


@pytest.fixture
def dag() -> Any:
    return runpy.run_path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"] + "/my_dag.py")["dag"]


def test_the_campaign_goes_live(batch_sandbox: BatchSandbox, dag: Any) -> None:
    token = batch_sandbox.add_campaign(CAMPAIGN)

    run = dag.test(run_conf={"campaign": token})

    assert run.state == "success"
    assert batch_sandbox.campaign(token)["live"] is True
    assert [request.operation for request in batch_sandbox.requests] == ["view", "update", "view"]


def test_a_refused_write_fails_the_dag_and_leaves_the_campaign_alone(batch_sandbox: BatchSandbox, dag: Any) -> None:
    token = batch_sandbox.add_campaign(CAMPAIGN)
    batch_sandbox.inject("update:API_MISUSE")

    run = dag.test(run_conf={"campaign": token})

    assert run.state == "failed"
    assert batch_sandbox.campaign(token)["live"] is False


# [END tests]


NOON = datetime(2099, 5, 1, 12, tzinfo=UTC)


# [START marker]
@pytest.mark.batch_sandbox(conn_id="batch_eu", apps=("ios", "android"), rate=1, burst=5, clock=lambda: NOON)
def test_the_fixture_is_made_as_the_marker_says(batch_sandbox: BatchSandbox) -> None:
    assert batch_sandbox.apps == ("ios", "android")
    assert "AIRFLOW_CONN_BATCH_EU" in os.environ
    # [END marker]
