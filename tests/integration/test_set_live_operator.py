"""What BatchSetCampaignLiveOperator does with one attempt, against the sandbox."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from airflow.sdk import DAG
from jinja2 import Template
from task import Store, context_of

from airflow_batch._airflow.compat import AirflowFailException, AirflowRescheduleException, AirflowSkipException
from airflow_batch._campaigns.payload import payload_digest
from airflow_batch.exceptions import (
    BatchAmbiguousError,
    BatchApiError,
    BatchChangeRefusedError,
    BatchClockError,
    BatchConfigurationError,
    BatchConnectionError,
    BatchMalformedParameterError,
    BatchNotFoundError,
    BatchNotVisibleError,
    BatchParametersLostError,
    BatchPayloadError,
    BatchResponseError,
    BatchServerError,
    BatchVerificationError,
)
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator
from airflow_batch.sandbox import Contract, Fault
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
PAST = {**DEFINITION, "push_time": "2020-01-01T00:00:00"}

pytestmark = pytest.mark.usefixtures("clock")


class Killed(BaseException):
    """The worker process is killed here."""


def run(task, **context):
    """Execute one attempt."""
    return task.execute(context_of(task, **context))


def toggle(campaign, live=True, **arguments):
    return BatchSetCampaignLiveOperator(task_id="toggle", campaign=campaign, live=live, **arguments)


def operations(sandbox):
    return [record.operation for record in sandbox.requests]


def was_sent(record, payload):
    """Return whether a request's body was exactly this payload, in any order of its parameters."""
    return record.body_digest in {digest(json.dumps(dict(items)).encode()) for items in permutations(payload.items())}


def updates(sandbox):
    return [record for record in sandbox.requests if record.operation == "update"]


def run_killed(task, monkeypatch, *, sent, **context):
    """Execute an attempt whose worker process is killed after, or before, its first write is sent."""

    def update(hook, *arguments, **given):
        if sent:
            really(hook, *arguments, **given)
        raise Killed

    really = BatchHook.update_campaign
    with monkeypatch.context() as patch:
        patch.setattr(BatchHook, "update_campaign", update)
        with pytest.raises(Killed):
            run(task, **context)


def arrives_late(clock, token, payload, seconds):
    """Let a request that was lost take effect after so many seconds of waiting."""
    waits = []

    def while_asleep(slept):
        before = sum(waits)
        waits.append(slept)
        if before < seconds <= sum(waits):
            BatchHook().update_campaign(token, payload)

    clock.while_asleep = while_asleep


def label_of(task, context):
    """Return what Airflow shows for an index of a mapped task."""
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
def later(sandbox_with):
    """A sandbox, and a list of faults that are injected after the next update."""
    faults = []

    def on_record(record):
        if record.operation == "update":
            sandbox.inject(*faults)
            faults.clear()

    sandbox = sandbox_with(on_record=on_record)
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

    @pytest.mark.parametrize(("text", "live"), [("True", True), (" false ", False)])
    def test_live_may_be_the_text_of_a_rendered_template(self, batch, text, live):
        token = batch.add_campaign({**DEFINITION, "live": not live})
        assert run(toggle(token, text))["live"] is live
        assert batch.campaign(token)["live"] is live

    @pytest.mark.parametrize("live", ["maybe", "yes", "", None, 1, []])
    def test_live_that_is_not_a_boolean_fails_when_the_dag_is_parsed_or_before_any_request(self, batch, live):
        with pytest.raises(BatchConfigurationError, match="live is"):
            toggle("abc", live)
        task = toggle("abc", "{{ params.live }}")
        task.live = live
        with pytest.raises(BatchPayloadError, match="live must be true or false"):
            run(task)
        assert batch.requests == ()

    @pytest.mark.parametrize(("was", "live"), [(LIVE, True), (DEFINITION, False)])
    def test_a_campaign_that_is_already_in_the_desired_state_is_not_updated(self, batch, was, live, capsys):
        result = run(toggle(batch.add_campaign(was), live))
        assert f"('Summer sale') is {'' if live else 'not '}live already. Nothing is sent." in capsys.readouterr().out
        assert operations(batch) == ["view"]
        assert (result["changed"], result["http_status"]) == (False, None)
        assert (result["live"], result["name"]) == (live, "Summer sale")

    def test_each_index_of_a_mapped_task_is_labelled_with_app_and_name(self, two_apps):
        task = toggle(two_apps.add_campaign(DEFINITION, app="ios"), app="ios")
        context = context_of(task)
        task.execute(context)
        assert label_of(task, context) == "ios Summer sale"

    def test_an_index_that_failed_is_labelled_with_app_and_token(self, two_apps):
        task = toggle("unknown", app="ios")
        context = context_of(task)
        with pytest.raises(BatchNotVisibleError):
            task.execute(context)
        assert label_of(task, context) == "ios unknown"

    def test_the_app_of_a_toggle_is_only_a_label_where_the_connection_has_one_login_key(self, batch, token):
        assert run(toggle(token, app="ios"))["app"] == "ios"
        assert batch.campaign(token)["live"] is True


