"""What BatchSetCampaignLiveOperator does with one attempt, against the sandbox."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from airflow.sdk import DAG
from jinja2 import Template
from task import Store, context_of

from airflow_batch.compat import AirflowFailException, AirflowRescheduleException, AirflowSkipException
from airflow_batch.exceptions import (
    BatchAmbiguousError,
    BatchAuthenticationError,
    BatchChangeRefusedError,
    BatchConfigurationError,
    BatchMalformedParameterError,
    BatchMissingParameterError,
    BatchNotFoundError,
    BatchParametersLostError,
    BatchPayloadError,
    BatchRepeatRefusedError,
    BatchResponseError,
    BatchServerError,
    BatchVerificationError,
)
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator
from airflow_batch.payloads import payload_digest
from airflow_batch.sandbox import BatchSandbox, Contract, Fault
from airflow_batch.sandbox.log import digest
from airflow_batch.windows import CampaignWindow

DAILY = {"repeat_unit": "DAILY", "repeat_frequency": 1}
DEFINITION = {
    "name": "Summer sale",
    "live": False,
    "push_time": "2099-06-01T09:00:00",
    "gcm_collapse_key": {"enabled": True, "key": "sale"},
    "labels": ["SALE"],
    "messages": [{"language": "en", "title": "Sale", "body": "Hi"}, {"language": "fr", "body": "Salut"}],
    "an_option_of_next_year": {"deep": [1, None]},
}
LIVE = {**DEFINITION, "live": True}
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
TIMED = ["scheduled", "backfill", "asset_triggered", "asset_materialization"]


def run(task, **context):
    """Execute one attempt."""
    return task.execute(context_of(task, **context))


def toggle(campaign, live=True, **arguments):
    return BatchSetCampaignLiveOperator(task_id="toggle", campaign=campaign, live=live, **arguments)


def operations(sandbox):
    return [record.operation for record in sandbox.requests]


def was_sent(record, payload):
    """Tell whether a request's body was exactly this payload, whatever the order of its parameters."""
    return record.body_digest in {digest(json.dumps(dict(items)).encode()) for items in permutations(payload.items())}


def updates(sandbox):
    return [record for record in sandbox.requests if record.operation == "update"]


def label_of(task, context):
    """What Airflow's pages show for an index of a mapped task."""
    return Template(task.map_index_template).render(context)


def this_minute():
    return datetime.now(UTC).replace(second=0, microsecond=0)


@pytest.fixture
def token(batch):
    return batch.add_campaign(DEFINITION)


@pytest.fixture
def running(batch):
    return batch.add_campaign(LIVE)


@pytest.fixture
def dev(batch, connect):
    """The sandbox, reached with a key that cannot read."""
    connect(batch.connection(kind="dev"))
    return batch


@pytest.fixture
def of(connect):
    """Return a function that starts a sandbox which ``batch_default`` leads to."""
    started = []

    def start(**arguments):
        sandbox = BatchSandbox(**arguments)
        sandbox.start()
        started.append(sandbox)
        connect(sandbox.connection())
        return sandbox

    yield start
    for sandbox in started:
        sandbox.stop()


@pytest.fixture
def later(of):
    """A sandbox, and a list of the faults that it gets once it has answered the next update."""
    faults = []

    def on_record(record):
        if record.operation == "update":
            sandbox.inject(*faults)
            faults.clear()

    sandbox = of(on_record=on_record)
    return sandbox, faults


