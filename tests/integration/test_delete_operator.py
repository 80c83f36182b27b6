"""What BatchDeleteCampaignOperator does with one attempt, against the sandbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from samples import SUMMER_SALE
from task import Store, attempt, seconds_until

from airflow_batch._airflow.compat import AirflowFailException, AirflowRescheduleException
from airflow_batch._campaigns.payload import payload_digest
from airflow_batch.exceptions import (
    BatchApiMisuseError,
    BatchChangeRefusedError,
    BatchConnectionError,
    BatchNotFoundError,
    BatchPayloadError,
    BatchRateLimitError,
    BatchServerError,
)
from airflow_batch.operators.campaigns import BatchDeleteCampaignOperator
from airflow_batch.sandbox import BatchSandbox, Contract

ANSWER_LOST = ["delete:reset_after", "delete:500;applied=true"]


@pytest.fixture(params=[Store, lambda: None], ids=["with a store", "without a store"])
def store(request):
    return request.param()


@pytest.fixture
def token(batch):
    return batch.add_campaign(SUMMER_SALE)


@pytest.fixture
def delete(token):
    """Return a function that makes an operator for the sandbox's campaign."""

    def make(**arguments):
        return BatchDeleteCampaignOperator(task_id="delete", **{"campaign": token, **arguments})

    return make


def operations(sandbox):
    return [record.operation for record in sandbox.requests]


def test_a_deletion_is_one_request_and_returns_a_result_of_fixed_keys(batch, token, delete):
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


def test_an_empty_answer_confirms_a_deletion(connect):
    with BatchSandbox(contract=Contract(delete_success_body="")) as sandbox:
        connect(sandbox.connection())
        task = BatchDeleteCampaignOperator(task_id="d", campaign=sandbox.add_campaign(SUMMER_SALE))
        assert attempt(task)["changed"] is True


@pytest.mark.parametrize("campaign", ["", "a/b", "list", {"token": "x"}, None])
def test_a_deletion_of_an_invalid_campaign_fails_before_any_request(batch, delete, campaign):
    with pytest.raises(BatchPayloadError) as caught:
        attempt(delete(campaign=campaign))
    assert isinstance(caught.value, AirflowFailException)
    assert batch.requests == ()


class TestNotFound:
    def test_a_deletion_of_an_unknown_campaign_fails_at_once_and_again_after_the_task_is_cleared(self, delete, store):
        for try_number, max_tries in ((1, 6), (2, 8)):
            with pytest.raises(BatchNotFoundError) as caught:
                attempt(delete(campaign="unknown"), store=store, try_number=try_number, max_tries=max_tries)
            assert isinstance(caught.value, AirflowFailException)

    def test_a_deletion_of_an_unknown_campaign_with_missing_ok_succeeds_unchanged(self, batch, token, delete):
        result = attempt(delete(campaign="unknown", missing_ok=True))
        assert (result["changed"], result["http_status"], result["campaign_token"]) == (False, 404, "unknown")
        assert batch.tokens() == (token,)

    @pytest.mark.parametrize("arguments", [{"expect_name": "Summer sale"}, {"dry_run": True}])
    def test_a_deletion_with_missing_ok_succeeds_where_the_view_does_not_know_the_campaign(
        self, batch, delete, arguments
    ):
        result = attempt(delete(campaign="unknown", missing_ok=True, **arguments))
        assert (result["changed"], result["http_status"]) == (False, 404)
        assert operations(batch) == ["view"]

    @pytest.mark.parametrize("fault", ANSWER_LOST)
    def test_a_404_after_an_ambiguous_deletion_of_the_same_attempt_is_a_success(
        self, batch, delete, clock, fault, store
    ):
        batch.inject(fault)
        result = attempt(delete(), store=store)
        assert (result["changed"], result["http_status"], clock.slept) == (None, 404, [5.0])

    def test_a_404_after_an_ambiguous_deletion_of_an_earlier_attempt_is_a_success_with_a_store(
        self, batch, delete, clock
    ):
        store = Store()
        batch.inject(*ANSWER_LOST[:1], "delete:500;times=2")
        with pytest.raises(BatchServerError):
            attempt(delete(), store=store)
        assert attempt(delete(), try_number=2, store=store)["changed"] is None

    def test_a_404_after_an_ambiguous_deletion_of_an_earlier_attempt_is_a_failure_without_a_store(
        self, batch, delete, clock
    ):
        batch.inject(*ANSWER_LOST[:1], "delete:500;times=2")
        with pytest.raises(BatchServerError):
            attempt(delete())
        with pytest.raises(BatchNotFoundError):
            attempt(delete(), try_number=2)

    @pytest.mark.parametrize("max_tries", [6, 8], ids=["retry", "clear"])
    def test_a_404_after_an_attempt_that_sent_nothing_is_a_failure(self, batch, delete, connect, clock, max_tries):
        store = Store()
        connect({**batch.connection(), "host": "http://127.0.0.1:9"})
        with pytest.raises(BatchConnectionError):
            attempt(delete(campaign="unknown"), store=store)
        connect(batch.connection())
        with pytest.raises(BatchNotFoundError):
            attempt(delete(campaign="unknown"), try_number=2, max_tries=max_tries, store=store)
        assert clock.slept == [5.0, 15.0]

    def test_a_404_after_a_throttled_attempt_is_a_failure(self, batch, delete):
        store = Store()
        batch.inject("delete:429")
        with pytest.raises(AirflowRescheduleException):
            attempt(delete(campaign="unknown"), store=store)
        with pytest.raises(BatchNotFoundError):
            attempt(delete(campaign="unknown"), reschedules=1, store=store)

    def test_a_404_after_an_ambiguous_deletion_is_a_success_although_later_attempts_sent_nothing(
        self, batch, delete, connect, clock
    ):
        store = Store()
        batch.inject("delete:reset_after", "delete:500;times=2")
        with pytest.raises(BatchServerError):
            attempt(delete(), store=store)
        connect({**batch.connection(), "host": "http://127.0.0.1:9"})
        with pytest.raises(BatchConnectionError):
            attempt(delete(), try_number=2, store=store)
        connect(batch.connection())
        assert attempt(delete(), try_number=3, store=store)["changed"] is None

    def test_a_404_after_the_deletion_of_another_campaign_is_a_failure(self, batch, delete):
        store = Store()
        assert attempt(delete(), store=store)["changed"] is True
        with pytest.raises(BatchNotFoundError):
            attempt(delete(campaign="unknown"), try_number=2, max_tries=8, store=store)


