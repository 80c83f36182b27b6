"""The DAGs of test_kills.py: a task for each case. What a task does to itself stands here, the rest in the test."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG
from kill_cases import KILLED, RESTARTED, Case

from airflow_batch.hooks.batch import BatchHook
from airflow_batch.operators.campaigns import (
    BatchCreateCampaignOperator,
    BatchDeleteCampaignOperator,
    BatchSetCampaignLiveOperator,
    BatchUpdateCampaignOperator,
)
from airflow_batch.operators.sync import BatchSyncCampaignsOperator
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor

OPERATORS = {
    "on": (BatchSetCampaignLiveOperator, {"live": True}),
    "off": (BatchSetCampaignLiveOperator, {"live": False}),
    "update": (BatchUpdateCampaignOperator, {"payload": {"name": "Renamed"}}),
    "blind_update": (BatchUpdateCampaignOperator, {"payload": {"name": "Renamed"}, "read": "never"}),
    "delete": (BatchDeleteCampaignOperator, {}),
    "create": (BatchCreateCampaignOperator, {}),
    "launch": (BatchCreateCampaignOperator, {}),
    # One at a time, so that what is between two campaigns is a moment.
    "sync": (BatchSyncCampaignsOperator, {"max_in_flight": 1}),
}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class MortalHook(BatchHook):
    """Dies before it writes."""

    def update_campaign(self, *arguments, **named):
        die()

    def create_campaign(self, *arguments, **named):
        die()

    def delete_campaign(self, *arguments, **named):
        die()


class DiesBeforeTheRequest:
    """An operator whose first attempt has a mortal hook."""

    is_first = False

    def execute(self, context):
        self.is_first = context["ti"].try_number == 1
        return super().execute(context)

    def hook_for(self, app):
        return MortalHook(self.batch_conn_id, self.app) if self.is_first else super().hook_for(app)


class DiesBeforeXCom:
    """An operator whose first attempt does its work, and dies."""

    deaths = 1

    def execute(self, context):
        result = super().execute(context)
        if context["ti"].try_number <= self.deaths:
            die()
        return result


class DiesTwiceBeforeXCom(DiesBeforeXCom):
    """An operator whose first two attempts die so."""

    deaths = 2


DEATHS = {
    "before_request": DiesBeforeTheRequest,
    "before_request_and_applied": DiesBeforeTheRequest,
    "before_xcom": DiesBeforeXCom,
    "twice_before_xcom": DiesTwiceBeforeXCom,
}


def leave_pid(context):
    """Let the test know which process to kill, and its supervisor."""
    ti = context["ti"]
    file = Path(os.environ["AIRFLOW_HOME"], f"{ti.task_id}.{ti.try_number}")
    file.with_suffix(".new").write_text(f"{os.getpid()} {os.getppid()}")
    file.with_suffix(".new").rename(file.with_suffix(f"{file.suffix}.pids"))


def task_of(case: Case) -> None:
    operator, arguments = OPERATORS[case.task]
    if case.moment in DEATHS:
        operator = type(f"Mortal{operator.__name__}", (DEATHS[case.moment], operator), {})
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
