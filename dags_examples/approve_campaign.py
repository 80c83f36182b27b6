"""A person approves a campaign before it goes live: a draft, the question, the switch, and the first numbers.

The question stands in the Airflow UI under Required Actions, with the texts, the time of the push and whom it goes to.
After a rejection the rest is skipped. If somebody changes the campaign after the approval, the switch fails, sends
nothing and names what has changed.

The draft is ``launch_campaign.json``, next to this file, rendered with the run's ``params``.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_batch.operators.approval import BatchCampaignApprovalOperator
from airflow_batch.operators.campaigns import (
    BatchCreateCampaignOperator,
    BatchGetCampaignStatsOperator,
    BatchSetCampaignLiveOperator,
)
from airflow_batch.sensors.campaigns import BatchCampaignStatsSensor

with DAG(
    "approve_campaign",
    schedule=None,
    params={
        "name": Param("Summer sale", type="string", minLength=3),
        "body": Param("Everything must go", type="string"),
        "push_time": Param("2030-07-01T09:00:00", type="string", description="UTC"),
    },
    tags=["batch", "example"],
    doc_md=__doc__,
):
    create = BatchCreateCampaignOperator(task_id="create", payload="launch_campaign.json", app="ios")
    # [START approval]
    approve = BatchCampaignApprovalOperator(task_id="approve", campaign=create.output, timezone="Europe/Paris")
    # The output of the approval, not that of the creation: it says what was approved.
    launch = BatchSetCampaignLiveOperator(task_id="launch", campaign=approve.output, live=True)
    # [END approval]
    first_sends = BatchCampaignStatsSensor(task_id="first_sends", campaign=create.output, poke_interval=30)
    stats = BatchGetCampaignStatsOperator(task_id="stats", campaign=create.output)

    launch >> first_sends >> stats
