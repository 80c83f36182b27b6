"""What the DAG processor pays for our modules each time it parses a DAG file in a process of its own.

Each import happens in a fresh interpreter, on top of what every DAG file imports already, with bytecode caches warm.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from report import Spread, table, verdict

ROUNDS = 5
MAX_MILLISECONDS = 25
MAX_MODULES = 30
HTTP_LIBRARIES = ("requests", "urllib3", "httpx", "aiohttp")
FORBIDDEN = {"requests", "httpx", "aiohttp"}
OURS = "airflow_batch"
SUBJECTS = {
    OURS: ("airflow_batch.operators.campaigns", "airflow_batch.sensors.campaigns", "airflow_batch.hooks.batch"),
    "HttpOperator": ("airflow.providers.http.operators.http",),
    "requests alone": ("requests",),
}

_CLOCKS = ("seconds", "cpu")

CHILD = """
import importlib, json, sys, time
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator
assert not sys.dont_write_bytecode
before = set(sys.modules)
start, start_cpu = time.perf_counter(), time.process_time()
for name in sys.argv[1:]:
    importlib.import_module(name)
found = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - start_cpu}
print(json.dumps(found | {"new": sorted(set(sys.modules) - before), "before": sorted(before)}))
"""


def run() -> Iterator[str]:
    """Measure in alternation, after one import of everything that only warms the caches."""
    yield f"  {ROUNDS} rounds of fresh interpreters, each on top of: from airflow.sdk import DAG, ..."
    yield "  airflow_batch: its operator, sensor and hook. A busy machine lengthens ms, and CPU ms far less."
    _import_in_child(tuple(name for modules in SUBJECTS.values() for name in modules))
    rounds = [{name: _import_in_child(modules) for name, modules in SUBJECTS.items()} for _ in range(ROUNDS)]
    times, cpu = ({name: [1000 * found[name][what] for found in rounds] for name in SUBJECTS} for what in _CLOCKS)
    new = {name: set(rounds[-1][name]["new"]) for name in SUBJECTS}
    yield _table(times, cpu, new)
    yield from _targets(Spread.of(times[OURS]), new[OURS])
    if shared := [library for library in HTTP_LIBRARIES if library in rounds[-1][OURS]["before"]]:
        yield f"  Not counted for anyone: airflow.sdk itself loads {', '.join(shared)}."


def _import_in_child(modules: tuple[str, ...]) -> dict[str, Any]:
    # -I: no PYTHON* variable (one of them would turn the bytecode caches off), nothing from the present folder.
    command = [sys.executable, "-I", "-c", CHILD, *modules]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def _table(times: dict[str, list[float]], cpu: dict[str, list[float]], new: dict[str, set[str]]) -> str:
    rows = [
        (
            name,
            Spread.of(times[name]).text(1),
            f"{Spread.of(cpu[name]).median:.1f}",
            f"{Spread.of_ratios(times[name], times[OURS]).median:.1f}",
            str(len(new[name])),
            ", ".join(library for library in HTTP_LIBRARIES if library in new[name]) or "none",
        )
        for name in SUBJECTS
    ]
    return table(("import", "ms", "CPU ms", "x ours", "modules", "HTTP libraries it loads"), rows)


def _targets(time: Spread, new: set[str]) -> Iterator[str]:
    loaded = sorted(new & FORBIDDEN)
    yield f"  Target: at most {MAX_MILLISECONDS} ms: {time.median:.1f} ms, {verdict(time.median <= MAX_MILLISECONDS)}"
    yield f"  Target: at most {MAX_MODULES} new modules: {len(new)}, {verdict(len(new) <= MAX_MODULES)}"
    yield f"  Target: no {', '.join(sorted(FORBIDDEN))}: {', '.join(loaded) or 'none'}, {verdict(not loaded)}"
