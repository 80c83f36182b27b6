"""The shell commands of the documents start the sandbox, with the definition that the documents show."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

CHECKOUT = Path(__file__).resolve().parents[3]
PAGES = ("docs/testing-your-dags.md", "airflow_batch/sandbox/README.md")


def commands(page, start):
    """Return the commands of a page that begin so, in words."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (CHECKOUT / page).read_text(), re.M | re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", "").splitlines()]
    return [words for line in lines if (words := shlex.split(line))[: len(start)] == start]


@contextmanager
def started(page, folder):
    """Run the page's command in a folder that holds ``definition.json`` and give its ready line."""
    (command,) = commands(page, ["python", "-m", "airflow_batch.sandbox"])
    (folder / "definition.json").write_text((CHECKOUT / "docs/examples/definition.json").read_text())
    # Any port instead of a fixed one, which may be taken.
    command = [sys.executable, *command[1:], "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


@pytest.mark.parametrize("page", PAGES)
def test_the_command_starts_a_sandbox_with_the_documented_campaign(page, tmp_path):
    with started(page, tmp_path) as ready:
        app = next(iter(ready["app_keys"]))
        (token,) = ready["campaigns"]
        url = f"{ready['url']}/1.1/{ready['app_keys'][app]['live']}/campaigns/{token}"
        shown = requests.get(url, headers={"X-Authorization": ready["rest_key"]}, timeout=5).json()
    definition = json.loads((tmp_path / "definition.json").read_text())
    assert {name: shown[name] for name in definition} == definition


def test_the_command_adds_a_fault_to_a_running_sandbox(tmp_path):
    (page,) = [page for page in PAGES if commands(page, ["curl"])]
    ((_, _, header, _, body, url),) = commands(page, ["curl"])
    with started(page, tmp_path) as ready:
        headers = dict([header.split(": ")])
        answer = requests.post(f"{ready['url']}{urlsplit(url).path}", data=body, headers=headers, timeout=5)
    assert answer.json() == {"added": 1}
