"""What a new user types: make demo's program, and Airflow's own commands about the provider."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.request import urlopen

import pytest
from private_airflow import PrivateAirflow

from airflow_batch.sandbox import BatchSandbox

CHECKOUT = Path(__file__).resolve().parents[2]
GUARD = CHECKOUT / "tests" / "guard"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The home of the demo, and how to run it: what `make demo` does, but for the environment."""
    home = tmp_path_factory.mktemp("demo")
    env = {**PrivateAirflow(tmp_path_factory.mktemp("env")).env, "PYTHONPATH": str(GUARD)}
    return home, {"args": [sys.executable, CHECKOUT / "dags_examples" / "demo.py", home], "env": env}


def test_the_demo_shows_before_and_after_the_429_and_the_result_and_no_key(demo):
    home, command = demo
    demo = subprocess.run(
        **command,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    for shown in (
        "Before",
        "live: False",
        "After",
        "live: True",
        "429",
        "Giving the worker slot back",
        "XCom of confirm",
    ):
        assert shown in demo.stdout
    assert '"changed": true' in demo.stdout
    for text in (demo.stdout, demo.stderr, (home / "airflow.log").read_text()):
        for key in ("sandbox-rest-key", "sandbox-app-live", "sandbox-app-dev"):
            assert key not in text


def test_the_demo_keeps_its_sandbox_as_it_is_until_ctrl_c_if_asked_to(demo):
    _, command = demo
    command["env"] = {**command["env"], "KEEP": "1"}
    with subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        timer = threading.Timer(400, process.kill)
        timer.start()
        try:
            kept = next(line for line in process.stdout if "press Ctrl-C" in line)
            (url,) = re.findall(r"http://127\.0\.0\.1:\d+", kept)
            with urlopen(f"{url}/sandbox/state", timeout=10) as answer:
                state = json.load(answer)
            with urlopen(url, timeout=10) as answer:
                assert b"<title>Batch sandbox</title>" in answer.read()
            process.send_signal(signal.SIGINT)
            rest = process.stdout.read()
        finally:
            timer.cancel()
            process.kill()

    assert [campaign["phase"] for campaign in state["campaigns"]] == ["live"]
    assert 429 in [record["status"] for record in state["requests"]]
    assert rest.strip() == "Stopped."
    assert process.returncode == 0


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    private = PrivateAirflow(tmp_path_factory.mktemp("airflow"), config={"core.test_connection": "Enabled"})
    private.env["PYTHONPATH"] += f":{GUARD}"
    private.migrate()
    return private


def succeed(result):
    assert result.returncode == 0, result.output
    return result.output


def test_airflow_lists_the_provider_and_its_connection_type(airflow):
    assert "airflow-provider-batch" in succeed(airflow.command("providers", "list"))
    assert "airflow_batch.hooks.batch.BatchHook" in succeed(airflow.command("providers", "hooks"))


def test_a_connection_of_type_batch_can_be_added_and_tested(airflow):
    with BatchSandbox() as sandbox:
        for conn_id, key in (("right", sandbox.rest_key), ("wrong", "sandbox-wrong")):
            fields = ["--conn-password", key, "--conn-login", sandbox.app_key(), "--conn-host", sandbox.url]
            succeed(airflow.command("connections", "add", conn_id, "--conn-type", "batch", *fields))
        assert "Connection success" in succeed(airflow.command("connections", "test", "right"))
        assert "Wrong REST API key" in airflow.command("connections", "test", "wrong").output
        assert {record.operation for record in sandbox.requests} == {"list"}
