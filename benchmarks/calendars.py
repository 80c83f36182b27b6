"""What a calendar of hundreds of campaigns costs: the dag processor at each parse, the scheduler at each run.

Each DAG file is parsed in a fresh interpreter that has loaded Airflow, as the dag processor's child has, and once more
there. The alternatives are DAGs of HttpOperator: one with a task for each campaign, and one whose schedule is Airflow's
own timetable of a cron for each change.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from report import Spread, table, verdict

ROUNDS = 3
FEW, MANY = 300, 3_000
MAX_FIRST, MAX_NEXT, MAX_AGAIN = 250.0, 20.0, 40.0
"""Milliseconds: the first parse and the next run of one-off windows, the second parse of windows on working hours."""
MAX_GROWTH = 12.0
"""How much longer a figure may be with MANY."""

ONE_OFF, WORKING = "calendar, one-off windows", "calendar, working hours"
TASKS, CRONS = "HttpOperator, one task each", "HttpOperator, one cron for each change"

CALENDAR = """
from airflow_batch.calendar_dag import campaign_calendar_dag
dag = campaign_calendar_dag("calendar.yaml", dag_id="calendar")
"""
HTTP = """
from airflow.sdk import DAG, MultipleCronTriggerTimetable
from airflow.providers.http.operators.http import HttpOperator
with DAG("toggles", schedule={schedule}, catchup=False) as dag:
    for number in range({tasks}):
        HttpOperator(task_id=f"toggle_{{number}}", endpoint=f"/update/{{number}}", data='{{"live": true}}')
"""
CHILD = """
import json, runpy, sys, time
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction

def timed(what):
    start = time.process_time()
    found = what()
    return 1000 * (time.process_time() - start), found

first, _ = timed(lambda: runpy.run_path(sys.argv[1]))
again, found = timed(lambda: runpy.run_path(sys.argv[1]))
timetable = DagSerialization.from_dict(DagSerialization.to_dict(found["dag"])).timetable
restriction = TimeRestriction(earliest=None, latest=None, catchup=False)
next_run = lambda: timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
timed(next_run)
print(json.dumps([first, again, min(timed(next_run)[0] for _ in range(3))]))
"""


def run() -> Iterator[str]:
    """Measure all subjects in alternation and yield their table."""
    yield f"  {FEW} and {MANY:,} campaigns; {ROUNDS} rounds of fresh interpreters, Airflow loaded. Milliseconds of CPU."
    yield "  one-off windows: on any minutes of a year. working hours: weekdays, on and off at a quarter of an hour."
    with tempfile.TemporaryDirectory(prefix="calendars-") as folder:
        files = dict(_files(Path(folder)))
        took = [{subject: _parsed(path) for subject, path in files.items()} for _ in range(ROUNDS)]
    found = {subject: [Spread.of(one[subject][i] for one in took) for i in range(3)] for subject in files}
    rows = [(name, f"{count:,}", *(spread.text(1) for spread in found[name, count])) for name, count in found]
    yield table(("DAG file", "campaigns", "first parse", "second parse", "next run"), rows)
    medians = {subject: [spread.median for spread in spreads] for subject, spreads in found.items()}
    yield from _targets(medians)


def _targets(took: dict[tuple[str, int], list[float]]) -> Iterator[str]:
    limits = (
        ("first parse of one-off windows", ONE_OFF, 0, MAX_FIRST),
        ("next run of one-off windows", ONE_OFF, 2, MAX_NEXT),
        ("second parse of working hours", WORKING, 1, MAX_AGAIN),
    )
    for what, name, index, most in limits:
        few, many = took[name, FEW][index], took[name, MANY][index]
        yield f"  Target, {what}: at most {most:.0f} ms: {few:.1f}, {verdict(few <= most)}"
        yield (
            f"  Target, {what}, {MANY:,}: at most {MAX_GROWTH:.0f} x that limit: {many:.1f}, "
            f"{verdict(many <= MAX_GROWTH * most)}"
        )


def _files(folder: Path) -> Iterator[tuple[tuple[str, int], Path]]:
    for count in (FEW, MANY):
        windows = list(_one_off(count))
        crons = [f"{at.minute} {at.hour} {at.day} {at.month} *" for window in windows for at in window]
        schedule = f"MultipleCronTriggerTimetable(*{crons}, timezone='UTC')"
        one_off = [f'{{start: "{start:%Y-%m-%d %H:%M}", end: "{end:%Y-%m-%d %H:%M}"}}' for start, end in windows]
        texts = {
            ONE_OFF: (CALENDAR, _calendar(one_off)),
            WORKING: (CALENDAR, _calendar(list(_working(count)))),
            TASKS: (HTTP.format(schedule="'0 9 * * *'", tasks=count), ""),
            CRONS: (HTTP.format(schedule=schedule, tasks=1), ""),
        }
        for index, (name, (dag, calendar)) in enumerate(texts.items()):
            if count == MANY and name in (TASKS, CRONS):
                continue  # seconds, and nobody would
            place = folder / f"{count}_{index}"
            place.mkdir()
            (place / "calendar.yaml").write_text(calendar)
            (place / "dag.py").write_text(dag)
            yield (name, count), place / "dag.py"


def _one_off(count: int) -> Iterator[tuple[datetime, datetime]]:
    chance = random.Random(1)
    for _ in range(count):
        start = datetime(2027, 1, 1, tzinfo=UTC) + timedelta(minutes=chance.randrange(300 * 24 * 60))
        yield start, start + timedelta(minutes=chance.randrange(60, 5000))


def _working(count: int) -> Iterator[str]:
    chance = random.Random(1)
    for _ in range(count):
        on, off = (f"{15 * chance.randrange(4)} {hour} * * 1-5" for hour in (chance.randrange(7, 11), 18))
        yield f'{{on: "{on}", off: "{off}"}}'


def _calendar(windows: list[str]) -> str:
    lines = ["timezone: UTC", "campaigns:"]
    for number, window in enumerate(windows):
        lines += [f"  - name: Sale {number}", f"    token: {number:032x}", f"    windows: [{window}]"]
    return "\n".join(lines) + "\n"


def _parsed(path: Path) -> list[float]:
    # -I: no PYTHON* variable (one of them would turn the bytecode caches off), nothing from the present folder.
    command = [sys.executable, "-I", "-c", CHILD, str(path)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout
    found: list[float] = json.loads(output.splitlines()[-1])
    return found
