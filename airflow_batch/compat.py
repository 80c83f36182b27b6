"""The few lines that differ between the supported Airflow versions (3.1.8 and later). Nothing else belongs here."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

try:
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowSkipException,
    )
except ImportError:  # Airflow 3.1
    from airflow.exceptions import (  # type: ignore[no-redef,attr-defined,unused-ignore]
        AirflowException,
        AirflowFailException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowSkipException,
    )

try:  # Airflow 3.3 and later
    from airflow.sdk import RetryDecision, RetryPolicy

    HAS_RETRY_POLICY = True
except ImportError:
    HAS_RETRY_POLICY = False

    class RetryPolicy:  # type: ignore[no-redef]
        """Stands in for Airflow's class where it does not exist, so that a DAG file imports on every version."""

    class RetryDecision:  # type: ignore[no-redef]
        """Stands in for Airflow's class where it does not exist. It is never made there."""


if TYPE_CHECKING:
    from airflow.sdk import Context

CAN_RESCHEDULE_BY_POLICY = HAS_RETRY_POLICY and hasattr(RetryDecision, "reschedule")
"""Airflow 3.4 and later: a retry policy may ask for a run that costs no retry."""


def reschedule_at(moment: datetime) -> AirflowRescheduleException:
    """Return the exception that makes Airflow run the task again at ``moment``, at no cost of a retry."""
    return AirflowRescheduleException(moment)  # type: ignore[no-untyped-call]


def doubling_backoff() -> Any:
    """Return the value of ``retry_exponential_backoff`` that doubles the delay: a factor from 3.2 on, before a flag."""
    from airflow import __version__

    return True if __version__.startswith("3.1.") else 2.0


def recall(context: Context, key: str, *, across_clears: bool = False) -> Any:
    """Return what an earlier attempt of this task instance left under ``key``, or None.

    Kept in Airflow's task state store (3.3 and later, experimental). It survives retries and, on 3.3, a clear; what was
    left before a clear (``max_tries`` differs) counts only ``across_clears``. Below 3.3 nothing is remembered.
    """
    store = context.get("task_state_store")
    if store is None:
        return None
    try:
        kept = store.get(key)
    except Exception:
        return None
    if isinstance(kept, dict) and (across_clears or kept.get("max_tries") == context["ti"].max_tries):
        return kept.get("value")
    return None


def remember(context: Context, key: str, value: Any) -> bool:
    """Leave ``value`` (JSON) under ``key`` for later attempts of this task instance; see :func:`recall`.

    The store is a help, never a condition: where it is missing or fails (False), the task goes on without.
    """
    store = context.get("task_state_store")
    if store is None:
        return False
    try:
        store.set(key, {"max_tries": context["ti"].max_tries, "value": value})
    except Exception:
        return False
    return True


__all__ = [
    "CAN_RESCHEDULE_BY_POLICY",
    "HAS_RETRY_POLICY",
    "AirflowException",
    "AirflowFailException",
    "AirflowRescheduleException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "RetryDecision",
    "RetryPolicy",
    "doubling_backoff",
    "recall",
    "remember",
    "reschedule_at",
]