class TestSwitching:
    @pytest.mark.parametrize(("was", "live"), [(DEFINITION, True), (LIVE, False)])
    def test_a_campaign_is_switched_and_the_result_has_fixed_keys(self, batch, was, live):
        token = batch.add_campaign(was)
        result = run(toggle(token, live))
        requested, completed = (datetime.fromisoformat(result.pop(key)) for key in ("requested_at", "completed_at"))
        assert batch.campaign(token)["live"] is live
        assert result == {
            "campaign_token": token,
            "app": None,
            "action": "set_live",
            "live": live,
            "name": "Summer sale",
            "changed": True,
            "http_status": 200,
            "attempt": 1,
            "payload_digest": payload_digest({**DEFINITION, "live": live}),
        }
        assert requested.utcoffset() == timedelta(0)
        assert requested <= completed

    @pytest.mark.parametrize(("text", "live"), [("True", True), ("yes", True), (" false ", False), ("0", False)])
    def test_the_text_that_a_template_renders_is_understood(self, batch, text, live):
        token = batch.add_campaign({**DEFINITION, "live": not live})
        assert run(toggle(token, text))["live"] is live
        assert batch.campaign(token)["live"] is live

    @pytest.mark.parametrize("live", ["maybe", "", None, 1, []])
    def test_what_is_no_boolean_fails_at_once_and_nothing_is_sent(self, batch, token, live):
        with pytest.raises(BatchPayloadError, match="live must be true or false"):
            run(toggle(token, live))
        assert batch.requests == ()

    @pytest.mark.parametrize(("was", "live"), [(LIVE, True), (DEFINITION, False)])
    def test_a_campaign_that_is_so_already_is_left_alone(self, batch, was, live, caplog):
        with caplog.at_level(logging.INFO):
            result = run(toggle(batch.add_campaign(was), live))
        assert f"('Summer sale') is {'' if live else 'not '}live already. Nothing is sent." in caplog.text
        assert operations(batch) == ["view"]
        assert (result["changed"], result["http_status"]) == (False, None)
        assert (result["live"], result["name"]) == (live, "Summer sale")

    def test_the_result_of_another_task_names_campaign_and_app(self, of, connect):
        sandbox = of(apps=("ios", "android"))
        connect(sandbox.connection("api_keys"))
        token = sandbox.add_campaign(DEFINITION, app="android")
        assert run(toggle({"campaign_token": token, "app": "android", "live": False}))["app"] == "android"
        assert sandbox.campaign(token)["live"] is True

    def test_the_tasks_own_app_goes_before_that_of_the_given_result(self, of, connect):
        sandbox = of(apps=("ios", "android"))
        connect(sandbox.connection("api_keys"))
        token = sandbox.add_campaign(DEFINITION, app="ios")
        assert run(toggle({"campaign_token": token, "app": "android"}, app="ios"))["app"] == "ios"

    def test_each_index_of_a_mapped_task_is_labelled_with_app_and_name(self, of, connect):
        sandbox = of(apps=("ios", "android"))
        connect(sandbox.connection("api_keys"))
        task = toggle(sandbox.add_campaign(DEFINITION, app="ios"), app="ios")
        context = context_of(task)
        task.execute(context)
        assert label_of(task, context) == "ios Summer sale"

    def test_an_index_that_failed_is_labelled_with_app_and_token(self, of, connect):
        sandbox = of(apps=("ios", "android"))
        connect(sandbox.connection("api_keys"))
        task = toggle("unknown", app="ios")
        context = context_of(task)
        with pytest.raises(BatchNotFoundError):
            task.execute(context)
        assert label_of(task, context) == "ios unknown"


class TestWindow:
    @pytest.mark.parametrize(
        ("start", "end", "live"), [(-2, -1, False), (-1, 1, True), (1, 2, False)], ids=["after", "within", "before"]
    )
    def test_a_window_is_asked_at_the_moment_of_sending(self, batch, start, end, live):
        now = this_minute()
        token = batch.add_campaign({**DEFINITION, "live": not live})
        window = CampaignWindow(start=now + start * HOUR, end=now + end * HOUR)
        assert run(toggle(token, window))["live"] is live
        assert batch.campaign(token)["live"] is live

    def test_at_its_on_it_is_live_also_where_the_workers_clock_is_behind(self, batch, token):
        soon = this_minute() + 2 * MINUTE
        run(toggle(token, CampaignWindow(start=soon, end=soon + HOUR)), run_after=soon)
        assert batch.campaign(token)["live"] is True

    def test_at_its_off_it_is_no_longer_live_also_where_the_workers_clock_is_behind(self, batch, running):
        soon = this_minute() + 2 * MINUTE
        run(toggle(running, CampaignWindow(start=soon - HOUR, end=soon)), run_after=soon)
        assert batch.campaign(running)["live"] is False

    @pytest.mark.parametrize("run_type", TIMED)
    def test_a_late_run_of_its_on_switches_off_when_it_is_time_to_be_off(self, batch, running, run_type):
        opened = this_minute() - 3 * HOUR
        window = CampaignWindow(start=opened, end=opened + HOUR)
        run(toggle(running, window), run_after=opened, run_type=run_type)
        assert batch.campaign(running)["live"] is False

    def test_a_cleared_run_of_its_off_leaves_it_on_when_it_is_time_to_be_on(self, batch, running):
        closed = this_minute() - 2 * HOUR
        window = CampaignWindow(on=f"{closed + HOUR:%M %H} * * *", off=f"{closed:%M %H} * * *")
        assert run(toggle(running, window), run_after=closed, try_number=2)["live"] is True
        assert operations(batch) == ["view"]

    def test_a_window_is_never_too_late_to_switch_on(self, batch, token):
        window = CampaignWindow(start=this_minute() - timedelta(days=3), end=this_minute() + HOUR)
        run(toggle(token, window, max_lateness=60), late=timedelta(days=3))
        assert batch.campaign(token)["live"] is True