class TestWindow:
    @pytest.mark.parametrize(
        ("start", "end", "live"), [(-2, -1, False), (-1, 1, True), (1, 2, False)], ids=["after", "within", "before"]
    )
    def test_a_toggle_applies_the_state_of_the_window_at_the_moment_of_sending(self, batch, start, end, live):
        now = this_minute()
        token = batch.add_campaign({**DEFINITION, "live": not live})
        window = CampaignWindow(start=now + start * HOUR, end=now + end * HOUR, timezone="UTC")
        assert run(toggle(token, window))["live"] is live
        assert batch.campaign(token)["live"] is live

    def test_the_run_of_a_windows_opening_switches_on_although_the_workers_clock_is_behind(self, batch, token):
        soon = this_minute() + 2 * MINUTE
        run(toggle(token, CampaignWindow(start=soon, end=soon + HOUR, timezone="UTC")), run_after=soon)
        assert batch.campaign(token)["live"] is True

    def test_a_late_run_of_a_windows_opening_switches_off_when_the_window_is_closed_by_then(self, batch, running):
        opened = this_minute() - 3 * HOUR
        window = CampaignWindow(start=opened, end=opened + HOUR, timezone="UTC")
        run(toggle(running, window), run_after=opened)
        assert batch.campaign(running)["live"] is False

    def test_a_cleared_run_of_a_windows_end_leaves_the_campaign_on_when_the_window_is_open_again(self, batch, running):
        closed = this_minute() - 2 * HOUR
        window = CampaignWindow(on=f"{closed + HOUR:%M %H} * * *", off=f"{closed:%M %H} * * *", timezone="UTC")
        assert run(toggle(running, window), run_after=closed, try_number=2)["live"] is True
        assert batch.campaign(running)["live"] is True

    def test_max_lateness_does_not_apply_to_a_window(self, batch, token):
        window = CampaignWindow(start=this_minute() - timedelta(days=3), end=this_minute() + HOUR, timezone="UTC")
        run(toggle(token, window, max_lateness=60), late=timedelta(days=3))
        assert batch.campaign(token)["live"] is True


class TestLateness:
    def test_a_scheduled_run_that_is_more_than_an_hour_late_does_not_switch_on(self, batch, token):
        with pytest.raises(AirflowSkipException, match="later than max_lateness allows"):
            run(toggle(token), late=1.5 * HOUR)
        assert operations(batch) == ["view"]

    @pytest.mark.parametrize(
        ("live", "arguments", "late", "run_type"),
        [
            (True, {}, 59 * MINUTE, "scheduled"),
            (True, {}, timedelta(days=3), "manual"),
            (True, {}, timedelta(days=3), "operator_triggered"),
            (True, {}, timedelta(days=3), None),
            (True, {"max_lateness": timedelta(days=1)}, 23 * HOUR, "scheduled"),
            (True, {"max_lateness": None}, timedelta(days=300), "scheduled"),
            (False, {}, timedelta(days=300), "scheduled"),
        ],
    )
    def test_a_late_toggle_is_sent_within_max_lateness_in_a_manual_run_and_to_stop(
        self, batch, live, arguments, late, run_type
    ):
        token = batch.add_campaign({**DEFINITION, "live": not live})
        run(toggle(token, live, **arguments), late=late, run_type=run_type)
        assert batch.campaign(token)["live"] is live

    @pytest.mark.parametrize("limit", [timedelta(minutes=10), 600])
    def test_a_max_lateness_that_the_user_sets_applies_to_a_stop_too(self, batch, running, limit):
        with pytest.raises(AirflowSkipException, match=r"Not switched off: .* max_lateness"):
            run(toggle(running, False, max_lateness=limit), late=11 * MINUTE)
        assert batch.campaign(running)["live"] is True

    @pytest.mark.parametrize("limit", [0, -1, "1h", "never", True, float("nan"), timedelta(0), [60]])
    def test_an_invalid_max_lateness_is_refused_when_the_dag_is_parsed(self, limit):
        with pytest.raises(BatchConfigurationError, match="max_lateness"):
            toggle("abc", max_lateness=limit)

    def test_a_retry_after_max_lateness_sends_nothing(self, batch, token):
        batch.inject(Fault("reset_before", "update"))
        with pytest.raises(BatchAmbiguousError):
            run(toggle(token), late=50 * MINUTE)
        with pytest.raises(AirflowSkipException, match="sent nothing"):
            run(toggle(token), late=61 * MINUTE, try_number=2)
        assert len(updates(batch)) == 1

    def test_an_attempt_that_is_rescheduled_past_max_lateness_sends_nothing(self, batch, token):
        batch.inject(Fault("answer", "update", status=429, headers={"Retry-After": "20"}))
        with pytest.raises(AirflowRescheduleException):
            run(toggle(token), late=50 * MINUTE)
        with pytest.raises(AirflowSkipException):
            run(toggle(token), late=61 * MINUTE, reschedules=1, refused_for=11 * MINUTE)
        assert len(updates(batch)) == 1

    def test_a_late_run_succeeds_where_the_campaign_is_already_live(self, batch, running):
        assert run(toggle(running), late=timedelta(days=1))["changed"] is False

    def test_a_late_run_with_read_never_sends_no_request(self, batch, token):
        with pytest.raises(AirflowSkipException):
            run(toggle(token, read="never"), late=2 * HOUR)
        assert batch.requests == ()


