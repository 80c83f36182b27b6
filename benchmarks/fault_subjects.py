"""What a user would pick instead of this provider, as the fault matrix plays it: each as its documentation shows it."""

from __future__ import annotations

import json
from typing import Any

import requests
import tenacity
from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk import BaseHook
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from tests.faults.driver import OURS, READ_TIMEOUT, Subject, World

HEADERS = {"Content-Type": "application/json"}
PAYLOAD = json.dumps({"live": True})


def _http_connection(world: World) -> dict[str, dict[str, Any]]:
    """Return the connection of HttpOperator, whose extra holds headers. The app key is in the endpoint."""
    extra = {"X-Authorization": world.rest_key}
    return {"http_default": {"conn_type": "http", "host": world.url, "extra": extra}}


def _connection(world: World) -> dict[str, dict[str, Any]]:
    fields = {"host": world.url, "login": world.app_key, "password": world.rest_key}
    return {"api": {"conn_type": "generic", **fields}}


def _http_operator(world: World) -> Any:
    return HttpOperator(task_id="toggle", endpoint=world.path, data=PAYLOAD, headers=HEADERS, retries=3)


def _http_operator_with_retry_args(world: World) -> Any:
    # The example in the docstring of HttpHook.run_with_advanced_retry.
    retry_args = {
        "wait": tenacity.wait_exponential(),
        "stop": tenacity.stop_after_attempt(10),
        "retry": tenacity.retry_if_exception_type(Exception),
    }
    return HttpOperator(task_id="toggle", endpoint=world.path, data=PAYLOAD, headers=HEADERS, retry_args=retry_args)


class _PythonTask:
    """A python task with requests and urllib3.Retry; Airflow's own retries are off, as they are by default."""

    retries = 0

    def __init__(self, world: World) -> None:
        self._token = world.token

    def execute(self, context: Any) -> Any:
        """Send the update."""
        known = BaseHook.get_connection("api")
        retry = Retry(total=5, backoff_factor=1, status_forcelist=[429, 500, 502, 503, 504], allowed_methods=None)
        with requests.Session() as session:
            for scheme in ("https://", "http://"):
                session.mount(scheme, HTTPAdapter(max_retries=retry))
            answer = session.post(
                f"{known.host}/1.1/{known.login}/campaigns/update/{self._token}",
                data=PAYLOAD,
                headers={**HEADERS, "X-Authorization": known.password},
                timeout=(READ_TIMEOUT, READ_TIMEOUT),
            )
        answer.raise_for_status()
        return answer.text


SUBJECTS = (
    *OURS.values(),
    Subject(name="HttpOperator", make=_http_operator, connections=_http_connection),
    Subject(name="HttpOperator, retry_args", make=_http_operator_with_retry_args, connections=_http_connection),
    Subject(name="requests, urllib3.Retry", make=_PythonTask, connections=_connection),
)