class TestLateness:
    @pytest.mark.parametrize("run_type", TIMED)
    def test_more_than_an_hour_late_a_campaign_is_not_switched_on(self, batch, token, run_type):
        with pytest.raises(AirflowSkipException, match=r"due 1 h 30 min ago, and max_lateness is 1 h\."):
            run(toggle(token), late=1.5 * HOUR, run_type=run_type)
        assert operations(batch) == ["view"]

    def test_within_an_hour_it_is(self, batch, token):
        run(toggle(token), late=59 * MINUTE)
        assert batch.campaign(token)["live"] is True

    @pytest.mark.parametrize("run_type", ["manual", "operator_triggered", None])
    def test_a_run_that_somebody_started_is_never_late(self, batch, token, run_type):
        run(toggle(token), late=timedelta(days=3), run_type=run_type)
        assert batch.campaign(token)["live"] is True

    def test_switching_off_is_never_too_late(self, batch, running):
        run(toggle(running, False), late=timedelta(days=300))
        assert batch.campaign(running)["live"] is False

    @pytest.mark.parametrize("limit", [timedelta(minutes=10), 600])
    def test_a_limit_of_ones_own_counts_for_off_as_well(self, batch, running, limit):
        with pytest.raises(AirflowSkipException, match=r"Not switched off: .* max_lateness is 10 min\."):
            run(toggle(running, False, max_lateness=limit), late=11 * MINUTE)
        assert batch.campaign(running)["live"] is True

    def test_a_longer_limit_of_ones_own_is_kept(self, batch, token):
        run(toggle(token, max_lateness=timedelta(days=1)), late=23 * HOUR)
        assert batch.campaign(token)["live"] is True

    def test_none_is_no_limit(self, batch, token):
        run(toggle(token, max_lateness=None), late=timedelta(days=300))
        assert batch.campaign(token)["live"] is True

    @pytest.mark.parametrize("limit", [0, -1, "1h", "never", True, float("nan"), timedelta(0), [60]])
    def test_a_wrong_limit_is_refused_when_the_dag_is_parsed(self, limit):
        with pytest.raises(BatchConfigurationError, match="max_lateness"):
            toggle("abc", max_lateness=limit)

    def test_a_retry_that_comes_too_late_sends_nothing(self, batch, token):
        batch.inject(Fault("reset_before", "update"))
        with pytest.raises(BatchAmbiguousError):
            run(toggle(token), late=50 * MINUTE)
        with pytest.raises(AirflowSkipException, match="sent nothing in this attempt"):
            run(toggle(token), late=61 * MINUTE, try_number=2)
        assert operations(batch) == ["view", "update", "view"]

    def test_an_attempt_that_comes_back_too_late_from_a_throttle_sends_nothing(self, batch, token):
        batch.inject(Fault("answer", "update", status=429))
        with pytest.raises(AirflowRescheduleException):
            run(toggle(token), late=50 * MINUTE)
        with pytest.raises(AirflowSkipException):
            run(toggle(token), late=61 * MINUTE, reschedules=1, refused_for=11 * MINUTE)
        assert len(updates(batch)) == 1

    def test_a_late_run_that_finds_it_as_wanted_succeeds(self, batch, running):
        assert run(toggle(running), late=timedelta(days=1))["changed"] is False

    def test_so_does_one_whose_earlier_attempt_may_have_switched_it_on(self, batch, token):
        batch.inject(Fault("reset_after", "update"))
        with pytest.raises(BatchAmbiguousError):
            run(toggle(token), late=50 * MINUTE)
        assert run(toggle(token), late=70 * MINUTE, try_number=2)["live"] is True

    def test_a_late_run_without_reading_sends_nothing_at_all(self, batch, token):
        with pytest.raises(AirflowSkipException):
            run(toggle(token, read="never"), late=2 * HOUR)
        assert batch.requests == ()

    def test_each_further_form_of_a_stop_is_judged_anew(self, of):
        def on_record(record):
            if record.operation == "update":
                context["dag_run"].run_after -= 2 * MINUTE

        sandbox = of(contract=Contract(message_language_in_view=False), on_record=on_record)
        task = toggle(sandbox.add_campaign(LIVE), False, max_lateness=HOUR)
        context = context_of(task, late=59 * MINUTE)
        with pytest.raises(AirflowSkipException):
            task.execute(context)
        assert [record.status for record in updates(sandbox)] == [400]


