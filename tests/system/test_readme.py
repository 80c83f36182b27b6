"""What a new user does first: the README's first DAG, on the README's first connection, as a scheduled run."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from private_airflow import wait_until
from samples import MORNING_NEWS

from airflow_batch.sandbox import BatchSandbox
from airflow_batch.windows import CampaignWindow

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
DAG = re.search(r"^```python\n(.*?)^```", README, re.M | re.S)[1]
EXPORT = re.search(r"^export AIRFLOW_CONN_BATCH_DEFAULT=.*$", README, re.M)[0]
CONNECTION = json.loads(shlex.split(EXPORT)[1].partition("=")[2])
WINDOW = CampaignWindow(on="0 9 * * 1-5", off="0 18 * * 1-5", timezone="Europe/Paris")


@pytest.fixture(scope="module")
def sandbox():
    with BatchSandbox() as running:
        running.add_campaign({**MORNING_NEWS, "live": not WINDOW.is_live_at(datetime.now(UTC))})
        yield running


@pytest.fixture(scope="module")
def airflow(shared_airflow, sandbox):
    """Only the host, the values of the keys and the campaign's token are replaced."""
    assert set(CONNECTION) == {"conn_type", "password", "login"}
    token = sandbox.tokens()[0]
    source, tokens = re.subn(r"\b[0-9a-f]{32}\b", token, DAG)
    assert tokens == 1
    shared_airflow.add_connections({"batch_default": {**CONNECTION, **sandbox.connection("login")}})
    shared_airflow.add_dag(("readme.py", source))
    return shared_airflow


def is_due(airflow, dag_id):
    """Make the DAG's next run due; the scheduler creates it."""
    moment = f"{datetime.now(UTC) - timedelta(minutes=1):%Y-%m-%d %H:%M:%S.%f}"
    with closing(sqlite3.connect(airflow.database, timeout=60)) as database, database:
        database.execute(
            "UPDATE dag SET next_dagrun = ?, next_dagrun_create_after = ?, next_dagrun_data_interval_start = ?, "
            "next_dagrun_data_interval_end = ? WHERE dag_id = ?",
            (moment, moment, moment, moment, dag_id),
        )


def test_the_readmes_first_dag_runs_on_its_first_connection_as_a_scheduled_run(airflow, sandbox):
    (dag_id,) = re.findall(r'with DAG\("(\w+)"', DAG)
    wait_until(lambda: airflow._unpause(dag_id), 180)
    is_due(airflow, dag_id)
    runs = "SELECT run_id FROM dag_run WHERE dag_id = ? AND run_type = 'scheduled'"
    wait_until(lambda: airflow.query(runs, dag_id), 60)
    run_id = airflow.query(runs, dag_id)[0]["run_id"]
    assert airflow.wait_for_run(dag_id, run_id, timeout=180) == "success"
    (token,) = sandbox.tokens()
    live = WINDOW.is_live_at(datetime.now(UTC))
    assert sandbox.campaign(token)["live"] is live
    assert airflow.xcom(dag_id, run_id, "toggle")["changed"] is True
    assert airflow.xcom(dag_id, run_id, "confirm")["live"] is live
