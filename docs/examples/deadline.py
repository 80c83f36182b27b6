"""A campaign is stopped when the data is late."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, DeadlineAlert, DeadlineReference, SyncCallback, task

from airflow_batch.notifications.campaigns import SetCampaignLiveNotifier

# [START deadline]
deadline = DeadlineAlert(
    reference=DeadlineReference.DAGRUN_QUEUED_AT,
    interval=timedelta(minutes=30),
    callback=SyncCallback(SetCampaignLiveNotifier, kwargs={"campaign": "545fce15f8b04d5b9b1d5c8e3a7c9d20"}),
)
with DAG("offers", schedule="0 8 * * *", catchup=False, deadline=deadline) as dag:
    # [END deadline]

    @task
    def refresh_offers() -> None:
        """Let the data be ready."""

    refresh_offers()