class TestWhatIsSent:
    @pytest.mark.parametrize("mode", ["strict", "merge", "replace"])
    @pytest.mark.parametrize("live", [True, False])
    def test_a_toggle_keeps_every_parameter_in_each_update_mode_of_batch(self, sandbox_with, mode, live):
        sandbox = sandbox_with(update_mode=mode)
        token = sandbox.add_campaign({**DEFINITION, "live": not live})
        before = sandbox.campaign(token)
        run(toggle(token, live))
        assert sandbox.campaign(token) == {**before, "live": live}

    @pytest.mark.parametrize(
        "kind",
        [
            {"messages": {"a": DEFINITION["messages"], "b": [{"language": "en", "body": "Ho"}]}},
            {"labels": None},
            {"labels": ["A", "B", "C", "D"]},
            {"push_time": None, "local_push_time": "2099-06-01T09:00:00"},
            {"push_time": "2099-06-01T09:00:00Z"},
            {"push_time": "2020-01-01T00:00:00", "recurrence": DAILY},
            {"push_time": "2020-01-01T00:00:00", "trigger": {}},
            {"time_to_live": "3600", "capping": "2"},
            {"a_key_of_next_year": [{"deep": None}]},
        ],
        ids=["variants", "no labels", "4 labels", "local", "Z", "recurring", "trigger", "numbers", "unknown"],
    )
    def test_an_on_sends_every_parameter_back_as_batch_shows_it(self, sandbox_with, kind):
        sandbox = sandbox_with(update_mode="replace")
        token = sandbox.add_campaign(
            {name: value for name, value in {**DEFINITION, **kind}.items() if value is not None}
        )
        before = sandbox.campaign(token)
        assert run(toggle(token))["changed"] is True
        assert sandbox.campaign(token) == {**before, "live": True}

    def test_a_201_with_a_token_confirms_an_update(self, batch, token):
        batch.inject(Fault("answer", "update", status=201, body={"campaign_token": token}, applied=True))
        assert run(toggle(token))["http_status"] == 201

    @pytest.mark.parametrize(
        ("has", "says"),
        [
            (
                {"messages": [{"language": "en", "body": "Hello"}, {"language": "de", "body": "Hallo"}]},
                {
                    "messages": [
                        {"language": "en", "body": "Hello", "title": "S"},
                        {"language": "fr", "body": "Bonjour"},
                    ]
                },
            ),
            (
                {"messages": [{"language": "en", "body": "Autumn: 10% off shoes"}]},
                {"messages": [{"language": "en", "body": "Summer", "title": "Everything -50% today"}]},
            ),
            ({"targeting": {"segments": ["DORMANT"]}}, {"targeting": {"segments": ["NEW"], "query": {"a": 1}}}),
            ({"recurrence": DAILY}, {"recurrence": {**DAILY, "end_date": "2099-01-01T00:00:00"}}),
            ({}, {"recurrence": DAILY, "labels": ["X"]}),
            ({"push_time": None, "recurrence": DAILY}, {"push_time": "2020-01-01T00:00:00"}),
        ],
        ids=["messages", "one message", "targeting", "recurrence", "stale recurrence and labels", "push time"],
    )
    def test_a_definition_is_never_mixed_into_the_campaign_that_batch_has(self, batch, has, says):
        base = {name: value for name, value in {**DEFINITION, **has}.items() if value is not None}
        token = batch.add_campaign(base)
        run(toggle(token, definition={**DEFINITION, **says}))
        assert was_sent(updates(batch)[0], {**base, "live": True})

    def test_the_error_says_what_to_do_where_batch_refuses_the_format_of_its_own_view(self, sandbox_with):
        sandbox = sandbox_with(contract=Contract(message_language_in_view=False))
        token = sandbox.add_campaign(DEFINITION)
        with pytest.raises(BatchMalformedParameterError, match=r"'language'.*pass definition=.*read='never'"):
            run(toggle(token))
        assert sandbox.campaign(token)["live"] is False
        assert run(toggle(token, definition=DEFINITION, read="never"))["changed"] is True

    @pytest.mark.parametrize("form", ["dict", "text", "file"])
    def test_a_definition_may_be_an_object_json_text_or_a_file_next_to_the_dag(self, dev, token, tmp_path, form):
        variants = {**DEFINITION, "messages": {"a": DEFINITION["messages"], "b": DEFINITION["messages"]}}
        (tmp_path / "sale.json").write_text(json.dumps(variants))
        given = {"dict": variants, "text": json.dumps(variants), "file": "sale.json"}[form]
        with DAG("dag", schedule=None, template_searchpath=str(tmp_path)):
            task = toggle(token, definition=given)
        run(task)
        assert was_sent(updates(dev)[0], {**variants, "live": True})

    @pytest.mark.parametrize("nothing", [None, "", "None"])
    def test_a_definition_that_renders_to_nothing_counts_as_none(self, batch, token, nothing):
        assert run(toggle(token, definition=nothing))["changed"] is True