class TestTheWholeDefinition:
    @pytest.mark.parametrize("mode", ["strict", "merge", "replace"])
    @pytest.mark.parametrize("live", [True, False])
    def test_nothing_is_lost_whatever_batch_does_with_what_is_left_out(self, of, mode, live):
        sandbox = of(update_mode=mode)
        token = sandbox.add_campaign({**DEFINITION, "live": not live})
        before = sandbox.campaign(token)
        run(toggle(token, live))
        assert sandbox.campaign(token) == {**before, "live": live}

    def test_exactly_the_definition_is_sent_without_what_view_adds(self, batch, token):
        run(toggle(token))
        (record,) = updates(batch)
        assert was_sent(record, LIVE)

    def test_the_definition_fills_what_view_does_not_give(self, of):
        sandbox = of(update_mode="strict", contract=Contract(message_language_in_view=False))
        token = sandbox.add_campaign(DEFINITION)
        run(toggle(token, definition=DEFINITION))
        assert was_sent(updates(sandbox)[0], LIVE)

    def test_without_a_definition_the_error_says_to_pass_it(self, of):
        sandbox = of(contract=Contract(message_language_in_view=False))
        token = sandbox.add_campaign(DEFINITION)
        with pytest.raises(
            BatchMalformedParameterError, match=r"'language'.*view gives it, with the change.* pass definition="
        ):
            run(toggle(token))
        assert sandbox.campaign(token)["live"] is False

    def test_where_the_two_differ_the_campaign_wins_and_the_log_says_so(self, batch, token, caplog):
        other = {**DEFINITION, "labels": ["WINTER"], "name": "Winter sale"}
        run(toggle(token, definition=other))
        assert was_sent(updates(batch)[0], LIVE)
        assert "differs from its definition in name, labels" in caplog.text.replace("labels, name", "name, labels")

    def test_a_definition_that_agrees_is_not_mentioned(self, batch, token, caplog):
        run(toggle(token, definition=DEFINITION))
        assert "differs" not in caplog.text

    @pytest.mark.parametrize("form", ["dict", "text", "file"])
    def test_a_definition_is_an_object_json_text_or_a_file_next_to_the_dag(self, of, tmp_path, form):
        sandbox = of(update_mode="strict", contract=Contract(message_language_in_view=False))
        token = sandbox.add_campaign(DEFINITION)
        (tmp_path / "sale.json").write_text(json.dumps(DEFINITION))
        given = {"dict": DEFINITION, "text": json.dumps(DEFINITION), "file": "sale.json"}[form]
        with DAG("dag", schedule=None, template_searchpath=str(tmp_path)):
            task = toggle(token, definition=given)
        run(task)
        assert was_sent(updates(sandbox)[0], LIVE)

    def test_a_push_time_of_now_in_the_definition_is_not_filled_in(self, batch):
        recurring = {"name": "News", "live": False, "recurrence": DAILY}
        token = batch.add_campaign(recurring)
        run(toggle(token, definition={**recurring, "push_time": "now"}))
        assert was_sent(updates(batch)[0], {**recurring, "live": True})

    def test_a_definition_file_that_is_missing_fails_before_anything_is_sent(self, batch, token):
        with pytest.raises(BatchPayloadError, match=r"missing\.json"):
            run(toggle(token, definition="missing.json"))
        assert batch.requests == ()


class TestWithoutReading:
    def test_with_a_key_that_cannot_read_live_alone_is_sent(self, dev, token):
        result = run(toggle(token))
        assert operations(dev) == ["view", "update"]
        assert was_sent(updates(dev)[0], {"live": True})
        assert (result["live"], result["name"], result["changed"]) == (True, None, True)

    def test_and_the_name_only_where_the_user_gave_one(self, dev, token):
        run(toggle(token, expect_name="Summer sale"))
        assert was_sent(updates(dev)[0], {"name": "Summer sale", "live": True})

    def test_the_definition_goes_instead_where_there_is_one(self, dev, token):
        run(toggle(token, definition=DEFINITION, expect_name="Summer sale"))
        assert was_sent(updates(dev)[0], LIVE)

    def test_read_never_does_not_even_try(self, batch, token):
        run(toggle(token, read="never"))
        assert operations(batch) == ["update"]
        assert was_sent(updates(batch)[0], {"live": True})

    def test_an_expected_name_is_not_sent_along_where_the_campaign_was_read(self, batch):
        named = {"name": "Summer sale", "live": False, "recurrence": DAILY}
        run(toggle(batch.add_campaign(named), expect_name="Summer sale"))
        assert was_sent(updates(batch)[0], {**named, "live": True})

    def test_that_nothing_can_be_compared_or_checked_is_said_and_no_failure(self, dev, token, caplog):
        with caplog.at_level(logging.INFO):
            run(toggle(token))
        assert "cannot be read, so it is neither compared nor checked" in caplog.text
        assert "not read, so this is not checked" in caplog.text

    def test_a_wrong_value_of_read_is_refused_when_the_dag_is_parsed(self):
        with pytest.raises(BatchConfigurationError, match="read must be 'auto' or 'never'"):
            toggle("abc", read="sometimes")

    def test_where_batch_asks_for_more_the_error_says_to_pass_the_definition(self, of):
        sandbox = of(update_mode="strict")
        with pytest.raises(BatchMissingParameterError, match=r"only live was sent.* pass definition="):
            run(toggle(sandbox.add_campaign(DEFINITION), read="never"))

    def test_a_definition_whose_push_time_has_passed_is_not_sent_live(self, dev, token):
        past = {**DEFINITION, "push_time": "2020-01-01T00:00:00"}
        with pytest.raises(BatchChangeRefusedError, match="in definition"):
            run(toggle(token, definition=past))
        assert operations(dev) == ["view"]

    def test_a_recurring_definition_is_whatever_its_push_time(self, dev, token):
        recurring = {"name": "News", "live": False, "push_time": "2020-01-01T00:00:00", "recurrence": DAILY}
        run(toggle(token, definition=recurring))
        assert was_sent(updates(dev)[0], {**recurring, "live": True})


