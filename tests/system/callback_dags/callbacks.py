"""DAGs whose tasks or deadlines fail, so that a callback stops a campaign."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, task

from airflow_batch._airflow.compat import HAS_RETRY_POLICY
from airflow_batch.notifications.campaigns import SetCampaignLiveNotifier

for name in ("stops", "throttled", "silent"):
    with DAG(f"callback_{name}", schedule=None, params={"campaign": ""}):

        @task(on_failure_callback=SetCampaignLiveNotifier(campaign="{{ params.campaign }}", batch_conn_id=name))
        def fail() -> None:
            raise ValueError("the offers are not right")

        fail()

if HAS_RETRY_POLICY:  # SyncCallback runs under a supervisor from Airflow 3.3 on
    from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference, SyncCallback

    # The token must be a literal: the context of a deadline's callback has no params.
    def deadline(token: str, kind: type, conn_id: str) -> DeadlineAlert:
        return DeadlineAlert(
            reference=DeadlineReference.FIXED_DATETIME(datetime(2026, 1, 1, tzinfo=UTC)),
            interval=timedelta(seconds=0),
            callback=kind(SetCampaignLiveNotifier, kwargs={"campaign": token, "batch_conn_id": conn_id, "app": "ios"}),
        )

    for name, token, kind, conn_id in (
        ("sync", "TOKEN_sync", SyncCallback, "from_environment"),
        ("sync_stored", "TOKEN_sync_stored", SyncCallback, "stored"),
        ("async_stored", "TOKEN_async_stored", AsyncCallback, "stored"),
    ):
        with DAG(f"deadline_{name}", schedule=None, deadline=deadline(token, kind, conn_id)):

            @task
            def wait() -> None:
                time.sleep(5)

            wait()
