"""One DAG for each scenario of test_scheduler.py. Each has a connection, and so a sandbox, of its own."""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_batch.hooks.batch import BatchHook
from airflow_batch.operators.campaigns import BatchUpdateCampaignOperator
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor

ON = {"live": True}
CAMPAIGN = "{{ params.campaign }}"


def scenario(dag_id, **arguments):
    return DAG(dag_id, schedule=None, params={"campaign": "", "campaigns": []}, **arguments)


@task
def campaigns(params):
    return params["campaigns"]


with scenario("throttled"):
    BatchUpdateCampaignOperator(task_id="update", campaign=CAMPAIGN, payload=ON, batch_conn_id="throttled", retries=0)

with scenario("throttled_retry"):
    BatchUpdateCampaignOperator(
        task_id="update", campaign=CAMPAIGN, payload=ON, batch_conn_id="throttled_retry", throttle="retry"
    )

with scenario("wrong_key"):
    BatchUpdateCampaignOperator(task_id="update", campaign=CAMPAIGN, payload=ON, batch_conn_id="wrong_key")

with scenario("thirty_mapped"):
    BatchUpdateCampaignOperator.partial(task_id="update", payload=ON, batch_conn_id="thirty_mapped", retries=0).expand(
        campaign=campaigns()
    )

with scenario("reset"):
    BatchUpdateCampaignOperator(task_id="update", campaign=CAMPAIGN, payload=ON, batch_conn_id="reset")

with scenario("payload_files"):
    BatchUpdateCampaignOperator(
        task_id="plain", campaign=CAMPAIGN, payload="definition.json", batch_conn_id="payload_files"
    ) >> BatchUpdateCampaignOperator.partial(
        task_id="mapped", payload="definition.json", batch_conn_id="payload_files"
    ).expand(campaign=[CAMPAIGN])

with scenario("nested_json"):
    BatchUpdateCampaignOperator(
        task_id="update",
        campaign=CAMPAIGN,
        payload={"deeplink": "https://example.com/{{ params.campaign }}/a.json", "custom": {"files": ["b.json"]}},
        batch_conn_id="nested_json",
    )

with scenario("every_fault"):
    mapped = {"batch_conn_id": "every_fault", "retries": 0}
    tokens = campaigns()
    BatchUpdateCampaignOperator.partial(task_id="update", payload=ON, max_wait=5, **mapped).expand(campaign=tokens)
    BatchCampaignLiveSensor.partial(task_id="wait", mode="poke", timeout=1, poke_interval=1, **mapped).expand(
        campaign=tokens
    )

    @task
    def ask():
        hook = BatchHook("every_fault")
        print(hook, hook.get_conn(), hook.test_connection())

    ask()
