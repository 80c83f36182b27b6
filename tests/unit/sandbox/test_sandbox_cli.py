"""`python -m airflow_batch.sandbox`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

import airflow_batch.sandbox

ROOT = Path(airflow_batch.sandbox.__file__).parents[2]
COMMAND = [sys.executable, "-m", "airflow_batch.sandbox"]


@contextmanager
def running(*arguments):
    """Start the command and return its process and the JSON of its first line."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate()


def listing(ready, app="app"):
    url = f"{ready['url']}/1.1/{ready['app_keys'][app]['live']}/campaigns/list"
    return requests.get(url, headers={"X-Authorization": ready["rest_key"]}, timeout=5)


def test_the_command_prints_how_to_reach_the_sandbox_and_sigterm_ends_it_cleanly(tmp_path, definition):
    campaign = tmp_path / "definition.json"
    campaign.write_text(json.dumps(definition))
    with running("--port", 0, "--app", "ios", "--app", "android", "--campaign", campaign) as (process, ready):
        (item,) = listing(ready, "ios").json()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=5)

    assert ready["campaigns"] == [item["campaign_token"]]
    assert ready["app_keys"]["android"] == {"live": "sandbox-android-live", "dev": "sandbox-android-dev"}
    assert ready["connection"]["host"] == ready["url"]
    assert process.returncode == 0
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "list ios/live" in err
    assert "-> 200" in err


def test_sigint_ends_the_command_cleanly_with_a_silent_connection():
    with running("--fault", "silence") as (process, ready):
        with pytest.raises(requests.exceptions.ReadTimeout):
            requests.get(
                f"{ready['url']}/1.1/{ready['app_keys']['app']['live']}/campaigns/list",
                headers={"X-Authorization": ready["rest_key"]},
                timeout=0.1,
            )
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=5)

    assert process.returncode == 0
    assert "dropped [silence]" in err
    assert "Traceback" not in err


def test_the_command_has_options_for_throttle_faults_and_log(tmp_path):
    log, script = tmp_path / "log.jsonl", tmp_path / "faults.json"
    script.write_text('{"script": ["list:500"]}')
    options = ("--rate", 0.001, "--burst", 1, "--retry-after", 7, "--faults", script, "--fault", "list:503;x-a=b")
    with running(*options, "--log", log) as (process, ready):
        answers = [listing(ready) for _ in range(4)]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=5)

    assert [answer.status_code for answer in answers] == [500, 503, 200, 429]
    assert answers[1].headers["x-a"] == "b"
    assert answers[3].headers["Retry-After"] == "7"
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert [record["status"] for record in logged] == [500, 503, 200, 429]


def test_two_runs_of_the_command_with_the_same_seed_and_clock_write_the_same_log(tmp_path, definition):
    faults, campaign = tmp_path / "faults.json", tmp_path / "definition.json"
    faults.write_text('{"script": ["list:503"], "chances": {"update:500;applied=true": 0.3, "html": 0.2}}')
    campaign.write_text(json.dumps(definition))
    options = ("--seed", 7, "--clock", "2030-01-01T12:00:00Z", "--faults", faults, "--campaign", campaign)
    logs = []
    for name in ("first", "second"):
        log = tmp_path / name
        with running(*options, "--rate", 1, "--burst", 12, "--retry-after", "computed", "--log", log) as (
            process,
            ready,
        ):
            url = f"{ready['url']}/1.1/{ready['app_keys']['app']['live']}/campaigns"
            for number in range(20):
                listing(ready)
                requests.post(
                    f"{url}/update/{ready['campaigns'][0]}",
                    json={"live": number % 2 == 0},
                    headers={"X-Authorization": ready["rest_key"]},
                    timeout=5,
                )
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=5)
        logs.append(log.read_bytes())

    assert logs[0] == logs[1]
    records = [json.loads(line) for line in logs[0].splitlines()]
    assert len(records) == 40
    assert {record["status"] for record in records} >= {200, 429, 500, 502, 503}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "loopback"),
        (["--fault", "explode"], "kind is one of"),
        (["--campaign", "missing.json"], "missing.json"),
        (["--rate", "0"], "rate"),
        (["--clock", "2030-01-01T12:00:00"], "zone"),
        (["--clock", "noon"], "clock"),
    ],
)
def test_the_command_explains_a_wrong_argument(arguments, message):
    result = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30, cwd=ROOT)

    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
