from airflow.sdk import DAG

from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor
from airflow_batch.windows import CampaignWindow

window = CampaignWindow(on="0 9 * * 1-5", off="0 18 * * 1-5", timezone="Europe/Paris")
with DAG("summer_sale", schedule=window.timetable(), catchup=False, max_active_runs=1, params={"campaign": ""}):
    toggle = BatchSetCampaignLiveOperator(task_id="toggle", campaign="{{ params.campaign }}", app="ios", live=window)
    BatchCampaignLiveSensor(task_id="confirm", campaign=toggle.output, live=window)
