"""Stop the campaign when the data behind it is not right.

The first line is a task: ``trigger_rule="one_failed"`` runs it when anything before it fails, ``upstream_failed``
included, with Airflow's retries, and waits up to six hours for a throttle. The second line is the callback: it
fires at once, from the failing task itself, but not for ``upstream_failed``, and not when the worker is gone. Airflow
ends it after 20 seconds.

Airflow takes the state of a run from its last tasks, and ``stop`` succeeds: without ``watcher`` the run would be a
success although the pipeline failed, and no alert of the DAG would be sent.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_batch.notifications.campaigns import SetCampaignLiveNotifier
from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator

CAMPAIGN = "{{ params.campaign }}"

with DAG(
    "stop_on_failure",
    schedule="@hourly",
    catchup=False,
    params={"campaign": "", "offers": Param([{"price": 10}], type="array", description="what the pipeline found")},
    tags=["batch", "example"],
    doc_md=__doc__,
):
    # [START callback]
    @task(on_failure_callback=SetCampaignLiveNotifier(campaign=CAMPAIGN, app="ios"))
    def check_offers(params: Any = None) -> None:
        if not params["offers"] or any(offer["price"] <= 0 for offer in params["offers"]):
            raise ValueError("the offers are not right")
        # [END callback]

    @task
    def publish_offers(params: Any = None) -> None:
        print(f"{len(params['offers'])} offers published")

    @task(trigger_rule="one_failed", retries=0)
    def watcher() -> None:
        raise RuntimeError("A task before this one failed; the campaign was stopped.")

    stop = BatchSetCampaignLiveOperator(
        task_id="stop", campaign=CAMPAIGN, app="ios", live=False, trigger_rule="one_failed"
    )
    checked, published = check_offers(), publish_offers()
    checked >> published
    [checked, published] >> stop
    [checked, published, stop] >> watcher()
