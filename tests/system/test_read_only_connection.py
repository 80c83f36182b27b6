"""A connection that never writes: every example DAG runs through it on a real Airflow, and nothing is written.

The examples are found by their files, so a new one is covered by itself: the tokens in it (32 letters, or ``TOKEN``)
are replaced by those of campaigns of the sandbox, its params ``campaign`` and ``name`` are given, and its questions to
a person are answered.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError

import pytest
from airflow.sdk import Connection
from private_airflow import PrivateAirflow, wait_until
from samples import MORNING_NEWS

from airflow_batch.hooks.batch import BatchHook
from airflow_batch.sandbox import BatchSandbox

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / "dags_examples"
QUESTION = CHECKOUT / "docs" / "examples" / "approve_campaign.py"
EXAMPLES = {file.name: file for file in (QUESTION, *sorted(FOLDER.glob("*.py")))}
del EXAMPLES["demo.py"]  # a script, not a DAG
NAME = "Summer sale"
TOKEN = re.compile(r'\b[0-9a-f]{32}\b|(?<=")TOKEN(?=")')
WRITES = ("create", "update", "delete")
STATES = (False, True)
"""Every example runs while all campaigns are off, and again while all are live: in one of both it has to write."""
FAILING = "stop_on_failure"
ENDED = "SELECT 1 FROM dag_run WHERE dag_id = ? AND run_id = ? AND state IN ('success', 'failed')"
QUESTIONS = (
    "SELECT ti.dag_id, ti.run_id, ti.task_id FROM hitl_detail AS question JOIN task_instance AS ti "
    "ON ti.id = question.ti_id WHERE question.responded_at IS NULL AND ti.run_id = ?"
)


@pytest.fixture(scope="module")
def sandbox():
    with BatchSandbox() as running:
        yield running


@pytest.fixture(scope="module")
def airflow(sandbox, tmp_path_factory):
    private = PrivateAirflow(
        tmp_path_factory.mktemp("airflow"),
        connections={"batch_default": {**sandbox.connection(), "extra": {"dry_run": True}}},
    )
    others = [file for kind in ("yaml", "json", "sql") for file in FOLDER.glob(f"*.{kind}")]
    for file in (*EXAMPLES.values(), *others):
        private.add_dag((file.name, in_folder(with_campaigns(file.read_text(), sandbox), tmp_path_factory)))
    with private.running(timeout=180):
        yield private


def with_campaigns(text, sandbox):
    """Return an example whose tokens are those of campaigns, named by the last name before each."""

    def new_token(found):
        names = re.findall(r"\bname\"?: \"?([^\",\n]+)", text[: found.start()])
        return sandbox.add_campaign({**MORNING_NEWS, "name": [NAME, *names][-1]})

    return TOKEN.sub(new_token, text)


def in_folder(text, tmp_path_factory):
    """Return an example whose exports go to a folder of the test; tests/s3 has those to S3."""
    folder = tmp_path_factory.mktemp("exports")
    return text.replace("s3://aws_default@marketing/batch", f"file://{folder}").replace("/tmp/batch", f"{folder}/batch")


@pytest.fixture(scope="module")
def runs(airflow, sandbox):
    """Run every example in both states; return (DAG, run) by the example's file, and how often the test has written."""
    campaign = sandbox.add_campaign({**MORNING_NEWS, "name": NAME})
    connection = Connection.from_json(json.dumps(sandbox.connection()), conn_id="writes")
    writer = BatchHook.from_connection(connection)
    started, written = {file: [] for file in EXAMPLES}, 0
    for live in STATES:
        for known in map(sandbox.campaign, sandbox.tokens()):
            writer.update_campaign(known["campaign_token"], {**MORNING_NEWS, "name": known["name"], "live": live})
            written += 1
        now = [
            (file, dag_id, airflow.trigger(dag_id, conf_of(airflow, dag_id, campaign), timeout=180))
            for file in EXAMPLES
            for dag_id in dags_of(airflow, file)
        ]
        for file, dag_id, run_id in now:
            wait_and_approve(airflow, dag_id, run_id)
            started[file].append((dag_id, run_id))
    return started, written


def dags_of(airflow, file):
    """Wait until Airflow has parsed the file; return the ids of its DAGs."""
    sql = "SELECT dag_id FROM dag WHERE fileloc = ?"
    wait_until(lambda: airflow.query(sql, str(airflow.dags / file)), 180)
    return [row["dag_id"] for row in airflow.query(sql, str(airflow.dags / file))]


def conf_of(airflow, dag_id, campaign):
    params = airflow.api("GET", f"/api/v2/dags/{dag_id}/details")["params"]
    given = {"campaign": campaign, "name": NAME} if "campaign" in params else {}
    return {name: value for name, value in given.items() if name in params}


def wait_and_approve(airflow, dag_id, run_id, timeout=240):
    """Wait for the end of a run. Answer its questions, as a person does: some seconds later."""
    deadline, asked = time.monotonic() + timeout, {}
    while not airflow.query(ENDED, dag_id, run_id):
        assert time.monotonic() < deadline, airflow.task_instances(dag_id, run_id)
        for question in airflow.query(QUESTIONS, run_id):
            since = asked.setdefault(question["task_id"], time.monotonic())
            if time.monotonic() - since > 8:
                task = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{question['task_id']}/-1/hitlDetails"
                with suppress(HTTPError):  # answered already
                    airflow.api("PATCH", task, {"chosen_options": ["Approve"], "params_input": {}})
        time.sleep(0.3)


def writes(sandbox):
    return [record for record in sandbox.requests if record.operation in WRITES]


@pytest.mark.parametrize(
    "file",
    EXAMPLES,
)
def test_no_task_of_an_example_fails_through_a_connection_that_never_writes(airflow, runs, file):
    started, _ = runs
    assert len(started[file]) >= len(STATES)
    for dag_id, run_id in started[file]:
        states = {row["task_id"]: row["state"] for row in airflow.task_instances(dag_id, run_id)}
        failed = [task for task, state in states.items() if state not in ("success", "skipped")]
        assert not failed, (states, [airflow.task_log(dag_id, run_id, task)[-3000:] for task in failed])


def test_no_example_writes_through_a_connection_that_never_writes(airflow, runs, sandbox):
    _, written = runs
    assert len(writes(sandbox)) == written
    logs = "".join(text for _, text in airflow.all_logs())
    # It was the connection that kept them from writing.
    assert "Dry run, because connection 'batch_default' has dry_run." in logs
    assert "BatchReadOnlyError" not in logs


def test_a_stop_through_a_connection_that_never_writes_is_a_warning_and_no_request(airflow, runs, sandbox):
    before = len(writes(sandbox))
    token = sandbox.add_campaign({**MORNING_NEWS, "live": True})
    run = airflow.trigger(FAILING, {"campaign": token, "offers": []})
    assert airflow.wait_for_run(FAILING, run, timeout=180) == "failed"
    states = {row["task_id"]: row["state"] for row in airflow.task_instances(FAILING, run)}
    assert (states["check_offers"], states["stop"]) == ("failed", "success")
    for task in ("check_offers", "stop"):  # the callback of the one, and the other itself
        (line,) = [line for line in airflow.task_log(FAILING, run, task).splitlines() if "is NOT stopped" in line]
        assert '"level":"warning"' in line.replace(" ", "")
        assert "because connection 'batch_default' has dry_run" in line
    assert (len(writes(sandbox)), sandbox.campaign(token)["live"]) == (before, True)
