from airflow.sdk import DAG

from airflow_batch.operators.campaigns import BatchUpdateCampaignOperator
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor
from airflow_batch.windows import CampaignWindow

window = CampaignWindow(on="0 9 * * 1-5", off="0 18 * * 1-5", timezone="Europe/Paris")
live = "{{ window.is_live_at(dag_run.run_after) }}"
with DAG(
    "summer_sale",
    schedule=window.timetable(),
    catchup=False,
    max_active_runs=1,
    params={"campaign": ""},
    user_defined_macros={"window": window},
):
    toggle = BatchUpdateCampaignOperator(
        task_id="toggle", campaign="{{ params.campaign }}", payload={"name": "Summer sale", "live": live}
    )
    BatchCampaignLiveSensor(task_id="confirm", campaign=toggle.output, live=live)
