"""Event triggers on a real triggerer that is killed twice, the example that starts when a campaign goes live, and the
events of tasks with outlets. For longer, with 100 campaigns: ``benchmarks/events.py``.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection
from canary import APP_KEYS, REST_KEY, assert_free
from private_airflow import wait_until
from samples import MORNING_NEWS, SUMMER_SALE
from watched_airflow import Watched, watched_airflow

from airflow_batch._airflow import compat
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.sandbox import BatchSandbox

CHECKOUT = Path(__file__).resolve().parents[2]
STATE_STORE = pytest.mark.skipif(not compat.HAS_RETRY_POLICY, reason="below 3.3 Airflow has no asset state store")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[BatchSandbox]:
    with BatchSandbox(rest_key=REST_KEY, apps={"ios": APP_KEYS}) as running:
        yield running


@pytest.fixture(scope="module")
def airflow(shared_airflow, sandbox):
    shared_airflow.add_connections({"batch_default": connection_of(sandbox)})
    return shared_airflow


def connection_of(sandbox: BatchSandbox) -> dict[str, Any]:
    extra = json.dumps({"api_keys": {"ios": sandbox.app_key("ios")}})
    return {**sandbox.connection("api_keys"), "extra": extra}


@STATE_STORE
def test_each_change_makes_one_event_although_the_triggerer_is_killed_twice(airflow):
    with BatchSandbox(apps=("ios",)) as batch:
        airflow.add_connections({"watched_alone": connection_of(batch)})
        watched = Watched(airflow, batch, count=10, interval=10)
        with watched_airflow(airflow, watched, "watched_alone"):
            chosen = random.Random(20261128)
            watched.switch_some(chosen, least=60, each=2, seconds=6)
            assert watched.wait_for_events()
            stored = len(watched.events())
            for token in watched.tokens[:3]:
                watched.switch(token)
            wait_until(lambda: len(watched.events()) > stored)
            time.sleep(0.5)  # The record of the event comes some hundredths of a second after it.
            watched.kill_triggerer()  # in the middle of three events
            assert watched.wait_for_events()
            watched.kill_triggerer(meanwhile=lambda: watched.switch(watched.tokens[3]))
            watched.wait_for_polls()
            assert watched.wait_for_events()
            assert sum(watched.expected().values()) >= 6
            assert watched.busiest_minute() <= 12
            log = (airflow.home / "triggerer.log").read_text()
        assert "asset state store fails" not in log


def test_the_example_starts_when_a_campaign_goes_live_and_reads_its_statistics(airflow, sandbox):
    example = CHECKOUT / "dags_examples" / "when_live.py"
    # Without waiting for a person to unpause it, and for a minute between polls.
    source = example.read_text().replace("catchup=False", "catchup=False, is_paused_upon_creation=False")
    airflow.add_dag(("when_live.py", source.replace('app="ios")', 'app="ios", poll_interval=6)')))
    token = sandbox.add_campaign(MORNING_NEWS)

    def polls():
        return sum(record.operation == "list" for record in sandbox.requests)

    wait_until(lambda: polls() >= 3, 240)
    marketing = BatchHook.from_connection(Connection(conn_id="marketing", **connection_of(sandbox)), "ios")
    marketing.update_campaign(token, {**MORNING_NEWS, "live": True})
    runs = "SELECT run_id FROM dag_run WHERE dag_id = 'when_live'"
    wait_until(lambda: airflow.query(runs), 120)
    (run,) = airflow.query(runs)
    assert airflow.wait_for_run("when_live", run["run_id"], timeout=180) == "success"
    assert airflow.xcom("when_live", run["run_id"], "statistics", 0)["campaign_token"] == token
    (payload,) = airflow.xcom("when_live", run["run_id"], "campaigns")
    assert (payload["app"], payload["event"], payload["live"]) == ("ios", "live", True)
    for table, column, text in airflow.database_cells():
        if table in ("trigger", "asset_event", "asset_state_store", "xcom"):
            assert_free(text, f"{table}.{column}")
    (airflow.dags / "when_live.py").unlink()


def test_the_outlets_of_a_task_say_what_it_changed_and_an_alias_has_the_changes_alone(airflow, sandbox):
    airflow.add_dag(CHECKOUT / "docs" / "examples" / "asset_events.py")
    token = sandbox.add_campaign(SUMMER_SALE)
    for _ in range(2):
        run_id = airflow.trigger("changes_a_campaign", {"campaign": token})
        assert airflow.wait_for_run("changes_a_campaign", run_id, timeout=180) == "success"
    events = "SELECT e.extra FROM asset_event e JOIN asset a ON a.id = e.asset_id WHERE a.name = ? ORDER BY e.id"
    made = [json.loads(row["extra"]) for row in airflow.query(events, "summer_sale_switched")]
    assert [extra.pop("changed") for extra in made] == [True, False]
    expected = {"campaign_token": token, "app": "ios", "name": "Summer sale", "live": True, "action": "set_live"}
    assert made == [expected] * 2
    uri = f"batch://batch_default/ios/{token}"
    assert [json.loads(row["extra"]) for row in airflow.query(events, uri)] == [{**expected, "changed": True}]
