"""Mapped toggles that all start together, and the DAG that asks for a slot beside them: for the benchmarks
``storm`` and ``crowd``. The connection of each DAG has its name.

Not examples to copy.
"""

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


with DAG("storm_http", schedule=None, params={"toggles": []}):
    # The growth is that of this provider's retries. Ten of them, so that a toggle runs out of patience, not of retries.
    HttpOperator.partial(
        task_id="toggle",
        http_conn_id="storm_http",
        method="POST",
        data='{"live": true}',
        retries=10,
        retry_delay=timedelta(seconds=10),
        retry_exponential_backoff=2.0,
    ).expand(endpoint=toggles())

SUBJECTS: dict[str, dict[str, Any]] = {
    "storm_batch": {},
    "storm_blind": {"read": "never"},
}
for name, arguments in SUBJECTS.items():
    with DAG(name, schedule=None, params={"toggles": []}):
        BatchSetCampaignLiveOperator.partial(task_id="toggle", batch_conn_id=name, live=True, **arguments).expand(
            campaign=toggles()
        )

with DAG("storm_probe", schedule=None):

    @task
    def start():
        """Take a slot. What counts is when."""

    start()
