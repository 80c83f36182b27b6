"""What BatchDeleteCampaignOperator does with one attempt, against the sandbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from task import Store, attempt, seconds_until

from airflow_batch.compat import AirflowFailException, AirflowRescheduleException
from airflow_batch.exceptions import (
    BatchAmbiguousError,
    BatchApiMisuseError,
    BatchConnectionError,
    BatchNotFoundError,
    BatchPayloadError,
    BatchRateLimitError,
    BatchServerError,
    BatchWaitExceededError,
)
from airflow_batch.operators.campaigns import BatchDeleteCampaignOperator
from airflow_batch.payloads import payload_digest
from airflow_batch.sandbox import BatchSandbox, Contract

DEFINITION = {
    "name": "Morning news",
    "live": False,
    "push_time": "2030-06-01T09:00:00",
    "messages": [{"language": "en", "body": "Good morning"}],
}


@pytest.fixture
def token(batch):
    return batch.add_campaign(DEFINITION)


@pytest.fixture
def delete(token):
    """Return a function that makes an operator for the sandbox's campaign."""

    def make(**arguments):
        return BatchDeleteCampaignOperator(task_id="delete", **{"campaign": token, **arguments})

    return make


def operations(sandbox):
    return [record.operation for record in sandbox.requests]


def test_a_deletion_is_one_request_and_leaves_a_result_of_fixed_keys(batch, token, delete):
    began = datetime.now(UTC) - timedelta(milliseconds=1)
    result = attempt(delete())
    requested, completed = (datetime.fromisoformat(result.pop(key)) for key in ("requested_at", "completed_at"))
    assert batch.tokens() == ()
    assert operations(batch) == ["delete"]
    assert result == {
        "campaign_token": token,
        "app": None,
        "action": "delete",
        "live": None,
        "name": None,
        "changed": True,
        "http_status": 200,
        "attempt": 1,
        "payload_digest": payload_digest({}),
    }
    assert began <= requested <= completed


def test_an_empty_answer_is_a_success(connect):
    with BatchSandbox(contract=Contract(delete_success_body="")) as sandbox:
        connect(sandbox.connection())
        task = BatchDeleteCampaignOperator(task_id="d", campaign=sandbox.add_campaign(DEFINITION))
        assert attempt(task)["changed"] is True


def test_the_result_of_another_task_names_campaign_and_app(connect):
    with BatchSandbox(apps=("ios", "android")) as sandbox:
        connect(sandbox.connection("api_keys"))
        token = sandbox.add_campaign(DEFINITION, app="android")
        task = BatchDeleteCampaignOperator(task_id="d", campaign={"campaign_token": token, "app": "android"})
        assert attempt(task)["app"] == "android"
        assert sandbox.tokens() == ()


@pytest.mark.parametrize("campaign", ["", "a/b", "list", {"token": "x"}, None])
def test_a_wrong_campaign_fails_at_once_and_nothing_is_sent(batch, delete, campaign):
    with pytest.raises(BatchPayloadError) as caught:
        attempt(delete(campaign=campaign))
    assert isinstance(caught.value, AirflowFailException)
    assert batch.requests == ()


