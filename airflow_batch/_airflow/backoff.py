"""How long to wait before the next attempt. Pure functions.

Two rules are floors that nothing shortens: Batch's own "wait for at least 5 seconds" after a 429
(https://doc.batch.com/developer/api/mep/campaigns/update, Failure), and the server's Retry-After, however long.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow_batch.exceptions import (
    BatchApiError,
    BatchError,
    BatchMaintenanceError,
    BatchRateLimitError,
)

BATCH_FLOOR = 5.0
THROTTLE_FLOOR = 10.0
"""Seconds after a 429: below it, Airflow's bookkeeping of a rescheduled task can race (airflow 72716)."""
MAINTENANCE_FLOOR = 60.0
RETRY_DELAY = timedelta(seconds=10)
MAX_RETRY_DELAY = timedelta(minutes=10)
MAX_THROTTLE_DELAY = 30.0
"""Seconds, jitter included, to which the wait of a rescheduled task grows where Batch asks for no longer one. It uses
no retry, and what is left of a throttled crowd should not sleep while the limit is free again."""


def required_wait(error: BatchError) -> float:
    """Return the seconds that Batch itself asks to wait: its rule for a 429, and its Retry-After."""
    asked = error.retry_after or 0.0 if isinstance(error, BatchApiError) else 0.0
    return max(asked, BATCH_FLOOR) if isinstance(error, BatchRateLimitError) else asked


def delay_floor(error: BatchError) -> float:
    """Return the seconds that we wait at least, never less than required."""
    floor = THROTTLE_FLOOR if isinstance(error, BatchRateLimitError) else 0.0
    return max(required_wait(error), MAINTENANCE_FLOOR if isinstance(error, BatchMaintenanceError) else floor)


def delay_before_next(
    error: BatchError,
    attempt: int,
    context: Mapping[str, Any],
    *,
    base: float = RETRY_DELAY.total_seconds(),
    factor: float = 2.0,
    cap: float = MAX_RETRY_DELAY.total_seconds(),
) -> float:
    """Return the seconds to wait before the next attempt.

    A backoff of ``base * factor ** (attempt - 1)``, plus a jitter of up to as much, so that mapped tasks that were
    refused together come back spread out. Together they stay below ``cap``; the floor, which comes first, does not.

    :param attempt: 1 for the first failure.
    :param context: Identifies the task instance and the attempt.
    """
    backoff = min(_grown(base, factor, attempt), cap / 2)
    return max(delay_floor(error), backoff) + jitter(context, backoff)


def _grown(base: float, factor: float, attempt: int) -> float:
    # A cleared task's try number grows without end, and floats overflow.
    try:
        return base * factor ** min(attempt - 1, 60)
    except OverflowError:
        return math.inf


def jitter(context: Mapping[str, Any], width: float) -> float:
    """Return seconds in [0, width) that differ between task instances, mapped ones too, and between attempts.

    Airflow's own hash leaves out the map index.
    """
    ti, seed = context.get("ti"), ""
    if ti is not None:
        count = context.get("task_reschedule_count") or 0
        seed = f"{ti.dag_id}#{ti.task_id}#{ti.run_id}#{ti.map_index}#{ti.try_number}#{count}"
    digest = hashlib.sha1(seed.encode(), usedforsecurity=False).digest()
    return width * int.from_bytes(digest[:6], "big") / 2**48


def tries_since_clear(task: Any, try_number: int, max_tries: int) -> int:
    """Return which attempt this is, from 1, since the task was first run or last cleared."""
    return max(1, try_number - (max_tries - (task.retries or 0)))


def stock_delay(task: Any, attempt: int) -> float:
    """Return the seconds that Airflow's own backoff waits at least after the given attempt."""
    own = _growth_of(task)
    return min(_grown(own["base"], own["factor"], attempt), own["cap"])


def _growth_of(task: Any) -> dict[str, float]:
    """Return base, factor and cap of a task's own backoff, which 3.1 spells as a flag."""
    base = RETRY_DELAY if task.retry_delay is None else task.retry_delay
    cap = MAX_RETRY_DELAY if task.max_retry_delay is None else task.max_retry_delay
    base, cap = (value.total_seconds() if isinstance(value, timedelta) else float(value) for value in (base, cap))
    backoff = task.retry_exponential_backoff
    return {"base": base, "cap": cap, "factor": 2.0 if backoff is True else float(backoff or 1)}
