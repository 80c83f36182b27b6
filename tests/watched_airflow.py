"""Campaigns that a real triggerer watches while somebody switches them and the triggerer is killed.

What belongs here: the switching, the kills, and what should have fired by the sandbox's own log. Used by
``tests/system/test_asset_events.py`` and, for longer, by ``benchmarks/events.py``.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from airflow.sdk import Connection
from private_airflow import PrivateAirflow, wait_until
from samples import MORNING_NEWS

from airflow_batch.hooks.batch import BatchHook
from airflow_batch.sandbox import BatchSandbox

DAG = """
from airflow.sdk import DAG, Asset, AssetAny, AssetWatcher
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow_batch.triggers.events import BatchCampaignEventTrigger

def watched(token, event):
    trigger = BatchCampaignEventTrigger(
        campaign=token, event=event, batch_conn_id={conn_id!r}, app={app!r}, poll_interval={interval!r}
    )
    return Asset(f"{{event}} {{token}}", watchers=[AssetWatcher(name=event, trigger=trigger)])

assets = [watched(token, event) for token in {tokens!r} for event in ("live", "stopped")]
with DAG("watched", schedule=AssetAny(*assets), catchup=False, is_paused_upon_creation=False):
    EmptyOperator(task_id="nothing")
"""
Edge = tuple[str, str]
"""The event and the campaign."""


class Watched:
    """Campaigns of one app, watched one by one for "live" and "stopped"."""

    def __init__(self, airflow: PrivateAirflow, sandbox: BatchSandbox, count: int, interval: float) -> None:
        self.airflow, self.sandbox, self.interval = airflow, sandbox, interval
        self.tokens = [sandbox.add_campaign({**MORNING_NEWS, "live": False}) for _ in range(count)]
        self.live = dict.fromkeys(self.tokens, False)
        self.switched_at = dict.fromkeys(self.tokens, 0.0)
        self.hook = BatchHook.from_connection(Connection(conn_id="marketing", **sandbox.connection()), sandbox.apps[0])

    def dag(self, conn_id: str) -> tuple[str, str]:
        app = self.sandbox.apps[0]
        return "watched.py", DAG.format(conn_id=conn_id, app=app, tokens=self.tokens, interval=self.interval)

    def switch(self, token: str) -> None:
        """Switch a campaign, as somebody does in the dashboard."""
        self.live[token] = not self.live[token]
        self.hook.update_campaign(token, {**MORNING_NEWS, "live": self.live[token]})
        self.switched_at[token] = time.monotonic()

    def switch_some(self, chosen: random.Random, least: float, each: float, seconds: float) -> None:
        """Switch campaigns for so long, one in ``each`` seconds, none twice within ``least`` seconds."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            now = time.monotonic()
            if ready := [token for token, at in self.switched_at.items() if at < now - least]:
                self.switch(chosen.choice(ready))
            time.sleep(chosen.uniform(0, 2 * each))

    def polls(self) -> int:
        return sum(record.operation == "list" and record.status == 200 for record in self.sandbox.requests)

    def wait_for_polls(self, count: int = 1, timeout: float = 180) -> None:
        """Wait until so many further polls were answered, and Airflow had the time to store what they showed."""
        before = self.polls()
        wait_until(lambda: self.polls() >= before + count, timeout)
        time.sleep(3)

    def events(self) -> list[dict[str, Any]]:
        """The payloads of the stored events, oldest first."""
        rows = self.airflow.query("SELECT extra FROM asset_event ORDER BY id")
        extras = [json.loads(row["extra"]) for row in rows]
        payloads = [extra["payload"] for extra in extras if extra.get("from_trigger")]
        return [payload for payload in payloads if payload["campaign_token"] in self.live]

    def fired(self) -> Counter[Edge]:
        return Counter((event["event"], event["campaign_token"]) for event in self.events())

    def expected(self) -> Counter[Edge]:
        """What two polls can see, by the order of the sandbox's log: a state that differs from that of the poll before.

        The list is one page, so the sandbox answers it at one moment.
        """
        now = dict.fromkeys(self.tokens, False)
        seen: dict[str, bool] = {}
        edges: Counter[Edge] = Counter()
        for record in sorted(self.sandbox.requests, key=lambda record: record.sequence):
            if record.operation == "update" and record.applied:
                assert record.campaign_token is not None
                now[record.campaign_token] = not now[record.campaign_token]
            elif record.operation == "list" and record.status == 200:
                for token, live in now.items():
                    if seen and seen[token] is not live:
                        edges["live" if live else "stopped", token] += 1
                seen = dict(now)
        return edges

    def busiest_minute(self) -> int:
        """The most requests of the triggers in any 60 seconds."""
        times = sorted(record.time for record in self.sandbox.requests if record.operation in ("list", "stats"))
        return max(sum(at <= other < at + timedelta(seconds=60) for other in times) for at in times)

    def wait_for_events(self, timeout: float = 240) -> bool:
        """Wait until every expected event is stored; return whether there are these and no others."""
        with suppress(TimeoutError):
            wait_until(lambda: not self.expected() - self.fired(), timeout)
        return self.fired() == self.expected()

    def kill_triggerer(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Kill the triggerer, and start it again after something has happened."""
        self.airflow.kill("triggerer")
        meanwhile()
        self.airflow.start_again("triggerer", timeout=120)


@contextmanager
def watched_airflow(airflow: PrivateAirflow, watched: Watched, conn_id: str) -> Iterator[Watched]:
    """Add the DAG, and wait until the first poll was made and recorded for every watcher."""
    airflow.add_dag(watched.dag(conn_id))
    if airflow.query("SELECT 1 FROM sqlite_master WHERE name = 'asset_state_store'"):
        recorded = "SELECT key FROM asset_state_store JOIN asset ON asset.id = asset_id WHERE name LIKE '% ' || ?"
        wait_until(lambda: all(len(airflow.query(recorded, token)) == 2 for token in watched.tokens), 300)
    else:  # Airflow 3.1 and 3.2
        wait_until(lambda: watched.polls() >= 2, 300)
    try:
        yield watched
    finally:
        (airflow.dags / "watched.py").unlink()