class TestWithoutReading:
    def test_a_key_that_cannot_read_sends_only_live_with_a_warning(self, dev, token, capsys):
        result = run(toggle(token))
        assert [record.status for record in dev.requests] == [403, 200, 403]
        assert was_sent(updates(dev)[0], {"live": True})
        assert (result["live"], result["name"], result["changed"]) == (True, None, True)
        assert "there is no definition, so only live is sent" in capsys.readouterr().out

    def test_a_key_that_cannot_read_sends_the_definition_if_there_is_one(self, dev, token):
        run(toggle(token, definition=DEFINITION))
        assert was_sent(updates(dev)[0], LIVE)

    def test_a_definition_whose_push_time_has_passed_is_not_sent_live(self, dev, token):
        with pytest.raises(BatchChangeRefusedError, match="has passed"):
            run(toggle(token, definition=PAST))
        assert operations(dev) == ["view"]

    def test_a_recurring_definition_is_sent_although_its_push_time_has_passed(self, dev, token):
        recurring = {**PAST, "recurrence": DAILY}
        run(toggle(token, definition=recurring))
        assert was_sent(updates(dev)[0], {**recurring, "live": True})

    def test_an_on_with_read_never_asks_batch_for_its_date_before_it_sends(self, batch, token):
        run(toggle(token, read="never"))
        assert operations(batch) == ["view", "update"]
        assert was_sent(updates(batch)[0], {"live": True})

    def test_a_stop_with_read_never_is_one_request(self, batch, running):
        run(toggle(running, False, read="never"))
        assert operations(batch) == ["update"]

    def test_an_invalid_value_of_read_is_refused_when_the_dag_is_parsed(self):
        with pytest.raises(BatchConfigurationError, match="read must be 'auto' or 'never'"):
            toggle("abc", read="sometimes")


class TestIdentity:
    def test_an_on_with_expect_name_is_refused_where_the_name_cannot_be_read(self, dev, token):
        with pytest.raises(BatchChangeRefusedError, match="its name cannot be read"):
            run(toggle(token, expect_name="Password reset", definition=DEFINITION))
        assert updates(dev) == []

    @pytest.mark.parametrize("name", ["Password reset", "A1", "", "None"])
    def test_a_stop_is_sent_without_expect_name_where_the_name_cannot_be_read(self, dev, running, name):
        run(toggle(running, False, expect_name=name))
        assert was_sent(updates(dev)[0], {"live": False})

    @pytest.mark.parametrize("name", ["", "None", " "])
    def test_expect_name_that_renders_to_nothing_refuses_an_on_but_not_a_stop(self, batch, running, name):
        with pytest.raises(BatchChangeRefusedError, match="rendered to nothing"):
            run(toggle(batch.add_campaign(DEFINITION), expect_name=name))
        assert run(toggle(running, False, expect_name=name))["changed"] is True

    def test_a_view_without_a_name_refuses_an_on_with_expect_name_but_not_a_stop(self, batch, token, running):
        for campaign in (token, running):
            view = {**batch.campaign(campaign), "name": None}
            batch.inject(Fault("answer", "view", token=campaign, status=200, body=view))
        with pytest.raises(BatchChangeRefusedError, match="its name cannot be read"):
            run(toggle(token, expect_name="Summer sale"))
        assert run(toggle(running, False, expect_name="Summer sale"))["changed"] is True

    @pytest.mark.parametrize("live", [True, False])
    def test_a_campaign_of_another_name_is_neither_switched_on_nor_off(self, batch, live):
        token = batch.add_campaign({**DEFINITION, "live": not live})
        with pytest.raises(BatchChangeRefusedError, match="'Summer sale', not 'Winter sale'"):
            run(toggle(token, live, expect_name="Winter sale"))
        assert operations(batch) == ["view"]

    def test_expect_name_ignores_surrounding_blanks(self, batch, token):
        assert run(toggle(token, expect_name=" Summer sale "))["changed"] is True

    def test_a_campaign_created_in_the_dashboard_is_not_switched_on_and_a_stop_is_sent_for_batch_to_decide(self, batch):
        token = batch.add_campaign(LIVE, from_api=False)
        with pytest.raises(AirflowFailException):
            run(toggle(token, False))
        assert len(updates(batch)) == 3
        with pytest.raises(BatchChangeRefusedError, match="Change it in the dashboard"):
            run(toggle(batch.add_campaign(DEFINITION, from_api=False)))
        assert len(updates(batch)) == 3

    def test_a_view_with_another_token_refuses_an_on_and_is_not_sent_back_by_a_stop(self, batch, token, running):
        other = batch.campaign(batch.add_campaign({**DEFINITION, "name": "Other", "labels": ["OTHER"]}))
        batch.inject(Fault("answer", "view", token=token, status=200, body=other))
        with pytest.raises(BatchResponseError, match="another token"):
            run(toggle(token))
        assert updates(batch) == []
        batch.inject(Fault("answer", "view", token=running, status=200, body=other))
        run(toggle(running, False))
        assert was_sent(updates(batch)[0], DEFINITION)

    def test_a_404_of_the_view_is_a_transient_error_for_an_on_and_does_not_block_a_stop(self, batch, running):
        batch.inject(Fault("answer", "view", status=404, times=2))
        with pytest.raises(BatchNotVisibleError, match="token") as caught:
            run(toggle(batch.add_campaign(DEFINITION)))
        assert caught.value.transient
        assert updates(batch) == []
        assert run(toggle(running, False))["changed"] is True

    def test_a_stop_of_an_unknown_token_fails(self, batch):
        with pytest.raises(BatchNotFoundError):
            run(toggle("unknown", False))


