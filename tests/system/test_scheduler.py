"""The provider on a real scheduler: reschedules, retries, failures, and a search for keys in everything Airflow stores.

All runs start together; each test waits for its own.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from canary import APP_KEYS, FAULTS, REST_KEY, assert_free
from private_airflow import PrivateAirflow, wait_until
from samples import MORNING_NEWS

from airflow_batch._airflow import compat
from airflow_batch.calendars import read_calendar
from airflow_batch.sandbox import BatchSandbox, Fault
from airflow_batch.windows import CampaignWindow

HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "dags_examples"
ANDROID_KEYS = {"live": f"{APP_KEYS['live']}-android", "dev": f"{APP_KEYS['dev']}-android"}
CALENDAR = EXAMPLES / "campaign_calendar.yaml"
ON_THE_DEFAULT = ("both_platforms", "launch_campaign", "stop_on_failure", "sync_from_query", "campaign_calendar")
"""Examples that use the connection batch_default, and so share a sandbox."""
MAPPED = 14
ADMITTED = 6
"""Requests that are answered before all others are throttled: enough for a few of the mapped updates."""
STARTS_LIVE: dict[str, Callable[[], bool]] = {
    "both_platforms": lambda: not both_platforms_are_live(),
    "stop_on_failure": lambda: True,
    "dag_callback": lambda: True,
}


def both_platforms_are_live() -> bool:
    window = runpy.run_path(str(EXAMPLES / "both_platforms.py"))["window"]
    assert isinstance(window, CampaignWindow)
    return window.is_live_at(datetime.now(UTC))


@dataclass
class Scenario:
    sandbox: BatchSandbox
    campaigns: list[str]
    run_id: str = ""
    other_run_id: str = ""


def refuse(seconds: int = 9) -> Fault:
    """A 429 of an update. One of up to 8 s is waited out in the worker slot."""
    return Fault("answer", "update", status=429, headers={"Retry-After": str(seconds)})


def prepare(scenarios: dict[str, Scenario]) -> None:
    """Give each sandbox what its scenario needs."""
    for name in ("throttled", "throttled_retry"):
        scenarios[name].sandbox.inject(refuse())
    scenarios["mapped"].sandbox.set_throttle(0.001, ADMITTED)
    scenarios["reset"].sandbox.inject(Fault("reset_after", "update"))
    scenarios["created_once"].sandbox.inject(Fault("reset_after", "create"))
    scenarios["dag_callback"].sandbox.inject(refuse(6))
    scenarios["sync_killed"].sandbox.inject(Fault("delay", delay=0.2, times=None))
    long_wait = Fault("answer", "update", status=429, headers={"Retry-After": "35"})
    scenarios["sync_throttled"].sandbox.inject(long_wait)
    scenarios["scheduled_campaign_toggle"].sandbox.inject(refuse())
    every = scenarios["every_fault"]
    for fault, token in zip(FAULTS, every.campaigns, strict=True):
        every.sandbox.inject(Fault(**{"times": None, "token": token, "status": None, **fault}))


@pytest.fixture(scope="module")
def scenarios():
    sizes = {"mapped": MAPPED, "every_fault": len(FAULTS), "sync_killed": 60, "sync_throttled": 10}
    names = [
        *("throttled", "throttled_retry", "wrong_key", "mapped", "reset", "payload_files", "nested_json"),
        *("every_fault", "created_once", "dag_callback", "late", "sync_killed", "sync_throttled"),
        *("scheduled_campaign_toggle", *ON_THE_DEFAULT),
    ]
    found: dict[str, Scenario] = {}
    shared = BatchSandbox(rest_key=REST_KEY, apps={"ios": APP_KEYS, "android": ANDROID_KEYS})
    try:
        for name in names:
            on_the_default = name in ON_THE_DEFAULT
            sandbox = shared if on_the_default else BatchSandbox(rest_key=REST_KEY, apps={"ios": APP_KEYS})
            if not (on_the_default and any(other in found for other in ON_THE_DEFAULT)):
                sandbox.start()
            live = STARTS_LIVE[name]() if name in STARTS_LIVE else False
            count = sizes.get(name, 1)
            campaigns = [sandbox.add_campaign({**MORNING_NEWS, "live": live}) for _ in range(count)]
            found[name] = Scenario(sandbox, campaigns)
        android = {**MORNING_NEWS, "live": STARTS_LIVE["both_platforms"]()}
        found["both_platforms"].campaigns.append(shared.add_campaign(android, app="android"))
        found["late"].campaigns.append(found["late"].sandbox.add_campaign({**MORNING_NEWS, "live": True}))
        now = datetime.now(UTC)
        found["campaign_calendar"].campaigns = [
            shared.add_campaign(
                {**MORNING_NEWS, "name": planned.name, "live": not planned.is_live_at(now)}, app=planned.app
            )
            for planned in read_calendar(CALENDAR).campaigns
        ]
        prepare(found)
        yield found
    finally:
        for scenario in found.values():
            scenario.sandbox.stop()


@pytest.fixture(scope="module")
def airflow(shared_airflow, scenarios):
    connections = {name: scenario.sandbox.connection() for name, scenario in scenarios.items()}
    connections["wrong_key"]["password"] = f"{REST_KEY}-wrong"
    connections["every_fault"]["extra"] = {"timeout": [2, 2]}
    for name in (*ON_THE_DEFAULT, "scheduled_campaign_toggle"):
        del connections[name]
    connections["batch_default"] = scenarios["both_platforms"].sandbox.connection("api_keys")
    shared_airflow.add_connections(connections)
    # Through the API, as the form does it. Airflow's audit log would contain a login; it does not contain extra.
    stored = scenarios["scheduled_campaign_toggle"].sandbox.connection("api_keys")
    body = {"connection_id": "from_the_form", **stored, "extra": json.dumps(stored["extra"])}
    shared_airflow.api("POST", "/api/v2/connections", body)
    calendar = CALENDAR.read_text()
    for planned, token in zip(read_calendar(CALENDAR).campaigns, scenarios["campaign_calendar"].campaigns, strict=True):
        calendar = calendar.replace(planned.token, token)
    # summer_sale is the README's first DAG, which test_readme.py runs.
    left_out = ("demo.py", "summer_sale.py", CALENDAR.name)
    examples = [file for file in EXAMPLES.glob("*.*") if file.name not in left_out]
    for dag in [(CALENDAR.name, calendar), *(HERE / "dags").glob("*.*"), *examples]:
        shared_airflow.add_dag(dag)
    start_mapped(shared_airflow, scenarios["mapped"])
    for name, scenario in scenarios.items():
        tokens = scenario.campaigns
        confs: dict[str, dict[str, Any]] = {
            "scheduled_campaign_toggle": {"live": "on", "name": "Morning news", "batch_conn_id": "from_the_form"},
            "both_platforms": {
                "campaigns": [{"app": app, "campaign": t} for app, t in zip(("ios", "android"), tokens, strict=False)]
            },
            "launch_campaign": {"name": "Launched"},
            "stop_on_failure": {"offers": []},
            "sync_from_query": {"rows": [{"token": tokens[0], "app": "ios", "name": "Morning news", "in_stock": 3}]},
        }
        conf = {"campaign": tokens[0], "campaigns": tokens, "app": "ios", **confs.get(name, {})}
        if name == "late":
            scenario.run_id = shared_airflow.backfill("late", conf, "2026-01-05T00:00:00Z", "2026-01-05T23:59:59Z")
        scenario.run_id = scenario.run_id or shared_airflow.trigger(name, conf)
    kill_in_the_middle(scenarios["sync_killed"].sandbox, shared_airflow.home / "sync.pid")
    return shared_airflow


def start_mapped(airflow: PrivateAirflow, mapped: Scenario) -> None:
    """Run the mapped updates until most are throttled, then another DAG, and only then let Batch answer again."""
    # An earlier logical date, so that Airflow prefers the mapped updates when they are ready.
    conf = {"campaigns": mapped.campaigns}
    mapped.run_id = airflow.trigger("mapped", conf, logical_date=datetime.now(UTC))
    wait_until(lambda: sum(record.status == 429 for record in mapped.sandbox.requests) >= MAPPED - ADMITTED)
    mapped.other_run_id = airflow.trigger("another_dag", logical_date=datetime.now(UTC))
    airflow.wait_for_run("another_dag", mapped.other_run_id, timeout=400)
    mapped.sandbox.set_throttle(None)


@pytest.fixture
def ran(airflow, scenarios):
    """Return a function that waits for a scenario's run and returns (scenario, final state)."""

    def wait(name: str) -> tuple[Scenario, str]:
        return scenarios[name], airflow.wait_for_run(name, scenarios[name].run_id, timeout=420)

    return wait


