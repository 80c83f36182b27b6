"""The code of the sandbox's README."""

from __future__ import annotations

import json
import os

import requests

from airflow_batch.sandbox import BatchSandbox, Fault


def switch_on(token):
    """Stand in for the DAG: repeat the request until it succeeds."""
    connection = json.loads(os.environ["AIRFLOW_CONN_BATCH_DEFAULT"])
    for _ in range(2):
        try:
            requests.post(
                f"{connection['host']}/1.1/{connection['login']}/campaigns/update/{token}",
                json={"live": True},
                headers={"X-Authorization": connection["password"]},
                timeout=10,
            ).raise_for_status()
        except requests.ConnectionError:
            continue
        return


def test_a_test_can_use_the_sandbox_as_the_readme_shows(monkeypatch):
    # [START in_a_test]
    with BatchSandbox() as sandbox:
        monkeypatch.setenv("AIRFLOW_CONN_BATCH_DEFAULT", json.dumps(sandbox.connection()))
        token = sandbox.add_campaign({"name": "Summer sale", "live": False, "push_time": "2030-06-01T09:00:00"})
        sandbox.inject(Fault("reset_after", "update"))  # applied, but the answer is lost
        switch_on(token)
        assert sandbox.campaign(token)["live"] is True
        assert [record.status for record in sandbox.requests] == [None, 200]
    # [END in_a_test]


def test_stats_can_be_set_as_the_readme_shows(make_sandbox):
    sandbox = make_sandbox()
    token = sandbox.add_campaign({"name": "Summer sale", "live": True, "push_time": "2030-06-01T09:00:00"})
    # [START set_stats]
    sandbox.set_stats(
        token,
        [
            {
                "date": "2030-06-01",
                "sent": 754,
                "sent_optins": 521,
                "direct_open": 102,
                "influenced_open": 98,
                "reengaged": 12,
                "errors": 0,
            }
        ],
    )
    # [END set_stats]
    connection = sandbox.connection()
    answer = requests.get(
        f"{sandbox.url}/1.1/{connection['login']}/campaigns/stats/{token}",
        headers={"X-Authorization": connection["password"]},
        timeout=10,
    ).json()
    assert answer["detail"][0]["sent"] == 754
