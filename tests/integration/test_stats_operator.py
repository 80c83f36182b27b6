"""What BatchGetCampaignStatsOperator does with one attempt, against the sandbox."""

from __future__ import annotations

import pytest
from task import attempt, seconds_until

from airflow_batch._airflow.compat import AirflowRescheduleException
from airflow_batch.exceptions import BatchNotFoundError, BatchServerError
from airflow_batch.operators.campaigns import BatchGetCampaignStatsOperator
from airflow_batch.sandbox import Fault

CAMPAIGN = {"name": "Summer sale", "live": False, "push_time": "2099-01-01T09:00:00", "messages": []}
ROW = {"date": "2026-11-20", "sent": 10, "sent_optins": 9, "direct_open": 2, "influenced_open": 1, "errors": 0}


def stats(campaign, **arguments):
    return BatchGetCampaignStatsOperator(task_id="stats", campaign=campaign, **arguments)


@pytest.fixture
def token(batch):
    token = batch.add_campaign(CAMPAIGN)
    batch.set_stats(token, [ROW])
    return token


def test_the_statistics_have_a_row_for_each_date_with_its_open_rate(token):
    assert attempt(stats(token)) == {"campaign_token": token, "app": None, "detail": [{**ROW, "open_rate": 0.3}]}


def test_a_429_reschedules_a_stats_operator(batch, token):
    batch.inject(Fault("answer", "stats", status=429, headers={"Retry-After": "30"}))
    with pytest.raises(AirflowRescheduleException) as caught:
        attempt(stats(token))
    assert seconds_until(caught.value.reschedule_date) >= 29.9


def test_a_500_of_a_stats_operator_is_left_to_airflows_retries(batch, token):
    batch.inject(Fault("answer", "stats", status=500))
    with pytest.raises(BatchServerError):
        attempt(stats(token))


def test_a_stats_operator_of_an_unknown_campaign_fails(batch):
    with pytest.raises(BatchNotFoundError):
        attempt(stats("unknown"))
