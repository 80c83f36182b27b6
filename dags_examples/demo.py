"""Watch the main job on a laptop, without a Batch account: ``make demo``, or ``make demo KEEP=1``.

Starts the sandbox with one recurring campaign, lets Airflow itself run ``scheduled_campaign_toggle`` in a private
AIRFLOW_HOME inside the checkout, with one 429 on the way, and prints what happened. With ``KEEP`` in the environment
the sandbox then stays as it is until Ctrl-C. Not a DAG.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from airflow_batch.sandbox import BatchSandbox, Fault

CHECKOUT = Path(__file__).resolve().parent.parent
DAG_ID = "scheduled_campaign_toggle"
RETRY_AFTER = 10  # longer than a task waits in its slot, so that it is rescheduled
CAMPAIGN = {
    "name": "Summer sale",
    "live": False,
    "push_time": "2026-01-05T08:00:00",
    "recurrence": {"repeat_unit": "DAILY", "repeat_frequency": 1},
    "messages": [{"language": "en", "title": "Summer sale", "body": "Everything must go"}],
}


def main(home: Path) -> int:
    home.mkdir(exist_ok=True)
    with BatchSandbox() as sandbox:
        token = sandbox.add_campaign(CAMPAIGN)
        sandbox.inject(Fault("answer", "update", status=429, headers={"Retry-After": str(RETRY_AFTER)}))
        say(f"Sandbox at {sandbox.url}, with one recurring campaign. It answers the first update with a 429.")
        say("Open that address in a browser to watch.")
        show("Before", sandbox.campaign(token))
        before = last_xcom_id(home)
        code, log = run_dag(home, sandbox, {"campaign": token, "name": CAMPAIGN["name"], "live": "on"})
        (home / "airflow.log").write_text(log)
        show("After", sandbox.campaign(token))
        say("\nEvery request that the sandbox received")
        for record in sandbox.requests:
            say(f"  {record.time.astimezone():%H:%M:%S}  {record.operation:<7} {record.status}")
        attempts(log)
        results(home, before)
        failed = bool(code) or not sandbox.campaign(token)["live"]
        if failed:
            say(f"\nThe demo failed; Airflow's whole log is in {home.name}/airflow.log")
            say(log[-3000:])
        else:
            say(f"\nDone: live, after one 429 and without a retry. Airflow's whole log is in {home.name}/airflow.log")
        if os.environ.get("KEEP", "0") != "0":
            keep(sandbox)
    return int(failed)


def keep(sandbox: BatchSandbox) -> None:
    """Leave the sandbox running until Ctrl-C or SIGTERM."""
    say(f"\nThe sandbox still runs at {sandbox.url} - press Ctrl-C to stop it")
    # In short waits: on Windows a signal does not interrupt a long one.
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(1)
    say("\nStopped.")


def run_dag(home: Path, sandbox: BatchSandbox, params: dict[str, Any]) -> tuple[int, str]:
    """Let Airflow run the example DAG, waits included; return its exit code and everything it printed."""
    # Without bytecode every airflow command starts twice as slowly.
    left_out = ("AIRFLOW", "PYTHONDONTWRITEBYTECODE")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(left_out)}
    environment |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(CHECKOUT / "dags_examples"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_BATCH_DEFAULT": json.dumps(sandbox.connection()),
        "NO_COLOR": "1",
    }
    airflow = [sys.executable, "-m", "airflow"]
    if not (home / f"made-with-{version('apache-airflow')}").exists():
        say(f"\nMaking a private Airflow in {home.name}")
        shutil.rmtree(home)
        home.mkdir()
        subprocess.run([*airflow, "db", "migrate"], env=environment, check=True, capture_output=True)
        (home / f"made-with-{version('apache-airflow')}").touch()
    say(f"\nAirflow runs the DAG: airflow dags test {DAG_ID}")
    run = subprocess.run(
        [*airflow, "dags", "test", DAG_ID, "--conf", json.dumps(params)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return run.returncode, run.stdout


def attempts(log: str) -> None:
    """Print the lines in which the tasks say what they did, and why they wait."""
    say("\nWhat the tasks logged")
    for line in log.splitlines():
        if match := re.match(r"\S*?(\d\d:\d\d:\d\d)\S* \[(\w+) *\] (.*)", line):
            time, level, text = match.groups()
            if "Batch refused" in text or text.startswith("Campaign '"):
                text = re.sub(r" \[airflow\S*\].*| loc=.*", "", text)
                say(f"  {time} UTC  {level:<7} {text}")


def results(home: Path, after: int) -> None:
    """Print what the tasks left in XCom."""
    with sqlite3.connect(f"file:{home / 'airflow.db'}?mode=ro", uri=True) as database:
        rows = database.execute(
            "select task_id, value from xcom where key = 'return_value' and rowid > ? order by rowid", (after,)
        ).fetchall()
    for task, value in rows:
        say(f"\nXCom of {task}")
        decoded = json.loads(value)
        say(json.dumps(json.loads(decoded) if isinstance(decoded, str) else decoded, indent=2))


def last_xcom_id(home: Path) -> int:
    """Return the newest row before this run, for a home that an earlier demo left."""
    try:
        with sqlite3.connect(f"file:{home / 'airflow.db'}?mode=ro", uri=True) as database:
            return int(database.execute("select coalesce(max(rowid), 0) from xcom").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def show(title: str, campaign: dict[str, Any]) -> None:
    say(f"\n{title}, {datetime.now().astimezone():%H:%M:%S}: {campaign['name']!r}, live: {campaign['live']}")


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    # Set for both: a process in the background of a shell starts with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        sys.exit(main(Path(sys.argv[1]).resolve() if sys.argv[1:] else CHECKOUT / ".demo"))
    except KeyboardInterrupt:
        sys.exit("\nStopped before the end.")
