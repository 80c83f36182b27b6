"""One task of each operator for a single campaign: created, updated, switched on, read and deleted."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_batch.operators.campaigns import (
    BatchCreateCampaignOperator,
    BatchDeleteCampaignOperator,
    BatchGetCampaignStatsOperator,
    BatchSetCampaignLiveOperator,
    BatchUpdateCampaignOperator,
)
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor

with DAG("campaign_tasks", schedule=None, params={"name": "Summer sale", "push_time": "2099-06-01T09:00:00"}):
    # [START create]
    create = BatchCreateCampaignOperator(
        task_id="create",
        payload={
            "name": "{{ params.name }}",
            "live": False,
            "push_time": "{{ params.push_time }}",
            "messages": [{"language": "en", "body": "20 % off"}],
        },
    )
    # [END create]
    # [START update]
    update = BatchUpdateCampaignOperator(
        task_id="update",
        campaign=create.output,
        payload={"messages": [{"language": "en", "body": "30 % off"}]},
        expect_name="{{ params.name }}",
    )
    # [END update]
    # [START set_live]
    switch_on = BatchSetCampaignLiveOperator(
        task_id="switch_on", campaign=create.output, live=True, expect_name="{{ params.name }}"
    )
    # [END set_live]
    # [START live_sensor]
    confirm = BatchCampaignLiveSensor(task_id="confirm", campaign=create.output, live=True)
    # [END live_sensor]
    # [START stats]
    stats = BatchGetCampaignStatsOperator(task_id="stats", campaign=create.output)
    # [END stats]
    # [START delete]
    delete = BatchDeleteCampaignOperator(task_id="delete", campaign=create.output, expect_name="{{ params.name }}")
    # [END delete]
    create >> update >> switch_on >> confirm >> stats >> delete
