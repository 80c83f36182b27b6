"""The DAG of test_deferral.py: sensors that wait in the triggerer, with a connection that is stored in the database."""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor

WAITING = {"deferrable": True, "poke_interval": 6, "timeout": 600, "retries": 0}
ARGUMENTS = {"batch_conn_id": "in_the_database", "app": "ios", **WAITING}


@task
def campaigns(params):
    return params["campaigns"]


with DAG("deferrals", schedule=None, params={"campaigns": [], "gone": ""}, default_args=ARGUMENTS):
    given = campaigns()
    BatchCampaignLiveSensor.partial(task_id="each").expand(campaign=given)
    BatchCampaignLiveSensor(task_id="all", campaign=given)
    BatchCampaignLiveSensor(task_id="gone", campaign="{{ params.gone }}")