def kill_in_the_middle(sandbox: BatchSandbox, pids: Path) -> None:
    """End the sync's process by SIGKILL when a third of its writes are done."""
    wait_until(lambda: sum(record.operation == "update" for record in sandbox.requests) >= 20, timeout=400)
    (pid,) = pids.read_text().split()
    os.kill(int(pid), signal.SIGKILL)


def operations(scenario: Scenario) -> list[str]:
    return [record.operation for record in scenario.sandbox.requests]


def gaps(scenario: Scenario, operation: str = "update") -> list[float]:
    times = [record.time for record in scenario.sandbox.requests if record.operation == operation]
    return [(later - earlier).total_seconds() for earlier, later in pairwise(times)]


def test_a_throttled_task_is_rescheduled_by_the_scheduler_without_a_retry(airflow, ran):
    scenario, state = ran("throttled")
    (attempt,) = airflow.tries("throttled", scenario.run_id, "update")
    assert (state, attempt["try_number"], len(attempt["reschedules"])) == ("success", 1, 1)
    (gap,) = gaps(scenario)
    planned = attempt["reschedules"][0]["reschedule_date"] - attempt["reschedules"][0]["end_date"]
    assert gap >= 9
    # What the attempt takes to end counts against it, so a busy machine makes it shorter.
    assert timedelta(0) < planned <= timedelta(seconds=20)
    assert airflow.xcom("throttled", scenario.run_id, "update")["attempt"] == 1
    assert "Giving the worker slot back" in airflow.task_log("throttled", scenario.run_id, "update")


