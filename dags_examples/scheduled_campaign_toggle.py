"""A campaign that is live from 09:00 to 18:00, Paris time, on working days.

One DAG switches it on and off. Two DAGs would both run once after an outage, in any order; with one timetable and
``catchup=False`` only the newest missed run happens, and it does what its own moment asks for.

Set the defaults of ``params`` in your copy, or give them when you trigger a run by hand.
"""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.sdk import DAG, Param
from airflow.timetables.trigger import MultipleCronTriggerTimetable

from airflow_batch.operators.campaigns import BatchUpdateCampaignOperator
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor

TIMEZONE = "Europe/Paris"


def wanted_live(dag_run: Any, params: Any) -> bool:
    """Return what the campaign should be at the moment the run stands for, or what a manual run asks for."""
    if params["live"] != "by schedule":
        return bool(params["live"] == "on")
    moment: pendulum.DateTime = pendulum.instance(dag_run.run_after).in_timezone(TIMEZONE)
    return moment.weekday() < 5 and 9 <= moment.hour < 18


with DAG(
    "scheduled_campaign_toggle",
    schedule=MultipleCronTriggerTimetable("0 9 * * 1-5", "0 18 * * 1-5", timezone=TIMEZONE),
    catchup=False,
    max_active_runs=1,
    params={
        "campaign": Param("", type="string", description="Token that Batch gave when the campaign was created"),
        "name": Param("", type="string", description="Name of the campaign, sent along as in Batch's documentation"),
        "batch_conn_id": Param("batch_default", type="string"),
        "app": Param("", type="string", description="ios, android, ... where the connection has api_keys"),
        "live": Param("by schedule", enum=["by schedule", "on", "off"], description="For a manual run"),
    },
    user_defined_macros={"wanted_live": wanted_live},
    tags=["batch", "example"],
    doc_md=__doc__,
):
    toggle = BatchUpdateCampaignOperator(
        task_id="toggle",
        campaign="{{ params.campaign }}",
        payload={"name": "{{ params.name }}", "live": "{{ wanted_live(dag_run, params) }}"},
        batch_conn_id="{{ params.batch_conn_id }}",
        app="{{ params.app }}",
    )
    BatchCampaignLiveSensor(
        task_id="confirm",
        campaign=toggle.output,
        live="{{ wanted_live(dag_run, params) }}",
        batch_conn_id="{{ params.batch_conn_id }}",
    )
