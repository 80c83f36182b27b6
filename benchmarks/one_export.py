"""One export in a fresh interpreter: its seconds, its result, and the memory beyond Airflow and the operator's module.

``python one_export.py FOLDER``; reads the connection ``batch_default`` from the environment and prints a JSON object.
No scheduler and no worker: what those cost is the same for every operator.
"""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace
from typing import Any

sys.path.append(__file__.rpartition("/")[0])

from airflow.sdk.bases.operator import ExecutorSafeguard
from one_sync import peak_megabytes

from airflow_batch.operators.export import BatchExportCampaignsOperator

if __name__ == "__main__":
    before = peak_megabytes()
    ExecutorSafeguard.test_mode = True
    operator = BatchExportCampaignsOperator(task_id="export", destination=f"file://{sys.argv[1]}", file_format="csv")
    task = SimpleNamespace(
        dag_id="d", task_id="t", run_id="r", try_number=1, max_tries=6, map_index=-1,
        get_first_reschedule_date=lambda context: None,
    )  # fmt: skip
    context: Any = {"ti": task, "task": operator}
    start = time.perf_counter()
    result = operator.execute(context)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "megabytes": peak_megabytes() - before, "result": result}))
