"""``python -m airflow_batch.sandbox`` with several apps."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager

import pytest
import requests

BOTH = ("--app", "ios", "--app", "android")


@contextmanager
def running(*arguments):
    """Start the command and give its ready line."""
    command = [sys.executable, "-m", "airflow_batch.sandbox", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


def tokens(ready, app):
    url = f"{ready['url']}/1.1/{ready['app_keys'][app]['live']}/campaigns/list"
    answer = requests.get(url, headers={"X-Authorization": ready["rest_key"]}, timeout=5)
    return [item["campaign_token"] for item in answer.json()]


@pytest.fixture
def campaign(tmp_path, definition):
    path = tmp_path / "definition.json"
    path.write_text(json.dumps(definition))
    return path


def test_the_connection_of_several_apps_has_the_key_of_each():
    with running(*BOTH) as ready:
        assert ready["connection"]["extra"] == {
            "api_keys": {"ios": "sandbox-ios-live", "android": "sandbox-android-live"}
        }
        assert "login" not in ready["connection"]


def test_the_connection_of_one_app_has_its_key_as_login():
    with running("--app", "ios") as ready:
        assert ready["connection"]["login"] == "sandbox-ios-live"


def test_a_campaign_may_name_its_app(campaign):
    with running(*BOTH, "--campaign", campaign, "--campaign", f"android={campaign}") as ready:
        assert [tokens(ready, "ios"), tokens(ready, "android")] == [[token] for token in ready["campaigns"]]


def test_a_file_whose_name_holds_an_equals_sign_is_a_file(campaign):
    odd = campaign.rename(campaign.with_name("a=b.json"))
    with running(*BOTH, "--campaign", odd) as ready:
        assert tokens(ready, "ios") == ready["campaigns"]