class TestStop:
    @pytest.mark.parametrize("name", ["A1", 12345])
    def test_a_stop_sends_back_a_name_that_our_own_checks_would_refuse(self, batch, name):
        token = batch.add_campaign({**LIVE, "name": name})
        run(toggle(token, False))
        assert was_sent(updates(batch)[0], {**DEFINITION, "name": name})

    @pytest.mark.parametrize(("name", "last"), [("Summer sale", 2), ("A1", 1)])
    def test_a_stop_that_batch_refuses_is_sent_with_fewer_parameters_and_checked_two_minutes_later(
        self, batch, clock, name, last
    ):
        token = batch.add_campaign({**LIVE, "name": name})
        batch.inject(Fault("answer", "update", status=400, times=last))
        assert run(toggle(token, False))["changed"] is True
        sent = [{**DEFINITION, "name": name}, {"name": name, "live": False}, {"live": False}]
        sent = sent if last == 2 else [sent[0], sent[2]]
        assert [was_sent(record, payload) for record, payload in zip(updates(batch), sent, strict=True)] == [
            True
        ] * len(sent)
        assert 119 <= sum(clock.slept) <= 121
        assert operations(batch)[-1] == "view"

    def test_a_stop_with_fewer_parameters_fails_if_the_check_two_minutes_later_shows_a_loss(
        self, batch, clock, running
    ):
        batch.inject(Fault("answer", "update", status=400))
        lost = {**batch.campaign(running), "live": False, "labels": []}
        clock.while_asleep = lambda seconds: batch.inject(Fault("answer", "view", status=200, body=lost))
        with pytest.raises(BatchParametersLostError, match="lost labels"):
            run(toggle(running, False))
        assert batch.campaign(running)["live"] is False

    def test_a_stop_sends_only_live_where_batch_refuses_the_definition(self, dev, running):
        run(toggle(running, False, definition={**DEFINITION, "time_to_live": -5}))
        assert [record.status for record in updates(dev)] == [400, 400, 200][-len(updates(dev)) :]
        assert dev.campaign(running)["live"] is False

    @pytest.mark.parametrize("definition", ["missing.json", "{not json", {"name": "ab"}, ["x"], {}, {"labels": 5}])
    def test_a_stop_ignores_an_invalid_definition_with_a_warning(self, batch, running, definition, capsys):
        run(toggle(running, False, definition=definition))
        assert batch.campaign(running)["live"] is False
        assert "stopped without the definition" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "fault",
        [Fault("html", "view", status=200), Fault("answer", "view", status=200, body=""), Fault("redirect", "view"),
         Fault("answer", "view", status=500)],
        ids=["html", "empty", "redirect", "500"],
    )  # fmt: skip
    def test_a_stop_reads_the_campaign_again_after_one_unreadable_answer_and_sends_it_whole(
        self, batch, running, fault
    ):
        batch.inject(fault)
        run(toggle(running, False))
        assert was_sent(updates(batch)[0], DEFINITION)

    def test_failed_reads_of_a_stop_are_repeated_after_0_5_and_15_seconds_and_then_by_airflows_retries(
        self, batch, clock, running
    ):
        batch.inject(Fault("answer", "view", status=500, times=None))
        with pytest.raises(BatchServerError):
            run(toggle(running, False))
        assert operations(batch) == ["view"] * 4
        assert clock.slept == [0, 5, 15]
        run(toggle(running, False), try_number=7, max_tries=6)
        assert was_sent(updates(batch)[0], {"live": False})

    @pytest.mark.parametrize(
        "fault", [Fault("html", "update", status=200), Fault("redirect", "update")], ids=["html", "redirect"]
    )
    def test_a_stop_that_is_answered_unreadably_and_not_applied_is_sent_again(self, batch, running, fault):
        batch.inject(fault)
        assert run(toggle(running, False))["changed"] is True
        assert len(updates(batch)) == 2
        assert batch.campaign(running)["live"] is False

    def test_a_view_without_messages_refuses_an_on_and_fails_a_stop_after_sending_it(self, batch):
        base = {name: value for name, value in DEFINITION.items() if name != "messages"}
        token, running = (batch.add_campaign({**base, "live": live}) for live in (False, True))
        with pytest.raises(BatchChangeRefusedError, match="without messages"):
            run(toggle(token))
        with pytest.raises(BatchParametersLostError, match="lost messages"):
            run(toggle(running, False))
        assert [batch.campaign(campaign)["live"] for campaign in (token, running)] == [False, False]

    def test_a_stop_that_batch_refuses_in_every_form_fails_with_batchs_last_answer(self, batch, running):
        batch.inject(Fault("answer", "update", error="API_MISUSE", times=None))
        with pytest.raises(AirflowFailException, match="API_MISUSE") as caught:
            run(toggle(running, False))
        assert len(updates(batch)) == 3
        assert "definition" not in str(caught.value)

    @pytest.mark.parametrize("content", [b"{{ nothing.at.all }}", b"\xff\xfe"], ids=["template", "bytes"])
    def test_an_unusable_definition_file_fails_an_on_but_not_a_stop(self, batch, running, tmp_path, content):
        (tmp_path / "broken.json").write_bytes(content)
        with DAG("with_a_file", schedule=None, template_searchpath=str(tmp_path)):
            off = toggle(running, False, definition="broken.json")
            on = BatchSetCampaignLiveOperator(task_id="on", campaign=running, live=True, definition="broken.json")
        run(off)
        assert batch.campaign(running)["live"] is False
        with pytest.raises(BatchPayloadError, match="definition"):
            run(on)