class TestOffIsNeverRefusedForItsDefinition:
    def test_view_output_that_update_refuses_is_left_out(self, of, caplog):
        sandbox = of(contract=Contract(message_language_in_view=False))
        token = sandbox.add_campaign(LIVE)
        run(toggle(token, False))
        assert [record.status for record in updates(sandbox)] == [400, 200]
        assert was_sent(updates(sandbox)[-1], {"name": "Summer sale", "live": False})
        assert "so less of it is sent next" in caplog.text
        assert sandbox.campaign(token)["live"] is False

    def test_so_is_what_this_provider_would_not_send(self, batch):
        token = batch.add_campaign({**LIVE, "labels": ["A", "B", "C", "D"]})
        run(toggle(token, False))
        assert was_sent(updates(batch)[0], {"name": "Summer sale", "live": False})

    def test_a_definition_that_batch_refuses_gives_way_to_the_view(self, batch):
        plain = {"name": "Plain", "live": True, "recurrence": DAILY}
        token = batch.add_campaign(plain)
        run(toggle(token, False, definition={**plain, "time_to_live": -5}))
        assert [record.status for record in updates(batch)] == [400, 200]
        assert was_sent(updates(batch)[-1], {**plain, "live": False})

    def test_without_reading_it_gives_way_to_live_alone(self, dev, running):
        run(toggle(running, False, definition={**DEFINITION, "time_to_live": -5}))
        assert was_sent(updates(dev)[-1], {"live": False})
        assert dev.campaign(running)["live"] is False

    @pytest.mark.parametrize("definition", ["missing.json", "{not json", {"name": "ab"}, ["x"], {}, {"labels": 5}])
    def test_a_broken_definition_is_left_out_with_a_warning(self, batch, running, definition, capsys):
        run(toggle(running, False, definition=definition))
        assert batch.campaign(running)["live"] is False
        assert "Stopping goes ahead without the definition" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "fault",
        [Fault("html", "view", status=200), Fault("answer", "view", status=200, body={}), Fault("redirect", "view"),
         Fault("answer", "view", status=400), Fault("answer", "view", status=410)],
        ids=["html", "empty", "redirect", "400", "410"],
    )  # fmt: skip
    def test_a_view_that_says_nothing_does_not_stop_it(self, batch, running, fault, caplog):
        batch.inject(fault)
        run(toggle(running, False))
        assert batch.campaign(running)["live"] is False
        assert "Reading the campaign failed; stopping it goes ahead" in caplog.text

    def test_to_switch_on_such_a_view_is_a_failure(self, batch, token):
        batch.inject(Fault("html", "view", status=200))
        with pytest.raises(BatchResponseError):
            run(toggle(token))
        assert operations(batch) == ["view"]

    def test_a_view_that_fails_is_tried_again(self, batch, running):
        batch.inject(Fault("answer", "view", status=500))
        with pytest.raises(BatchServerError):
            run(toggle(running, False), try_number=6, max_tries=6)
        assert operations(batch) == ["view"]

    def test_the_last_attempt_goes_ahead_without_it(self, batch, running):
        batch.inject(Fault("answer", "view", status=500))
        run(toggle(running, False), try_number=7, max_tries=6)
        assert batch.campaign(running)["live"] is False

    def test_the_last_attempt_to_switch_on_does_not(self, batch, token):
        batch.inject(Fault("answer", "view", status=500))
        with pytest.raises(BatchServerError):
            run(toggle(token), try_number=7, max_tries=6)
        assert operations(batch) == ["view"]

    def test_a_past_push_time_does_not_matter(self, batch):
        token = batch.add_campaign({**LIVE, "push_time": "2020-01-01T00:00:00"})
        run(toggle(token, False))
        assert batch.campaign(token)["live"] is False

    def test_where_batch_refuses_every_form_its_last_answer_is_the_error(self, batch, running):
        batch.inject(Fault("answer", "update", error="API_MISUSE", times=None))
        with pytest.raises(AirflowFailException, match="API_MISUSE") as caught:
            run(toggle(running, False))
        assert len(updates(batch)) == 2
        assert "definition" not in str(caught.value)

    def test_wrong_keys_are_its_failure_all_the_same(self, batch, running, connect):
        connect({**batch.connection(), "password": "sandbox-wrong"})
        with pytest.raises(BatchAuthenticationError):
            run(toggle(running, False))