def test_a_throttled_task_with_throttle_retry_is_retried_after_retry_after_and_the_reason_is_stored(airflow, ran):
    scenario, state = ran("throttled_retry")
    tries = airflow.tries("throttled_retry", scenario.run_id, "update")
    assert state == "success"
    (gap,) = gaps(scenario)
    assert gap >= 9
    if compat.HAS_RETRY_POLICY:
        assert operations(scenario) == ["view", "update", "view", "update", "view"]
        assert [attempt["try_number"] for attempt in tries] == [1, 2]
        assert "429 TOO_MANY_REQUESTS" in tries[0]["retry_reason"]
        assert "Retry-After 9 s" in tries[0]["retry_reason"]


def test_a_task_with_an_invalid_key_sends_one_request_and_fails_without_a_retry(airflow, ran):
    scenario, state = ran("wrong_key")
    (attempt,) = airflow.tries("wrong_key", scenario.run_id, "update")
    assert (state, attempt["state"], attempt["try_number"], attempt["max_tries"]) == ("failed", "failed", 1, 6)
    assert [record.status for record in scenario.sandbox.requests] == [401]


def test_mapped_updates_succeed_without_a_retry_under_a_throttle_and_not_in_lockstep(airflow, ran):
    scenario, state = ran("mapped")
    tasks = [t for t in airflow.task_instances("mapped", scenario.run_id) if t["task_id"] == "update"]
    mismatches = airflow.query("SELECT extra FROM log WHERE event = 'state mismatch'")
    assert (state, [task["try_number"] for task in tasks]) == ("success", [1] * MAPPED), mismatches
    assert all(scenario.sandbox.campaign(token)["live"] for token in scenario.campaigns)
    waits = []
    for index, token in enumerate(scenario.campaigns):
        asked = [record for record in scenario.sandbox.requests if record.campaign_token == token]
        refused = [(record, following) for record, following in pairwise(asked) if record.status == 429]
        (attempt,) = airflow.tries("mapped", scenario.run_id, "update", index)
        # The first one of each part of an attempt is waited out in the worker slot.
        assert len(attempt["reschedules"]) <= len(refused) <= 2 * len(attempt["reschedules"]) + 1
        waits += [(following.time - record.time).total_seconds() for record, following in refused]
    assert len(waits) >= MAPPED - ADMITTED
    assert min(waits) >= 5
    assert len({round(wait, 1) for wait in waits}) > len(waits) / 2