class TestPushTimesThatHavePassed:
    @pytest.mark.parametrize("try_number", [1, 2])
    @pytest.mark.parametrize("late", [timedelta(0), 2 * HOUR])
    def test_a_one_time_campaign_whose_push_time_has_passed_does_not_go_live(self, batch, try_number, late):
        with pytest.raises(BatchChangeRefusedError, match="Give it a push_time in the future"):
            run(toggle(batch.add_campaign(PAST)), late=late, try_number=try_number)
        assert operations(batch) == ["view"]

    @pytest.mark.parametrize("ahead", [-HOUR, HOUR])
    def test_a_push_time_that_has_passed_by_our_clock_or_by_batchs_is_refused(self, batch, ahead):
        batch.date_offset = ahead
        moment = datetime.now(UTC) + (30 * MINUTE if ahead > timedelta(0) else -30 * MINUTE)
        token = batch.add_campaign({**DEFINITION, "push_time": f"{moment:%Y-%m-%dT%H:%M:%S}"})
        with pytest.raises(BatchChangeRefusedError, match="has passed"):
            run(toggle(token))
        assert updates(batch) == []

    def test_an_on_of_a_live_campaign_whose_push_time_has_passed_fails(self, batch):
        with pytest.raises(BatchChangeRefusedError, match="complete and cannot go live again"):
            run(toggle(batch.add_campaign({**PAST, "live": True})))

    def test_a_live_campaign_whose_push_time_has_passed_is_a_success_for_a_later_attempt_and_for_a_window(
        self, batch, capsys
    ):
        token = batch.add_campaign({**PAST, "live": True})
        assert run(toggle(token), try_number=2)["live"] is True
        window = CampaignWindow(start=this_minute() - HOUR, end=this_minute() + HOUR, timezone="UTC")
        assert run(toggle(token, window))["changed"] is False
        assert "left as it is" in capsys.readouterr().out

    def test_a_stop_is_sent_although_the_push_time_has_passed(self, batch):
        token = batch.add_campaign({**PAST, "live": True})
        run(toggle(token, False))
        assert batch.campaign(token)["live"] is False

    @pytest.mark.parametrize(
        "definition",
        [{"push_time": None, "local_push_time": "2020-01-01T00:00:00"},
         {"recurrence": {**DAILY, "end_date": "2020-01-01T00:00:00"}}],
        ids=["local push time", "end of the recurrence"],
    )  # fmt: skip
    def test_a_campaign_that_has_probably_ended_is_switched_on_with_a_warning(self, batch, definition, capsys):
        whole = {**DEFINITION, **definition}
        token = batch.add_campaign({name: value for name, value in whole.items() if value is not None})
        run(toggle(token))
        assert batch.campaign(token)["live"] is True
        assert "Whether Batch sets it live again is not known" in capsys.readouterr().out


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_clocks_that_disagree_about_a_window_open_nothing_and_close_it_with_an_error(batch, token, running, ahead):
    batch.date_offset = ahead
    between, far = this_minute() + ahead / 2, timedelta(days=3)
    with pytest.raises(BatchClockError, match="Nothing was sent"):
        run(
            toggle(token, CampaignWindow(start=between, end=between + far, timezone="UTC")),
            run_after=this_minute() - far,
        )
    assert updates(batch) == []
    with pytest.raises(BatchClockError, match="is stopped"):
        run(
            toggle(running, CampaignWindow(start=between - far, end=between, timezone="UTC")),
            run_after=this_minute() - far,
        )
    assert batch.campaign(running)["live"] is False


