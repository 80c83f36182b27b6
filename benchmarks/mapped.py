"""Mapped toggles under the limit of the sync: a task for each of 300 campaigns, next to HttpOperator.

A real scheduler. HttpOperator does not read the campaigns.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import busy_sandbox
from busy_sandbox import BusySandbox
from sync import BURST, CAMPAIGNS, DELAY, HERE, MAX_SECONDS, RATE, Toggled, toggle_table, unfinished

sys.path.append(str(HERE.parent / "tests"))
from private_airflow import PrivateAirflow

PARALLELISM = 8
HTTP, MAPPED = "HttpOperator", "BatchSetCampaignLive"


def run() -> Iterator[str]:
    """Measure both, one after the other."""
    yield f"  {CAMPAIGNS} campaigns, off to on; the sandbox of the benchmark sync. A real scheduler, LocalExecutor with"
    yield f"  parallelism {PARALLELISM}, SQLite; from the end of the task that gives the list to the end of the run."
    toggled = {HTTP: _mapped("mapped_http"), MAPPED: _mapped("mapped_batch")}
    yield toggle_table(toggled, HTTP)
    yield from unfinished(toggled)


def _mapped(dag_id: str) -> Toggled:
    with (
        busy_sandbox.running(CAMPAIGNS, delay=DELAY, rate=RATE, burst=BURST) as sandbox,
        tempfile.TemporaryDirectory(prefix="airflow-mapped-") as home,
    ):
        key = sandbox.connection["login"]
        url = f"/1.1/{key}/campaigns/update/"
        connection = sandbox.connection if dag_id == "mapped_batch" else _http_connection(sandbox)
        items = [token if dag_id == "mapped_batch" else url + token for token in sandbox.tokens]
        private = PrivateAirflow(
            Path(home),
            dags=[HERE / "dags" / "mapped_toggles.py"],
            connections={"toggles": connection},
            config={"core.parallelism": str(PARALLELISM)},
        )
        with private.running():
            run_id = private.trigger(dag_id, {"toggles": items})
            finished = True
            try:
                private.wait_for_run(dag_id, run_id, timeout=MAX_SECONDS)
            except TimeoutError:
                finished = False
            return Toggled(_seconds(private, dag_id, run_id), sandbox.counts(), finished)


def _http_connection(sandbox: BusySandbox) -> dict[str, Any]:
    headers = {"X-Authorization": sandbox.connection["password"], "Content-Type": "application/json"}
    return {"conn_type": "http", "host": sandbox.connection["host"], "extra": headers}


def _seconds(private: PrivateAirflow, dag_id: str, run_id: str) -> float:
    """Return the time from the end of the task that gives the list to that of the run, or to now."""
    tasks = private.task_instances(dag_id, run_id)
    listed = next(task["end_date"] for task in tasks if task["task_id"] == "toggles")
    (run,) = private.query("SELECT end_date FROM dag_run WHERE dag_id = ? AND run_id = ?", dag_id, run_id)
    took: float = ((run["end_date"] or datetime.now(UTC)) - listed).total_seconds()
    return took