class TestNotFound:
    def test_an_unknown_campaign_fails_the_task_at_once(self, delete):
        with pytest.raises(BatchNotFoundError) as caught:
            attempt(delete(campaign="unknown"))
        assert isinstance(caught.value, AirflowFailException)

    def test_with_missing_ok_it_is_a_success_that_has_changed_nothing(self, batch, token, delete):
        result = attempt(delete(campaign="unknown", missing_ok=True))
        assert (result["changed"], result["http_status"], result["campaign_token"]) == (False, 404, "unknown")
        assert batch.tokens() == (token,)

    @pytest.mark.parametrize("make_store", [Store, lambda: None], ids=["3.3", "3.1"])
    @pytest.mark.parametrize(
        "fault",
        ["delete:reset_after", "delete:500;applied=true", "delete:html;applied=true", "delete:truncate"],
    )
    def test_after_an_attempt_whose_answer_was_lost_it_is_a_success(self, batch, delete, fault, make_store):
        store = make_store()
        batch.inject(fault)
        with pytest.raises((BatchAmbiguousError, BatchServerError)):
            attempt(delete(), store=store)
        result = attempt(delete(), try_number=2, store=store)
        assert (result["changed"], result["http_status"]) == (None, 404)

    def test_after_an_attempt_that_sent_nothing_it_is_a_failure_where_airflow_remembers(self, batch, delete, connect):
        store = Store()
        connect({**batch.connection(), "host": "http://127.0.0.1:9"})
        with pytest.raises(BatchConnectionError):
            attempt(delete(campaign="unknown"), store=store)
        connect(batch.connection())
        with pytest.raises(BatchNotFoundError):
            attempt(delete(campaign="unknown"), try_number=2, store=store)

    def test_after_an_attempt_that_was_throttled_it_is_a_failure(self, batch, delete):
        store = Store()
        batch.inject("delete:429")
        with pytest.raises(AirflowRescheduleException):
            attempt(delete(campaign="unknown"), store=store)
        with pytest.raises(BatchNotFoundError):
            attempt(delete(campaign="unknown"), reschedules=1, store=store)

    def test_one_doubtful_attempt_stays_doubtful_however_clear_the_later_ones_failed(self, batch, delete, connect):
        store = Store()
        batch.inject("delete:reset_after")
        with pytest.raises(BatchAmbiguousError):
            attempt(delete(), store=store)
        connect({**batch.connection(), "host": "http://127.0.0.1:9"})
        with pytest.raises(BatchConnectionError):
            attempt(delete(), try_number=2, store=store)
        connect(batch.connection())
        assert attempt(delete(), try_number=3, store=store)["changed"] is None


class TestTryingAgain:
    def test_a_deletion_that_did_not_take_effect_is_sent_again(self, batch, delete):
        batch.inject("delete:reset_before")
        with pytest.raises(BatchAmbiguousError) as caught:
            attempt(delete())
        assert caught.value.may_have_been_applied
        assert attempt(delete(), try_number=2)["changed"] is True
        assert batch.tokens() == ()

    def test_a_429_gives_the_slot_back_for_at_least_ten_seconds(self, batch, token, delete):
        batch.inject("delete:429")
        with pytest.raises(AirflowRescheduleException) as caught:
            attempt(delete())
        assert 9.9 <= seconds_until(caught.value.reschedule_date) <= 20
        assert batch.tokens() == (token,)

    def test_retry_after_is_never_shortened(self, batch, delete):
        batch.inject("delete:429;retry-after=600")
        with pytest.raises(AirflowRescheduleException) as caught:
            attempt(delete())
        assert seconds_until(caught.value.reschedule_date) >= 599.9

    def test_a_retry_after_beyond_max_wait_fails_at_once(self, batch, delete):
        batch.inject("delete:429;retry-after=601")
        with pytest.raises(BatchWaitExceededError):
            attempt(delete(max_wait=600))

    def test_after_max_wait_the_error_goes_to_the_retries(self, batch, delete):
        batch.inject("delete:429")
        with pytest.raises(BatchRateLimitError):
            attempt(delete(max_wait=600), refused_for=timedelta(seconds=595))

    def test_a_refusal_fails_the_task_at_once(self, connect):
        with BatchSandbox(contract=Contract(dashboard_delete="API_MISUSE")) as sandbox:
            connect(sandbox.connection())
            token = sandbox.add_campaign(DEFINITION, from_api=False)
            with pytest.raises(BatchApiMisuseError) as caught:
                attempt(BatchDeleteCampaignOperator(task_id="d", campaign=token, missing_ok=True))
            assert isinstance(caught.value, AirflowFailException)
            assert sandbox.tokens() == (token,)


def test_a_deletion_that_was_confirmed_before_a_kill_is_told_as_changed(batch):
    token, store = batch.add_campaign({"name": "News", "live": False}), Store()
    task = BatchDeleteCampaignOperator(task_id="delete", campaign=token)
    assert attempt(task, store=store)["changed"] is True
    result = attempt(task, try_number=2, store=store)
    assert (result["changed"], result["http_status"]) == (True, 404)
