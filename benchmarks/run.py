"""Print this provider and its alternatives side by side: ``python benchmarks/run.py [--list] [NAME ...]``.

What belongs here: the choice of benchmarks, the header, the clean environment. What is measured, and how, stands in one
module for each benchmark, whose ``run()`` yields the lines to print. To add one, write it and name it in BENCHMARKS.

No figure fails the command: times differ between machines. The exit code is 1 only if a benchmark could not be run.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from importlib.metadata import version

BENCHMARKS = {
    "imports": "how long importing the operators takes, next to HttpOperator and requests",
    "request": "how long one update takes on an open connection, next to requests and HttpHook",
    "toggle": "how long a task for one campaign takes, import and execution, next to HttpOperator",
    "calendars": "what a calendar of hundreds of campaigns costs Airflow, next to HttpOperator",
    "pacing": "how the rate limiter uses limits that it does not know, on a simulated clock",
    "sync": "how long 300 toggles take under a limit, and when the last stop is sent, next to requests",
    "crowd": "how long 60 mapped toggles take under a limit that bites, next to HttpOperator",
    "export": "how long an export takes under a limit, its files next to those of a script; only where it is named",
    "export_full": "the same with 1,000 and 10,000 campaigns; likewise",
    "mapped": "how long 300 mapped toggles take under the limit of the sync, next to HttpOperator; likewise",
    "faults": "what a task does when something goes wrong, next to HttpOperator and requests; likewise",
    "storm": "whether 200 toggles that wait under a limit leave the slots to others, next to HttpOperator; likewise",
}
BY_NAME_ONLY = {"export", "export_full", "mapped", "faults", "storm"}
"""They take minutes, or print some hundreds of lines."""


def main() -> int:
    """Run the named benchmarks, by default all that are not BY_NAME_ONLY; 1 when any of them could not be run."""
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description="Measure this provider and its alternatives")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(BENCHMARKS)} (default: all but {', '.join(sorted(BY_NAME_ONLY))})",
    )
    parser.add_argument("--list", action="store_true", help="print the names and what they measure, then stop")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"unknown: {', '.join(unknown)}. Known are {', '.join(BENCHMARKS)}.")
    if options.list:
        print("\n".join(f"{name:<12}{about}" for name, about in BENCHMARKS.items()))
        return 0
    names = options.names or [name for name in BENCHMARKS if name not in BY_NAME_ONLY]
    started = time.monotonic()
    print(_header())
    with tempfile.TemporaryDirectory(prefix="airflow-home-") as home:
        _clean_environment(home)
        broken = [name for name in names if not _print_benchmark(name)]
    print(f"\nTook {time.monotonic() - started:.0f} s." + (f" Broken: {', '.join(broken)}." if broken else ""))
    return 1 if broken else 0


def _header() -> str:
    packages = ["apache-airflow", "apache-airflow-providers-http", "requests", "urllib3"]
    return (
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.1f} before the start\n"
        + ", ".join(f"{name} {version(name)}" for name in packages)
        + "\nCompared in alternation within one run; every figure is a median [lowest to highest round],\n"
        "or a single number where there was one round or all agree."
    )


def _clean_environment(home: str) -> None:
    """Leave out what would make one subject slower than another, or this machine different from the next.

    Only some of the subjects use a proxy or a ~/.netrc; Airflow's settings would change the time that it takes.
    """
    for name in list(os.environ):
        if name.startswith(("AIRFLOW_", "PYTHON")) or name.lower().endswith("_proxy") or name == "NETRC":
            del os.environ[name]
    os.environ["AIRFLOW_HOME"] = os.environ["HOME"] = home


def _print_benchmark(name: str) -> bool:
    print(f"\n{name}: {BENCHMARKS[name]}", flush=True)
    try:
        lines: Iterator[str] = importlib.import_module(name).run()
        for line in lines:
            print(line, flush=True)
    except Exception:
        # The others can still be measured, and are.
        traceback.print_exc()
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
