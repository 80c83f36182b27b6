"""The examples of docs/assets.md: a task whose event says what it changed, and a DAG that starts after it."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, AssetAlias, task

from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator

CAMPAIGN = "{{ params.campaign }}"

with DAG("changes_a_campaign", schedule=None, params={"campaign": ""}):
    # [START outlets]
    SALE = Asset("summer_sale_switched")
    CHANGED = AssetAlias("batch_campaigns_changed")
    BatchSetCampaignLiveOperator(task_id="on", campaign=CAMPAIGN, app="ios", live=True, outlets=[SALE, CHANGED])
    # [END outlets]

# [START consumer]
with DAG("after_a_change", schedule=[CHANGED]):

    @task
    def changed(triggering_asset_events: Any = None) -> list[str]:
        events = [event for listed in triggering_asset_events.values() for event in listed]
        return [f"{event.extra['name']}: {event.extra['action']}" for event in events]

    changed()
# [END consumer]
