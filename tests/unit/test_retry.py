"""When Airflow should retry: the delays, and the retry policy that applies them."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from task import Attempt

from airflow_batch._airflow import compat
from airflow_batch._airflow.backoff import delay_before_next, delay_floor, stock_delay
from airflow_batch.exceptions import (
    BatchAmbiguousError,
    BatchConnectionError,
    BatchMaintenanceError,
    BatchNotFoundError,
    BatchPayloadError,
    BatchRateLimitError,
    BatchServerError,
    BatchVerificationError,
)
from airflow_batch.policies.retry import BatchRetryPolicy

TRANSIENT = [
    BatchRateLimitError,
    BatchMaintenanceError,
    BatchServerError,
    BatchConnectionError,
    BatchAmbiguousError,
]


@pytest.mark.parametrize(
    ("error", "floor"),
    [
        (BatchRateLimitError("x"), 10),
        (BatchRateLimitError("x", retry_after=0), 10),
        (BatchRateLimitError("x", retry_after=25), 25),
        (BatchRateLimitError("x", retry_after=1e9), 1e9),
        (BatchMaintenanceError("x"), 60),
        (BatchMaintenanceError("x", retry_after=300), 300),
        (BatchServerError("x"), 0),
        (BatchServerError("x", retry_after=40), 40),
        (BatchVerificationError("x"), 0),
    ],
)
def test_the_shortest_delay_is_that_of_the_error_or_retry_after_whichever_is_longer(error, floor):
    assert delay_floor(error) == floor


@given(
    kind=st.sampled_from(TRANSIENT),
    retry_after=st.none() | st.floats(0, 1e9),
    attempt=st.integers(1, 10_000),
    map_index=st.integers(-1, 1000),
    base=st.floats(0, 1000),
    factor=st.floats(0, 10),
    cap=st.floats(0, 10_000),
)
def test_a_delay_is_never_shorter_than_the_shortest_nor_much_longer_than_the_backoff(
    kind, retry_after, attempt, map_index, base, factor, cap
):
    error = kind("x", retry_after=retry_after)
    context = {"ti": Attempt(map_index=map_index)}
    delay = delay_before_next(error, attempt, context, base=base, factor=factor, cap=cap)
    assert delay_floor(error) <= delay <= max(delay_floor(error), cap / 2) + cap / 2
    timedelta(seconds=delay)


def test_the_backoff_doubles_from_ten_seconds_to_ten_minutes():
    error = BatchServerError("x")
    delays = [delay_before_next(error, attempt, {}) for attempt in range(1, 9)]
    backoffs = [10, 20, 40, 80, 160, 300, 300, 300]
    assert all(backoff <= delay <= 2 * backoff for backoff, delay in zip(backoffs, delays, strict=True))
    assert max(delays) <= 600


def test_mapped_tasks_of_one_run_have_different_delays_and_each_task_always_the_same():
    error = BatchRateLimitError("x")
    delays = [delay_before_next(error, 1, {"ti": Attempt(map_index=index)}) for index in range(100)]
    assert len(set(delays)) == 100
    assert delays[7] == delay_before_next(error, 1, {"ti": Attempt(map_index=7)})


@pytest.mark.parametrize(
    ("backoff", "attempt", "seconds"), [(True, 3, 40), (2.0, 3, 40), (3.0, 2, 30), (0, 5, 10), (False, 5, 10)]
)
def test_the_delay_of_airflow_itself_is_computed_for_every_form_of_retry_exponential_backoff(backoff, attempt, seconds):
    task = SimpleNamespace(retry_delay=timedelta(seconds=10), retry_exponential_backoff=backoff, max_retry_delay=None)
    assert stock_delay(task, attempt) == seconds


def task(**given):
    return SimpleNamespace(
        **{
            "retries": 6,
            "retry_delay": timedelta(seconds=10),
            "retry_exponential_backoff": 2.0,
            "max_retry_delay": timedelta(minutes=10),
            **given,
        }
    )


def decide(error, *, try_number=1, max_tries=6, owner=None, **ti):
    context = {"ti": Attempt(try_number=try_number, **ti), "task": owner or task(throttle="retry")}
    return BatchRetryPolicy().evaluate(error, try_number, max_tries, context)


@pytest.mark.skipif(not compat.HAS_RETRY_POLICY, reason="Airflow has retry policies from 3.3 on")
class TestPolicy:
    def test_the_policy_retries_a_transient_error_not_before_retry_after(self):
        decision = decide(BatchRateLimitError("Batch refused the update: 429", retry_after=25))
        assert decision.action.value == "retry"
        assert 25 <= decision.retry_delay.total_seconds() <= 35
        assert "429" in decision.reason

    def test_the_delay_of_the_policy_follows_the_arguments_of_the_task(self):
        own = task(retry_delay=timedelta(seconds=100), retry_exponential_backoff=3.0, max_retry_delay=500)
        delays = [decide(BatchServerError("x"), try_number=n, owner=own).retry_delay.total_seconds() for n in (1, 2, 3)]
        assert 100 <= delays[0] <= 200
        assert all(250 <= delay <= 500 for delay in delays[1:])

    def test_the_policy_starts_a_cleared_task_with_short_delays_again(self):
        decision = decide(BatchServerError("x"), try_number=8, max_tries=13)
        assert decision.retry_delay.total_seconds() <= 20

    @pytest.mark.parametrize("error", [BatchNotFoundError("x"), BatchPayloadError("x")])
    def test_the_policy_does_not_retry_a_permanent_error(self, error):
        assert decide(error).action.value == "fail"

    @pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
    def test_the_policy_leaves_errors_of_other_packages_to_airflow(self, error):
        assert decide(error).action.value == "default"

    def test_the_policy_decides_without_a_context(self):
        decision = BatchRetryPolicy().evaluate(BatchRateLimitError("x"), 1, 6, None)
        assert 10 <= decision.retry_delay.total_seconds() <= 20

    def test_the_reason_of_the_policy_fits_the_column_of_airflows_database(self):
        assert len(decide(BatchServerError("x" * 2000)).reason) <= 500

    @pytest.mark.skipif(not compat.CAN_RESCHEDULE_BY_POLICY, reason="policies reschedule from Airflow 3.4 on")
    def test_the_policy_reschedules_a_taskflow_task_within_a_time_limit(self):
        decision = decide(BatchRateLimitError("x", retry_after=25), owner=task())
        assert decision.action.value == "reschedule"
        assert decision.retry_delay.total_seconds() >= 25
        assert decision.reschedule_timeout == timedelta(minutes=30)

    def test_the_policy_does_not_reschedule_an_operator_that_does_so_itself(self):
        assert decide(BatchRateLimitError("x")).action.value == "retry"