def test_a_task_of_another_dag_gets_a_worker_slot_while_throttled_tasks_wait(airflow, ran):
    scenario, _ = ran("mapped")
    (other,) = airflow.task_instances("another_dag", scenario.other_run_id)
    updates = [t for t in airflow.task_instances("mapped", scenario.run_id) if t["task_id"] == "update"]
    assert other["state"] == "success"
    assert sum(task["end_date"] > other["start_date"] for task in updates) >= MAPPED - ADMITTED


def test_a_task_whose_answer_is_lost_reads_the_campaign_and_does_not_repeat_the_update(airflow, ran):
    scenario, state = ran("reset")
    assert state == "success"
    assert operations(scenario) == ["view", "update", "view"]
    result = airflow.xcom("reset", scenario.run_id, "update")
    assert (result["live"], result["changed"], result["attempt"]) == (True, None, 1)


def test_a_payload_file_is_rendered_and_parsed_for_plain_and_mapped_tasks(airflow, ran):
    scenario, state = ran("payload_files")
    (token,) = scenario.campaigns
    assert state == "success"
    assert scenario.sandbox.campaign(token)["name"] == f"File for {token}"
    assert scenario.sandbox.campaign(token)["messages"][0]["body"] == "payload_files"
    plain = airflow.xcom("payload_files", scenario.run_id, "plain")["payload_digest"]
    assert airflow.xcom("payload_files", scenario.run_id, "mapped", 0)["payload_digest"] == plain


def test_a_nested_string_that_ends_in_json_is_not_read_as_a_file(airflow, ran):
    scenario, state = ran("nested_json")
    (token,) = scenario.campaigns
    assert state == "success"
    assert scenario.sandbox.campaign(token)["deeplink"] == f"https://example.com/{token}/a.json"
    assert scenario.sandbox.campaign(token)["custom"] == {"files": ["b.json"]}


def test_the_example_scheduled_campaign_toggle_switches_the_campaign_and_its_sensor_takes_the_xcom(airflow, ran):
    scenario, state = ran("scheduled_campaign_toggle")
    (token,) = scenario.campaigns
    assert state == "success"
    asked = [(record.operation, record.status) for record in scenario.sandbox.requests]
    assert asked[:2] == [("view", 200), ("update", 429)]
    assert asked[2:] == [("view", 200), ("update", 200), ("view", 200)]
    toggled = airflow.xcom("scheduled_campaign_toggle", scenario.run_id, "toggle")
    confirmed = airflow.xcom("scheduled_campaign_toggle", scenario.run_id, "confirm")
    assert (toggled["campaign_token"], confirmed["campaign_token"]) == (token, token)
    assert (toggled["live"], confirmed["live"], confirmed["name"]) == (True, True, "Morning news")


def test_the_example_both_platforms_switches_both_campaigns_and_labels_each_map_index(airflow, ran):
    scenario, state = ran("both_platforms")
    live = both_platforms_are_live()
    assert state == "success"
    assert [scenario.sandbox.campaign(token)["live"] for token in scenario.campaigns] == [live, live]
    tasks = [t for t in airflow.task_instances("both_platforms", scenario.run_id) if t["task_id"] == "toggle"]
    assert [task["rendered_map_index"] for task in tasks] == ["ios Morning news", "android Morning news"]
    confirmed = airflow.xcom("both_platforms", scenario.run_id, "confirm")
    assert [(seen["app"], seen["live"]) for seen in confirmed] == [("ios", live), ("android", live)]


