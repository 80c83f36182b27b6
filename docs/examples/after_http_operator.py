"""The same campaign with this provider: one DAG, and a task that sees that it happened."""

# [START after]
from airflow.sdk import DAG

from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor
from airflow_batch.windows import CampaignWindow

window = CampaignWindow(on="0 9 * * 1-5", off="0 18 * * 1-5", timezone="Europe/Paris")

with DAG(
    "on_and_off",
    schedule=window.timetable(),
    catchup=False,
    max_active_runs=1,
    params={"campaign": ""},
):
    switch = BatchSetCampaignLiveOperator(task_id="switch", campaign="{{ params.campaign }}", live=window)
    BatchCampaignLiveSensor(task_id="confirm", campaign=switch.output, live=window)
# [END after]
