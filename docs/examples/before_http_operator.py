"""A campaign switched on and off with HttpOperator: what many start with. Compare with after_http_operator.py."""

from __future__ import annotations

import json
from datetime import timedelta

# [START before]
from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk import DAG
from airflow.timetables.trigger import CronTriggerTimetable

CAMPAIGN = "{{ params.campaign }}"


def switch(live: bool, cron: str) -> DAG:
    with DAG(
        f"http_{'on' if live else 'off'}",
        schedule=CronTriggerTimetable(cron, timezone="Europe/Paris"),
        catchup=False,
        params={"campaign": ""},
        default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    ) as dag:
        HttpOperator(
            task_id="switch",
            http_conn_id="batch_http",
            endpoint="1.1/{{ conn.batch_http.login }}/campaigns/update/" + CAMPAIGN,
            headers={"X-Authorization": "{{ conn.batch_http.password }}", "Content-Type": "application/json"},
            data=json.dumps({"live": live}),
        )
    return dag


on = switch(True, "0 9 * * 1-5")
off = switch(False, "0 18 * * 1-5")
# [END before]
