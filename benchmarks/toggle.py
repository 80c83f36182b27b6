"""One task for one campaign: what import and execution take together, next to HttpOperator's single POST.

Each in a fresh interpreter that has loaded Airflow, as a worker's child has; the server is a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import busy_sandbox
from report import Spread, table, verdict

HERE = Path(__file__).parent
ROUNDS = 3
DELAY = 0.15
MAX_RATIO = 1.20
HTTP = "HttpOperator, one POST"
ON, STOP, BLIND_STOP = "on", "stop", "stop, read='never'"
UNVERIFIED, AS_DESIRED = "on, verify='never'", "on, live already"
SUBJECTS = {
    HTTP: (True, {}),
    ON: (False, {"live": True}),
    UNVERIFIED: (False, {"live": True, "verify": "never"}),
    STOP: (True, {"live": False}),
    BLIND_STOP: (True, {"live": False, "read": "never"}),
    AS_DESIRED: (True, {"live": True}),
}
"""Whether the campaign is live before, and the operator's arguments."""
LIMITED = (UNVERIFIED, STOP, BLIND_STOP)

CHILD = """
import json, sys, time
from types import SimpleNamespace
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator
from airflow.sdk.bases.operator import ExecutorSafeguard
ExecutorSafeguard.test_mode = True
campaign, endpoint, arguments = json.loads(sys.argv[1])
start = time.perf_counter()
if arguments:
    from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator
    task = BatchSetCampaignLiveOperator(task_id="toggle", campaign=campaign, **arguments)
else:
    from airflow.providers.http.operators.http import HttpOperator
    task = HttpOperator(task_id="toggle", http_conn_id="toggles", endpoint=endpoint, data='{"live": false}')
imported = time.perf_counter()
ti = SimpleNamespace(try_number=1, max_tries=6, map_index=-1, get_first_reschedule_date=lambda context: None)
task.execute({"ti": ti, "task": task})
print(json.dumps([1000 * (imported - start), 1000 * (time.perf_counter() - start)]))
"""


def run() -> Iterator[str]:
    """Measure all subjects in alternation and yield their table."""
    yield f"  Each answer {DELAY * 1000:.0f} ms late, no limit; {ROUNDS} rounds of fresh interpreters, Airflow loaded."
    yield "  Not in it, on Airflow 3.3 and later: the calls of the task state store, in a worker some 10 ms each."
    rounds = [{name: _measured(name) for name in SUBJECTS} for _ in range(ROUNDS)]
    rows, ratios = [], {}
    for name in SUBJECTS:
        took = [one[name][1] for one in rounds]
        ratios[name] = Spread.of_ratios(took, [one[HTTP][1] for one in rounds])
        imported = Spread.of(one[name][0] for one in rounds).text(0)
        rows.append((name, imported, Spread.of(took).text(0), ratios[name].text(2), str(rounds[0][name][2])))
    yield table(("task", "import ms", "import and execution ms", "x HttpOperator", "requests"), rows)
    for name in LIMITED:
        ratio = ratios[name].median
        yield f"  Target, {name}: at most {MAX_RATIO:.2f} x HttpOperator: {ratio:.2f}, {verdict(ratio <= MAX_RATIO)}"


def _measured(name: str) -> tuple[float, float, int]:
    """Return the milliseconds of the import and of all, and how many requests were made."""
    live, arguments = SUBJECTS[name]
    with busy_sandbox.running(1, live=live, delay=DELAY) as sandbox:
        key, token = sandbox.connection["login"], sandbox.tokens[0]
        headers = {"X-Authorization": sandbox.connection["password"], "Content-Type": "application/json"}
        toggles = {"conn_type": "http", "host": sandbox.connection["host"], "extra": headers}
        connections = {"BATCH_DEFAULT": sandbox.connection, "TOGGLES": toggles}
        env = {f"AIRFLOW_CONN_{conn_id}": json.dumps(value) for conn_id, value in connections.items()}
        given = json.dumps([token, f"/1.1/{key}/campaigns/update/{token}", arguments])
        # -I: no PYTHON* variable, nothing from the present folder.
        command = [sys.executable, "-I", "-c", CHILD, given]
        output = subprocess.run(
            command, check=True, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True, timeout=60
        ).stdout
        imported, took = json.loads(output.splitlines()[-1])
        return imported, took, sandbox.counts().requests
