"""A throttled crowd: 60 mapped toggles on two worker slots at a limit that bites, next to HttpOperator.

Shorter than ``storm``, and without its probes: what is compared is the time until all are done, one subject after the
other in one Airflow. How it is measured is in ``storm.py``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack

from report import table, verdict
from storm import (
    BATCH_FLOOR,
    BURST,
    PATIENCE,
    RATE,
    SLOTS,
    Storm,
    connection_and_items,
    measure,
    private_airflow,
    running_sandbox,
)

TOGGLES = 60
HTTP = "HttpOperator, 10 retries"
BATCH, BLIND = "BatchSetCampaignLive", "with read='never'"
SUBJECTS = {HTTP: "storm_http", BATCH: "storm_batch", BLIND: "storm_blind"}
MAX_RATIO = {BATCH: 2.0, BLIND: 1.15}
"""Of a subject's time to HttpOperator's."""


def run() -> Iterator[str]:
    """Run all subjects and yield their table."""
    yield f"  {TOGGLES} mapped toggles, off to on: LocalExecutor, parallelism {SLOTS}, SQLite, one Airflow for all."
    yield f"  Each has a sandbox of its own: {RATE:g} requests a second, bursts of {BURST:g}, 429 without Retry-After."
    yield "  x limit: against what the limit allows for the requests that were answered."
    storms = _measured()
    yield _table(storms)
    for name, storm in storms.items():
        if name != HTTP:
            ratio = storm.seconds / storms[HTTP].seconds
            most = MAX_RATIO[name]
            yield f"  Target, {name}: at most {most:.2f} x {HTTP}: {ratio:.2f}, {verdict(ratio <= most)}"
            early = storm.early(BATCH_FLOOR)
            yield f"  Target, {name}: no retry, no failure: {verdict(not storm.retried and not storm.failed)}"
            yield f"  Target, {name}: nothing within {BATCH_FLOOR:.0f} s of a 429: {early}, {verdict(not early)}"


def _measured() -> dict[str, Storm]:
    with tempfile.TemporaryDirectory(prefix="airflow-crowd-") as home, ExitStack() as stack:
        sandboxes = {dag_id: stack.enter_context(running_sandbox(TOGGLES)) for dag_id in SUBJECTS.values()}
        found = {dag_id: connection_and_items(dag_id, *pipe.recv()) for dag_id, pipe in sandboxes.items()}
        private = private_airflow(home, {dag_id: connection for dag_id, (connection, _) in found.items()})
        stack.enter_context(private.running(timeout=PATIENCE))
        return {
            name: measure(private, dag_id, found[dag_id][1], sandboxes[dag_id]) for name, dag_id in SUBJECTS.items()
        }


def _table(storms: dict[str, Storm]) -> str:
    rows = []
    for name, storm in storms.items():
        answered = len(storm.asked) - storm.refused
        rows.append(
            (
                name + ("" if storm.finished else " (not finished)"),
                f"{storm.seconds:.0f}",
                f"{storm.seconds / storms[HTTP].seconds:.2f}",
                f"{storm.seconds / max((answered - BURST) / RATE, 1):.2f}",
                str(len(storm.asked)),
                str(storm.refused),
                str(len(storm.retried)),
                str(len(storm.failed)),
                str(storm.not_live),
                f"{min(storm.waits):.1f}" if storm.waits else "-",
            )
        )
    headings = ("", "s", "x HttpOperator", "x limit", "requests", "429", "retried", "failed", "not live", "least wait")
    return table(headings, rows)
