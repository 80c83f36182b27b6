"""The provider on a real scheduler: what waits, what is tried again, what fails, and that no key is left anywhere.

All runs start together on one private Airflow; each test waits for its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from canary import APP_KEYS, FAULTS, REST_KEY, assert_free
from private_airflow import PrivateAirflow

from airflow_batch import compat
from airflow_batch.sandbox import BatchSandbox, Fault

HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "dags_examples"
CAMPAIGN = {
    "name": "Morning news",
    "live": False,
    "push_time": "2026-01-05T08:00:00",
    "recurrence": {"repeat_unit": "DAILY", "repeat_frequency": 1},
    "messages": [{"language": "en", "body": "Good morning"}],
}


@dataclass
class Scenario:
    sandbox: BatchSandbox
    campaigns: list[str]
    run_id: str = ""


def refuse(times: int | None = 1) -> Fault:
    return Fault("answer", "update", status=429, headers={"Retry-After": "6"}, times=times)


def prepare(scenarios: dict[str, Scenario]) -> None:
    """Give each sandbox what its scenario needs."""
    for name in ("throttled", "throttled_retry"):
        scenarios[name].sandbox.inject(refuse())
    scenarios["thirty_mapped"].sandbox.set_throttle(1, 1)
    scenarios["reset"].sandbox.inject(Fault("reset_after", "update"))
    scenarios["scheduled_campaign_toggle"].sandbox.inject(refuse())
    every = scenarios["every_fault"]
    for fault, token in zip(FAULTS, every.campaigns, strict=True):
        every.sandbox.inject(Fault(**{"times": None, "token": token, "status": None, **fault}))


@pytest.fixture(scope="module")
def scenarios():
    sizes = {"thirty_mapped": 30, "every_fault": len(FAULTS)}
    names = [
        *("throttled", "throttled_retry", "wrong_key", "thirty_mapped", "reset", "payload_files", "nested_json"),
        *("every_fault", "scheduled_campaign_toggle", "summer_sale"),
    ]
    found = {}
    try:
        for name in names:
            sandbox = BatchSandbox(rest_key=REST_KEY, apps={"ios": APP_KEYS})
            sandbox.start()
            found[name] = Scenario(sandbox, [sandbox.add_campaign(CAMPAIGN) for _ in range(sizes.get(name, 1))])
        prepare(found)
        yield found
    finally:
        for scenario in found.values():
            scenario.sandbox.stop()


@pytest.fixture(scope="module")
def airflow(scenarios, tmp_path_factory):
    connections = {name: scenario.sandbox.connection() for name, scenario in scenarios.items()}
    connections["scheduled_campaign_toggle"] = scenarios["scheduled_campaign_toggle"].sandbox.connection("api_keys")
    connections["wrong_key"]["password"] = f"{REST_KEY}-wrong"
    connections["every_fault"]["extra"] = {"timeout": [2, 2]}
    connections["batch_default"] = connections.pop("summer_sale")
    stored = connections.pop("scheduled_campaign_toggle")
    private = PrivateAirflow(
        tmp_path_factory.mktemp("airflow"),
        dags=[HERE / "dags" / "scenarios.py", HERE / "dags" / "definition.json", *EXAMPLES.glob("s*.py")],
        connections=connections,
        config={"logging.logging_level": "DEBUG"},
    )
    private.env["PYTHONPATH"] += f":{HERE.parent / 'guard'}"
    with private.running():
        # Through the API, as the form does it. A login would land in Airflow's own audit log; extra does not.
        body = {"connection_id": "stored", **stored, "extra": json.dumps(stored["extra"])}
        private.api("POST", "/api/v2/connections", body)
        mapped = scenarios["thirty_mapped"]
        mapped.run_id = private.trigger("thirty_mapped", {"campaigns": mapped.campaigns})
        # Alone at first: beside the others, two cores start tasks more slowly than the throttle admits them.
        wait_until(lambda: len(mapped.sandbox.requests) >= 30)
        for name, scenario in scenarios.items():
            conf: dict[str, Any] = {"campaign": scenario.campaigns[0], "campaigns": scenario.campaigns}
            if name == "scheduled_campaign_toggle":
                conf = {"campaign": scenario.campaigns[0], "name": "Evening news", "live": "on"}
                conf |= {"batch_conn_id": "stored", "app": "ios"}
            scenario.run_id = scenario.run_id or private.trigger(name, conf)
        yield private


@pytest.fixture
def ran(airflow, scenarios):
    """Return a function that waits for a scenario's run and returns (scenario, final state)."""

    def wait(name: str) -> tuple[Scenario, str]:
        return scenarios[name], airflow.wait_for_run(name, scenarios[name].run_id, timeout=420)

    return wait


