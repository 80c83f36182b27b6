"""What BatchUpdateCampaignOperator does with one attempt, against the sandbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from samples import MORNING_NEWS
from task import Store, attempt, seconds_until

from airflow_batch._airflow.compat import AirflowFailException, AirflowRescheduleException
from airflow_batch._campaigns.payload import payload_digest
from airflow_batch.exceptions import (
    BatchAuthenticationError,
    BatchConfigurationError,
    BatchPayloadError,
    BatchRateLimitError,
    BatchServerError,
    BatchWaitExceededError,
)
from airflow_batch.operators.campaigns import BatchUpdateCampaignOperator
from airflow_batch.sandbox import Fault


def throttle(**given):
    headers = {"Retry-After": str(given["retry_after"])} if "retry_after" in given else {}
    return Fault("answer", status=429, headers=headers, times=None)


pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def token(batch):
    return batch.add_campaign(MORNING_NEWS)


@pytest.fixture
def update(token):
    """Return a function that makes an operator for the sandbox's campaign."""

    def make(payload=None, **arguments):
        return BatchUpdateCampaignOperator(
            task_id="update", **{"campaign": token, "payload": payload or {"live": True}, **arguments}
        )

    return make


def operations(sandbox):
    return [record.operation for record in sandbox.requests]


def test_an_update_changes_the_campaign_and_returns_a_result_of_fixed_keys(batch, token, update):
    began = datetime.now(UTC)
    result = attempt(update({"live": True, "name": "Evening news"}))
    requested, completed = (datetime.fromisoformat(result.pop(key)) for key in ("requested_at", "completed_at"))
    assert batch.campaign(token)["name"] == "Evening news"
    assert result == {
        "campaign_token": token,
        "app": None,
        "action": "update",
        "live": True,
        "name": "Evening news",
        "changed": True,
        "http_status": 200,
        "attempt": 1,
        "payload_digest": payload_digest({**MORNING_NEWS, "name": "Evening news", "live": True}),
    }
    assert requested.utcoffset() == timedelta(0)
    assert began - timedelta(milliseconds=1) <= requested <= completed


def test_the_result_of_an_update_has_live_and_name_of_the_campaign_where_the_payload_has_none(update):
    result = attempt(update({"labels": ["sale"]}))
    assert (result["live"], result["name"]) == (False, "Morning news")


def test_the_result_of_an_update_with_read_never_has_null_for_what_is_unknown(update):
    result = attempt(update({"labels": ["sale"]}, read="never"))
    assert (result["live"], result["name"]) == (None, None)


def test_an_update_converts_rendered_text_to_batchs_types(batch, token, update):
    attempt(update({"live": "True", "push_time": "2026-07-01 09:00:00+02:00"}))
    assert (batch.campaign(token)["live"], batch.campaign(token)["push_time"]) == (True, "2026-07-01T07:00:00")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"campaign": "None"}, "rendered to nothing"),
        ({"payload": {"name": "ab"}}, "ab"),
        ({"payload": ["live"]}, "list"),
        ({"payload": "live"}, "JSON"),
        ({"payload": "missing.json"}, "missing.json"),
    ],
)
def test_an_invalid_argument_of_an_update_fails_before_any_request(batch, update, arguments, named):
    with pytest.raises(BatchPayloadError, match=named) as caught:
        attempt(update(**arguments))
    assert isinstance(caught.value, AirflowFailException)
    assert batch.requests == ()


def test_an_invalid_throttle_is_refused_when_the_dag_is_parsed(token):
    with pytest.raises(BatchConfigurationError, match="wait"):
        BatchUpdateCampaignOperator(task_id="u", campaign=token, payload={}, throttle="wait")


def test_an_update_with_an_invalid_key_is_one_request_and_a_permanent_failure(batch, update, connect):
    connect({**batch.connection(), "password": "sandbox-wrong"})
    with pytest.raises(BatchAuthenticationError) as caught:
        attempt(update())
    assert isinstance(caught.value, AirflowFailException)
    assert len(batch.requests) == 1


@pytest.mark.parametrize("max_wait", [0, -5, "30", True, float("nan"), timedelta(0)])
def test_an_invalid_max_wait_is_refused_when_the_dag_is_parsed(token, max_wait):
    with pytest.raises(BatchConfigurationError, match="max_wait"):
        BatchUpdateCampaignOperator(task_id="u", campaign=token, payload={}, max_wait=max_wait)


