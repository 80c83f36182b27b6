"""One mapped task for each campaign that goes live, as the benchmark ``sync`` compares them. Not examples to copy."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk import DAG, task

from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator


@task
def toggles(params: dict[str, Any]) -> list[str]:
    """Return the campaigns, or the endpoints, that the run was given."""
    return list(params["toggles"])


with DAG("mapped_http", schedule=None, params={"toggles": []}):
    HttpOperator.partial(
        task_id="toggle",
        http_conn_id="toggles",
        method="POST",
        data='{"live": true}',
        retries=3,
        retry_delay=timedelta(seconds=5),
    ).expand(endpoint=toggles())

with DAG("mapped_batch", schedule=None, params={"toggles": []}):
    BatchSetCampaignLiveOperator.partial(task_id="toggle", batch_conn_id="toggles", live=True).expand(
        campaign=toggles()
    )
