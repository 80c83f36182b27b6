"""Delete old campaigns: one task lists them, and a mapped task deletes each."""

from __future__ import annotations

# [START delete]
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_batch.hooks.batch import BatchHook
from airflow_batch.operators.campaigns import BatchDeleteCampaignOperator
from airflow_batch.policies.retry import retry_defaults

with DAG(
    "delete_old_campaigns",
    schedule=None,
    params={"prefix": "Test ", "days": Param(90, minimum=1), "at_most": Param(20, minimum=1)},
):

    @task(**retry_defaults())
    def old_campaigns(params: Any = None) -> list[dict[str, str]]:
        before = datetime.now(UTC) - timedelta(days=params["days"])
        # live=False: drafts and stopped campaigns, no running ones.
        found = [
            {"campaign": campaign["campaign_token"], "expect_name": campaign["name"]}
            for campaign in BatchHook().list_campaigns(live=False, from_api=True)
            if campaign["name"].startswith(params["prefix"])
            and datetime.fromisoformat(campaign["created_date"]).replace(tzinfo=UTC) < before
        ]
        return found[: params["at_most"]]

    # Check the logs of a first run, then remove dry_run.
    BatchDeleteCampaignOperator.partial(
        task_id="delete", dry_run=True, missing_ok=True, max_active_tis_per_dag=2
    ).expand_kwargs(old_campaigns())
# [END delete]