class TestExpectName:
    def test_a_campaign_with_the_expected_name_is_deleted(self, batch, delete):
        assert attempt(delete(expect_name=" Summer sale"))["name"] == "Summer sale"
        assert (operations(batch), batch.tokens()) == (["view", "delete"], ())

    @pytest.mark.parametrize("name", ["Winter sale", "", "None"])
    def test_a_deletion_is_refused_for_another_name_and_for_an_expect_name_that_renders_to_nothing(
        self, batch, delete, name
    ):
        with pytest.raises(BatchChangeRefusedError, match="expect_name"):
            attempt(delete(expect_name=name))
        assert operations(batch) == ["view"]

    def test_a_deletion_with_expect_name_is_refused_where_the_key_cannot_read_the_name(self, batch, connect, delete):
        connect(batch.connection(kind="dev"))
        with pytest.raises(BatchChangeRefusedError, match="cannot be compared"):
            attempt(delete(expect_name="Summer sale"))
        assert operations(batch) == ["view"]

    def test_the_retry_of_an_ambiguous_deletion_does_not_fail_for_the_missing_name(self, batch, delete, clock):
        store = Store()
        batch.inject("delete:reset_after", "delete:500;times=2")
        with pytest.raises(BatchServerError):
            attempt(delete(expect_name="Summer sale"), store=store)
        assert attempt(delete(expect_name="Summer sale"), try_number=2, store=store)["changed"] is None


class TestDryRun:
    def test_a_dry_run_of_a_deletion_deletes_nothing_and_names_the_campaign(self, batch, token, delete):
        result = attempt(delete(dry_run=True))
        assert (result["action"], result["changed"], result["name"]) == ("dry_run", False, "Summer sale")
        assert (operations(batch), batch.tokens()) == (["view"], (token,))

    def test_a_dry_run_of_a_deletion_fails_for_an_unknown_campaign_and_for_another_name(self, batch, delete):
        with pytest.raises(BatchNotFoundError):
            attempt(delete(campaign="unknown", dry_run=True))
        with pytest.raises(BatchChangeRefusedError):
            attempt(delete(expect_name="Winter sale", dry_run=True))

    def test_a_dry_run_of_a_deletion_saves_no_record(self, batch, delete):
        store = Store()
        attempt(delete(dry_run=True), store=store)
        assert store.kept == {}


class TestRetries:
    def test_a_deletion_that_was_not_applied_is_sent_again_by_the_same_attempt(self, batch, delete, clock, store):
        batch.inject("delete:reset_before")
        assert attempt(delete(), store=store)["changed"] is True
        assert (batch.tokens(), clock.slept) == ((), [5.0])

    def test_without_a_store_a_throttle_after_an_ambiguous_deletion_is_not_rescheduled(self, batch, delete, clock):
        batch.inject("delete:reset_after", "delete:429")
        with pytest.raises(BatchRateLimitError):
            attempt(delete())

    def test_a_429_reschedules_a_deletion_after_at_least_ten_seconds(self, batch, token, delete):
        batch.inject("delete:429")
        with pytest.raises(AirflowRescheduleException) as caught:
            attempt(delete())
        assert 9.9 <= seconds_until(caught.value.reschedule_date) <= 20
        assert batch.tokens() == (token,)

    def test_a_deletion_that_batch_refuses_fails_at_once(self, connect):
        with BatchSandbox(contract=Contract(dashboard_delete="API_MISUSE")) as sandbox:
            connect(sandbox.connection())
            token = sandbox.add_campaign(SUMMER_SALE, from_api=False)
            with pytest.raises(BatchApiMisuseError) as caught:
                attempt(BatchDeleteCampaignOperator(task_id="d", campaign=token, missing_ok=True))
            assert isinstance(caught.value, AirflowFailException)
            assert sandbox.tokens() == (token,)


def test_the_attempt_after_a_confirmed_deletion_reports_it_as_changed(batch):
    token, store = batch.add_campaign({"name": "News", "live": False}), Store()
    task = BatchDeleteCampaignOperator(task_id="delete", campaign=token)
    assert attempt(task, store=store)["changed"] is True
    result = attempt(task, try_number=2, store=store)
    assert (result["changed"], result["http_status"]) == (True, 404)
