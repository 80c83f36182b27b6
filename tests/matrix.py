"""Run the tests on every supported Airflow, each in a fresh environment, against the installed wheel: `make matrix`.

A row is a set of pinned packages and a Python. It runs all unit and integration tests (dag.test) and the smoke test (a
scheduler, workers, an api-server); the row of constraints.txt runs the whole suite,
as make test and make test-all do. A row whose Python this machine lacks runs on another; the last lines say so.

The files in matrix/ pin what a version of Airflow was installed with in its day (DATE: 2026-03-12, 2026-06-10):

    echo apache-airflow==VERSION | uv pip compile --universal --python-version 3.11 --exclude-newer DATE --extra test \\
        --no-annotate --no-header pyproject.toml - | sed 's/ ;.*//' > tests/matrix/constraints-VERSION.txt

The row `lowest` is the oldest of them, with pyproject.toml's lower bounds laid over it. The row `newest` is the newest
Airflow of the registry, pre-releases included, with the newest of everything else; its failure is shown and allowed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import environments
from environments import CACHE, CHECKOUT, PYTHONS

QUICK = ("tests/unit", "tests/integration", "tests/system/test_smoke.py")
EVERYTHING = ("tests",)
ON_ALL_CORES = ("-n", "auto", "--maxprocesses", "4", "--dist", "worksteal")
TIMEOUT = 30 * 60
"""Seconds for the tests of one row."""


@dataclass
class Row:
    """One environment, its tests and its result."""

    name: str
    constraints: str
    wished: str
    tests: tuple[str, ...] = QUICK
    required: bool = True
    airflow: str = ""
    python: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    problem: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make matrix", description="Run the tests on every supported Airflow.")
    parser.add_argument("names", nargs="*", metavar="ROW", help="only these")
    parser.add_argument("--after-test", action="store_true", help="leave out what make test and make test-all run")
    parser.add_argument("--jobs", type=int, default=1, help="rows at a time (default 1)")
    options = parser.parse_args(arguments)
    everything = rows()
    if unknown := set(options.names) - {row.name for row in everything}:
        parser.error(
            f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(row.name for row in everything)}"
        )
    chosen = [row for row in everything if not options.names or row.name in options.names]
    left_out = [row for row in chosen if options.after_test and row.tests == EVERYTHING]
    chosen = [row for row in chosen if row not in left_out]

    found = environments.pythons()
    if not found:
        parser.error(f"this machine has none of Python {', '.join(PYTHONS)}")
    for row in chosen:
        row.python = nearest(row.wished, found)
    # In the background a shell leaves it ignored, and the tests would inherit that: see run_tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    began = time.monotonic()
    sdist, wheel = environments.build(CHECKOUT, CACHE / "dist")
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda row: try_row(row, found[row.python], sdist, wheel), chosen))
    report(chosen, left_out, found, time.monotonic() - began)
    return int(any(row.problem and row.required for row in chosen))


def rows() -> list[Row]:
    """The longest first. Each Python is preferred by a row that must pass."""
    current = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {pinned_airflow(text): text for text in map(_text, sorted((CHECKOUT / "tests/matrix").glob("*.txt")))}
    oldest = min(pinned, key=_numbers)
    preferences = ("3.12", "3.13")
    return [
        Row(pinned_airflow(current), current, "3.11", EVERYTHING),
        *(Row(name, pinned[name], preferences[at % 2]) for at, name in enumerate(sorted(pinned, key=_numbers))),
        Row("lowest", lowest(pinned[oldest], lower_bounds()), "3.11"),
        Row("newest", "", "3.13", required=False),
    ]


def pinned_airflow(constraints: str) -> str:
    return re.findall(r"^apache-airflow==(\S+)$", constraints, re.MULTILINE)[0]


def lower_bounds() -> dict[str, str]:
    """What pyproject.toml asks for at least, its extras' included: {"pendulum": "3.1"}."""
    project = tomllib.loads(_text(CHECKOUT / "pyproject.toml"))["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    return dict(one.split(">=") for one in asked if ">=" in one)


def lowest(constraints: str, bounds: dict[str, str]) -> str:
    pinned = dict(line.split("==") for line in constraints.splitlines()) | bounds
    if "pydantic" in bounds:
        pinned.pop("pydantic-core", None)  # pydantic asks for one version of it exactly.
    return "".join(f"{name}=={version}\n" for name, version in pinned.items())


def nearest(wished: str, found: Iterable[str]) -> str:
    """Return the preferred Python, else the next lower one that exists, else the lowest."""
    there = sorted(found, key=_numbers)
    lower = [name for name in there if _numbers(name) <= _numbers(wished)]
    return lower[-1] if lower else there[0]


def try_row(row: Row, python: str, sdist: Path, wheel: Path) -> None:
    """Make the row's environment, run its tests, and note what came of it; never raises."""
    home = CACHE / row.name
    home.mkdir(parents=True, exist_ok=True)
    log = home / "log.txt"
    began = time.monotonic()
    try:
        if not row.constraints:
            row.constraints = f"apache-airflow=={environments.newest_airflow(python)}\n"
        row.airflow = pinned_airflow(row.constraints)
        print(f"{row.name}: Airflow {row.airflow} on Python {row.python}", flush=True)
        inside = environments.make(home / "env", python, wheel, row.constraints, "[test]")
        environments.check(inside)
        tree = unpack(sdist, home / "tree", inside)
    except Exception as error:  # of one row; the others go on
        row.problem = str(error)
        log.write_text(row.problem, encoding="utf-8")
        print(f"{row.name}: not installed\n{row.problem}", flush=True)
        return
    finally:
        row.seconds["install"] = time.monotonic() - began
    print(f"{row.name}: installed in {row.seconds['install']:.0f} s", flush=True)
    result = home / "result.xml"
    result.unlink(missing_ok=True)
    began = time.monotonic()
    # The whole suite holds tests that start an Airflow of their own: one after the other.
    how = ON_ALL_CORES if row.tests == QUICK else ()
    row.problem = run_tests([inside, "-P", "-m", "pytest", "-q", f"--junitxml={result}", *how, *row.tests], tree, log)
    row.seconds["tests"] = time.monotonic() - began
    row.counts = counted(result)
    print(f"{row.name}: {row.problem or 'passed'} after {row.seconds['tests']:.0f} s", flush=True)
    if row.problem:
        print(f"The end of {log.relative_to(CHECKOUT)}:\n{_text(log)[-6000:]}", flush=True)


def unpack(sdist: Path, tree: Path, python: Path) -> Path:
    """The sdist's tests and examples, beside a link to the package that the wheel installed: there is no other."""
    shutil.rmtree(tree, ignore_errors=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(tree, filter="data")
    (inner,) = tree.iterdir()
    shutil.rmtree(inner / "airflow_batch")
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    (inner / "airflow_batch").symlink_to(packages / "airflow_batch")
    return inner


def run_tests(command: Sequence[str | Path], tree: Path, log: Path) -> str:
    """Return what went wrong, or nothing. At the timeout the tests are interrupted, so that their processes end."""
    with open(log, "wb") as output:
        tests = subprocess.Popen(
            command, cwd=tree, env=environments.clean(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            code = tests.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            tests.send_signal(signal.SIGINT)
            try:
                tests.wait(60)
            except subprocess.TimeoutExpired:
                tests.kill()
            return f"not done in {TIMEOUT} s"
    return f"pytest ended with {code}" if code else ""


def counted(result: Path) -> dict[str, int]:
    if not result.exists():
        return {}
    suite = ET.parse(result).getroot()[0]
    run, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    return {"run": run - skipped, "passed": run - skipped - failed, "skipped": skipped, "failed": failed}


def report(chosen: Sequence[Row], left_out: Sequence[Row], found: dict[str, str], seconds: float) -> None:
    table = [("row", "Airflow", "Python", "run", "passed", "skipped", "failed", "install s", "tests s", "")]
    for row in left_out:
        own = f"{sys.version_info.major}.{sys.version_info.minor}"
        table.append((row.name, pinned_airflow(row.constraints), own, *[""] * 6, "run by make test, test-all"))
    for row in chosen:
        counts = [str(row.counts.get(name, "")) for name in ("run", "passed", "skipped", "failed")]
        times = [f"{row.seconds[name]:.0f}" if name in row.seconds else "" for name in ("install", "tests")]
        verdict = "passed" if not row.problem else "FAILED" if row.required else "failed, which is allowed"
        table.append((row.name, row.airflow, row.python, *counts, *times, verdict))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    print()
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print()
    missing = [name for name in PYTHONS if name not in found]
    used = sorted({row.python for row in chosen}, key=_numbers)
    if missing:
        print(f"Python {', '.join(missing)}: not on this machine; the rows ran on {', '.join(used)}.")
    for row in chosen:
        if row.name == "newest" and row.airflow and not re.search("[a-z]", row.airflow):
            print(f"No pre-release of Airflow is newer than {row.airflow}; the row newest ran that.")
    print(f"{seconds:.0f} s in all, with {'uv' if environments.UV else 'pip'}.", flush=True)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


if __name__ == "__main__":
    sys.exit(main())
