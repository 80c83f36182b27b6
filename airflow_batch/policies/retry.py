"""When Airflow should try again after a failure of Batch: the delays, the retry policy, the retry defaults.

Two rules are floors that nothing shortens: Batch's own "wait for at least 5 seconds" after a 429
(https://doc.batch.com/developer/api/mep/campaigns/update, Failure), and the server's Retry-After, however long.
How a task gives its slot back is in ``operators/_base.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow_batch._airflow.backoff import (
    MAX_RETRY_DELAY,
    RETRY_DELAY,
    _growth_of,
    delay_before_next,
    tries_since_clear,
)
from airflow_batch._airflow.compat import (
    CAN_RESCHEDULE_BY_POLICY,
    HAS_RETRY_POLICY,
    RetryDecision,
    RetryPolicy,
    doubling_backoff,
)
from airflow_batch.exceptions import (
    BatchError,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

RETRIES = 6
MAX_WAIT = timedelta(minutes=30)
MAX_WAIT_TO_STOP = timedelta(hours=6)
"""How long a task lets itself be throttled where a campaign is to be stopped: not switching off hurts most."""


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
    and one that is set inside ``__init__`` without regard to ``default_args`` overrides the user's. So plain tasks get
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
