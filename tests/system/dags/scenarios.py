"""One DAG for each scenario of test_scheduler.py. Each has a connection, and so a sandbox, of its own."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG, task

from airflow_batch._sync import run as sync_run
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.notifications.campaigns import SetCampaignLiveNotifier
from airflow_batch.operators.campaigns import (
    BatchCreateCampaignOperator,
    BatchDeleteCampaignOperator,
    BatchSetCampaignLiveOperator,
    BatchUpdateCampaignOperator,
)
from airflow_batch.operators.sync import BatchSyncCampaignsOperator
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor

# A sync waits for two minutes after writes of an earlier attempt. How it uses them is an integration test.
sync_run.SETTLE_TIME = timedelta(seconds=15)

ON = {"live": True}
CAMPAIGN = "{{ params.campaign }}"
MESSAGE = {"language": "en", "body": "hello"}


def scenario(dag_id, schedule=None, **arguments):
    return DAG(dag_id, schedule=schedule, params={"campaign": "", "campaigns": []}, **arguments)


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

with scenario("mapped"):
    BatchUpdateCampaignOperator.partial(task_id="update", payload=ON, batch_conn_id="mapped", retries=0).expand(
        campaign=campaigns()
    )

with scenario("another_dag"):
    task(lambda: None).override(task_id="work")()

with scenario("reset"):
    BatchUpdateCampaignOperator(task_id="update", campaign=CAMPAIGN, payload=ON, batch_conn_id="reset")

with scenario("payload_files"):
    files = {"payload": "definition.json", "read": "never", "batch_conn_id": "payload_files"}
    BatchUpdateCampaignOperator(task_id="plain", campaign=CAMPAIGN, **files) >> BatchUpdateCampaignOperator.partial(
        task_id="mapped", **files
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

with scenario("created_once"):
    created = BatchCreateCampaignOperator(
        task_id="create",
        payload={"name": "Once", "live": True, "push_time": "2099-01-01T09:00:00", "messages": [MESSAGE]},
        batch_conn_id="created_once",
    )
    BatchDeleteCampaignOperator(task_id="delete", campaign=CAMPAIGN, batch_conn_id="created_once")

stop = SetCampaignLiveNotifier(campaign=CAMPAIGN, batch_conn_id="dag_callback")
with scenario("dag_callback", on_failure_callback=stop):

    @task
    def fail():
        raise ValueError("on purpose")

    fail()

with scenario("late", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, schedule="0 9 * * *"):
    (
        BatchSetCampaignLiveOperator(
            task_id="on", live=True, campaign="{{ params.campaigns[0] }}", batch_conn_id="late"
        )
        >> task(lambda: None).override(task_id="after_on")()
    )
    BatchSetCampaignLiveOperator(task_id="off", live=False, campaign="{{ params.campaigns[1] }}", batch_conn_id="late")


def leave_pid(context):
    """Write the process id for the test, which kills it."""
    with Path(os.environ["AIRFLOW_HOME"], "sync.pid").open("a") as file:
        file.write(f"{os.getpid()}\n")


@task
def all_on(params):
    return [{"campaign": token, "live": True} for token in params["campaigns"]]


for name in ("sync_killed", "sync_throttled"):
    with scenario(name):
        BatchSyncCampaignsOperator(
            task_id="sync",
            campaigns=all_on(),
            batch_conn_id=name,
            pre_execute=leave_pid if name == "sync_killed" else None,
        )
