"""A task of your own that uses the hook, with the provider's patience."""

from __future__ import annotations

from typing import Any

# [START hook]
from airflow.sdk import DAG, task

from airflow_batch.hooks.batch import BatchHook
from airflow_batch.policies.retry import retry_defaults

with DAG("hook_in_a_task", schedule=None, catchup=False, params={"prefix": "Summer"}):

    @task(**retry_defaults())
    def live_campaigns(params: Any = None) -> list[str]:
        hook = BatchHook()
        # The list shows 100 campaigns a request.
        return [
            campaign["name"]
            for campaign in hook.list_campaigns(live=True)
            if campaign["name"].startswith(params["prefix"])
        ]

    live_campaigns()
# [END hook]