class TestOrderOfJudgement:
    PAST = {**DEFINITION, "push_time": "2020-01-01T00:00:00"}

    def test_one_that_an_earlier_attempt_may_have_switched_on_is_a_success_though_its_push_time_has_passed(self, batch):
        token = batch.add_campaign({**self.PAST, "live": True})
        assert run(toggle(token), try_number=2)["live"] is True
        assert operations(batch) == ["view"]

    def test_a_one_time_campaign_whose_push_time_has_passed_cannot_go_live(self, batch):
        with pytest.raises(BatchChangeRefusedError, match="Give it a push_time in the future"):
            run(toggle(batch.add_campaign(self.PAST)))
        assert operations(batch) == ["view"]

    def test_neither_on_a_later_attempt(self, batch):
        with pytest.raises(BatchChangeRefusedError):
            run(toggle(batch.add_campaign(self.PAST)), try_number=2)
        assert operations(batch) == ["view"]

    def test_one_that_is_live_already_is_complete_and_no_success(self, batch):
        with pytest.raises(BatchChangeRefusedError, match="complete and cannot go live again"):
            run(toggle(batch.add_campaign({**self.PAST, "live": True})))

    def test_that_goes_before_a_late_run_is_skipped(self, batch):
        with pytest.raises(BatchChangeRefusedError):
            run(toggle(batch.add_campaign(self.PAST)), late=2 * HOUR)

    @pytest.mark.parametrize(
        "definition",
        [
            {**DEFINITION, "push_time": None, "local_push_time": "2020-01-01T00:00:00"},
            {**DEFINITION, "recurrence": {**DAILY, "end_date": "2020-01-01T00:00:00"}},
        ],
        ids=["local push time", "end of the recurrence"],
    )
    def test_where_finished_is_only_inferred_it_is_a_warning(self, batch, definition, caplog):
        token = batch.add_campaign({name: value for name, value in definition.items() if value is not None})
        run(toggle(token))
        assert batch.campaign(token)["live"] is True
        assert "probably finished" in caplog.text

    @pytest.mark.parametrize("kind", [{"recurrence": DAILY}, {"trigger": {}}], ids=["recurring", "trigger"])
    def test_the_past_push_time_of_a_recurring_or_triggered_campaign_is_sent_back_unchanged(self, batch, kind, caplog):
        token = batch.add_campaign({**self.PAST, **kind})
        run(toggle(token))
        sent = {**self.PAST, **kind, "live": True}
        sent.pop("trigger", None)
        assert was_sent(updates(batch)[0], sent)
        assert "finished" not in caplog.text

    def test_a_push_time_is_compared_with_batchs_clock_which_may_be_ahead_of_ours(self, of):
        sandbox = of(clock=lambda: datetime.now(UTC) + 2 * HOUR)
        in_an_hour = f"{datetime.now(UTC) + HOUR:%Y-%m-%dT%H:%M:%S}"
        with pytest.raises(BatchChangeRefusedError):
            run(toggle(sandbox.add_campaign({**DEFINITION, "push_time": in_an_hour})))

    def test_or_behind_it(self, of):
        sandbox = of(clock=lambda: datetime.now(UTC) - 2 * HOUR)
        an_hour_ago = f"{datetime.now(UTC) - HOUR:%Y-%m-%dT%H:%M:%S}"
        token = sandbox.add_campaign({**DEFINITION, "push_time": an_hour_ago})
        run(toggle(token))
        assert sandbox.campaign(token)["live"] is True


AMBIGUOUS = {
    "reset before": (Fault("reset_before", "update"), False),
    "reset after": (Fault("reset_after", "update"), True),
    "500 applied": (Fault("answer", "update", status=500, applied=True), True),
    "500": (Fault("answer", "update", status=500), False),
    "503": (Fault("html", "update", status=503), False),
    "silence": (Fault("silence", "update"), False),
    "broken answer": (Fault("truncate", "update"), True),
}


