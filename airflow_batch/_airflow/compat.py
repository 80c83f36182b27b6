"""The few lines that differ between the supported Airflow versions (3.1.8 and later). Nothing else belongs here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

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


CAN_RESCHEDULE_BY_POLICY = HAS_RETRY_POLICY and hasattr(RetryDecision, "reschedule")
"""Airflow 3.4 and later: a retry policy may ask for a run that costs no retry."""


def reschedule_at(moment: datetime) -> AirflowRescheduleException:
    """Return the exception that makes Airflow run the task again at ``moment``, at no cost of a retry."""
    return AirflowRescheduleException(moment)  # type: ignore[no-untyped-call]


def doubling_backoff() -> Any:
    """Return the value of ``retry_exponential_backoff`` that doubles the delay: a factor from 3.2 on, before a flag."""
    from airflow import __version__

    return True if __version__.startswith("3.1.") else 2.0


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
    "reschedule_at",
]
