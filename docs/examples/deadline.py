"""A campaign is stopped when its data is not ready in time, and a person is notified."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference, task
from airflow.timetables.trigger import CronTriggerTimetable

from airflow_batch.notifications.campaigns import SetCampaignLiveNotifier

# [START deadline]
due = {"reference": DeadlineReference.DAGRUN_LOGICAL_DATE, "interval": timedelta(minutes=30)}
stop = AsyncCallback(SetCampaignLiveNotifier, kwargs={"campaign": "545fce15f8b04d5b9b1d5c8e3a7c9d20"})
notify = AsyncCallback(
    SmtpNotifier,
    kwargs={
        "to": "on-call@example.com",
        "from_email": "airflow@example.com",
        "subject": "The offers are late: is the push of 09:00 off?",
        "html_content": "Check campaign 545fce15f8b04d5b9b1d5c8e3a7c9d20 in Batch's dashboard.",
    },
)
with DAG(
    "offers",
    schedule=CronTriggerTimetable("0 8 * * *", timezone="Europe/Paris"),
    catchup=False,
    deadline=[DeadlineAlert(**due, callback=stop), DeadlineAlert(**due, callback=notify)],
) as dag:
    # [END deadline]

    @task
    def refresh_offers() -> None:
        """Let the data be ready."""

    refresh_offers()
