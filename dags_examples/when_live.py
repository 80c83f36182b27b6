"""Start when a campaign of an app goes live, whoever caused it: a DAG, the dashboard, another tool.

The trigger polls Batch's list of campaigns once a minute, in the triggerer. A run can have several events, one for each
campaign that went live since the last run. The payload of an event names campaign and app, so that it can be the
``campaign`` of other tasks.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_batch.operators.campaigns import BatchGetCampaignStatsOperator
from airflow_batch.triggers.events import BatchCampaignEventTrigger

# [START watcher]
went_live = Asset(
    "batch_ios_went_live",
    watchers=[AssetWatcher(name="went_live", trigger=BatchCampaignEventTrigger(event="live", app="ios"))],
)
# [END watcher]

with DAG("when_live", schedule=[went_live], catchup=False, tags=["batch", "example"], doc_md=__doc__):

    @task
    def campaigns(triggering_asset_events: Any = None) -> list[dict[str, Any]]:
        events = [event for listed in triggering_asset_events.values() for event in listed]
        payloads = [event.extra["payload"] for event in events if "payload" in event.extra]
        return list({payload["campaign_token"]: payload for payload in payloads}.values())

    # A run that was started by hand has no events, and nothing to read.
    BatchGetCampaignStatsOperator.partial(task_id="statistics").expand(campaign=campaigns())
