"""The DAG that is tested: it switches a campaign on."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator

with DAG("my_dag", schedule=None, params={"campaign": ""}) as dag:
    BatchSetCampaignLiveOperator(task_id="switch_on", campaign="{{ params.campaign }}", live=True)