class TestAmbiguousAnswer:
    """More kinds of ambiguous answers are in the fault matrix."""

    @pytest.mark.parametrize(
        ("fault", "applied"),
        [(Fault("reset_before", "update"), False), (Fault("answer", "update", status=500, applied=True), True)],
        ids=["reset, not applied", "500, applied"],
    )
    @pytest.mark.parametrize("store", [True, False])
    def test_after_an_ambiguous_answer_the_attempt_reads_the_campaign_for_two_minutes_and_the_retry_sends_again(
        self, batch, clock, token, fault, applied, store
    ):
        kept = {"store": Store()} if store else {}
        batch.inject(fault)
        if applied:
            assert run(toggle(token), **kept)["changed"] is None
            assert operations(batch) == ["view", "update", "view"]
        else:
            with pytest.raises(BatchApiError) as caught:
                run(toggle(token), **kept)
            assert caught.value.transient
            assert 118 <= sum(clock.slept) <= 120
            assert len(clock.slept) == 4
            assert operations(batch) == ["view", "update", *["view"] * 5]
            assert run(toggle(token), try_number=2, **kept)["changed"] is True
            assert len(updates(batch)) == 2
        assert batch.campaign(token)["live"] is True

    @pytest.mark.parametrize("seconds", [1, 20, 60, 100])
    def test_an_on_that_takes_effect_late_is_found_by_the_same_attempt(self, batch, clock, token, seconds):
        batch.inject(Fault("reset_before", "update"))
        arrives_late(clock, token, LIVE, seconds)
        assert run(toggle(token))["changed"] is None
        assert len(updates(batch)) == 2  # ours, and the one that arrives

    @pytest.mark.parametrize("fault", ["view:429;times=9", "view:500;times=9", "view:404;times=9"])
    def test_an_ambiguous_write_is_not_repeated_in_an_attempt_whose_reads_fail(self, later, fault):
        sandbox, faults = later
        token = sandbox.add_campaign(DEFINITION)
        sandbox.inject(Fault("reset_before", "update"))
        faults.append(Fault.from_text(fault))
        with pytest.raises(BatchAmbiguousError):
            run(toggle(token))
        assert len(updates(sandbox)) == 1

    @pytest.mark.parametrize("live", [True, False])
    def test_a_toggle_with_an_ambiguous_answer_is_repeated_where_the_key_cannot_read(self, dev, live):
        token = dev.add_campaign({**DEFINITION, "live": not live})
        dev.inject(Fault("reset_before", "update"))
        try:
            assert run(toggle(token, live))["changed"] is True
        except BatchAmbiguousError:
            assert run(toggle(token, live), try_number=2)["changed"] is True
        assert dev.campaign(token)["live"] is live

    @pytest.mark.parametrize("store", [True, False])
    @pytest.mark.parametrize("sent", [True, False])
    def test_the_attempt_after_a_killed_worker_finds_the_change_or_makes_it(
        self, batch, token, monkeypatch, store, sent
    ):
        kept = {"store": Store()} if store else {}
        run_killed(toggle(token), monkeypatch, sent=sent, **kept)
        assert run(toggle(token), try_number=2, **kept)["changed"] is (None if sent else True)
        assert len(updates(batch)) == 1

    def test_an_update_that_could_not_be_sent_is_repeated_after_5_and_15_seconds_in_the_same_attempt(
        self, batch, clock, token, monkeypatch
    ):
        really, failures = BatchHook.update_campaign, iter([True, True])

        def update(hook, *arguments, **given):
            if next(failures, False):
                raise BatchConnectionError("Nothing was sent: connection refused.")
            return really(hook, *arguments, **given)

        monkeypatch.setattr(BatchHook, "update_campaign", update)
        assert run(toggle(token))["changed"] is True
        assert clock.slept == [5, 15]

    def test_a_throttled_read_after_an_ambiguous_answer_is_repeated_only_after_retry_after(self, later):
        sandbox, faults = later
        token = sandbox.add_campaign(DEFINITION)
        sandbox.inject(Fault("reset_after", "update"))
        faults.append(Fault("answer", "view", status=429, headers={"Retry-After": "60"}))
        assert run(toggle(token))["changed"] is None
        throttled, after = [record.time for record in sandbox.requests if record.operation == "view"][1:]
        assert after - throttled >= MINUTE


