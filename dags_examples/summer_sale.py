from zoneinfo import ZoneInfo

from airflow.sdk import DAG
from airflow.timetables.trigger import MultipleCronTriggerTimetable

from airflow_batch.operators.campaigns import BatchUpdateCampaignOperator
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor

hours = MultipleCronTriggerTimetable("0 9 * * 1-5", "0 18 * * 1-5", timezone="Europe/Paris")
macros = {"paris": ZoneInfo("Europe/Paris")}
live = "{{ dag_run.run_after.astimezone(paris).hour in range(9, 18) }}"
sale = {"campaign": "{{ params.campaign }}", "payload": {"name": "Summer sale", "live": live}}
with DAG(
    "summer_sale", schedule=hours, catchup=False, max_active_runs=1, params={"campaign": ""}, user_defined_macros=macros
):
    toggle = BatchUpdateCampaignOperator(task_id="toggle", **sale)
    BatchCampaignLiveSensor(task_id="confirm", campaign=toggle.output, live=live)
