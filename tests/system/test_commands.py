"""Commands of a new user: the program of ``make demo``, and Airflow's own command that tests a connection."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.request import urlopen

from private_airflow import PrivateAirflow

from airflow_batch.sandbox import BatchSandbox

CHECKOUT = Path(__file__).resolve().parents[2]
GUARD = CHECKOUT / "tests" / "guard"


def test_the_demo_prints_its_results_without_a_key_and_keeps_its_sandbox_until_ctrl_c(tmp_path):
    home = tmp_path / "demo"
    env = {**PrivateAirflow(tmp_path / "env").env, "PYTHONPATH": str(GUARD), "KEEP": "1"}
    command = [sys.executable, CHECKOUT / "dags_examples" / "demo.py", home]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        timer = threading.Timer(400, process.kill)
        timer.start()
        try:
            lines = []
            while not lines or "press Ctrl-C" not in lines[-1]:
                lines.append(next(process.stdout))
            (url,) = re.findall(r"http://127\.0\.0\.1:\d+", lines[-1])
            with urlopen(f"{url}/sandbox/state", timeout=10) as answer:
                state = json.load(answer)
            with urlopen(url, timeout=10) as answer:
                assert b"<title>Batch sandbox</title>" in answer.read()
            process.send_signal(signal.SIGINT)
            rest = process.stdout.read()
        finally:
            timer.cancel()
            process.kill()

    printed = "".join(lines)
    assert (process.returncode, rest.strip()) == (0, "Stopped."), printed + rest
    for text in (
        "Before",
        "live: False",
        "After",
        "live: True",
        "429",
        "Giving the worker slot back",
        "XCom of confirm",
    ):
        assert text in printed
    assert '"changed": true' in printed
    for text in (printed, (home / "airflow.log").read_text()):
        for key in ("sandbox-rest-key", "sandbox-app-live", "sandbox-app-dev"):
            assert key not in text
    assert [campaign["phase"] for campaign in state["campaigns"]] == ["live"]
    assert 429 in [record["status"] for record in state["requests"]]


def test_airflows_command_tests_a_connection_of_type_batch(tmp_path):
    private = PrivateAirflow(tmp_path, config={"core.test_connection": "Enabled"})
    private.env["PYTHONPATH"] += f":{GUARD}"
    with BatchSandbox() as sandbox:
        private.add_stored_connection("batch", sandbox.connection())
        tested = private.command("connections", "test", "batch")
        assert (tested.returncode, "Connection success" in tested.output) == (0, True), tested.output
        assert {record.operation for record in sandbox.requests} == {"list"}
