"""How BatchUpdateCampaignOperator changes a campaign without losing or repeating anything, against the sandbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from task import context_of

from airflow_batch.compat import AirflowFailException
from airflow_batch.exceptions import (
    BatchAmbiguousError,
    BatchChangeRefusedError,
    BatchMalformedParameterError,
    BatchParametersLostError,
    BatchRepeatRefusedError,
    BatchResponseError,
    BatchServerError,
)
from airflow_batch.operators.campaigns import BatchUpdateCampaignOperator
from airflow_batch.sandbox import BatchSandbox, Contract, Fault

DAILY = {"repeat_unit": "DAILY", "repeat_frequency": 1}
DEFINITION = {
    "name": "Summer sale",
    "live": False,
    "push_time": "2099-06-01T09:00:00",
    "gcm_collapse_key": {"enabled": True, "key": "sale"},
    "labels": ["SALE"],
    "messages": [{"language": "en", "body": "Hi"}],
}
NOW = {"live": True, "push_time": "now"}


def run(task, **ti):
    """Execute one attempt, in a run that was due three days ago: an update does not mind."""
    return task.execute(context_of(task, late=timedelta(days=3), **ti))


def update(campaign, payload, **arguments):
    return BatchUpdateCampaignOperator(task_id="update", campaign=campaign, payload=payload, **arguments)


def writes(sandbox):
    return [record.operation for record in sandbox.requests].count("update")


def in_batchs_form(moment):
    return f"{moment:%Y-%m-%dT%H:%M:%S}"


@pytest.fixture
def token(batch):
    return batch.add_campaign(DEFINITION)


@pytest.fixture
def dev(batch, connect):
    """The sandbox, reached with a key that cannot read."""
    connect(batch.connection(kind="dev"))
    return batch


class TestTheRestStays:
    @pytest.mark.parametrize("mode", ["strict", "merge", "replace"])
    def test_what_the_payload_does_not_name_stays_whatever_batch_does_with_what_is_left_out(self, connect, mode):
        with BatchSandbox(update_mode=mode) as sandbox:
            connect(sandbox.connection())
            token = sandbox.add_campaign(DEFINITION)
            before = sandbox.campaign(token)
            run(update(token, {"labels": ["WINTER"], "time_to_live": 60}))
            assert sandbox.campaign(token) == {**before, "labels": ["WINTER"], "time_to_live": 60}

    def test_the_same_payload_again_sends_nothing(self, batch, token):
        payload = {"live": True, "name": "Winter sale", "labels": ["WINTER"]}
        run(update(token, payload))
        result = run(update(token, payload))
        assert writes(batch) == 1
        assert (result["changed"], result["http_status"], result["live"]) == (False, None, True)

    def test_a_push_time_takes_the_place_of_the_local_one_and_nothing_is_lost(self, batch, token):
        run(update(token, {"local_push_time": "2099-07-01T09:00:00"}))
        assert batch.campaign(token)["local_push_time"] == "2099-07-01T09:00:00"
        assert "push_time" not in batch.campaign(token)
        run(update(token, {"push_time": "2099-08-01T09:00:00"}))
        assert batch.campaign(token)["push_time"] == "2099-08-01T09:00:00"
        assert "local_push_time" not in batch.campaign(token)

    def test_the_definition_fills_what_view_does_not_give(self, connect):
        with BatchSandbox(contract=Contract(message_language_in_view=False)) as sandbox:
            connect(sandbox.connection())
            token = sandbox.add_campaign(DEFINITION)
            with pytest.raises(BatchMalformedParameterError, match="definition="):
                run(update(token, {"labels": ["WINTER"]}))
            assert run(update(token, {"labels": ["WINTER"]}, definition=DEFINITION))["changed"] is True

    def test_a_parameter_that_batch_dropped_is_a_permanent_failure(self, connect):
        def on_record(record):
            if record.operation == "update":
                sandbox.inject(Fault("answer", "view", status=200, body={"name": "Summer sale", "live": False}))

        with BatchSandbox(on_record=on_record) as sandbox:
            connect(sandbox.connection())
            token = sandbox.add_campaign(DEFINITION)
            with pytest.raises(BatchParametersLostError, match=r"gcm_collapse_key.*messages") as caught:
                run(update(token, {"labels": ["WINTER"]}))
        assert isinstance(caught.value, AirflowFailException)
        assert "labels" not in str(caught.value)

    def test_what_batch_then_shows_otherwise_than_it_was_sent_is_a_warning(self, connect, caplog):
        def on_record(record):
            if record.operation == "update":
                body = {**sandbox.campaign(token), "labels": ["OTHER"]}
                sandbox.inject(Fault("answer", "view", status=200, body=body))

        with BatchSandbox(on_record=on_record) as sandbox:
            connect(sandbox.connection())
            token = sandbox.add_campaign(DEFINITION)
            assert run(update(token, {"labels": ["WINTER"], "name": "Winter sale"}))["changed"] is True
        assert "shows another labels than was sent" in caplog.text

    def test_what_view_gives_in_another_form_is_no_such_warning(self, batch, token, caplog):
        run(update(token, {"gcm_collapse_key": {"enabled": True, "key": "winter"}}))
        assert batch.campaign(token)["gcm_collapse_key"] == "winter"
        assert "shows another" not in caplog.text

    def test_a_late_run_is_sent_all_the_same(self, batch, token):
        assert run(update(token, {"live": True}))["changed"] is True


class TestRefusals:
    @pytest.mark.parametrize(
        ("payload", "told"),
        [
            ({"labels": None}, r"takes labels from .* Leave them out of the payload"),
            ({"push_time": None}, "takes push_time from"),
            ({"live": True, "push_time": "2020-01-01T00:00:00"}, "has passed"),
        ],
    )
    def test_what_batch_forbids_is_refused_before_anything_is_sent(self, batch, token, payload, told):
        with pytest.raises(BatchChangeRefusedError, match=told):
            run(update(token, payload))
        assert writes(batch) == 0

    def test_a_recurring_campaign_does_not_become_a_one_time_one(self, batch):
        token = batch.add_campaign({**DEFINITION, "recurrence": DAILY})
        with pytest.raises(BatchChangeRefusedError, match="Leave recurrence out, or create a new campaign"):
            run(update(token, {"recurrence": None}))
        assert writes(batch) == 0

    def test_a_campaign_of_the_dashboard_is_not_updated(self, batch):
        with pytest.raises(BatchChangeRefusedError, match="dashboard"):
            run(update(batch.add_campaign(DEFINITION, from_api=False), {"live": True}))
        assert writes(batch) == 0

    def test_neither_is_one_of_another_name(self, batch, token):
        with pytest.raises(BatchChangeRefusedError, match="not 'Winter sale'"):
            run(update(token, {"live": True}, expect_name="Winter sale"))
        assert writes(batch) == 0

    def test_the_expected_name_is_the_one_before_the_change(self, batch, token):
        run(update(token, {"name": "Winter sale"}, expect_name="Summer sale"))
        assert batch.campaign(token)["name"] == "Winter sale"

    def test_a_campaign_that_an_earlier_attempt_has_renamed_is_a_success(self, batch, token):
        task = update(token, {"name": "Winter sale"}, expect_name="Summer sale")
        batch.inject(Fault("reset_after", "update"))
        with pytest.raises(BatchAmbiguousError):
            run(task)
        assert run(task, try_number=2)["name"] == "Winter sale"
        assert writes(batch) == 1

    def test_a_past_push_time_without_reading_is_refused_as_well(self, batch, token):
        with pytest.raises(BatchChangeRefusedError, match="has passed"):
            run(update(token, {"live": True, "push_time": "2020-01-01T00:00:00"}, read="never"))
        assert batch.requests == ()

    def test_a_view_that_says_nothing_is_a_failure(self, batch, token):
        batch.inject(Fault("html", "view", status=200))
        with pytest.raises(BatchResponseError):
            run(update(token, {"live": True}))
        assert writes(batch) == 0


class TestDryRun:
    def test_nothing_is_written_and_the_difference_is_returned_field_by_field(self, batch, token):
        result = run(update(token, {"live": True, "labels": ["WINTER"]}, dry_run=True))
        assert result["differences"] == [
            {"parameter": "live", "now": False, "wanted": True},
            {"parameter": "labels", "now": ["SALE"], "wanted": ["WINTER"]},
        ]
        assert (result["action"], result["changed"], writes(batch)) == ("dry_run", False, 0)

    def test_a_push_that_would_go_out_now_is_a_difference(self, batch, token):
        rows = run(update(token, {"push_time": "now"}, dry_run=True))["differences"]
        assert rows == [{"parameter": "push_time", "now": "2099-06-01T09:00:00", "wanted": "now"}]

    def test_without_reading_the_whole_payload_is_a_difference(self, dev, token):
        rows = run(update(token, {"live": True}, dry_run=True))["differences"]
        assert rows == [{"parameter": "live", "now": None, "wanted": True}]
        assert writes(dev) == 0


class TestAPushThatMayHaveGoneOut:
    def test_now_is_always_sent_on_a_first_attempt(self, batch):
        token = batch.add_campaign({**DEFINITION, "live": True})
        assert run(update(token, NOW))["changed"] is True
        assert batch.campaign(token)["push_time"] != DEFINITION["push_time"]

    def test_now_is_sent_again_where_the_campaign_is_seen_not_to_be_live(self, batch, token):
        batch.inject(Fault("reset_before", "update"))
        with pytest.raises(BatchAmbiguousError):
            run(update(token, NOW))
        assert run(update(token, NOW), try_number=2)["changed"] is True

    def test_now_is_not_sent_again_where_it_is_seen_to_have_gone_out(self, batch):
        token = batch.add_campaign({**DEFINITION, "live": True})
        batch.inject(Fault("answer", "update", status=500, applied=True))
        with pytest.raises(BatchServerError):
            run(update(token, NOW))
        assert run(update(token, NOW), try_number=2)["live"] is True
        assert writes(batch) == 1

    @pytest.mark.parametrize("time", ["push_time", "local_push_time"])
    def test_a_live_campaign_whose_push_is_still_to_come_is_no_success_of_now(self, batch, time):
        definition = {name: value for name, value in DEFINITION.items() if name != "push_time"}
        token = batch.add_campaign({**definition, "live": True, time: "2099-06-01T09:00:00"})
        batch.inject(Fault("reset_before", "update"))
        with pytest.raises(BatchAmbiguousError):
            run(update(token, NOW))
        with pytest.raises(BatchRepeatRefusedError, match="it is live, but push_time is not as wanted"):
            run(update(token, NOW), try_number=2)
        assert writes(batch) == 1

    @pytest.mark.parametrize("payload", [NOW, {"push_time": "now"}])
    def test_now_is_not_repeated_where_the_key_cannot_read(self, dev, token, payload):
        dev.inject(Fault("reset_after", "update"))
        with pytest.raises(BatchAmbiguousError):
            run(update(token, payload))
        with pytest.raises(BatchRepeatRefusedError, match="cannot be told") as caught:
            run(update(token, payload), try_number=2)
        assert isinstance(caught.value, AirflowFailException)
        assert writes(dev) == 1

    def test_neither_where_the_user_forbids_to_read(self, batch, token):
        with pytest.raises(BatchRepeatRefusedError, match="read='never' forbids to look"):
            run(update(token, NOW, read="never"), try_number=2)
        assert batch.requests == ()

    @pytest.mark.parametrize("seconds", [-5, 30])
    def test_a_push_time_that_has_come_meanwhile_or_soon_will_is_not_repeated_blindly(self, dev, token, seconds):
        payload = {"live": True, "push_time": in_batchs_form(datetime.now(UTC) + timedelta(seconds=seconds))}
        with pytest.raises(BatchRepeatRefusedError, match=payload["push_time"]):
            run(update(token, payload), try_number=2)
        assert writes(dev) == 0

    def test_one_that_is_still_far_is_repeated(self, dev, token):
        payload = {"live": True, "push_time": in_batchs_form(datetime.now(UTC) + timedelta(hours=1))}
        dev.inject(Fault("reset_before", "update"))
        with pytest.raises(BatchAmbiguousError):
            run(update(token, payload))
        assert run(update(token, payload), try_number=2)["changed"] is True

    def test_whether_it_has_come_is_judged_by_batchs_clock(self, connect):
        with BatchSandbox(clock=lambda: datetime.now(UTC) + timedelta(hours=2)) as sandbox:
            connect(sandbox.connection(kind="dev"))
            token = sandbox.add_campaign(DEFINITION)
            payload = {"live": True, "push_time": in_batchs_form(datetime.now(UTC) + timedelta(hours=1))}
            with pytest.raises(BatchRepeatRefusedError):
                run(update(token, payload), try_number=2)

    def test_a_push_time_that_came_while_the_campaign_was_not_live_is_refused(self, batch, token):
        payload = {"live": True, "push_time": in_batchs_form(datetime.now(UTC) - timedelta(seconds=5))}
        with pytest.raises(BatchChangeRefusedError, match="has passed"):
            run(update(token, payload), try_number=2)
        assert writes(batch) == 0

    def test_a_draft_is_written_again_whatever_its_push_time(self, dev, token):
        assert run(update(token, {"live": False, "push_time": "now"}), try_number=2)["changed"] is True

    def test_of_an_ambiguous_update_only_what_is_not_as_wanted_leads_to_another(self, batch, token):
        payload = {"labels": ["WINTER"], "live": True}
        batch.inject(Fault("reset_after", "update"))
        with pytest.raises(BatchAmbiguousError):
            run(update(token, payload))
        assert run(update(token, payload), try_number=2)["changed"] is None
        assert writes(batch) == 1


@pytest.mark.parametrize("applied", [True, False])
def test_a_confirmation_that_cannot_be_read_is_a_success_only_where_the_campaign_shows_it(batch, applied):
    token = batch.add_campaign({**DEFINITION, "live": False})
    batch.inject(Fault("answer", "update", status=200, body="no JSON", applied=applied))
    task = BatchUpdateCampaignOperator(task_id="update", campaign=token, payload={"live": True})
    if applied:
        assert run(task)["changed"] is True
    else:
        with pytest.raises(BatchResponseError):
            run(task)
    assert batch.campaign(token)["live"] is applied
