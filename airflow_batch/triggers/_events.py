"""What a trigger returns to its sensor: an event of JSON values. Pure; holds no key.

An exception would reach the sensor as Airflow's TaskDeferralError, without status and headers. So a failure goes as an
event, and the sensor raises it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_batch import exceptions
from airflow_batch._airflow.compat import AirflowSensorTimeout
from airflow_batch._http.responses import MAX_RETRY_AFTER
from airflow_batch.exceptions import BatchApiError, BatchError
from airflow_batch.results import About

_DETAILS: dict[str, Any] = {
    "status_code": int,
    "error_code": int,
    "error_name": str,
    "retry_after": int | float,
    "endpoint": str,
    "may_have_been_applied": bool,
}
"""The details of a failed request that an event may have, and their types."""
_FOREIGN = "The trigger sent no event of this provider. Do triggerer and worker have the same version of it?"
Event = dict[str, Any]


def success(result: Any, about: About) -> Event:
    """Return the event of a wait that is over. ``about``: app and name of the campaign."""
    return {"status": "success", "result": result, "about": about and list(about)}


def timed_out(message: str, about: About) -> Event:
    """Return the event of a wait that was too long."""
    return {"status": "timeout", "message": message, "about": about and list(about)}


def failed(error: BatchError, about: About) -> Event:
    """Return the event of a permanent failure."""
    event: Event = {"status": "error", "class": type(error).__name__, "message": str(error)}
    event["about"] = about and list(about)
    if isinstance(error, BatchApiError):
        event |= {"message": error.message, "details": error.details}
    return event


def read_about(event: Any) -> About:
    """Return the app and the name of the campaign that an event is about, None where it names none.

    :raises BatchError: when it is no event of this provider.
    """
    match event:
        case {"about": [str() | None as app, str() as name]}:
            return app, name
        case {"about": about} if about:
            raise BatchError(_FOREIGN)
    return None


def outcome(event: Any) -> Any:
    """Return the result of an event.

    :raises AirflowSensorTimeout: when the wait was too long.
    :raises BatchError: the failure, as it was raised in the triggerer.
    """
    match event:
        case {"status": "success"}:
            return event.get("result")
        case {"status": "timeout"}:
            raise AirflowSensorTimeout(event.get("message"))
        case {"status": "error"}:
            raise _failure(event)
    raise BatchError(_FOREIGN)


def _failure(event: Mapping[str, Any]) -> BatchError:
    """Return the error, without what this version of the provider does not know: the triggerer may have another."""
    cls = getattr(exceptions, str(event.get("class")), None)
    if not isinstance(cls, type) or not issubclass(cls, BatchError):
        cls = BatchError
    known = {}
    if issubclass(cls, BatchApiError) and isinstance(given := event.get("details"), Mapping):
        known = {name: given[name] for name, kind in _DETAILS.items() if isinstance(given.get(name), kind)}
    if "retry_after" in known:
        known["retry_after"] = min(max(0.0, known["retry_after"]), MAX_RETRY_AFTER)
    return cls(str(event.get("message")), **known)
