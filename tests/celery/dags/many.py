"""Many campaigns at once, through a pool: so many of these tasks run at a time, however many workers there are."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from airflow_batch.operators.campaigns import BatchCreateCampaignOperator, BatchSetCampaignLiveOperator

# [START pool]
with DAG("toggle_many", schedule=None, params={"campaigns": [], "live": True}):

    @task
    def campaigns(params: Any = None) -> list[str]:
        return list(params["campaigns"])

    BatchSetCampaignLiveOperator.partial(
        task_id="toggle", live="{{ params.live }}", batch_conn_id="many", pool="batch"
    ).expand(campaign=campaigns())
# [END pool]

with DAG("create_many", schedule=None, params={"payloads": []}):

    @task
    def payloads(params: Any = None) -> list[dict[str, Any]]:
        return list(params["payloads"])

    BatchCreateCampaignOperator.partial(task_id="create", batch_conn_id="created").expand(payload=payloads())
