"""The DAGs of test_kills.py: a task for each case. What a task does to itself is here, the rest is in the test."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG
from kill_cases import KILLED, RESTARTED, Case

from airflow_batch._sync import run as sync_run
from airflow_batch.hooks.batch import BatchHook
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

OPERATORS = {
    "on": (BatchSetCampaignLiveOperator, {"live": True}),
    "off": (BatchSetCampaignLiveOperator, {"live": False}),
    "update": (BatchUpdateCampaignOperator, {"payload": {"name": "Renamed"}}),
    "blind_update": (BatchUpdateCampaignOperator, {"payload": {"name": "Renamed"}, "read": "never"}),
    "delete": (BatchDeleteCampaignOperator, {}),
    "create": (BatchCreateCampaignOperator, {}),
    "launch": (BatchCreateCampaignOperator, {}),
    # One request at a time, so that there is a moment between two campaigns.
    "sync": (BatchSyncCampaignsOperator, {"max_in_flight": 1}),
}


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


class KillingHook(BatchHook):
    """Kills its process before a write."""

    def update_campaign(self, *arguments, **named):
        kill_self()

    def create_campaign(self, *arguments, **named):
        kill_self()

    def delete_campaign(self, *arguments, **named):
        kill_self()


class KilledBeforeTheRequest:
    """An operator whose first attempt is killed before its request."""

    is_first = False

    def execute(self, context):
        self.is_first = context["ti"].try_number == 1
        return super().execute(context)

    def hook_for(self, app):
        return KillingHook(self.batch_conn_id, self.app) if self.is_first else super().hook_for(app)


class KilledBeforeXCom:
    """An operator whose first attempt is killed after its work."""

    kills = 1

    def execute(self, context):
        result = super().execute(context)
        if context["ti"].try_number <= self.kills:
            kill_self()
        return result


class KilledTwiceBeforeXCom(KilledBeforeXCom):
    """An operator whose first two attempts are killed after their work."""

    kills = 2


KILLS = {
    "before_request": KilledBeforeTheRequest,
    "before_request_and_applied": KilledBeforeTheRequest,
    "before_xcom": KilledBeforeXCom,
    "twice_before_xcom": KilledTwiceBeforeXCom,
}


def leave_pid(context):
    """Write the ids of the process and its supervisor for the test, which kills them."""
    ti = context["ti"]
    file = Path(os.environ["AIRFLOW_HOME"], f"{ti.task_id}.{ti.try_number}")
    file.with_suffix(".new").write_text(f"{os.getpid()} {os.getppid()}")
    file.with_suffix(".new").rename(file.with_suffix(f"{file.suffix}.pids"))


def task_of(case: Case) -> None:
    operator, arguments = OPERATORS[case.task]
    if case.moment in KILLS:
        operator = type(f"Killed{operator.__name__}", (KILLS[case.moment], operator), {})
    field = {"create": "payload", "launch": "payload", "sync": "campaigns"}.get(case.task, "campaign")
    given = f"{{{{ dag_run.conf['{case.name}'] | tojson }}}}" if field != "campaign" else campaign_of(case.name)
    operator(task_id=case.name, app=case.name, pre_execute=leave_pid, **{field: given}, **arguments)


def campaign_of(name: str) -> str:
    return f"{{{{ dag_run.conf['{name}'] }}}}"


QUICK = {"batch_conn_id": "kills", "retry_delay": timedelta(seconds=1)}

with DAG("killed", schedule=None, default_args=QUICK):
    for case in KILLED:
        task_of(case)

with DAG("restarted", schedule=None, default_args=QUICK):
    for case in RESTARTED:
        task_of(case)
    waiting = {"campaign": campaign_of("on_rescheduled"), "app": "on_rescheduled", "poke_interval": 15}
    BatchCampaignLiveSensor(task_id="sensor_rescheduled", mode="reschedule", **waiting)
    BatchCampaignLiveSensor(task_id="sensor_deferred", deferrable=True, **waiting)