def wait_until(happened: Callable[[], bool], timeout: float = 120) -> None:
    deadline = time.monotonic() + timeout
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def gaps(scenario: Scenario, operation: str = "update") -> list[float]:
    times = [record.time for record in scenario.sandbox.requests if record.operation == operation]
    return [(later - earlier).total_seconds() for earlier, later in pairwise(times)]


def test_a_429_is_waited_out_without_a_retry(airflow, ran):
    scenario, state = ran("throttled")
    (attempt,) = airflow.tries("throttled", scenario.run_id, "update")
    assert (state, attempt["try_number"], len(attempt["reschedules"])) == ("success", 1, 1)
    (gap,) = gaps(scenario)
    planned = attempt["reschedules"][0]["reschedule_date"] - attempt["reschedules"][0]["end_date"]
    assert gap >= 6
    assert timedelta(seconds=9) <= planned <= timedelta(seconds=20)
    assert airflow.xcom("throttled", scenario.run_id, "update")["attempt"] == 1
    assert "Giving the worker slot back" in airflow.task_log("throttled", scenario.run_id, "update")


def test_as_a_retry_it_waits_as_long_and_the_reason_is_stored(airflow, ran):
    scenario, state = ran("throttled_retry")
    tries = airflow.tries("throttled_retry", scenario.run_id, "update")
    assert state == "success"
    (gap,) = gaps(scenario)
    assert gap >= 6
    if compat.HAS_RETRY_POLICY:
        # The first attempt is known not to have written, so the second does not look.
        assert [record.operation for record in scenario.sandbox.requests] == ["update", "update"]
        assert [attempt["try_number"] for attempt in tries] == [1, 2]
        assert "429 TOO_MANY_REQUESTS" in tries[0]["retry_reason"]
        assert "Retry-After 6 s" in tries[0]["retry_reason"]


def test_a_wrong_key_is_one_request_and_a_failed_task(airflow, ran):
    scenario, state = ran("wrong_key")
    (attempt,) = airflow.tries("wrong_key", scenario.run_id, "update")
    assert (state, attempt["state"], attempt["try_number"], attempt["max_tries"]) == ("failed", "failed", 1, 6)
    assert [record.status for record in scenario.sandbox.requests] == [401]


def test_thirty_mapped_updates_pass_a_throttle_of_one_a_second_and_not_in_lockstep(airflow, ran):
    scenario, state = ran("thirty_mapped")
    tasks = [t for t in airflow.task_instances("thirty_mapped", scenario.run_id) if t["task_id"] == "update"]
    assert (state, [task["try_number"] for task in tasks]) == ("success", [1] * 30)
    assert all(scenario.sandbox.campaign(token)["live"] for token in scenario.campaigns)
    first_waits = []
    for task in tasks:
        (attempt,) = airflow.tries("thirty_mapped", scenario.run_id, "update", task["map_index"])
        for reschedule in attempt["reschedules"]:
            assert reschedule["reschedule_date"] - reschedule["end_date"] >= timedelta(seconds=9)
        first_waits += [(r["reschedule_date"] - r["end_date"]).total_seconds() for r in attempt["reschedules"][:1]]
    assert len(first_waits) > 5
    assert max(first_waits) - min(first_waits) > 4
    assert len({round(wait, 1) for wait in first_waits}) > len(first_waits) / 2


