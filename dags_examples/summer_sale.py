from airflow.sdk import DAG

from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor
from airflow_batch.windows import CampaignWindow

window = CampaignWindow(on="0 9 * * 1-5", off="0 18 * * 1-5", timezone="Europe/Paris")
with DAG("summer_sale", schedule=window.timetable(), catchup=False, max_active_runs=1):
    # The token that Batch returned when the campaign was created from its API.
    toggle = BatchSetCampaignLiveOperator(task_id="toggle", campaign="545fce15f8b04d5b9b1d5c8e3a7c9d20", live=window)
    BatchCampaignLiveSensor(task_id="confirm", campaign=toggle.output, live=window)
