"""The DAGs of test_storm.py: mapped toggles that are refused together, and another DAG, whose task asks for a slot."""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator


@task
def campaigns(params):
    return params["campaigns"]


with DAG("storm", schedule=None, params={"campaigns": []}):
    BatchSetCampaignLiveOperator.partial(task_id="toggle", live=True).expand(campaign=campaigns())

with DAG("bystander", schedule=None):
    task(lambda: None).override(task_id="work")()