class TestAfterAnAnswerThatSaysNothing:
    @pytest.mark.parametrize("name", [name for name in AMBIGUOUS if name != "broken answer"])
    @pytest.mark.parametrize("live", [True, False])
    def test_it_is_looked_at_and_sent_again_only_where_it_was_not_applied(self, batch, connect, name, live):
        connect({**batch.connection(), "extra": {"timeout": 0.5}})
        fault, applied = AMBIGUOUS[name]
        token = batch.add_campaign({**DEFINITION, "live": not live})
        batch.inject(fault)
        with pytest.raises((BatchAmbiguousError, BatchServerError)) as caught:
            run(toggle(token, live))
        assert caught.value.may_have_been_applied
        assert run(toggle(token, live), try_number=2)["changed"] is (None if applied else True)
        assert operations(batch)[:3] == ["view", "update", "view"]
        assert len(updates(batch)) == (1 if applied else 2)
        assert batch.campaign(token)["live"] is live

    def test_its_error_does_not_speak_of_definitions(self, batch, token):
        batch.inject(Fault("reset_before", "update"))
        with pytest.raises(BatchAmbiguousError) as caught:
            run(toggle(token))
        assert "definition" not in str(caught.value)

    @pytest.mark.parametrize("fault", ["view:429", "view:MAINTENANCE_ERROR"])
    def test_a_look_that_is_refused_for_now_never_repeats_the_write(self, batch, token, fault):
        batch.inject(Fault("reset_before", "update"))
        with pytest.raises(BatchAmbiguousError):
            run(toggle(token))
        batch.inject(fault)
        with pytest.raises(AirflowRescheduleException):
            run(toggle(token), try_number=2)
        assert len(updates(batch)) == 1

    @pytest.mark.parametrize("fault", [Fault("answer", "view", status=500), Fault("reset_before", "view")])
    def test_neither_does_a_look_that_fails(self, batch, token, fault):
        batch.inject(Fault("reset_before", "update"))
        with pytest.raises(BatchAmbiguousError):
            run(toggle(token))
        batch.inject(fault)
        with pytest.raises((BatchServerError, BatchAmbiguousError)):
            run(toggle(token), try_number=2)
        assert len(updates(batch)) == 1

    @pytest.mark.parametrize("live", [True, False])
    def test_where_the_key_cannot_read_a_toggle_is_repeated(self, dev, live):
        token = dev.add_campaign({**DEFINITION, "live": not live})
        dev.inject(Fault("reset_after", "update"))
        with pytest.raises(BatchAmbiguousError):
            run(toggle(token, live))
        assert run(toggle(token, live), try_number=2)["changed"] is True
        assert len(updates(dev)) == 2

    @pytest.mark.parametrize("push_time", ["now", "2020-01-01T00:00:00"])
    def test_but_not_with_a_definition_that_may_have_sent_the_push(self, dev, token, push_time):
        task = toggle(token, definition={**DEFINITION, "push_time": push_time})
        with pytest.raises(
            BatchRepeatRefusedError, match=r"cannot read it.* Look at the campaign in Batch's dashboard"
        ):
            run(task, try_number=2)
        assert updates(dev) == []

    def test_a_stop_is_repeated_whatever_its_definition(self, dev, running):
        run(toggle(running, False, definition={**DEFINITION, "push_time": "now"}), try_number=2)
        assert dev.campaign(running)["live"] is False

    def test_a_window_that_has_closed_meanwhile_switches_off(self, batch, token):
        now = this_minute()
        batch.inject(Fault("reset_after", "update"))
        with pytest.raises(BatchAmbiguousError):
            run(toggle(token, CampaignWindow(start=now - HOUR, end=now + HOUR)))
        closed = CampaignWindow(start=now - 2 * HOUR, end=now - HOUR)
        assert run(toggle(token, closed), try_number=2)["changed"] is True
        assert batch.campaign(token)["live"] is False


class TestVerification:
    def test_a_parameter_that_is_gone_after_the_write_is_a_permanent_failure_that_names_it(self, later):
        sandbox, faults = later
        token = sandbox.add_campaign(DEFINITION)
        after = {**sandbox.campaign(token), "live": True, "messages": [{"language": "en", "body": "Hi"}]}
        faults.append(Fault("answer", "view", status=200, body=after))
        with pytest.raises(BatchParametersLostError, match=r"lost messages\[0\]\.title, messages\[1\]") as caught:
            run(toggle(token))
        assert isinstance(caught.value, AirflowFailException)
        assert "Send them again with BatchUpdateCampaignOperator" in str(caught.value)

    def test_a_write_that_batch_confirms_but_does_not_do_is_tried_again(self, batch, token):
        batch.inject(Fault("answer", "update", status=200, body={}, applied=False))
        with pytest.raises(BatchVerificationError, match="still not live") as caught:
            run(toggle(token))
        assert caught.value.transient
        assert run(toggle(token), try_number=2)["changed"] is True
        assert len(updates(batch)) == 2

    def test_one_that_took_a_moment_is_fine_then_and_counts_as_changed_where_airflow_remembers(self, later):
        sandbox, faults = later
        token = sandbox.add_campaign(DEFINITION)
        faults.append(Fault("answer", "view", status=200, body=sandbox.campaign(token)))
        store = Store()
        with pytest.raises(BatchVerificationError):
            run(toggle(token), store=store)
        assert run(toggle(token), store=store, try_number=2)["changed"] is True
        assert len(updates(sandbox)) == 1

    def test_where_it_does_not_remember_it_is_not_known(self, later):
        sandbox, faults = later
        token = sandbox.add_campaign(DEFINITION)
        faults.append(Fault("answer", "view", status=200, body=sandbox.campaign(token)))
        with pytest.raises(BatchVerificationError):
            run(toggle(token))
        assert run(toggle(token), try_number=2)["changed"] is None

    @pytest.mark.parametrize(
        "fault", ["view:429", "view:500", "view:html;status=200", "view:reset_before", "view:404", "view:401"]
    )
    def test_a_look_that_fails_after_the_write_is_only_a_warning(self, later, fault, caplog):
        sandbox, faults = later
        token = sandbox.add_campaign(DEFINITION)
        faults.append(Fault.from_text(fault))
        assert run(toggle(token))["changed"] is True
        assert "looking at the campaign afterwards failed" in caplog.text


