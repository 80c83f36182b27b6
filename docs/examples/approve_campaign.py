"""A person approves before a campaign goes live."""

from __future__ import annotations

# [START approval]
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG

from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator

with DAG("approve_campaign", schedule=None, params={"campaign": ""}):
    check = BatchSetCampaignLiveOperator(task_id="check", campaign="{{ params.campaign }}", live=True, dry_run=True)
    approve = ApprovalOperator(
        task_id="approve",
        subject="Switch on {{ ti.xcom_pull('check')['name'] }}?",
        body="{{ ti.xcom_pull('check')['differences'] }}",
    )
    # Without a limit, because the approval of a scheduled run may come hours later.
    switch_on = BatchSetCampaignLiveOperator(task_id="switch_on", campaign=check.output, live=True, max_lateness=None)
    check >> approve >> switch_on
# [END approval]