def test_the_example_launch_campaign_creates_a_campaign_and_waits_for_its_statistics(airflow, scenarios, ran):
    sandbox = scenarios["launch_campaign"].sandbox

    def launched() -> str | None:
        found = [token for token in sandbox.tokens("ios") if sandbox.campaign(token)["name"] == "Launched"]
        return found[0] if found and sandbox.campaign(found[0])["live"] else None

    wait_until(lambda: launched() is not None, timeout=400)
    token = launched()
    assert token is not None
    sandbox.set_stats(token, [{"date": "2026-11-22", "sent": 10, "direct_open": 2, "influenced_open": 1, "errors": 0}])
    scenario, state = ran("launch_campaign")
    assert state == "success"
    assert [t for t in sandbox.tokens("ios") if sandbox.campaign(t)["name"] == "Launched"] == [token]
    assert sandbox.campaign(token)["messages"] == [
        {"language": "en", "title": "Launched", "body": "Everything must go"}
    ]
    assert "sent 10, opened 30.0%" in airflow.task_log("launch_campaign", scenario.run_id, "report")


def test_the_example_stop_on_failure_stops_the_campaign_by_its_callback_and_by_its_task(airflow, ran):
    scenario, state = ran("stop_on_failure")
    (token,) = scenario.campaigns
    states = {t["task_id"]: t["state"] for t in airflow.task_instances("stop_on_failure", scenario.run_id)}
    assert states == {
        "check_offers": "failed",
        "publish_offers": "upstream_failed",
        "stop": "success",
        "watcher": "failed",
    }
    assert state == "failed"
    assert scenario.sandbox.campaign(token)["live"] is False
    assert "is now not live" in airflow.task_log("stop_on_failure", scenario.run_id, "check_offers")
    assert airflow.xcom("stop_on_failure", scenario.run_id, "stop")["live"] is False


def test_a_callback_of_a_dag_waits_for_the_end_of_a_429_and_stops_the_campaign(ran):
    scenario, state = ran("dag_callback")
    (token,) = scenario.campaigns
    assert state == "failed"
    wait_until(lambda: scenario.sandbox.campaign(token)["live"] is False)
    (gap,) = gaps(scenario)
    assert gap >= 6


def test_a_creation_whose_answer_is_lost_leaves_one_live_campaign_and_a_cleared_task_sends_nothing(airflow, ran):
    scenario, state = ran("created_once")
    assert state == "success"
    created = airflow.xcom("created_once", scenario.run_id, "create")
    live = {token: scenario.sandbox.campaign(token)["live"] for token in scenario.sandbox.tokens()}
    assert (live.pop(created["campaign_token"]), list(live.values())) == (True, [False])
    assert (created["changed"], created["attempt"]) == (True, 1)
    assert airflow.xcom("created_once", scenario.run_id, "delete")["changed"] is True
    airflow.clear("created_once", scenario.run_id, "create")
    # 3.4 empties the store when a task is cleared, and below 3.3 there is none: then no later attempt makes it live.
    is_kept = compat.HAS_RETRY_POLICY and not compat.CAN_RESCHEDULE_BY_POLICY
    cleared = airflow.wait_for_run("created_once", scenario.run_id, timeout=120)
    assert cleared == ("success" if is_kept else "failed")
    if is_kept:
        again = airflow.xcom("created_once", scenario.run_id, "create")
        assert (again["campaign_token"], again["attempt"]) == (created["campaign_token"], 2)
    assert (operations(scenario).count("create"), operations(scenario).count("update")) == (2, 1)


