"""Attempts of an export, each in a process of its own, some of which are killed: for test_export_kills.py.

Reads a JSON object from its standard input: the folder of each case, and the moment at which its first attempt is
killed, as ``[function, count]``: before the function is called for that many times. Each attempt is a fork, so that
Airflow is imported once. Prints the result of the attempt that succeeded, by case.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from fsspec.implementations.local import LocalFileSystem
from task import context_of

from airflow_batch._export import parts
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.operators.export import BatchExportCampaignsOperator

parts.MAX_CAMPAIGNS = 5
FUNCTIONS: dict[str, tuple[Any, str]] = {
    "request": (BatchHook, "_request"),
    "copy": (LocalFileSystem, "put_file"),
    "rename": (LocalFileSystem, "mv"),
    "remove": (LocalFileSystem, "rm"),
}
DAY = datetime(2026, 11, 27, tzinfo=UTC), datetime(2026, 11, 28, tzinfo=UTC)


def kill_before(function: str, count: int) -> None:
    """Kill this process with SIGKILL before a call. A copy that is killed is half done."""
    owner, name = FUNCTIONS[function]
    original, calls = getattr(owner, name), []

    def counted(self: Any, *arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        if len(calls) == count:
            if function == "copy":
                with open(arguments[0], "rb") as source, open(arguments[1], "wb") as target:
                    target.write(source.read()[: os.path.getsize(arguments[0]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *arguments, **named)

    setattr(owner, name, counted)


def attempt(folder: str, number: int) -> None:
    """Run an attempt and leave its result in a file."""
    task = BatchExportCampaignsOperator(task_id="export", destination=f"file://{folder}/batch", max_in_flight=2)
    run = SimpleNamespace(run_type="scheduled", data_interval_start=DAY[0], data_interval_end=DAY[1], run_after=DAY[1])
    result = task.execute({**context_of(task, try_number=number), "dag_run": run})
    with open(f"{folder}/result.json", "w", encoding="utf-8") as file:
        json.dump(result, file)


def in_a_fork(folder: str, number: int, moment: list[Any] | None) -> int:
    """Run an attempt in a child process and return its exit status, negative for the signal that ended it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        if moment:
            kill_before(*moment)
        attempt(folder, number)
        status = 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    ended = {}
    for folder, moment in json.load(sys.stdin).items():
        os.mkdir(folder)
        ended[folder] = [in_a_fork(folder, 1, moment), in_a_fork(folder, 2, None)]
    print(json.dumps(ended))
