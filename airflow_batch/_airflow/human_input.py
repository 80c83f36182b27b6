"""Questions to a person (Human-in-the-loop): what Airflow's own operator leaves open.

It is loaded by the approval operator alone, because Airflow's modules for it take a while to load.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

from airflow.providers.standard.operators.hitl import HITLOperator

_HAS_RESPONSE_TIMEOUT = "response_timeout" in inspect.signature(HITLOperator.__init__).parameters


def timeout_arguments(response_timeout: timedelta | None) -> dict[str, Any]:
    """Return the argument that limits the wait for an answer; older standard providers name it otherwise."""
    if response_timeout is None:
        return {}
    return {"response_timeout" if _HAS_RESPONSE_TIMEOUT else "execution_timeout": response_timeout}


@contextmanager
def resuming_with(kept: Mapping[str, Any]) -> Iterator[None]:
    """Hand what is kept to the method that goes on with the answer, as keyword arguments.

    Airflow stores them with the task instance, and drops them when the task is retried or cleared.
    """
    try:
        yield
    except BaseException as waits:
        # TaskAwaitingInput from Airflow 3.3 on, before TaskDeferred: the task waits in the triggerer.
        if getattr(waits, "method_name", None) is not None:
            cast("Any", waits).kwargs = {**(getattr(waits, "kwargs", None) or {}), **kept}
        raise


def put_question(task: Any, ti_id: Any) -> list[str]:
    """Put the question of a task, and return which of its parts Airflow shows otherwise than they are now.

    Airflow below 3.4 keeps the question of an earlier attempt, and would show its text for the answer of this one
    (https://github.com/apache/airflow/pull/73235). An answer to the earlier one is dropped.
    """
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import CreateHITLDetailPayload

    users: list[Any] = [dict(user) for user in task.assigned_users or []]
    asked = CreateHITLDetailPayload(
        ti_id=ti_id,
        options=task.options,
        subject=task.subject,
        body=task.body,
        defaults=task.defaults,
        multiple=task.multiple,
        params=task.serialized_params,
        assigned_users=users,
    )
    stored: Any = task_runner.SUPERVISOR_COMMS.send(msg=asked)
    # Both as JSON: what the author gave as a tuple is shown as a list.
    question = asked.model_dump(mode="json", exclude={"ti_id", "type"})
    shown = stored.model_dump(mode="json")
    return [name for name, value in question.items() if (shown.get(name) or None) != (value or None)]