def test_a_sync_that_is_killed_compares_again_and_updates_only_what_is_left(airflow, scenarios, ran):
    sandbox = scenarios["sync_killed"].sandbox
    pids = airflow.home / "sync.pid"
    scenario, state = ran("sync_killed")
    tries = airflow.tries("sync_killed", scenario.run_id, "sync")
    writes = Counter(r.campaign_token for r in sandbox.requests if r.operation == "update" and r.applied)
    assert (state, [attempt["try_number"] for attempt in tries]) == ("success", [1, 2])
    assert len(pids.read_text().split()) == 2
    assert all(sandbox.campaign(token)["live"] for token in scenario.campaigns)
    assert set(writes) == set(scenario.campaigns)
    assert sum(writes.values()) - len(writes) <= 4  # what was in flight
    report = airflow.xcom("sync_killed", scenario.run_id, "sync")
    assert (report["total"], report["failed"], report["changed"] + report["unchanged"]) == (60, 0, 60)
    # The second attempt compares again: null is what the first may have written.
    changed = Counter(campaign["changed"] for campaign in report["campaigns"])
    assert changed == {None: report["unchanged"], True: report["changed"]}


def test_a_sync_is_rescheduled_by_the_scheduler_for_a_long_throttle_and_continues(airflow, ran):
    scenario, state = ran("sync_throttled")
    (attempt,) = airflow.tries("sync_throttled", scenario.run_id, "sync")
    assert (state, attempt["try_number"], len(attempt["reschedules"])) == ("success", 1, 1)
    assert all(scenario.sandbox.campaign(token)["live"] for token in scenario.campaigns)
    (refused,) = [record.time for record in scenario.sandbox.requests if record.status == 429]
    later = [(record.time - refused).total_seconds() for record in scenario.sandbox.requests if record.time > refused]
    assert not [seconds for seconds in later if 2 < seconds < 35]


def test_the_example_sync_from_query_takes_its_campaigns_from_an_upstream_task(airflow, ran):
    scenario, state = ran("sync_from_query")
    assert state == "success"
    assert scenario.sandbox.campaign(scenario.campaigns[0])["live"] is True
    report = airflow.xcom("sync_from_query", scenario.run_id, "sync")
    assert (report["total"], report["changed"], report["campaigns"][0]["name"]) == (1, 1, "Morning news")


def test_the_example_campaign_calendar_brings_its_campaigns_into_the_desired_state(airflow, ran):
    scenario, state = ran("campaign_calendar")
    planned = read_calendar(CALENDAR).campaigns
    assert state == "success"
    live = [scenario.sandbox.campaign(token)["live"] for token in scenario.campaigns]
    assert live == [campaign.is_live_at(datetime.now(UTC)) for campaign in planned]
    report = airflow.xcom("campaign_calendar", scenario.run_id, "sync")
    # A scheduled run may have come before this one.
    assert (report["total"], report["changed"] + report["unchanged"]) == (5, 5)


def test_a_late_run_switches_off_but_not_on_and_skips_the_tasks_after_the_on(airflow, ran):
    scenario, state = ran("late")
    states = {t["task_id"]: t["state"] for t in airflow.task_instances("late", scenario.run_id)}
    assert (state, states) == ("success", {"on": "skipped", "after_on": "skipped", "off": "success"})
    assert [scenario.sandbox.campaign(token)["live"] for token in scenario.campaigns] == [False, False]
    assert "later than max_lateness allows" in airflow.task_log("late", scenario.run_id, "on")


def test_no_key_is_in_any_file_or_table_of_airflow(airflow, scenarios, ran):
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


def test_the_search_for_keys_finds_a_known_text_in_airflows_files_and_tables(airflow, scenarios, ran):
    scenario, _ = ran("reset")
    (token,) = scenario.campaigns
    assert any(token in text for _, text in airflow.all_logs())
    tables = {table for table, _, text in airflow.database_cells() if token in text}
    # The run's conf, the rendered fields and the XCom, whose tables have other names from 3.4 on.
    assert "dag_run" in tables
    assert any(table.startswith("xcom") for table in tables)
    assert len(tables) >= 3
