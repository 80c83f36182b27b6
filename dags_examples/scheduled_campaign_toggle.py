"""A campaign on schedule that a person can switch by hand: on working days, live from 09:00 to 18:00 in Paris.

The README's ``summer_sale`` is the shorter way to a schedule. Here ``live`` is a boolean that each run renders for
itself, so that a manual run can ask for something else. A window is always evaluated for the present; a boolean needs
``max_lateness``: a run of this morning that Airflow starts tonight does not switch on any more (default 1 hour), but
still switches off.

Set the defaults of ``params`` in your copy, or give them when you trigger a run by hand.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param

from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor
from airflow_batch.windows import CampaignWindow

window = CampaignWindow(on="0 9 * * 1-5", off="0 18 * * 1-5", timezone="Europe/Paris")


def desired_live(dag_run: Any, params: Any) -> bool:
    """Return the desired state at the moment that the run stands for, or the one that a manual run asks for."""
    if params["live"] != "by schedule":
        return bool(params["live"] == "on")
    return window.is_live_at(dag_run.run_after)


with DAG(
    "scheduled_campaign_toggle",
    schedule=window.timetable(),
    catchup=False,
    max_active_runs=1,
    params={
        "campaign": Param("", type="string", description="Token that Batch gave when the campaign was created"),
        "name": Param("", type="string", description="Name the campaign must have, against a wrong token"),
        "batch_conn_id": Param("batch_default", type="string"),
        "app": Param("", type="string", description="ios, android, ... where the connection has api_keys"),
        "live": Param("by schedule", enum=["by schedule", "on", "off"], description="For a manual run"),
    },
    user_defined_macros={"desired_live": desired_live},
    tags=["batch", "example"],
    doc_md=__doc__,
):
    toggle = BatchSetCampaignLiveOperator(
        task_id="toggle",
        campaign="{{ params.campaign }}",
        live="{{ desired_live(dag_run, params) }}",
        expect_name="{{ params.name }}",
        batch_conn_id="{{ params.batch_conn_id }}",
        app="{{ params.app }}",
    )
    BatchCampaignLiveSensor(
        task_id="confirm",
        campaign=toggle.output,
        live="{{ desired_live(dag_run, params) }}",
        batch_conn_id="{{ params.batch_conn_id }}",
    )