def test_after_a_reset_that_came_too_late_the_campaign_is_looked_at_and_not_written_again(airflow, ran):
    scenario, state = ran("reset")
    assert state == "success"
    assert [record.operation for record in scenario.sandbox.requests] == ["update", "view"]
    result = airflow.xcom("reset", scenario.run_id, "update")
    assert (result["live"], result["changed"], result["attempt"]) == (True, None, 2)


def test_a_payload_file_is_rendered_and_parsed_for_plain_and_mapped_tasks(airflow, ran):
    scenario, state = ran("payload_files")
    (token,) = scenario.campaigns
    assert state == "success"
    assert scenario.sandbox.campaign(token)["name"] == f"File for {token}"
    assert scenario.sandbox.campaign(token)["messages"][0]["body"] == "payload_files"
    plain = airflow.xcom("payload_files", scenario.run_id, "plain")["payload_digest"]
    assert airflow.xcom("payload_files", scenario.run_id, "mapped", 0)["payload_digest"] == plain


def test_a_nested_string_that_ends_in_json_is_data(airflow, ran):
    scenario, state = ran("nested_json")
    (token,) = scenario.campaigns
    assert state == "success"
    assert scenario.sandbox.campaign(token)["deeplink"] == f"https://example.com/{token}/a.json"
    assert scenario.sandbox.campaign(token)["custom"] == {"files": ["b.json"]}


def test_the_example_switches_the_campaign_and_its_sensor_takes_the_operators_xcom(airflow, ran):
    scenario, state = ran("scheduled_campaign_toggle")
    (token,) = scenario.campaigns
    assert state == "success"
    assert [record.status for record in scenario.sandbox.requests] == [429, 200, 200]
    toggled = airflow.xcom("scheduled_campaign_toggle", scenario.run_id, "toggle")
    confirmed = airflow.xcom("scheduled_campaign_toggle", scenario.run_id, "confirm")
    assert (toggled["campaign_token"], confirmed["campaign_token"]) == (token, token)
    assert (toggled["live"], confirmed["live"], confirmed["name"]) == (True, True, "Evening news")


def test_the_readmes_dag_runs(airflow, ran):
    scenario, state = ran("summer_sale")
    (token,) = scenario.campaigns
    assert state == "success"
    assert scenario.sandbox.campaign(token)["name"] == "Summer sale"
    toggled, confirmed = (airflow.xcom("summer_sale", scenario.run_id, name) for name in ("toggle", "confirm"))
    assert toggled["live"] == confirmed["live"] == scenario.sandbox.campaign(token)["live"]


def test_no_key_is_left_anywhere(airflow, scenarios, ran):
    for name in scenarios:
        ran(name)
    searched = 0
    for path, text in airflow.all_logs():
        searched += len(text)
        assert_free(text, path.relative_to(airflow.home))
    for table, column, text in airflow.database_cells():
        assert_free(text, f"{table}.{column}")
    assert searched > 100_000
    scenario = scenarios["every_fault"]
    log = airflow.task_log("every_fault", scenario.run_id, "ask")
    assert "Keys accepted" in log or "Connected" in log


def test_the_search_sees_what_the_tasks_wrote(airflow, scenarios, ran):
    scenario, _ = ran("reset")
    (token,) = scenario.campaigns
    assert any(token in text for _, text in airflow.all_logs())
    tables = {table for table, _, text in airflow.database_cells() if token in text}
    # The run's conf, the rendered fields and the XCom, whose tables have other names from 3.4 on.
    assert "dag_run" in tables
    assert any(table.startswith("xcom") for table in tables)
    assert len(tables) >= 3
