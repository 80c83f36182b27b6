"""The how-tos of docs/alerts.md on a real Airflow: a deadline stops a campaign, a person hears of a failed stop."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import pytest
from loopback_mail import mail_server
from private_airflow import PrivateAirflow, wait_until
from samples import MORNING_NEWS

from airflow_batch._airflow import compat
from airflow_batch.sandbox import BatchSandbox, Fault

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
TOKEN = "545fce15f8b04d5b9b1d5c8e3a7c9d20"
WORK = '"""Let the data be ready."""'
BODIES = {"late": "import time; time.sleep(40)", "failed": 'raise ValueError("no data")', "ready": WORK}
HAS_SLACK = find_spec("airflow.providers.slack") is not None
CALLBACKS = (
    "SELECT callback.state FROM callback JOIN deadline ON deadline.callback_id = callback.id "
    "JOIN dag_run ON dag_run.id = deadline.dagrun_id WHERE dag_run.run_id = ?"
)

needs_deadlines = pytest.mark.skipif(
    not compat.HAS_RETRY_POLICY, reason="deadlines run a SyncCallback under a supervisor from Airflow 3.3 on"
)


@pytest.fixture(scope="module")
def sandbox():
    with BatchSandbox() as running:
        yield running


@pytest.fixture(scope="module")
def mails():
    with mail_server() as server:
        yield server


@pytest.fixture(scope="module")
def posts():
    """What is posted to a webhook."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    received = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        received_at = f"http://127.0.0.1:{server.server_address[1]}"
        yield received_at, received
        server.shutdown()


@pytest.fixture(scope="module")
def campaigns(sandbox):
    return {name: sandbox.add_campaign({**MORNING_NEWS, "live": True}) for name in (*BODIES, "stop_failed")}


@pytest.fixture(scope="module")
def airflow(sandbox, mails, posts, campaigns, tmp_path_factory):
    dags = [EXAMPLES / "notify_a_person.py", *([EXAMPLES / "slack.py"] if HAS_SLACK else [])]
    if compat.HAS_RETRY_POLICY:
        source = (EXAMPLES / "deadline.py").read_text()
        for name, body in BODIES.items():
            minutes = "minutes=30" if name == "ready" else "seconds=10"
            changed = source.replace(TOKEN, campaigns[name]).replace('"offers"', f'"offers_{name}"')
            changed = changed.replace(WORK, body).replace("minutes=30", minutes)
            dags.append((f"offers_{name}.py", changed))
    slack = {"conn_type": "slackwebhook", "host": posts[0], "password": quote("T/B/X", safe="")}
    private = PrivateAirflow(
        tmp_path_factory.mktemp("airflow"),
        dags=dags,
        connections={
            "batch_default": sandbox.connection(),
            "smtp_default": mails.connection(),
            "slack_on_call": slack,
        },
    )
    with private.running(timeout=180):
        yield private


@pytest.fixture(scope="module")
def runs(airflow):
    """Start a run of each DAG with a deadline."""
    now = datetime.now(UTC)
    return {name: airflow.trigger(f"offers_{name}", logical_date=now, timeout=180) for name in BODIES}


def about(mails, token):
    return [mail for mail in mails.mails if token in f"{mail['Subject']} {text_of(mail)}"]


def text_of(mail):
    return mail.get_body(("html",)).get_content()


@needs_deadlines
@pytest.mark.parametrize("name", ["late", "failed"])
def test_a_campaign_is_stopped_at_the_deadline_while_its_data_is_not_ready_and_a_person_is_notified(
    airflow, sandbox, mails, campaigns, runs, name
):
    def ended():
        states = [row["state"] for row in airflow.query(CALLBACKS, runs[name])]
        return len(states) == 2 and set(states) <= {"success", "failed"} and states

    wait_until(ended, 180)
    assert ended() == ["success", "success"]
    assert sandbox.campaign(campaigns[name])["live"] is False
    (mail,) = about(mails, campaigns[name])
    assert (mail["To"], mail["Subject"]) == ("on-call@example.com", "The offers are late: is the push of 09:00 off?")


@needs_deadlines
def test_a_campaign_stays_live_if_its_data_is_ready_in_time(airflow, sandbox, mails, campaigns, runs):
    assert airflow.wait_for_run("offers_ready", runs["ready"], timeout=180) == "success"
    # The deadlines of the run are gone.
    wait_until(lambda: not airflow.query(CALLBACKS, runs["ready"]), 60)
    assert sandbox.campaign(campaigns["ready"])["live"] is True
    assert about(mails, campaigns["ready"]) == []


@pytest.fixture(scope="module")
def refused(sandbox, campaigns):
    """Batch refuses every update of the campaign, for good."""
    sandbox.inject(Fault("answer", "update", status=404, token=campaigns["stop_failed"], times=None))
    return campaigns["stop_failed"]


def test_a_person_is_notified_by_mail_that_a_stop_has_failed(airflow, sandbox, mails, refused):
    run = airflow.trigger("notify_a_person", {"campaign": refused}, timeout=180)
    assert airflow.wait_for_run("notify_a_person", run, timeout=180) == "failed"
    wait_until(lambda: about(mails, refused), 60)
    (mail,) = about(mails, refused)
    text = text_of(mail)
    assert mail["Subject"] == f"NOT stopped: campaign {refused}"
    assert "Task stop of notify_a_person failed" in text
    assert "Batch refused the update" in text
    assert f"/dags/notify_a_person/runs/{run}/tasks/stop" in text
    assert sandbox.campaign(refused)["live"] is True


@pytest.mark.skipif(not HAS_SLACK, reason="apache-airflow-providers-slack is not installed")
def test_a_channel_is_notified_that_a_stop_has_failed(airflow, posts, refused):
    run = airflow.trigger("slack", {"campaign": refused}, timeout=180)
    assert airflow.wait_for_run("slack", run, timeout=180) == "failed"
    wait_until(lambda: posts[1], 60)
    (post,) = posts[1]
    assert f"Campaign {refused} may still be live: stop of slack failed." in post["text"]
    assert "Batch refused the update" in post["text"]
    assert f"/dags/slack/runs/{run}/tasks/stop" in post["text"]
