"""How BatchUpdateCampaignOperator changes a campaign without losing or repeating anything, against the sandbox."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from task import Store, context_of

from airflow_batch._airflow.compat import AirflowFailException, AirflowSkipException
from airflow_batch.exceptions import (
    BatchAmbiguousError,
    BatchChangeRefusedError,
    BatchConnectionError,
    BatchMalformedParameterError,
    BatchNotVisibleError,
    BatchParametersLostError,
    BatchPayloadError,
    BatchRepeatRefusedError,
    BatchRequestError,
    BatchResponseError,
    BatchStateError,
)
from airflow_batch.hooks.batch import BatchHook
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
MESSAGES = [{"language": "en", "body": "Hi", "title": "Sale"}, {"language": "fr", "body": "Salut"}]
NOW = {"live": True, "push_time": "now"}


pytestmark = pytest.mark.usefixtures("clock")


class Killed(BaseException):
    """The worker process is killed here."""


def run(task, **ti):
    """Execute one attempt, in a run that was due three days ago: most updates may be late."""
    return task.execute(context_of(task, **{"late": timedelta(days=3), **ti}))


def update(campaign, payload, **arguments):
    return BatchUpdateCampaignOperator(task_id="update", campaign=campaign, payload=payload, **arguments)


def writes(sandbox):
    return [record.operation for record in sandbox.requests].count("update")


def in_batchs_format(moment):
    return f"{moment:%Y-%m-%dT%H:%M:%S}"


@pytest.fixture
def token(batch):
    return batch.add_campaign(DEFINITION)


class TestOtherParameters:
    @pytest.mark.parametrize("mode", ["strict", "merge", "replace"])
    def test_an_update_keeps_the_other_parameters_in_each_update_mode_of_batch(self, connect, mode):
        with BatchSandbox(update_mode=mode) as sandbox:
            connect(sandbox.connection())
            token = sandbox.add_campaign(DEFINITION)
            before = sandbox.campaign(token)
            run(update(token, {"labels": ["WINTER"], "time_to_live": 60}))
            assert sandbox.campaign(token) == {**before, "labels": ["WINTER"], "time_to_live": 60}

    def test_an_update_with_the_same_payload_again_sends_nothing(self, batch, token):
        payload = {"live": True, "name": "Winter sale", "labels": ["WINTER"]}
        run(update(token, payload))
        result = run(update(token, payload))
        assert writes(batch) == 1
        assert (result["changed"], result["http_status"], result["live"]) == (False, None, True)

    def test_an_update_with_a_push_time_replaces_the_local_push_time_and_the_other_way_round(self, batch, token):
        run(update(token, {"local_push_time": "2099-07-01T09:00:00"}))
        assert batch.campaign(token)["local_push_time"] == "2099-07-01T09:00:00"
        assert "push_time" not in batch.campaign(token)
        run(update(token, {"push_time": "2099-08-01T09:00:00"}))
        assert batch.campaign(token)["push_time"] == "2099-08-01T09:00:00"
        assert "local_push_time" not in batch.campaign(token)

    def test_an_update_replaces_a_nested_parameter_whole(self, batch):
        targeting = {"segments": ["NEW"], "query": {"a": 1}}
        token = batch.add_campaign({**DEFINITION, "targeting": targeting})
        run(update(token, {"targeting": {"segments": ["OLD"]}}, definition={**DEFINITION, "targeting": {"x": 1}}))
        assert batch.campaign(token)["targeting"] == {"segments": ["OLD"]}

    def test_an_update_may_set_the_variants_of_an_ab_test_as_messages(self, batch, token):
        variants = {"a": DEFINITION["messages"], "b": [{"language": "en", "body": "Ho"}]}
        run(update(token, {"messages": variants}))
        assert batch.campaign(token)["messages"] == variants
        assert run(update(token, {"messages": variants}))["changed"] is False

    @pytest.mark.parametrize(
        ("has", "payload"),
        [({"time_to_live": "60"}, {"time_to_live": 60}), ({"messages": MESSAGES}, {"messages": MESSAGES[::-1]})],
        ids=["a number as text", "reordered messages"],
    )
    def test_an_update_sends_nothing_where_batch_shows_the_same_values_in_another_format(self, batch, has, payload):
        token = batch.add_campaign({**DEFINITION, **has})
        assert run(update(token, payload))["changed"] is False
        assert run(update(token, payload, dry_run=True))["differences"] == []
        assert writes(batch) == 0

    def test_an_update_with_read_never_sends_the_definition_with_the_payload(self, connect):
        with BatchSandbox(contract=Contract(message_language_in_view=False)) as sandbox:
            connect(sandbox.connection())
            token = sandbox.add_campaign(DEFINITION)
            with pytest.raises(BatchMalformedParameterError, match=r"definition=.*read='never'"):
                run(update(token, {"labels": ["WINTER"]}))
            task = update(token, {"labels": ["WINTER"]}, definition=DEFINITION, read="never")
            assert run(task)["changed"] is True

    def test_an_update_after_which_parameters_are_missing_is_a_permanent_failure(self, connect):
        def on_record(record):
            if record.operation == "update":
                sandbox.inject(Fault("answer", "view", status=200, body={"name": "Summer sale", "live": False}))

        with BatchSandbox(on_record=on_record) as sandbox:
            connect(sandbox.connection())
            token = sandbox.add_campaign(DEFINITION)
            with pytest.raises(BatchParametersLostError, match=r"gcm_collapse_key.*messages") as caught:
                run(update(token, {"labels": ["WINTER"]}))
        assert isinstance(caught.value, AirflowFailException)
        assert "lost push_time, gcm_collapse_key, messages by" in str(caught.value)

    def test_an_update_that_batch_shows_differently_afterwards_is_a_warning(self, connect, capsys):
        def on_record(record):
            if record.operation == "update":
                body = {**sandbox.campaign(token), "labels": ["OTHER"]}
                sandbox.inject(Fault("answer", "view", status=200, body=body))

        with BatchSandbox(on_record=on_record) as sandbox:
            connect(sandbox.connection())
            token = sandbox.add_campaign(DEFINITION)
            assert run(update(token, {"labels": ["WINTER"], "name": "Winter sale"}))["changed"] is True
        assert "shows another labels than was sent" in capsys.readouterr().out

    def test_an_update_that_batch_shows_in_another_format_afterwards_is_no_warning(self, batch, token, capsys):
        run(update(token, {"gcm_collapse_key": {"enabled": True, "key": "winter"}}))
        assert batch.campaign(token)["gcm_collapse_key"] == "winter"
        assert "shows another" not in capsys.readouterr().out

    def test_an_update_in_a_late_run_is_skipped_only_if_its_push_time_is_now(self, batch, token):
        assert run(update(token, {"live": True}))["changed"] is True
        with pytest.raises(AirflowSkipException):
            run(update(token, NOW))
        with pytest.raises(AirflowSkipException):
            run(update(token, NOW, max_lateness=timedelta(days=2)))
        assert run(update(token, NOW, max_lateness=timedelta(days=4)))["changed"] is True


class TestRefusals:
    @pytest.mark.parametrize(
        ("payload", "words"),
        [
            ({"labels": None}, r"removes labels, .* Leave them out of the payload"),
            ({"push_time": None}, "removes push_time, "),
            ({"live": True, "push_time": "2020-01-01T00:00:00"}, "has passed"),
        ],
    )
    def test_an_update_that_removes_a_parameter_or_has_a_past_push_time_is_refused(self, batch, token, payload, words):
        with pytest.raises(BatchChangeRefusedError, match=words):
            run(update(token, payload))
        assert writes(batch) == 0

    def test_a_campaign_created_in_the_dashboard_or_with_another_name_is_not_updated(self, batch, token):
        with pytest.raises(BatchChangeRefusedError, match="dashboard"):
            run(update(batch.add_campaign(DEFINITION, from_api=False), {"live": True}))
        with pytest.raises(BatchChangeRefusedError, match="not 'Winter sale'"):
            run(update(token, {"live": True}, expect_name="Winter sale"))
        assert writes(batch) == 0

    def test_expect_name_of_an_update_is_the_name_before_the_change(self, batch, token):
        run(update(token, {"name": "Winter sale"}, expect_name="Summer sale"))
        assert batch.campaign(token)["name"] == "Winter sale"

    def test_an_update_succeeds_where_an_earlier_attempt_has_renamed_the_campaign(self, batch, token):
        task = update(token, {"name": "Winter sale"}, expect_name="Summer sale")
        batch.inject(Fault("reset_after", "update"))
        assert run(task)["name"] == "Winter sale"
        assert run(task, try_number=2)["name"] == "Winter sale"
        assert writes(batch) == 1

    @pytest.mark.parametrize("payload", [{"push_time": "2020-01-01T00:00:00"}, {"labels": ["X"]}])
    def test_an_update_that_leaves_a_campaign_live_after_its_push_time_is_refused(self, batch, payload):
        passed = {} if "push_time" in payload else {"push_time": "2020-01-01T00:00:00"}
        token = batch.add_campaign({**DEFINITION, "live": True, **passed})
        with pytest.raises(BatchChangeRefusedError, match="has passed"):
            run(update(token, payload))
        assert writes(batch) == 0

    @pytest.mark.parametrize("live", [{"live": True}, {}])
    def test_an_update_with_read_never_and_a_past_push_time_is_refused(self, batch, token, live):
        with pytest.raises(BatchChangeRefusedError, match="has passed"):
            run(update(token, {**live, "push_time": "2020-01-01T00:00:00"}, read="never"))
        assert batch.requests == ()

    @pytest.mark.parametrize("fault", [Fault("html", "view", status=200), Fault("answer", "view", status=404)])
    def test_an_unreadable_view_or_a_404_of_it_is_a_transient_failure_of_an_update(self, batch, token, fault):
        batch.inject(fault)
        with pytest.raises((BatchResponseError, BatchNotVisibleError)) as caught:
            run(update(token, {"live": True}))
        assert caught.value.transient
        assert writes(batch) == 0


class TestDryRun:
    def test_a_dry_run_of_an_update_sends_no_update_and_returns_the_differences(self, batch, token):
        result = run(update(token, {"live": True, "labels": ["WINTER"]}, dry_run=True))
        assert result["differences"] == [
            {"parameter": "live", "now": False, "wanted": True},
            {"parameter": "labels", "now": ["SALE"], "wanted": ["WINTER"]},
        ]
        assert (result["action"], result["changed"], writes(batch)) == ("dry_run", False, 0)

    def test_a_dry_run_with_push_time_now_returns_it_as_a_difference(self, batch, token):
        rows = run(update(token, {"push_time": "now"}, dry_run=True))["differences"]
        assert rows == [{"parameter": "push_time", "now": "2099-06-01T09:00:00", "wanted": "now"}]


@pytest.fixture(params=[True, False], ids=["store", "no store"])
def kept(request):
    """Where the task instance keeps its record, if at all."""
    return {"store": Store() if request.param else None, "run_type": "manual"}


class TestPushAtOnce:
    """A push is sent at most once by all attempts of a task instance, a cleared task (higher max_tries) included."""

    def test_an_update_with_push_time_now_is_sent_by_the_first_attempt(self, batch, kept):
        token = batch.add_campaign({**DEFINITION, "live": True})
        assert run(update(token, NOW), **kept)["changed"] is True
        assert batch.pushes(token) == 1

    @pytest.mark.parametrize("seconds", [0, 20, 60, 100])
    def test_a_push_that_takes_effect_late_is_found_by_the_same_attempt(self, batch, token, clock, kept, seconds):
        waits = []

        def while_asleep(slept):
            before = sum(waits)
            waits.append(slept)
            if before < seconds <= sum(waits):
                BatchHook().update_campaign(token, NOW)

        clock.while_asleep = while_asleep
        batch.inject(Fault("reset_before" if seconds else "reset_after", "update"))
        assert run(update(token, NOW), **kept)["changed"] is None
        with suppress(BatchRepeatRefusedError):  # without a store
            run(update(token, NOW), try_number=2, max_tries=9, **kept)
        assert batch.pushes(token) == 1

    @pytest.mark.parametrize("reads", [3, 4])
    def test_a_view_that_lags_behind_a_push_does_not_send_it_again(self, batch, token, kept, reads):
        batch.inject(Fault("reset_after", "update"), Fault("answer", "view", status=200, body=batch.campaign(token)))
        lag = Fault("answer", "view", status=200, body=batch.campaign(token), times=reads)
        batch.inject(lag)
        assert run(update(token, NOW), **kept)["changed"] is None
        assert (batch.pushes(token), writes(batch)) == (1, 1)

    @pytest.mark.parametrize("live", [True, False])
    def test_a_push_that_may_have_been_sent_is_not_repeated_and_the_error_says_that_a_new_run_sends_again(
        self, batch, kept, live
    ):
        token = batch.add_campaign({**DEFINITION, "live": live})
        batch.inject(Fault("reset_before", "update"))
        with pytest.raises(BatchRepeatRefusedError, match=r"A new DAG run sends it again; clearing the task does not"):
            run(update(token, NOW), **kept)
        with pytest.raises(BatchRepeatRefusedError) as caught:
            run(update(token, NOW), try_number=2, max_tries=9, **kept)
        assert isinstance(caught.value, AirflowFailException)
        assert writes(batch) == 1

    @pytest.mark.parametrize("time", ["push_time", "local_push_time"])
    def test_a_push_time_in_the_future_does_not_show_that_a_push_was_sent(self, batch, kept, time):
        definition = {name: value for name, value in DEFINITION.items() if name != "push_time"}
        token = batch.add_campaign({**definition, "live": True, time: "2099-06-01T09:00:00"})
        batch.inject(Fault("reset_before", "update"))
        with pytest.raises(BatchRepeatRefusedError, match="its effect does not show"):
            run(update(token, NOW), **kept)
        assert writes(batch) == 1

    @pytest.mark.parametrize("payload", [NOW, {"push_time": "now"}])
    @pytest.mark.parametrize("fault", ["reset_before", "reset_after"])
    def test_a_push_that_may_have_been_sent_is_not_repeated_where_the_key_cannot_read(
        self, dev, token, kept, payload, fault
    ):
        dev.inject(Fault(fault, "update"))
        with pytest.raises(BatchRepeatRefusedError, match="this API key cannot read"):
            run(update(token, payload), **kept)
        with pytest.raises(BatchRepeatRefusedError):
            run(update(token, payload), try_number=2, **kept)
        assert writes(dev) == 1

    @pytest.mark.parametrize("sent", [True, False])
    def test_a_push_of_a_worker_that_was_killed_at_the_request_is_not_repeated(
        self, batch, token, kept, monkeypatch, sent
    ):
        def update_campaign(hook, *arguments, **given):
            if sent:
                really(hook, *arguments, **given)
            raise Killed

        really = BatchHook.update_campaign
        with monkeypatch.context() as patch:
            patch.setattr(BatchHook, "update_campaign", update_campaign)
            with pytest.raises(Killed):
                run(update(token, NOW), **kept)
        for try_number in (2, 3):
            if sent and kept["store"] is not None:
                assert run(update(token, NOW), try_number=try_number, max_tries=9, **kept)["changed"] is None
            else:
                with pytest.raises(BatchRepeatRefusedError):
                    run(update(token, NOW), try_number=try_number, max_tries=9, **kept)
        assert batch.pushes(token) == int(sent)

    def test_a_confirmed_push_is_not_sent_again_by_a_cleared_task(self, batch, token, kept):
        assert run(update(token, NOW), **kept)["changed"] is True
        if kept["store"] is None:
            with pytest.raises(BatchRepeatRefusedError):
                run(update(token, NOW), try_number=2, max_tries=9, **kept)
        else:
            assert run(update(token, NOW), try_number=2, max_tries=9, **kept)["changed"] is True
        with pytest.raises(BatchRepeatRefusedError):
            run(update(token, {**NOW, "name": "Corrected"}), try_number=3, max_tries=9, **kept)
        assert batch.pushes(token) == 1

    def test_a_cleared_task_whose_store_airflow_has_emptied_sends_no_push(self, batch, token):
        run(update(token, NOW), store=Store(), run_type="manual")
        with pytest.raises(BatchRepeatRefusedError, match="An earlier attempt"):
            run(update(token, NOW), try_number=2, max_tries=9, store=Store(), run_type="manual")
        assert batch.pushes(token) == 1

    @pytest.mark.parametrize(
        "failure",
        ["not connected", "400", "our own check"],
    )
    def test_with_a_record_a_later_attempt_sends_a_push_that_was_certainly_not_sent_before(
        self, dev, token, connect, failure
    ):
        kept = {"store": Store(), "run_type": "manual"}
        if failure == "not connected":
            connect({**dev.connection(kind="dev"), "host": "http://127.0.0.1:9"})
            with pytest.raises(BatchConnectionError):
                run(update(token, NOW), **kept)
            connect(dev.connection(kind="dev"))
        elif failure == "400":
            dev.inject(Fault("answer", "update", status=400))
            with pytest.raises(BatchRequestError):
                run(update(token, NOW), **kept)
        else:
            with pytest.raises(BatchPayloadError):
                run(update(token, {**NOW, "labels": 5}), **kept)
        assert run(update(token, NOW), try_number=2, **kept)["changed"] is True
        assert dev.pushes(token) == 1

    def test_no_push_is_sent_where_the_record_cannot_be_written_and_other_updates_are(self, batch, token):
        class Full(Store):
            def set(self, key, value):
                raise OSError

        with pytest.raises(BatchStateError, match="Nothing was sent"):
            run(update(token, NOW), store=Full(), run_type="manual")
        assert writes(batch) == 0
        assert run(update(token, {"labels": ["X"]}), store=Full())["changed"] is True

    @pytest.mark.parametrize("seconds", [30, 90])
    def test_a_push_time_within_two_minutes_counts_as_now(self, dev, token, kept, seconds):
        payload = {"live": True, "push_time": in_batchs_format(datetime.now(UTC) + timedelta(seconds=seconds))}
        dev.inject(Fault("reset_after", "update"))
        with pytest.raises(BatchRepeatRefusedError):
            run(update(token, payload), **kept)
        with pytest.raises((BatchRepeatRefusedError, BatchChangeRefusedError)):
            run(update(token, payload), try_number=2, **kept)
        assert writes(dev) == 1

    def test_a_local_push_time_counts_as_now_from_14_hours_before_it(self, dev, token, kept):
        payload = {"live": True, "local_push_time": in_batchs_format(datetime.now(UTC) + timedelta(hours=13))}
        with pytest.raises(BatchRepeatRefusedError):
            run(update(token, payload), try_number=2, store=None)
        assert run(update(token, payload), **kept)["changed"] is True

    def test_an_update_with_a_push_time_in_an_hour_is_repeated(self, dev, token, kept):
        payload = {"live": True, "push_time": in_batchs_format(datetime.now(UTC) + timedelta(hours=1))}
        dev.inject(Fault("reset_before", "update"))
        with pytest.raises(BatchAmbiguousError):
            run(update(token, payload), **kept)
        assert run(update(token, payload), try_number=2, **kept)["changed"] is True

    def test_an_update_of_a_draft_is_repeated_although_its_push_time_is_now(self, dev, token, kept):
        assert run(update(token, {"live": False, "push_time": "now"}), try_number=2, **kept)["changed"] is True


@pytest.mark.parametrize("applied", [True, False])
def test_an_unreadable_confirmation_is_a_success_only_where_the_campaign_shows_the_update(batch, token, applied):
    batch.inject(Fault("answer", "update", status=200, body="no JSON", applied=applied))
    if applied:
        assert run(update(token, {"live": True}))["changed"] is None
    else:
        with pytest.raises(BatchResponseError):
            run(update(token, {"live": True}))
    assert batch.campaign(token)["live"] is applied
