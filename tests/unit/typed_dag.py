"""A DAG file for mypy, which ``test_arguments.py`` runs. Each line that ends in ``# wrong`` must be an error, no other.

Nothing here is executed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, task

from airflow_batch.calendars import LiveWindows
from airflow_batch.notifications.campaigns import SetCampaignLiveNotifier
from airflow_batch.operators.campaigns import (
    BatchCreateCampaignOperator,
    BatchDeleteCampaignOperator,
    BatchGetCampaignStatsOperator,
    BatchSetCampaignLiveOperator,
    BatchUpdateCampaignOperator,
)
from airflow_batch.operators.sync import BatchSyncCampaignsOperator
from airflow_batch.results import CampaignResult
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor, BatchCampaignStatsSensor
from airflow_batch.windows import CampaignWindow

window = CampaignWindow(on="0 9 * * *", off="0 18 * * *", timezone="UTC")


@task
def campaigns() -> list[dict[str, Any]]:
    return []


def correct(result: CampaignResult) -> None:
    create = BatchCreateCampaignOperator(task_id="t", payload="campaign.json", dry_run=True, retries=0)
    BatchCreateCampaignOperator(task_id="t", payload={"name": "Sale", "live": False}, max_lateness=None, app="ios")
    BatchSetCampaignLiveOperator(task_id="t", campaign="abc", live=True, throttle="retry", max_wait=60)
    BatchSetCampaignLiveOperator(task_id="t", campaign="{{ params.campaign }}", live="{{ params.live }}", read="never")
    BatchSetCampaignLiveOperator(task_id="t", campaign=result, live=window, max_lateness=timedelta(hours=2))
    BatchSetCampaignLiveOperator(task_id="t", campaign=create.output, live=create.output, definition={"a": 1})
    BatchUpdateCampaignOperator(task_id="t", campaign=create.output, payload={"labels": ["A"]}, expect_name="Sale")
    BatchUpdateCampaignOperator(task_id="t", campaign="abc", payload=campaigns(), trigger_rule="one_failed")
    BatchDeleteCampaignOperator(task_id="t", campaign={"campaign_token": "abc"}, missing_ok=True)
    BatchGetCampaignStatsOperator(task_id="t", campaign=create.output, batch_conn_id="other")
    BatchSyncCampaignsOperator(task_id="t", campaigns=campaigns(), max_changes=5, at="2026-07-01T09:00+02:00")
    BatchSyncCampaignsOperator(task_id="t", campaigns=[{"campaign": "abc", "live": window}], max_failures=1)
    BatchSyncCampaignsOperator(task_id="t", calendar="calendar.yaml", at=datetime(2026, 7, 1, tzinfo=UTC))
    BatchCampaignLiveSensor(task_id="t", campaign=["abc", result], live=False, mode="poke", deferrable=True)
    BatchCampaignLiveSensor(task_id="t", campaign=create.output, live="true", poke_interval=timedelta(seconds=5))
    BatchCampaignStatsSensor(task_id="t", campaign="abc", min_sent="{{ params.sent }}", timeout=60, soft_fail=True)
    SetCampaignLiveNotifier(campaign="{{ params.campaign }}", live=window, read="never", app="ios")
    toggle = BatchSetCampaignLiveOperator.partial(task_id="t", live=window).expand(campaign=["abc"])
    BatchCampaignLiveSensor(task_id="t", campaign=toggle.output, live=window)


def wrong() -> None:
    with DAG("wrong", schedule=None):
        BatchSetCampaignLiveOperator(task_id="t", campaign="abc", live=3)  # wrong
        BatchSetCampaignLiveOperator(task_id="t", campaign="abc", live=LiveWindows((window,)))  # wrong
        BatchSetCampaignLiveOperator(task_id="t", campaign=5, live=True)  # wrong
        BatchSetCampaignLiveOperator(task_id="t", campaign=None, live=True)  # wrong
        BatchSetCampaignLiveOperator(task_id="t", campaign="abc", live=None)  # wrong
        BatchSetCampaignLiveOperator(task_id="t", campaign="abc", live=True, throttle="never")  # wrong
        BatchSetCampaignLiveOperator(task_id="t", campaign="abc", live=True, read="always")  # wrong
        BatchSetCampaignLiveOperator(task_id="t", campaign="abc", live=True, max_lateness="soon")  # wrong
        BatchSetCampaignLiveOperator(task_id="t", campaign="abc", live=True, max_wait="soon")  # wrong
        BatchSetCampaignLiveOperator(task_id="t", campaign="abc", live=True, definition=7)  # wrong
        BatchSetCampaignLiveOperator(task_id="t", campaign="abc")  # wrong
        BatchUpdateCampaignOperator(task_id="t", campaign="abc", payload=7)  # wrong
        BatchUpdateCampaignOperator(task_id="t", campaign="abc", payload={}, dry_run="yes")  # wrong
        BatchUpdateCampaignOperator(task_id="t", campain="abc", payload={})  # wrong
        BatchCreateCampaignOperator(task_id="t", payload=["a"])  # wrong
        BatchDeleteCampaignOperator(task_id="t", campaign="abc", expect_name=5)  # wrong
        BatchGetCampaignStatsOperator(task_id="t", campaign="abc", app=5)  # wrong
        BatchSyncCampaignsOperator(task_id="t", campaigns=[5])  # wrong
        BatchSyncCampaignsOperator(task_id="t", campaigns={"campaign": "abc"})  # wrong
        BatchSyncCampaignsOperator(task_id="t", calendar="calendar.yaml", max_changes="few")  # wrong
        BatchCampaignLiveSensor(task_id="t", campaign="abc", live=3)  # wrong
        BatchCampaignLiveSensor(task_id="t", campaign=[5])  # wrong
        BatchCampaignLiveSensor(task_id="t", campaign="abc", mode="sleep")  # wrong
        BatchCampaignLiveSensor(task_id="t", campaign="abc", poke_interval="30 s")  # wrong
        BatchCampaignStatsSensor(task_id="t", campaign="abc", min_sent=None)  # wrong
        SetCampaignLiveNotifier(campaign=5)  # wrong
        SetCampaignLiveNotifier(campaign="abc", live=3)  # wrong
        SetCampaignLiveNotifier(campaign="abc", liv=False)  # wrong