class TestWindowThatClosesAfterAnAmbiguousOn:
    @pytest.fixture
    def closing(self, clock):
        """A window that closes 15 seconds from now."""
        end = this_minute() + 2 * MINUTE
        clock.move(end - timedelta(seconds=15) - datetime.now(UTC))
        return CampaignWindow(start=end - HOUR, end=end, timezone="UTC")

    @pytest.mark.parametrize("seconds", [5, 25, 60])
    def test_a_stop_after_an_ambiguous_on_is_sent_at_once_and_again_two_minutes_after_the_on(
        self, batch, clock, token, closing, seconds
    ):
        batch.inject(Fault("reset_before", "update"))
        arrives_late(clock, token, LIVE, seconds)
        run(toggle(token, closing))
        assert batch.campaign(token)["live"] is False
        assert 119 <= sum(clock.slept) <= 125

    @pytest.mark.parametrize("store", [True, False])
    def test_a_retry_after_the_windows_end_stops_a_campaign_that_goes_live_late(
        self, batch, clock, token, closing, monkeypatch, store
    ):
        kept = {"store": Store()} if store else {}
        run_killed(toggle(token, closing), monkeypatch, sent=False, **kept)
        clock.move(timedelta(seconds=20))
        arrives_late(clock, token, LIVE, 60)
        run(toggle(token, closing), try_number=2, run_after=this_minute() - HOUR, **kept)
        assert batch.campaign(token)["live"] is False


class TestVerification:
    def test_a_parameter_that_is_missing_after_the_write_is_a_permanent_failure_that_names_it(self, later):
        sandbox, faults = later
        token = sandbox.add_campaign(DEFINITION)
        after = {**sandbox.campaign(token), "live": True, "messages": [{"language": "en", "body": "Hi"}]}
        faults.append(Fault("answer", "view", status=200, body=after))
        with pytest.raises(BatchParametersLostError, match=r"lost messages\[0\]\.title, messages\[1\]") as caught:
            run(toggle(token))
        assert isinstance(caught.value, AirflowFailException)
        assert "Send them again with BatchUpdateCampaignOperator" in str(caught.value)

    @pytest.mark.parametrize("store", [True, False])
    def test_an_update_that_batch_confirms_but_does_not_show_is_retried(self, batch, token, store):
        kept = {"store": Store()} if store else {}
        batch.inject(Fault("answer", "update", status=200, body={}, applied=False))
        with pytest.raises(BatchVerificationError, match="does not show it live") as caught:
            run(toggle(token), **kept)
        assert caught.value.transient
        assert run(toggle(token), try_number=2, **kept)["changed"] is True
        assert len(updates(batch)) == 2

    @pytest.mark.parametrize(("store", "changed"), [(True, True), (False, None)])
    def test_a_confirmed_change_that_shows_only_in_the_next_attempt_is_sent_once(self, later, store, changed):
        sandbox, faults = later
        kept = {"store": Store()} if store else {}
        token = sandbox.add_campaign(DEFINITION)
        faults.append(Fault("answer", "view", status=200, body=sandbox.campaign(token)))
        with pytest.raises(BatchVerificationError):
            run(toggle(token), **kept)
        assert run(toggle(token), try_number=2, **kept)["changed"] is changed
        assert len(updates(sandbox)) == 1

    @pytest.mark.parametrize("fault", ["view:429", "view:reset_before", "view:401"])
    def test_a_read_that_fails_after_a_confirmed_write_is_only_a_warning(self, later, fault, capsys):
        sandbox, faults = later
        token = sandbox.add_campaign(DEFINITION)
        faults.append(Fault.from_text(fault))
        assert run(toggle(token))["changed"] is True
        assert "checked: no (reading failed)" in capsys.readouterr().out


class TestDryRun:
    def test_a_dry_run_of_a_toggle_sends_no_update_and_returns_the_differences(self, batch, token, capsys):
        result = run(toggle(token, dry_run=True, definition={**DEFINITION, "media": {"icon": "x"}}))
        assert operations(batch) == ["view"]
        assert result["differences"] == [{"parameter": "live", "now": False, "wanted": True}]
        assert (result["action"], result["changed"], result["live"]) == ("dry_run", False, False)
        assert (result["name"], result["http_status"]) == ("Summer sale", None)
        assert "Dry run: live would become True, it is False." in capsys.readouterr().out

    def test_a_dry_run_with_a_key_that_cannot_read_returns_everything_it_would_send(self, dev, token):
        result = run(toggle(token, dry_run=True))
        assert result["differences"] == [{"parameter": "live", "now": None, "wanted": True}]
        assert result["live"] is None
        assert updates(dev) == []

    def test_a_dry_run_returns_no_differences_where_the_campaign_is_in_the_desired_state(self, batch, running):
        result = run(toggle(running, dry_run=True))
        assert (result["differences"], result["changed"], result["action"]) == ([], False, "dry_run")

    def test_a_dry_run_refuses_a_push_time_that_has_passed(self, batch):
        with pytest.raises(BatchChangeRefusedError):
            run(toggle(batch.add_campaign(PAST), dry_run=True))

    def test_a_dry_run_compares_although_the_run_is_late(self, batch, token):
        assert run(toggle(token, dry_run=True), late=timedelta(days=2))["differences"]
