"""When Airflow should try again after a failure of Batch: the delays, the retry policy, the retry defaults.

Two rules are floors that nothing shortens: Batch's own "wait for at least 5 seconds" after a 429
(https://doc.batch.com/developer/api/mep/campaigns/update, Failure), and the server's Retry-After, however long.
How a task gives its slot back is in ``operators/base.py``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow_batch.compat import (
    CAN_RESCHEDULE_BY_POLICY,
    HAS_RETRY_POLICY,
    RetryDecision,
    RetryPolicy,
    doubling_backoff,
)
from airflow_batch.exceptions import (
    BatchApiError,
    BatchConfigurationError,
    BatchError,
    BatchMaintenanceError,
    BatchRateLimitError,
)
from airflow_batch.payloads import shown

if TYPE_CHECKING:
    from airflow.sdk import Context

BATCH_FLOOR = 5.0
THROTTLE_FLOOR = 10.0
"""Seconds after a 429: below it, Airflow's bookkeeping of a rescheduled task can race (airflow 72716)."""
MAINTENANCE_FLOOR = 60.0
RETRIES = 6
RETRY_DELAY = timedelta(seconds=10)
MAX_RETRY_DELAY = timedelta(minutes=10)
MAX_WAIT = timedelta(minutes=30)
MAX_WAIT_TO_STOP = timedelta(hours=6)
"""How long a task lets itself be throttled where a campaign is to be stopped: not switching off hurts most."""
MAX_DURATION = timedelta(days=366)
"""The longest that an argument may say."""


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
    :param context: Tells this task instance and attempt from all others.
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


def read_duration(name: str, value: timedelta | float | None, *, also: str = "") -> timedelta | None:
    """Return a duration given as seconds or as a timedelta; None stays None.

    :param also: What else the argument may be, for the message.
    :raises BatchConfigurationError: for anything else, and for what is not above 0 and up to ``MAX_DURATION``.
    """
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds <= MAX_DURATION.total_seconds():
        raise BatchConfigurationError(
            f"{name} must be seconds above 0, a timedelta{also} or None, of at most {MAX_DURATION.days} days, not "
            f"{shown(value)}."
        )
    return timedelta(seconds=seconds)


class BatchRetryPolicy(RetryPolicy):
    """Airflow's retries with Batch's delays, on Airflow 3.3 and later. Below, there are no retry policies.

    After a transient failure the delay is never shorter than what the server asked for, grows with the task's own
    ``retry_delay``, ``retry_exponential_backoff`` and ``max_retry_delay``, and differs between mapped tasks. A
    permanent failure is not tried again. Exceptions of others are left to Airflow. Use it for a ``@task`` that calls
    the hook, which has no safe way to change a campaign: operators do that::

        @task(**retry_defaults())  # this policy, and the operators' other retry arguments
        def live_campaigns(): return [campaign["name"] for campaign in BatchHook().list_campaigns(live=True)]

    On 3.4 and later such a task is rescheduled after a 429 or a maintenance, at no cost of a retry, for up to
    ``max_wait`` from the first of them.
    """

    def __init__(self, max_wait: timedelta = MAX_WAIT) -> None:
        self.max_wait = max_wait

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide about one failure. See :class:`airflow.sdk.RetryPolicy`; runs in the worker."""
        if not isinstance(exception, BatchError):
            return RetryDecision.default()
        if not exception.transient:
            return RetryDecision.fail(reason=_first_line(exception))
        known: Mapping[str, Any] = context or {}
        task, attempt, growth = known.get("task"), try_number, {}
        if task is not None:
            attempt, growth = tries_since_clear(task, try_number, max_tries), _growth_of(task)
        delay = timedelta(seconds=delay_before_next(exception, attempt, known, **growth))
        reason = f"next attempt in {delay.total_seconds():.0f} s: {_first_line(exception)}"
        # An operator of ours has a way of its own to wait without a retry, and came here because it is spent.
        if CAN_RESCHEDULE_BY_POLICY and not hasattr(task, "throttle") and getattr(exception, "throttled", False):
            decide: Any = RetryDecision
            return cast("RetryDecision", decide.reschedule(delay, reschedule_timeout=self.max_wait, reason=reason))
        return RetryDecision.retry(delay, reason=reason)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:400]


def retry_defaults() -> dict[str, Any]:
    """Return the retry arguments of this provider's tasks where neither the user nor ``default_args`` gives them."""
    defaults: dict[str, Any] = {
        "retries": RETRIES,
        "retry_delay": RETRY_DELAY,
        "retry_exponential_backoff": doubling_backoff(),
        "max_retry_delay": MAX_RETRY_DELAY,
    }
    if HAS_RETRY_POLICY:
        defaults["retry_policy"] = BatchRetryPolicy()
    return defaults


class RetryDefaults:
    """Mixin that gives plain and mapped tasks the same defaults on every supported Airflow, above all for retries.

    Airflow loses defaults of ``__init__`` under ``.partial().expand()`` (airflow 72588; ``max_retry_delay`` up to 3.4),
    and one that is set inside ``__init__`` without a look at ``default_args`` overrides the user's. So plain tasks get
    them in ``__init__``, mapped ones in ``partial``, each after what the user, the DAG and its groups say.
    """

    @classmethod
    def task_defaults(cls) -> dict[str, Any]:
        """Return the arguments that a task gets where nobody gives them."""
        return retry_defaults()

    def __init__(self, **kwargs: Any) -> None:
        # Airflow hands __init__ the default_args of the task, its groups and its DAG, merged.
        chosen = {*kwargs, *(kwargs.get("default_args") or {})}
        kwargs.update({name: value for name, value in self.task_defaults().items() if name not in chosen})
        super().__init__(**kwargs)

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Start a mapped task. See ``BaseOperator.partial``."""
        chosen = {*kwargs, *(kwargs.get("default_args") or {})}
        partial = super().partial(**kwargs)  # type: ignore[misc]
        for parent in (partial.kwargs.get("dag"), partial.kwargs.get("task_group")):
            chosen.update(getattr(parent, "default_args", None) or {})
        partial.kwargs.update({name: value for name, value in cls.task_defaults().items() if name not in chosen})
        return partial
