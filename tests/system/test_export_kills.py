"""An export that is killed with SIGKILL at eleven moments: its files are whole and right after the next attempt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from airflow_batch.sandbox import BatchSandbox

HERE = Path(__file__).parent
CAMPAIGNS = 23
MOMENTS = {
    "while the destination is tried": ["copy", 1],
    "before the first request": ["request", 1],
    "after the list": ["request", 2],
    "before there is a part": ["request", 7],
    "while the first part is copied": ["copy", 2],
    "while the second part is copied": ["copy", 3],
    "before the second part is renamed": ["rename", 3],
    "while the file of the campaigns is copied": ["copy", 7],
    "before the file of the campaigns is renamed": ["rename", 7],
    "between the files": ["copy", 8],
    "before the parts are removed": ["remove", 1],
}
"""When the first attempt is killed. There are a file that tries the destination, five parts of five
campaigns, then three files."""
KEPT = {
    "while the second part is copied": 5,
    "before the second part is renamed": 5,
    "while the file of the campaigns is copied": CAMPAIGNS,
    "before the file of the campaigns is renamed": CAMPAIGNS,
    "between the files": CAMPAIGNS,
    "before the parts are removed": CAMPAIGNS,
}
"""How many campaigns the next attempt need not read again."""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of each case, its exit statuses and its requests, and the campaigns."""
    with BatchSandbox() as sandbox:
        for index in range(CAMPAIGNS):
            sandbox.add_campaign(
                {
                    "name": f"Été {index}",
                    "live": True,
                    "push_time": "now",
                    "messages": [{"language": "en", "body": "x"}],
                }
            )
        connection = sandbox.connection()
        connection["extra"] = {"requests_per_second": 1000.0}
        folder = tmp_path_factory.mktemp("kills")
        cases = {str(folder / name.replace(" ", "_")): moment for name, moment in MOMENTS.items()}
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE.parent), str(HERE.parent / "guard")]),
            "AIRFLOW_CONN_BATCH_DEFAULT": json.dumps(connection),
        }
        output = subprocess.run(
            [sys.executable, str(HERE / "export_attempts.py")],
            check=True,
            env=env,
            input=json.dumps(cases),
            stdout=subprocess.PIPE,
            text=True,
            timeout=300,
        ).stdout
        ended = json.loads(output.splitlines()[-1])
        yield {name: (Path(path), ended[path]) for name, path in zip(MOMENTS, cases, strict=True)}, sandbox.tokens()


every = pytest.mark.parametrize("moment", MOMENTS)


@every
def test_the_first_attempt_was_killed_and_the_next_one_succeeded(killed, moment):
    cases, _ = killed
    assert cases[moment][1] == [-signal.SIGKILL, 0]


@every
def test_every_campaign_is_in_each_file_once(killed, moment):
    cases, tokens = killed
    folder, _ = cases[moment]
    result = json.loads((folder / "result.json").read_text())
    for url in result["files"].values():
        rows = [json.loads(line) for line in Path(url.removeprefix("file://")).read_text().splitlines()]
        assert Counter(row["campaign_token"] for row in rows) == Counter(tokens)


@every
def test_nothing_but_the_files_is_left(killed, moment):
    cases, _ = killed
    folder, _ = cases[moment]
    found = sorted(str(path.relative_to(folder)) for path in (folder / "batch").rglob("*") if path.is_file())
    assert found == [
        f"batch/{table}/{table}.dag.task.20261127T000000Z_20261128T000000Z.jsonl"
        for table in ("campaigns", "messages", "stats")
    ]


@every
def test_the_next_attempt_does_not_read_again_what_is_in_a_part(killed, moment):
    cases, _ = killed
    result = json.loads((cases[moment][0] / "result.json").read_text())
    left = CAMPAIGNS - KEPT.get(moment, 0)
    lists = 2 if left else 1
    assert result["requests"] == lists + 2 * left