class TestThrottled:
    def test_a_429_reschedules_an_update_after_at_least_ten_seconds(self, batch, token, update):
        batch.inject(throttle())
        with pytest.raises(AirflowRescheduleException) as caught:
            attempt(update())
        assert 9.9 <= seconds_until(caught.value.reschedule_date) <= 20
        assert batch.campaign(token)["live"] is False

    def test_a_throttled_update_is_rescheduled_not_before_retry_after(self, batch, update):
        batch.inject(throttle(retry_after=600))
        with pytest.raises(AirflowRescheduleException) as caught:
            attempt(update())
        assert 599.9 <= seconds_until(caught.value.reschedule_date) <= 611

    def test_a_maintenance_reschedules_an_update_after_at_least_a_minute(self, batch, update):
        batch.inject(Fault("answer", error="MAINTENANCE_ERROR"))
        with pytest.raises(AirflowRescheduleException) as caught:
            attempt(update())
        assert seconds_until(caught.value.reschedule_date) >= 59.9

    def test_a_503_that_is_no_maintenance_is_left_to_airflows_retries(self, batch, update):
        batch.inject(Fault("html", status=503))
        with pytest.raises(BatchServerError):
            attempt(update())

    def test_the_delay_of_a_reschedule_grows_to_30_seconds(self, batch, update):
        batch.inject(throttle())
        waits = []
        for reschedules in (0, 2, 4):
            with pytest.raises(AirflowRescheduleException) as caught:
                attempt(update(), reschedules=reschedules, refused_for=timedelta(seconds=1))
            waits.append(seconds_until(caught.value.reschedule_date))
        assert 9 < waits[0] < 21
        assert all(14 < wait < 31 for wait in waits[1:])

    def test_mapped_updates_that_are_throttled_together_are_rescheduled_at_different_moments(self, batch, update):
        batch.inject(throttle())
        moments = []
        for index in range(30):
            with pytest.raises(AirflowRescheduleException) as caught:
                attempt(update(), map_index=index)
            moments.append(caught.value.reschedule_date)
        seconds = sorted(seconds_until(moment) for moment in moments)
        assert len({round(second, 1) for second in seconds}) > 20
        assert seconds[-1] - seconds[0] > 5

    def test_max_wait_counts_from_the_first_429_and_then_the_error_is_left_to_airflows_retries(self, batch, update):
        batch.inject(throttle())
        with pytest.raises(AirflowRescheduleException):
            attempt(update(max_wait=600), reschedules=9, refused_for=timedelta(seconds=580))
        with pytest.raises(BatchRateLimitError):
            attempt(update(max_wait=600), reschedules=9, refused_for=timedelta(seconds=595))

    def test_max_wait_is_half_an_hour_by_default_but_six_hours_to_stop_a_campaign(self, batch, update):
        batch.inject(throttle())
        with pytest.raises(BatchRateLimitError):
            attempt(update({"live": True}), refused_for=timedelta(hours=1))
        with pytest.raises(AirflowRescheduleException):
            attempt(update({"live": False}), refused_for=timedelta(hours=5))
        with pytest.raises(BatchRateLimitError):
            attempt(update({"live": False}), refused_for=timedelta(hours=6))

    def test_the_last_reschedule_ends_with_max_wait(self, batch, update):
        batch.inject(throttle())
        with pytest.raises(AirflowRescheduleException) as caught:
            attempt(update(max_wait=900), reschedules=20, refused_for=timedelta(seconds=880))
        assert 19 <= seconds_until(caught.value.reschedule_date) <= 20.1

    @pytest.mark.parametrize("mode", ["reschedule", "retry"])
    def test_a_retry_after_beyond_max_wait_fails_at_once_and_is_named(self, batch, update, mode):
        batch.inject(throttle(retry_after=10_000))
        with pytest.raises(BatchWaitExceededError, match=r"10000 s.*30 min") as caught:
            attempt(update(throttle=mode))
        assert isinstance(caught.value, AirflowFailException)
        assert caught.value.retry_after == 10_000

    def test_max_wait_counts_across_retries_where_airflow_has_a_task_state_store(self, batch, update):
        batch.inject(throttle())
        store = Store()
        with pytest.raises(AirflowRescheduleException):
            attempt(update(max_wait=600), store=store)
        store.kept["airflow_batch_refused_since"]["value"] = (datetime.now(UTC) - timedelta(seconds=595)).isoformat()
        with pytest.raises(BatchRateLimitError):
            attempt(update(max_wait=600), store=store, try_number=2)

    def test_max_wait_starts_again_for_a_cleared_task(self, batch, update):
        batch.inject(throttle())
        store = Store()
        with pytest.raises(AirflowRescheduleException):
            attempt(update(max_wait=600), store=store)
        store.kept["airflow_batch_refused_since"]["value"] = (datetime.now(UTC) - timedelta(days=2)).isoformat()
        with pytest.raises(AirflowRescheduleException):
            attempt(update(max_wait=600), store=store, try_number=2, max_tries=7)

    def test_an_update_with_throttle_retry_leaves_a_429_to_airflows_retries(self, batch, update):
        batch.inject(throttle(retry_after=25))
        task = update(throttle="retry")
        if getattr(task, "retry_policy", None) is None:
            pytest.skip("before Airflow 3.3 a retry cannot carry the delay")
        with pytest.raises(BatchRateLimitError) as caught:
            attempt(task)
        assert caught.value.retry_after == 25

    def test_an_update_with_throttle_retry_is_rescheduled_where_a_retry_would_come_too_early(self, batch, update):
        batch.inject(throttle(retry_after=25))
        task = update(throttle="retry")
        task.retry_policy = None
        with pytest.raises(AirflowRescheduleException) as caught:
            attempt(task)
        assert seconds_until(caught.value.reschedule_date) >= 24.9

    def test_an_update_with_throttle_retry_uses_a_retry_delay_that_is_long_enough(self, batch, update):
        batch.inject(throttle(retry_after=25))
        task = update(throttle="retry", retry_delay=timedelta(seconds=30))
        task.retry_policy = None
        with pytest.raises(BatchRateLimitError):
            attempt(task)
