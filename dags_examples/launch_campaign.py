"""From a template to the first numbers: create a draft, go live, wait until it sends, hand the statistics on.

The draft is ``launch_campaign.json``, next to this file, rendered with the run's ``params``. If the answer to its
creation is lost, one more draft may remain in Batch, which is never sent. The switch to live is a task of its own, so a
person can approve the draft in between: approve_campaign.py.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_batch.operators.campaigns import (
    BatchCreateCampaignOperator,
    BatchGetCampaignStatsOperator,
    BatchSetCampaignLiveOperator,
)
from airflow_batch.sensors.campaigns import BatchCampaignStatsSensor

with DAG(
    "launch_campaign",
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
    launch = BatchSetCampaignLiveOperator(task_id="launch", campaign=create.output, live=True)
    # [START first_sends]
    first_sends = BatchCampaignStatsSensor(task_id="first_sends", campaign=create.output, poke_interval=30)
    # [END first_sends]
    stats = BatchGetCampaignStatsOperator(task_id="stats", campaign=create.output)

    @task
    def report(stats: Any) -> None:
        for row in stats["detail"]:
            print(f"{row['date']}: sent {row['sent']}, opened {row['open_rate']:.1%}")

    launch >> first_sends >> stats
    report(stats.output)
