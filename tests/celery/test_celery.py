"""The provider on Celery: two workers, Redis and PostgreSQL; a worker is killed, and the database goes away.

One sequence on one Airflow, the fixture ``story``: the examples, then 200 mapped toggles three times, under a throttle
that both workers share: undisturbed, with a worker killed, with the metadata database away for ten seconds.
"""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from canary import APP_KEYS, REST_KEY, assert_free
from celery_airflow import WORKERS, CeleryAirflow
from examples import NAMES, Examples
from private_airflow import is_alive, wait_until
from samples import MORNING_NEWS
from servers import private_postgres, private_redis

from airflow_batch.sandbox import BatchSandbox, Fault

HERE = Path(__file__).parent
ANDROID_KEYS = {kind: f"{key}-android" for kind, key in APP_KEYS.items()}
MANY = 200
RATE, BURST = 4, 10
"""Requests a second; two workers of four processes on two cores would make six or seven."""
AWAY = 10


@dataclass
class Toggles:
    """One run of toggle_many: what it left behind."""

    run_id: str
    desired: bool
    state: str = ""
    live: list[bool] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)


@dataclass
class Story:
    airflow: CeleryAirflow
    examples: Examples
    many: BatchSandbox
    created: BatchSandbox
    redis_url: str
    campaigns: list[str]
    runs: dict[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    toggles: dict[str, Toggles] = field(default_factory=dict)
    in_redis: list[str] = field(default_factory=list)
    killed_at: datetime | None = None

    def run(self) -> None:
        self.airflow.api("POST", "/api/v2/pools", {"name": "batch", "slots": 8})
        self.run_examples()
        self.steady()
        self.worker_killed()
        self.airflow.start_worker("worker-2")
        self.database_away()

    def run_examples(self) -> None:
        for name in NAMES:
            self.runs[name] = self.airflow.trigger(name, self.examples.conf(name))
        while not self.ended("launch_campaign"):
            self.examples.add_statistics()
            time.sleep(1)
        for name in NAMES:
            self.states[name] = self.airflow.wait_for_run(name, self.runs[name], timeout=400)

    def ended(self, name: str) -> bool:
        state = "SELECT state FROM dag_run WHERE run_id = ? AND state IN ('success', 'failed')"
        return bool(self.airflow.query(state, self.runs[name]))

    def steady(self) -> None:
        self.start("steady", live=True)
        self.finish("steady")

    def worker_killed(self) -> None:
        self.start("killed", live=False)
        wait_until(lambda: len(self.many.requests) - self._first > MANY)
        # The answers come so late that the kill finds requests that have been applied and not been answered.
        self.created.inject(Fault("delay", "create", delay=15, times=None))
        payloads = [{**MORNING_NEWS, "name": f"Offer {number}", "live": True} for number in range(10)]
        self.runs["create_many"] = self.airflow.trigger("create_many", {"payloads": payloads})
        wait_until(self.worker_2_is_busy)
        self.killed_at = datetime.now(UTC)
        self.airflow.kill("worker-2")
        self.created.clear_faults()
        self.read_redis()
        self.states["create_many"] = self.airflow.wait_for_run("create_many", self.runs["create_many"], timeout=600)
        self.finish("killed")
        created = self.runs["create_many"]
        for dag_id, run_id in (("toggle_many", "killed"), ("create_many", created)):
            for row in self.airflow.task_instances(dag_id, run_id):
                if row["try_number"] > 1:
                    later = (row["end_date"] - self.killed_at).total_seconds()
                    print(f"killed: {dag_id} {row['map_index']} was running, and done {later:.0f} s after the kill")
        print(f"killed: creations sent to Celery again: {len(self.queued_again(created))}")

    def worker_2_is_busy(self) -> bool:
        """It runs a toggle, and has sent a creation that is not answered yet."""
        running = "SELECT dag_id, map_index FROM task_instance WHERE state = 'running' AND hostname = ?"
        rows = self.airflow.query(running, "worker-2")
        creating = {f"Offer {row['map_index']}" for row in rows if row["dag_id"] == "create_many"}
        there = {self.created.campaign(token)["name"] for token in self.created.tokens()}
        return bool(creating & there) and any(row["dag_id"] == "toggle_many" for row in rows)

    def database_away(self) -> None:
        self.start("outage", live=True)
        wait_until(lambda: len(self.many.requests) - self._first > MANY)
        self.airflow.lose_database(AWAY)
        self.finish("outage")
        print("outage: died, and were started again:", *self.airflow.deaths)

    def start(self, name: str, *, live: bool) -> Toggles:
        conf = {"campaigns": self.campaigns, "live": live}
        self._first = len(self.many.requests)
        self.toggles[name] = Toggles(self.airflow.trigger("toggle_many", conf, run_id=name), live)
        return self.toggles[name]

    def finish(self, name: str) -> None:
        toggles = self.toggles[name]
        toggles.state = self.airflow.wait_for_run("toggle_many", toggles.run_id, timeout=900)
        toggles.live = [self.many.campaign(token)["live"] for token in self.campaigns]
        toggles.requests = list(self.many.requests)[self._first :]
        refused = sum(record.status == 429 for record in toggles.requests)
        took = (toggles.requests[-1].time - toggles.requests[0].time).total_seconds()
        workers = Counter(row["hostname"] for row in self.tasks(name))
        tries = Counter(row["try_number"] for row in self.tasks(name))
        print(
            f"{name}: {len(toggles.requests)} requests in {took:.0f} s, of which 429: {refused} "
            f"({refused / len(toggles.requests):.1%}); tasks by worker {dict(workers)}, by tries {dict(tries)}; "
            f"sent to Celery again: {len(self.queued_again(name))}"
        )

    def tasks(self, name: str) -> list[dict[str, Any]]:
        return [row for row in self.airflow.task_instances("toggle_many", name) if row["task_id"] == "toggle"]

    def queued_again(self, run_id: str) -> list[dict[str, Any]]:
        """Tasks whose message was lost before they began, found by [scheduler] task_queued_timeout."""
        return self.airflow.query("SELECT * FROM log WHERE run_id = ? AND event = 'stuck in queued reschedule'", run_id)

    def read_redis(self) -> None:
        self.in_redis += redis_texts(self.redis_url)


def redis_texts(url: str) -> list[str]:
    """Every key and value; the body of a message is base64 in it, and comes unpacked."""
    texts = []
    with redis.Redis.from_url(url, decode_responses=True) as client:
        for key in client.scan_iter():
            read = {"string": client.get, "hash": client.hgetall, "set": client.smembers}
            read |= {"list": lambda key: client.lrange(key, 0, -1), "zset": lambda key: client.zrange(key, 0, -1)}
            texts += [key, str(read[client.type(key)](key))]
    bodies = [part.split('"')[0] for text in texts for part in text.split('"body": "')[1:]]
    return texts + [base64.b64decode(body).decode() for body in bodies]


@pytest.fixture(scope="module")
def story(tmp_path_factory) -> Iterator[Story]:
    keys = {"rest_key": REST_KEY}
    with (
        BatchSandbox(**keys, apps={"ios": APP_KEYS, "android": ANDROID_KEYS}) as shared,
        BatchSandbox(**keys, apps={"ios": APP_KEYS}, rate=RATE, burst=BURST) as many,
        BatchSandbox(**keys, apps={"ios": APP_KEYS}) as created,
        private_redis() as redis_url,
        private_postgres() as postgres,
    ):
        examples = Examples(shared)
        airflow = CeleryAirflow(
            tmp_path_factory.mktemp("airflow"),
            postgres=postgres,
            redis_url=redis_url,
            dags=[*examples.files, *(HERE / "dags").glob("*.py")],
            connections={
                "batch_default": shared.connection("api_keys"),
                "many": many.connection(),
                "created": created.connection(),
            },
            config={"logging.logging_level": "DEBUG"},
        )
        airflow.env["PYTHONPATH"] += f":{HERE.parent / 'guard'}"
        campaigns = [many.add_campaign({**MORNING_NEWS, "name": f"Campaign {number}"}) for number in range(MANY)]
        made = Story(airflow, examples, many, created, redis_url, campaigns)
        with airflow.running(timeout=240):
            made.run()
            made.read_redis()
            yield made
        # Here, for the two servers end only now.
        assert not [process for process in airflow.recorded if is_alive(process)]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_dag_on_celery_brings_its_campaigns_into_the_desired_state(story, name):
    tasks = {row["task_id"]: row["state"] for row in story.airflow.task_instances(name, story.runs[name])}
    if name == "stop_on_failure":
        assert tasks == {
            "check_offers": "failed",
            "publish_offers": "upstream_failed",
            "stop": "success",
            "watcher": "failed",
        }
    else:
        assert (story.states[name], set(tasks.values())) == ("success", {"success"})
    assert story.examples.states(name) == story.examples.desired[name]


def test_the_example_launch_campaign_on_celery_creates_one_live_campaign(story):
    (token,) = story.examples.launched()
    assert story.examples.sandbox.campaign(token)["live"] is True


def test_two_celery_workers_share_a_throttle_without_using_a_retry(story):
    toggles = story.toggles["steady"]
    tasks = story.tasks("steady")
    assert (toggles.state, toggles.live) == ("success", [True] * MANY)
    assert Counter(row["try_number"] for row in tasks) == {1: MANY}
    assert {row["hostname"] for row in tasks} == set(WORKERS)
    assert any(record.status == 429 for record in toggles.requests)


def test_when_a_celery_worker_is_killed_only_its_running_tasks_use_a_retry_on_the_other(story):
    toggles = story.toggles["killed"]
    again = [row for row in story.tasks("killed") if row["try_number"] > 1]
    assert (toggles.state, toggles.live) == ("success", [False] * MANY)
    for row in again:
        first = story.airflow.tries("toggle_many", toggles.run_id, "toggle", row["map_index"])[0]
        assert (row["try_number"], first["hostname"], row["hostname"]) == (2, "worker-2", "worker-1")


def test_no_campaign_is_live_twice_where_a_celery_worker_was_killed_before_the_answer_to_its_creation(story):
    campaigns = {token: story.created.campaign(token) for token in story.created.tokens()}
    live = {token for token, campaign in campaigns.items() if campaign["live"]}
    tasks = story.airflow.task_instances("create_many", story.runs["create_many"])
    created = [row for row in tasks if row["task_id"] == "create"]
    assert story.states["create_many"] == "success"
    assert sorted(campaigns[token]["name"] for token in live) == sorted(f"Offer {number}" for number in range(10))
    assert {
        story.airflow.xcom("create_many", story.runs["create_many"], "create", row["map_index"])["campaign_token"]
        for row in created
    } == live
    again = {f"Offer {row['map_index']}" for row in created if row["try_number"] > 1}
    drafts = Counter(campaign["name"] for token, campaign in campaigns.items() if token not in live)
    assert drafts, "the worker was not killed while a creation was unanswered"
    assert set(drafts) <= again
    assert max(drafts.values()) == 1


def test_toggles_on_celery_succeed_although_the_metadata_database_is_down_for_ten_seconds(story):
    toggles = story.toggles["outage"]
    assert (toggles.state, toggles.live) == ("success", [True] * MANY)


@pytest.mark.parametrize("name", ["steady", "killed", "outage"])
def test_every_campaign_of_a_run_on_celery_is_updated_once(story, name):
    toggles = story.toggles[name]
    writes = Counter(
        record.campaign_token for record in toggles.requests if record.operation == "update" and record.applied
    )
    assert writes == dict.fromkeys(story.campaigns, 1)


def test_no_key_is_in_the_files_the_database_or_redis_after_runs_on_celery(story):
    searched = 0
    for path, text in story.airflow.all_logs():
        searched += len(text)
        assert_free(text, path.relative_to(story.airflow.home))
    for table, column, text in story.airflow.database_cells():
        assert_free(text, f"{table}.{column}")
    for text in story.in_redis:
        assert_free(text, "Redis")
    assert searched > 1_000_000


def test_the_search_for_keys_on_celery_finds_a_known_text_in_redis_and_the_database(story):
    assert any("toggle_many" in text for text in story.in_redis)
    tables = {table for table, _, text in story.airflow.database_cells() if story.campaigns[0] in text}
    assert {"dag_run", "xcom", "rendered_task_instance_fields"} <= tables
    assert {"worker-1.log", "worker-2.log"} <= {path.name for path, _ in story.airflow.all_logs()}
