"""The same campaign on two platforms, live in the same hours.

Batch keeps one campaign for each app, so there are two tokens and two API keys; the connection's extra ``api_keys``
names them. One mapped task switches both, and the Airflow UI labels each index with app and name. One sensor waits for
both, with one request for each app.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor
from airflow_batch.windows import CampaignWindow

window = CampaignWindow(on="0 9 * * *", off="0 21 * * *", timezone="Europe/Paris", except_dates=["2026-12-25"])
CAMPAIGNS = [{"app": "ios", "campaign": "TOKEN"}, {"app": "android", "campaign": "TOKEN"}]

with DAG(
    "both_platforms",
    schedule=window.timetable(),
    catchup=False,
    max_active_runs=1,
    params={"campaigns": Param(CAMPAIGNS, type="array", description="app and token of each")},
    tags=["batch", "example"],
    doc_md=__doc__,
):

    @task
    def campaigns(params: Any = None) -> list[dict[str, str]]:
        return list(params["campaigns"])

    toggle = BatchSetCampaignLiveOperator.partial(task_id="toggle", live=window).expand_kwargs(campaigns())
    BatchCampaignLiveSensor(task_id="confirm", campaign=toggle.output, live=window)