class TestRefusals:
    def test_a_campaign_of_the_dashboard_is_refused_before_anything_is_sent(self, batch):
        token = batch.add_campaign(DEFINITION, from_api=False)
        with pytest.raises(BatchChangeRefusedError, match="Change it in the dashboard"):
            run(toggle(token))
        assert operations(batch) == ["view"]

    @pytest.mark.parametrize("live", [True, False])
    def test_a_campaign_of_another_name_is_refused_before_anything_is_sent(self, batch, live):
        token = batch.add_campaign({**DEFINITION, "live": not live})
        with pytest.raises(BatchChangeRefusedError, match="'Summer sale', not 'Winter sale'"):
            run(toggle(token, live, expect_name="Winter sale"))
        assert operations(batch) == ["view"]

    def test_also_where_it_is_as_wanted_and_an_earlier_attempt_may_have_written(self, batch, running):
        with pytest.raises(BatchChangeRefusedError):
            run(toggle(running, expect_name="Winter sale"), try_number=2)

    def test_an_expected_name_that_renders_to_nothing_expects_nothing(self, batch, token):
        assert run(toggle(token, expect_name=""))["changed"] is True


class TestDryRun:
    def test_nothing_is_written_and_the_difference_is_returned_field_by_field(self, batch, token, caplog):
        with caplog.at_level(logging.INFO):
            result = run(toggle(token, dry_run=True, definition={**DEFINITION, "media": {"icon": "x"}}))
        assert operations(batch) == ["view"]
        assert result["differences"] == [
            {"parameter": "live", "now": False, "wanted": True},
            {"parameter": "media", "now": None, "wanted": {"icon": "x"}},
        ]
        assert (result["action"], result["changed"], result["live"]) == ("dry_run", False, False)
        assert (result["name"], result["http_status"]) == ("Summer sale", None)
        assert "Dry run: live would become True, it is False." in caplog.text

    def test_without_reading_all_that_would_be_sent_is_a_difference(self, dev, token):
        result = run(toggle(token, dry_run=True, expect_name="Summer sale"))
        assert result["differences"] == [
            {"parameter": "name", "now": None, "wanted": "Summer sale"},
            {"parameter": "live", "now": None, "wanted": True},
        ]
        assert result["live"] is None
        assert updates(dev) == []

    def test_one_that_is_as_wanted_has_no_difference(self, batch, running):
        result = run(toggle(running, dry_run=True))
        assert result.get("differences", []) == []
        assert result["changed"] is False

    def test_what_would_be_refused_is_refused(self, batch):
        token = batch.add_campaign({**DEFINITION, "push_time": "2020-01-01T00:00:00"})
        with pytest.raises(BatchChangeRefusedError):
            run(toggle(token, dry_run=True))

    def test_being_late_is_no_reason_not_to_compare(self, batch, token):
        assert run(toggle(token, dry_run=True), late=timedelta(days=2))["differences"]


def test_a_worker_that_died_after_sending_counts_as_an_attempt_that_may_have_written(batch, token):
    BatchHook().update_campaign(token, {"live": True})
    assert run(toggle(token), try_number=2, store=Store())["changed"] is None
    assert operations(batch) == ["update", "view"]


@pytest.mark.parametrize(
    "content",
    [b"{{ nothing.at.all }}", b"{% if %}", b"\xff\xfe", b"{{ 1 / 0 }}", b"[1]", b""],
    ids=["undefined", "syntax", "bytes", "division", "list", "empty"],
)
def test_off_goes_ahead_with_a_definition_file_that_cannot_be_used_and_on_says_why(batch, tmp_path, content):
    (tmp_path / "broken.json").write_bytes(content)
    token = batch.add_campaign({**DEFINITION, "live": True})
    with DAG("with_a_file", schedule=None, template_searchpath=str(tmp_path)):
        off = BatchSetCampaignLiveOperator(task_id="off", campaign=token, live=False, definition="broken.json")
        on = BatchSetCampaignLiveOperator(task_id="on", campaign=token, live=True, definition="broken.json")
    run(off)
    assert batch.campaign(token)["live"] is False
    with pytest.raises(BatchPayloadError, match="definition"):
        run(on)


@pytest.mark.parametrize("nothing", [None, "", "None"])
def test_a_definition_that_renders_to_nothing_is_none(batch, nothing):
    token = batch.add_campaign(DEFINITION)
    run(toggle(token, definition=nothing))
    assert batch.campaign(token)["live"] is True
