"""A person is notified by e-mail when a stop has failed for good."""

from __future__ import annotations

from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import DAG

from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator

# [START mail]
notify = SmtpNotifier(
    to="on-call@example.com",
    from_email="airflow@example.com",
    subject="NOT stopped: campaign {{ params.campaign }}",
    html_content="""
        <p>Task {{ ti.task_id }} of {{ ti.dag_id }} failed: campaign {{ params.campaign }} may still be live.
        Switch it off in Batch's dashboard.</p>
        <p>{{ exception | default("The worker has ended.") | e }}</p>
        <p><a href="{{ ti.log_url }}">Log</a></p>
    """,
)
with DAG("notify_a_person", schedule=None, params={"campaign": ""}):
    BatchSetCampaignLiveOperator(
        task_id="stop", campaign="{{ params.campaign }}", live=False, on_failure_callback=notify
    )
# [END mail]
