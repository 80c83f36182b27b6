"""Hundreds of campaigns whose state follows the data: a query says what should be live, and one task updates them.

A task that is mapped over the rows starts a worker and makes three requests for each, all at once against a limit that
Batch does not publish. One sync reads the list (100 campaigns a request), writes only what differs, and adapts to the
rate that Batch allows. Up to about 20 campaigns, map; for more, sync.

``max_changes`` protects against a wrong query: if more campaigns differ, nothing is written.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_batch.operators.sync import BatchSyncCampaignsOperator

ROWS = [{"name": "Umbrellas", "app": "ios", "token": "TOKEN", "in_stock": 12}]

with DAG(
    "sync_from_query",
    schedule="*/15 * * * *",
    catchup=False,
    max_active_runs=1,
    params={"rows": Param(ROWS, type="array", description="what the query would return")},
    tags=["batch", "example"],
    doc_md=__doc__,
):

    @task
    def desired(params: Any = None) -> list[dict[str, Any]]:
        rows = params["rows"]  # your query, for instance with a SQL hook
        return [
            {"campaign": row["token"], "app": row["app"], "expect_name": row["name"], "live": row["in_stock"] > 0}
            for row in rows
        ]

    # [START sync]
    BatchSyncCampaignsOperator(task_id="sync", campaigns=desired(), max_changes=100, max_failures=5)
    # [END sync]
