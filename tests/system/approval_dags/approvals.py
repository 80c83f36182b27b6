"""The DAGs of tests/system/test_approval.py: a person approves, then the campaign goes live or is updated."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG

from airflow_batch.operators.approval import BatchCampaignApprovalOperator
from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator, BatchUpdateCampaignOperator

COMMON = {"batch_conn_id": "approvals"}
ASK = {"campaign": "{{ params.campaign }}", "task_id": "approve", "timezone": "Europe/Paris", **COMMON}
PARAMS = {"campaign": "", "payload": {}, "other": {}}


def dag(dag_id: str, **arguments: object) -> DAG:
    return DAG(dag_id, params=PARAMS, schedule=None, **arguments)  # type: ignore[arg-type]


# A run of the past is late by months when its question is answered.
with DAG(
    "approval_of_a_past_run",
    params=PARAMS,
    schedule="0 9 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
):
    approve = BatchCampaignApprovalOperator(**ASK)
    BatchSetCampaignLiveOperator(task_id="live", campaign=approve.output, live=True, **COMMON)

with dag("approval"):
    approve = BatchCampaignApprovalOperator(**ASK)
    # Airflow's own question holds the run between the approval and the switch.
    hold = ApprovalOperator(task_id="hold", subject="Go on?")
    live = BatchSetCampaignLiveOperator(task_id="live", campaign=approve.output, live=True, retries=0, **COMMON)
    stop = BatchSetCampaignLiveOperator(
        task_id="stop", campaign=approve.output, live=False, trigger_rule="all_done", **COMMON
    )
    approve >> hold >> live >> stop

with dag("approval_of_a_payload", render_template_as_native_obj=True):
    approve = BatchCampaignApprovalOperator(payload="{{ params.payload }}", **ASK)
    BatchUpdateCampaignOperator(
        task_id="update", campaign=approve.output, payload="{{ params.other or params.payload }}", **COMMON
    )

for name, defaults in (("approval_timeout", None), ("approval_default", "Reject")):
    with dag(name):
        approve = BatchCampaignApprovalOperator(response_timeout=timedelta(seconds=5), defaults=defaults, **ASK)
        BatchSetCampaignLiveOperator(task_id="live", campaign=approve.output, live=True, **COMMON)
