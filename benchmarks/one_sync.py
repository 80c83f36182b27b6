"""One sync in a fresh interpreter: its seconds, and the memory it took beyond Airflow and the operator's module.

Reads the desired campaigns as JSON from its standard input, the connection ``batch_default`` from the environment.
Prints a JSON object. No scheduler and no worker: what those cost is the same for every operator.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import airflow.sdk  # noqa: F401
from airflow.sdk.bases.operator import ExecutorSafeguard

from airflow_batch.operators.sync import BatchSyncCampaignsOperator


def peak_megabytes() -> float:
    """Return the most memory this process ever had."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux hands the ru_maxrss of whoever started a process on to it.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    before = peak_megabytes()
    desired = json.load(sys.stdin)
    ExecutorSafeguard.test_mode = True
    operator = BatchSyncCampaignsOperator(task_id="sync", campaigns=desired, max_failures=len(desired))
    task = SimpleNamespace(try_number=1, max_tries=6, map_index=-1, get_first_reschedule_date=lambda context: None)
    context: Any = {"ti": task, "task": operator}
    start = time.perf_counter()
    operator.execute(context)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "megabytes": peak_megabytes() - before}))
