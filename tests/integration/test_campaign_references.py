"""Every operator, sensor and notifier takes the result of another task as its campaign, and the app with it."""

from __future__ import annotations

import pytest
from samples import MORNING_NEWS
from task import Attempt, attempt

from airflow_batch.notifications.campaigns import SetCampaignLiveNotifier
from airflow_batch.operators.campaigns import (
    BatchCreateCampaignOperator,
    BatchDeleteCampaignOperator,
    BatchGetCampaignStatsOperator,
    BatchSetCampaignLiveOperator,
    BatchUpdateCampaignOperator,
)
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor, BatchCampaignStatsSensor

TASKS = {
    BatchSetCampaignLiveOperator: {"live": True},
    BatchUpdateCampaignOperator: {"payload": {"live": True}},
    BatchDeleteCampaignOperator: {},
    BatchGetCampaignStatsOperator: {},
    BatchCampaignLiveSensor: {"live": False},
    BatchCampaignStatsSensor: {},
}
EACH_TASK = pytest.mark.parametrize(
    ("kind", "arguments"), TASKS.items(), ids=lambda value: getattr(value, "__name__", "")
)
SENT = [{"date": "2026-11-20", "sent": 10}]


@EACH_TASK
def test_the_result_of_another_task_names_campaign_and_app(two_apps, kind, arguments):
    token = two_apps.add_campaign(MORNING_NEWS, app="android")
    two_apps.set_stats(token, SENT)
    result = attempt(kind(task_id="task", campaign={"campaign_token": token, "app": "android"}, **arguments))
    assert (result["campaign_token"], result["app"]) == (token, "android")
    assert {record.app for record in two_apps.requests} == {"android"}


@EACH_TASK
def test_the_app_of_the_task_has_precedence_over_that_of_the_given_result(two_apps, kind, arguments):
    token = two_apps.add_campaign(MORNING_NEWS, app="ios")
    two_apps.set_stats(token, SENT)
    given = {"campaign_token": token, "app": "android"}
    assert attempt(kind(task_id="task", campaign=given, app="ios", **arguments))["app"] == "ios"


def test_a_notifier_takes_campaign_and_app_from_the_result_of_another_task(two_apps):
    token = two_apps.add_campaign({**MORNING_NEWS, "live": True}, app="android")
    SetCampaignLiveNotifier(campaign={"campaign_token": token, "app": "android"})({"ti": Attempt()})
    assert two_apps.campaign(token)["live"] is False


def test_a_creation_for_an_app_has_it_in_its_result(two_apps):
    task = BatchCreateCampaignOperator(task_id="create", payload=MORNING_NEWS, app="android")
    assert attempt(task)["app"] == "android"
    assert (len(two_apps.tokens("android")), two_apps.tokens("ios")) == (1, ())
