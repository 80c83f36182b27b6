"""A channel of Slack is notified when a stop has failed for good. Needs apache-airflow-providers-slack."""

from __future__ import annotations

from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier
from airflow.sdk import DAG

from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator

# [START slack]
notify = SlackWebhookNotifier(
    slack_webhook_conn_id="slack_on_call",
    text=(
        "Campaign {{ params.campaign }} may still be live: {{ ti.task_id }} of {{ ti.dag_id }} failed.\n"
        "{{ exception | default('The worker has ended.') }}\n"
        "Switch it off in Batch's dashboard. <{{ ti.log_url }}|Log>"
    ),
)
# [END slack]
with DAG("slack", schedule=None, params={"campaign": ""}):
    BatchSetCampaignLiveOperator(
        task_id="stop", campaign="{{ params.campaign }}", live=False, on_failure_callback=notify
    )
