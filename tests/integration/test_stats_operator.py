"""What BatchGetCampaignStatsOperator does with one attempt, against the sandbox."""

from __future__ import annotations

import pytest
from task import attempt, seconds_until

from airflow_batch._airflow.compat import AirflowRescheduleException
from airflow_batch.exceptions import BatchNotFoundError, BatchServerError
from airflow_batch.operators.campaigns import BatchGetCampaignStatsOperator
from airflow_batch.sandbox import BatchSandbox, Fault

CAMPAIGN = {"name": "Summer sale", "live": False, "push_time": "2099-01-01T09:00:00", "messages": []}
ROW = {"date": "2026-11-20", "sent": 10, "sent_optins": 9, "direct_open": 2, "influenced_open": 1, "errors": 0}


def stats(campaign, **arguments):
    return BatchGetCampaignStatsOperator(task_id="stats", campaign=campaign, **arguments)


@pytest.fixture
def token(batch):
    token = batch.add_campaign(CAMPAIGN)
    batch.set_stats(token, [ROW])
    return token


def test_the_rows_come_with_their_open_rate(token):
    assert attempt(stats(token)) == {"campaign_token": token, "app": None, "detail": [{**ROW, "open_rate": 0.3}]}


def test_the_result_of_another_task_names_campaign_and_app(connect):
    with BatchSandbox(apps=("ios", "android")) as sandbox:
        connect(sandbox.connection("api_keys"))
        token = sandbox.add_campaign(CAMPAIGN, app="android")
        assert attempt(stats({"campaign_token": token, "app": "android"}))["app"] == "android"


def test_a_429_gives_the_slot_back(batch, token):
    batch.inject(Fault("answer", "stats", status=429, headers={"Retry-After": "30"}))
    with pytest.raises(AirflowRescheduleException) as caught:
        attempt(stats(token))
    assert seconds_until(caught.value.reschedule_date) >= 29.9


def test_a_server_error_goes_to_the_retries(batch, token):
    batch.inject(Fault("answer", "stats", status=500))
    with pytest.raises(BatchServerError):
        attempt(stats(token))


def test_an_unknown_campaign_fails_the_task(batch):
    with pytest.raises(BatchNotFoundError):
        attempt(stats("unknown"))
