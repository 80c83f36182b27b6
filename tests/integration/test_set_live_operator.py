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
    BatchAuthenticationError,
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
PAST = {**DEFINITION, "push_time": "2020-01-01T00:00:00"}

pytestmark = pytest.mark.usefixtures("clock")


class Killed(BaseException):
    """The worker dies here."""


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


def run_killed(task, monkeypatch, *, sent, **context):
    """Execute an attempt whose worker dies after, or before, its first write is sent."""

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
    """Let a request that was lost take effect so many seconds of waiting later."""
    waits = []

    def while_asleep(slept):
        before = sum(waits)
        waits.append(slept)
        if before < seconds <= sum(waits):
            BatchHook().update_campaign(token, payload)

    clock.while_asleep = while_asleep


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

    @pytest.mark.parametrize(("text", "live"), [("True", True), (" false ", False)])
    def test_the_text_that_a_template_renders_is_understood(self, batch, text, live):
        token = batch.add_campaign({**DEFINITION, "live": not live})
        assert run(toggle(token, text))["live"] is live
        assert batch.campaign(token)["live"] is live

    @pytest.mark.parametrize("live", ["maybe", "yes", "", None, 1, []])
    def test_a_live_that_is_no_boolean_fails_when_the_dag_is_parsed_or_before_anything_is_sent(self, batch, live):
        with pytest.raises(BatchConfigurationError, match="live is"):
            toggle("abc", live)
        task = toggle("abc", "{{ params.live }}")
        task.live = live
        with pytest.raises(BatchPayloadError, match="live must be true or false"):
            run(task)
        assert batch.requests == ()

    @pytest.mark.parametrize(("was", "live"), [(LIVE, True), (DEFINITION, False)])
    def test_a_campaign_that_is_as_desired_already_is_left_alone(self, batch, was, live, capsys):
        result = run(toggle(batch.add_campaign(was), live))
        assert f"('Summer sale') is {'' if live else 'not '}live already. Nothing is sent." in capsys.readouterr().out
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
        with pytest.raises(BatchNotVisibleError):
            task.execute(context)
        assert label_of(task, context) == "ios unknown"

    def test_an_app_is_only_a_label_where_the_connection_has_one_login_key(self, batch, token):
        assert run(toggle(token, app="ios"))["app"] == "ios"
        assert batch.campaign(token)["live"] is True


class TestWindow:
    @pytest.mark.parametrize(
        ("start", "end", "live"), [(-2, -1, False), (-1, 1, True), (1, 2, False)], ids=["after", "within", "before"]
    )
    def test_a_window_is_asked_at_the_moment_of_sending(self, batch, start, end, live):
        now = this_minute()
        token = batch.add_campaign({**DEFINITION, "live": not live})
        window = CampaignWindow(start=now + start * HOUR, end=now + end * HOUR, timezone="UTC")
        assert run(toggle(token, window))["live"] is live
        assert batch.campaign(token)["live"] is live

    def test_the_run_of_an_opening_switches_on_also_where_the_workers_clock_is_behind(self, batch, token):
        soon = this_minute() + 2 * MINUTE
        run(toggle(token, CampaignWindow(start=soon, end=soon + HOUR, timezone="UTC")), run_after=soon)
        assert batch.campaign(token)["live"] is True

    def test_the_run_of_a_closing_switches_off_also_where_the_workers_clock_is_behind(self, batch, running):
        soon = this_minute() + 2 * MINUTE
        run(toggle(running, CampaignWindow(start=soon - HOUR, end=soon, timezone="UTC")), run_after=soon)
        assert batch.campaign(running)["live"] is False

    @pytest.mark.parametrize("run_type", TIMED)
    def test_a_late_run_of_its_on_switches_off_when_it_is_time_to_be_off(self, batch, running, run_type):
        opened = this_minute() - 3 * HOUR
        window = CampaignWindow(start=opened, end=opened + HOUR, timezone="UTC")
        run(toggle(running, window), run_after=opened, run_type=run_type)
        assert batch.campaign(running)["live"] is False

    def test_a_cleared_run_of_its_off_leaves_it_on_when_it_is_time_to_be_on(self, batch, running):
        closed = this_minute() - 2 * HOUR
        window = CampaignWindow(on=f"{closed + HOUR:%M %H} * * *", off=f"{closed:%M %H} * * *", timezone="UTC")
        assert run(toggle(running, window), run_after=closed, try_number=2)["live"] is True
        assert batch.campaign(running)["live"] is True

    def test_a_window_is_never_too_late_to_switch_on(self, batch, token):
        window = CampaignWindow(start=this_minute() - timedelta(days=3), end=this_minute() + HOUR, timezone="UTC")
        run(toggle(token, window, max_lateness=60), late=timedelta(days=3))
        assert batch.campaign(token)["live"] is True


class TestLateness:
    @pytest.mark.parametrize("run_type", TIMED)
    def test_more_than_an_hour_late_a_campaign_is_not_switched_on(self, batch, token, run_type):
        with pytest.raises(AirflowSkipException, match="later than max_lateness allows"):
            run(toggle(token), late=1.5 * HOUR, run_type=run_type)
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
    def test_a_campaign_is_switched_within_the_limit_and_in_a_run_that_somebody_started_and_a_stop_has_none(
        self, batch, live, arguments, late, run_type
    ):
        token = batch.add_campaign({**DEFINITION, "live": not live})
        run(toggle(token, live, **arguments), late=late, run_type=run_type)
        assert batch.campaign(token)["live"] is live

    @pytest.mark.parametrize("limit", [timedelta(minutes=10), 600])
    def test_a_limit_that_the_user_gives_counts_for_a_stop_as_well(self, batch, running, limit):
        with pytest.raises(AirflowSkipException, match=r"Not switched off: .* max_lateness"):
            run(toggle(running, False, max_lateness=limit), late=11 * MINUTE)
        assert batch.campaign(running)["live"] is True

    @pytest.mark.parametrize("limit", [0, -1, "1h", "never", True, float("nan"), timedelta(0), [60]])
    def test_a_wrong_limit_is_refused_when_the_dag_is_parsed(self, limit):
        with pytest.raises(BatchConfigurationError, match="max_lateness"):
            toggle("abc", max_lateness=limit)

    def test_a_retry_that_comes_too_late_sends_nothing(self, batch, token):
        batch.inject(Fault("reset_before", "update"))
        with pytest.raises(BatchAmbiguousError):
            run(toggle(token), late=50 * MINUTE)
        with pytest.raises(AirflowSkipException, match="sent nothing"):
            run(toggle(token), late=61 * MINUTE, try_number=2)
        assert len(updates(batch)) == 1

    def test_an_attempt_that_comes_back_too_late_from_a_throttle_sends_nothing(self, batch, token):
        batch.inject(Fault("answer", "update", status=429))
        with pytest.raises(AirflowRescheduleException):
            run(toggle(token), late=50 * MINUTE)
        with pytest.raises(AirflowSkipException):
            run(toggle(token), late=61 * MINUTE, reschedules=1, refused_for=11 * MINUTE)
        assert len(updates(batch)) == 1

    def test_a_late_run_that_finds_the_campaign_live_already_succeeds(self, batch, running):
        assert run(toggle(running), late=timedelta(days=1))["changed"] is False

    def test_a_late_run_without_reading_sends_nothing_at_all(self, batch, token):
        with pytest.raises(AirflowSkipException):
            run(toggle(token, read="never"), late=2 * HOUR)
        assert batch.requests == ()


class TestWhatIsSent:
    @pytest.mark.parametrize("mode", ["strict", "merge", "replace"])
    @pytest.mark.parametrize("live", [True, False])
    def test_nothing_is_lost_whatever_batch_does_with_what_is_left_out(self, of, mode, live):
        sandbox = of(update_mode=mode)
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
    @pytest.mark.parametrize("live", [True, False])
    def test_what_batch_shows_passes_through_a_toggle_unharmed(self, of, kind, live):
        sandbox = of(update_mode="strict")
        definition = {name: value for name, value in {**DEFINITION, **kind}.items() if value is not None}
        token = sandbox.add_campaign({**definition, "live": not live})
        assert run(toggle(token, live))["changed"] is True
        definition.pop("trigger", None)
        assert was_sent(updates(sandbox)[0], {**definition, "live": live})

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
    @pytest.mark.parametrize("live", [True, False])
    def test_a_definition_is_never_mixed_into_what_batch_has(self, batch, has, says, live):
        base = {name: value for name, value in {**DEFINITION, **has}.items() if value is not None}
        token = batch.add_campaign({**base, "live": not live})
        run(toggle(token, live, definition={**DEFINITION, **says}))
        assert was_sent(updates(batch)[0], {**base, "live": live})

    def test_where_batch_refuses_the_form_of_its_own_view_the_error_says_what_to_do(self, of):
        sandbox = of(contract=Contract(message_language_in_view=False))
        token = sandbox.add_campaign(DEFINITION)
        with pytest.raises(BatchMalformedParameterError, match=r"'language'.*pass definition=.*read='never'"):
            run(toggle(token))
        assert sandbox.campaign(token)["live"] is False
        assert run(toggle(token, definition=DEFINITION, read="never"))["changed"] is True

    @pytest.mark.parametrize("form", ["dict", "text", "file"])
    def test_a_definition_is_an_object_json_text_or_a_file_next_to_the_dag(self, dev, token, tmp_path, form):
        variants = {**DEFINITION, "messages": {"a": DEFINITION["messages"], "b": DEFINITION["messages"]}}
        (tmp_path / "sale.json").write_text(json.dumps(variants))
        given = {"dict": variants, "text": json.dumps(variants), "file": "sale.json"}[form]
        with DAG("dag", schedule=None, template_searchpath=str(tmp_path)):
            task = toggle(token, definition=given)
        run(task)
        assert was_sent(updates(dev)[0], {**variants, "live": True})

    def test_a_definition_file_that_is_missing_fails_before_anything_is_sent(self, batch, token):
        with pytest.raises(BatchPayloadError, match=r"missing\.json"):
            run(toggle(token, definition="missing.json"))
        assert batch.requests == ()

    @pytest.mark.parametrize("nothing", [None, "", "None"])
    def test_a_definition_that_renders_to_nothing_is_none(self, batch, token, nothing):
        assert run(toggle(token, definition=nothing))["changed"] is True


class TestWithoutReading:
    def test_a_key_that_cannot_read_sends_live_alone_with_a_warning(self, dev, token, capsys):
        result = run(toggle(token))
        assert [record.status for record in dev.requests] == [403, 200, 403]
        assert was_sent(updates(dev)[0], {"live": True})
        assert (result["live"], result["name"], result["changed"]) == (True, None, True)
        assert "there is no definition, so only live is sent" in capsys.readouterr().out

    def test_a_definition_is_sent_instead_where_there_is_one(self, dev, token):
        run(toggle(token, definition=DEFINITION))
        assert was_sent(updates(dev)[0], LIVE)

    def test_a_definition_whose_push_time_has_passed_is_not_sent_live(self, dev, token):
        with pytest.raises(BatchChangeRefusedError, match="has passed"):
            run(toggle(token, definition=PAST))
        assert operations(dev) == ["view"]

    def test_a_recurring_definition_is_sent_whatever_its_push_time(self, dev, token):
        recurring = {**PAST, "recurrence": DAILY}
        run(toggle(token, definition=recurring))
        assert was_sent(updates(dev)[0], {**recurring, "live": True})

    def test_read_never_sends_without_a_comparison_but_not_before_batch_has_told_the_time(self, batch, token):
        run(toggle(token, read="never"))
        assert operations(batch) == ["view", "update"]
        assert was_sent(updates(batch)[0], {"live": True})

    def test_a_stop_with_read_never_is_one_request(self, batch, running):
        run(toggle(running, False, read="never"))
        assert operations(batch) == ["update"]

    def test_a_wrong_value_of_read_is_refused_when_the_dag_is_parsed(self):
        with pytest.raises(BatchConfigurationError, match="read must be 'auto' or 'never'"):
            toggle("abc", read="sometimes")


class TestIdentity:
    def test_expect_name_never_renames_and_launches_a_campaign_whose_name_cannot_be_read(self, dev, token):
        with pytest.raises(BatchChangeRefusedError, match="its name cannot be read"):
            run(toggle(token, expect_name="Password reset", definition=DEFINITION))
        assert updates(dev) == []

    @pytest.mark.parametrize("name", ["Password reset", "A1", "", "None"])
    def test_a_stop_goes_ahead_where_the_name_cannot_be_compared_and_expect_name_is_not_sent(self, dev, running, name):
        run(toggle(running, False, expect_name=name))
        assert was_sent(updates(dev)[0], {"live": False})

    @pytest.mark.parametrize("name", ["", "None", " "])
    def test_an_on_is_refused_where_expect_name_renders_to_nothing_and_a_stop_is_not(self, batch, running, name):
        with pytest.raises(BatchChangeRefusedError, match="rendered to nothing"):
            run(toggle(batch.add_campaign(DEFINITION), expect_name=name))
        assert run(toggle(running, False, expect_name=name))["changed"] is True

    def test_a_view_without_a_name_refuses_an_on_with_expect_name_and_not_a_stop(self, batch, token, running):
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

    def test_blanks_around_a_name_do_not_make_it_another(self, batch, token):
        assert run(toggle(token, expect_name=" Summer sale "))["changed"] is True

    def test_an_on_of_a_campaign_from_the_dashboard_is_refused_and_a_stop_is_left_to_batch(self, batch):
        token = batch.add_campaign(LIVE, from_api=False)
        with pytest.raises(AirflowFailException):
            run(toggle(token, False))
        assert len(updates(batch)) == 3
        with pytest.raises(BatchChangeRefusedError, match="Change it in the dashboard"):
            run(toggle(batch.add_campaign(DEFINITION, from_api=False)))
        assert len(updates(batch)) == 3

    def test_a_view_of_another_campaign_is_not_believed(self, batch, token, running):
        other = batch.campaign(batch.add_campaign({**DEFINITION, "name": "Other", "labels": ["OTHER"]}))
        batch.inject(Fault("answer", "view", token=token, status=200, body=other))
        with pytest.raises(BatchResponseError, match="another token"):
            run(toggle(token))
        assert updates(batch) == []
        batch.inject(Fault("answer", "view", token=running, status=200, body=other))
        run(toggle(running, False))
        assert was_sent(updates(batch)[0], DEFINITION)

    def test_a_campaign_that_view_does_not_show_is_a_transient_error_for_an_on_and_a_stop_is_sent(self, batch, running):
        batch.inject(Fault("answer", "view", status=404, times=2))
        with pytest.raises(BatchNotVisibleError, match="token") as caught:
            run(toggle(batch.add_campaign(DEFINITION)))
        assert caught.value.transient
        assert updates(batch) == []
        assert run(toggle(running, False))["changed"] is True

    def test_a_token_that_batch_does_not_know_fails_a_stop(self, batch):
        with pytest.raises(BatchNotFoundError):
            run(toggle("unknown", False))

    @pytest.mark.parametrize("token", ["None", ""])
    def test_a_token_that_a_template_rendered_to_nothing_is_refused_before_any_request(self, batch, token):
        with pytest.raises(BatchPayloadError, match="rendered to nothing"):
            run(toggle(token, False))
        assert batch.requests == ()


class TestAStopAlwaysGetsThrough:
    @pytest.mark.parametrize("name", ["A1", 12345])
    def test_a_stop_does_not_fail_for_a_name_that_batch_could_not_have_been_given_today(self, batch, name):
        token = batch.add_campaign({**LIVE, "name": name})
        run(toggle(token, False))
        assert was_sent(updates(batch)[0], {**DEFINITION, "name": name})

    @pytest.mark.parametrize(("name", "last"), [("Summer sale", 2), ("A1", 1)])
    def test_a_stop_that_is_refused_for_its_content_is_sent_with_less_and_checked_two_minutes_later(
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

    def test_a_stop_with_less_is_red_where_the_look_two_minutes_later_shows_that_something_was_lost(
        self, batch, clock, running
    ):
        batch.inject(Fault("answer", "update", status=400))
        lost = {**batch.campaign(running), "live": False, "labels": []}
        clock.while_asleep = lambda seconds: batch.inject(Fault("answer", "view", status=200, body=lost))
        with pytest.raises(BatchParametersLostError, match="lost labels"):
            run(toggle(running, False))
        assert batch.campaign(running)["live"] is False

    def test_a_definition_that_batch_refuses_gives_way_to_live_alone(self, dev, running):
        run(toggle(running, False, definition={**DEFINITION, "time_to_live": -5}))
        assert [record.status for record in updates(dev)] == [400, 400, 200][-len(updates(dev)) :]
        assert dev.campaign(running)["live"] is False

    @pytest.mark.parametrize("definition", ["missing.json", "{not json", {"name": "ab"}, ["x"], {}, {"labels": 5}])
    def test_a_broken_definition_is_left_out_with_a_warning(self, batch, running, definition, capsys):
        run(toggle(running, False, definition=definition))
        assert batch.campaign(running)["live"] is False
        assert "stopped without the definition" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "fault",
        [Fault("html", "view", status=200), Fault("answer", "view", status=200, body=""), Fault("redirect", "view"),
         Fault("answer", "view", status=500)],
        ids=["html", "empty", "redirect", "500"],
    )  # fmt: skip
    def test_after_one_unreadable_answer_the_campaign_is_read_again_and_the_whole_is_sent(self, batch, running, fault):
        batch.inject(fault)
        run(toggle(running, False))
        assert was_sent(updates(batch)[0], DEFINITION)

    def test_reads_that_fail_are_tried_after_0_5_and_15_seconds_and_then_by_airflows_retries(
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
        "fault", [Fault("html", "update", status=200), Fault("redirect", "update"), Fault("html", "update", status=502)]
    )
    def test_a_stop_whose_answer_is_unreadable_and_that_does_not_show_is_sent_again(self, batch, running, fault):
        batch.inject(fault)
        assert run(toggle(running, False))["changed"] is True
        assert len(updates(batch)) == 2
        assert batch.campaign(running)["live"] is False

    def test_without_messages_in_the_view_an_on_is_refused_and_a_stop_is_red(self, batch):
        base = {name: value for name, value in DEFINITION.items() if name != "messages"}
        token, running = (batch.add_campaign({**base, "live": live}) for live in (False, True))
        with pytest.raises(BatchChangeRefusedError, match="without messages"):
            run(toggle(token))
        with pytest.raises(BatchParametersLostError, match="lost messages"):
            run(toggle(running, False))
        assert [batch.campaign(campaign)["live"] for campaign in (token, running)] == [False, False]

    def test_where_batch_refuses_every_form_its_last_answer_is_the_error(self, batch, running):
        batch.inject(Fault("answer", "update", error="API_MISUSE", times=None))
        with pytest.raises(AirflowFailException, match="API_MISUSE") as caught:
            run(toggle(running, False))
        assert len(updates(batch)) == 3
        assert "definition" not in str(caught.value)

    def test_wrong_keys_fail_a_stop_all_the_same(self, batch, running, connect):
        connect({**batch.connection(), "password": "sandbox-wrong"})
        with pytest.raises(BatchAuthenticationError):
            run(toggle(running, False))

    @pytest.mark.parametrize(
        "content", [b"{{ nothing.at.all }}", b"{% if %}", b"\xff\xfe", b"{{ 1 / 0 }}", b"[1]", b""]
    )
    def test_a_stop_goes_ahead_with_a_definition_file_that_cannot_be_used_and_an_on_says_why(
        self, batch, running, tmp_path, content
    ):
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

    @pytest.mark.parametrize(
        "shown", [{"trigger": None}, {"recurrence": {}}, {"recurrence": []}, {"recurrence": False}]
    )
    def test_a_null_trigger_and_an_empty_recurrence_do_not_make_it_recurring(self, batch, token, shown):
        view = {**batch.campaign(token), **PAST, **shown}
        batch.inject(Fault("answer", "view", status=200, body=view))
        with pytest.raises(BatchChangeRefusedError, match="has passed"):
            run(toggle(token))
        assert updates(batch) == []

    @pytest.mark.parametrize("ahead", [-HOUR, timedelta(days=-20000), HOUR, timedelta(days=1)])
    def test_either_clock_suffices_to_refuse_a_push_time(self, batch, ahead):
        batch.date_offset = ahead
        moment = datetime.now(UTC) + (30 * MINUTE if ahead > timedelta(0) else -30 * MINUTE)
        token = batch.add_campaign({**DEFINITION, "push_time": f"{moment:%Y-%m-%dT%H:%M:%S}"})
        with pytest.raises(BatchChangeRefusedError, match="has passed"):
            run(toggle(token))
        assert updates(batch) == []

    def test_a_live_campaign_whose_push_time_has_passed_is_complete_and_no_success(self, batch):
        with pytest.raises(BatchChangeRefusedError, match="complete and cannot go live again"):
            run(toggle(batch.add_campaign({**PAST, "live": True})))

    def test_a_live_one_is_a_success_after_an_earlier_attempt_and_for_a_window_with_a_warning(self, batch, capsys):
        token = batch.add_campaign({**PAST, "live": True})
        assert run(toggle(token), try_number=2)["live"] is True
        window = CampaignWindow(start=this_minute() - HOUR, end=this_minute() + HOUR, timezone="UTC")
        assert run(toggle(token, window))["changed"] is False
        assert "left as it is" in capsys.readouterr().out

    def test_a_stop_is_sent_whatever_its_push_time(self, batch):
        token = batch.add_campaign({**PAST, "live": True})
        run(toggle(token, False))
        assert batch.campaign(token)["live"] is False

    @pytest.mark.parametrize(
        "definition",
        [{"push_time": None, "local_push_time": "2020-01-01T00:00:00"},
         {"recurrence": {**DAILY, "end_date": "2020-01-01T00:00:00"}}],
        ids=["local push time", "end of the recurrence"],
    )  # fmt: skip
    def test_where_finished_is_only_inferred_it_is_a_warning(self, batch, definition, capsys):
        whole = {**DEFINITION, **definition}
        token = batch.add_campaign({name: value for name, value in whole.items() if value is not None})
        run(toggle(token))
        assert batch.campaign(token)["live"] is True
        assert "Whether Batch sets it live again is not known" in capsys.readouterr().out


@pytest.mark.parametrize("ahead", [HOUR, -HOUR, timedelta(days=1), timedelta(days=-1)])
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


DOUBTS = {
    "reset before": (Fault("reset_before", "update"), False),
    "reset after": (Fault("reset_after", "update"), True),
    "500 applied": (Fault("answer", "update", status=500, applied=True), True),
    "500": (Fault("answer", "update", status=500), False),
    "503": (Fault("html", "update", status=503), False),
    "silence": (Fault("silence", "update", seconds=0.2), False),
    "redirect": (Fault("redirect", "update"), False),
    "a page": (Fault("html", "update", status=200), False),
    "broken off": (Fault("truncate", "update", body="x" * 9), True),
}


class TestDoubt:
    @pytest.mark.parametrize("name", DOUBTS)
    @pytest.mark.parametrize("store", [True, False])
    def test_an_on_whose_answer_is_lost_is_looked_at_over_two_minutes_and_then_sent_again(
        self, batch, clock, token, name, store
    ):
        fault, applied = DOUBTS[name]
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
    def test_a_change_that_takes_effect_late_is_found_by_the_same_attempt(self, batch, clock, token, seconds):
        batch.inject(Fault("reset_before", "update"))
        arrives_late(clock, token, LIVE, seconds)
        assert run(toggle(token))["changed"] is None
        assert len(updates(batch)) == 2  # ours, and the one that arrives

    @pytest.mark.parametrize(
        "fault", ["view:429;times=9", "view:500;times=9", "view:reset_before;times=9", "view:404;times=9"]
    )
    def test_looks_that_fail_never_repeat_the_write_in_that_attempt(self, later, fault):
        sandbox, faults = later
        token = sandbox.add_campaign(DEFINITION)
        sandbox.inject(Fault("reset_before", "update"))
        faults.append(Fault.from_text(fault))
        with pytest.raises(BatchAmbiguousError):
            run(toggle(token))
        assert len(updates(sandbox)) == 1

    @pytest.mark.parametrize("live", [True, False])
    def test_where_the_key_cannot_read_a_toggle_is_repeated(self, dev, live):
        token = dev.add_campaign({**DEFINITION, "live": not live})
        dev.inject(Fault("reset_before", "update"))
        try:
            assert run(toggle(token, live))["changed"] is True
        except BatchAmbiguousError:
            assert run(toggle(token, live), try_number=2)["changed"] is True
        assert dev.campaign(token)["live"] is live

    @pytest.mark.parametrize("store", [True, False])
    @pytest.mark.parametrize("sent", [True, False])
    def test_an_attempt_after_a_worker_that_died_finds_the_change_or_makes_it(
        self, batch, token, monkeypatch, store, sent
    ):
        kept = {"store": Store()} if store else {}
        run_killed(toggle(token), monkeypatch, sent=sent, **kept)
        assert run(toggle(token), try_number=2, **kept)["changed"] is (None if sent else True)
        assert len(updates(batch)) == 1

    def test_a_request_that_was_not_sent_is_tried_again_after_5_and_15_seconds_in_the_same_attempt(
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

    def test_a_look_that_is_throttled_is_repeated_only_after_retry_after(self, later):
        sandbox, faults = later
        token = sandbox.add_campaign(DEFINITION)
        sandbox.inject(Fault("reset_after", "update"))
        faults.append(Fault("answer", "view", status=429, headers={"Retry-After": "60"}))
        assert run(toggle(token))["changed"] is None
        throttled, after = [record.time for record in sandbox.requests if record.operation == "view"][1:]
        assert after - throttled >= MINUTE


class TestAWindowThatClosesWhileAnOnIsInDoubt:
    @pytest.fixture
    def closing(self, clock):
        """A window that closes 15 seconds from now."""
        end = this_minute() + 2 * MINUTE
        clock.move(end - timedelta(seconds=15) - datetime.now(UTC))
        return CampaignWindow(start=end - HOUR, end=end, timezone="UTC")

    @pytest.mark.parametrize("seconds", [5, 25, 60])
    def test_a_stop_after_an_on_in_doubt_is_sent_at_once_and_again_two_minutes_after_the_on(
        self, batch, clock, token, closing, seconds
    ):
        batch.inject(Fault("reset_before", "update"))
        arrives_late(clock, token, LIVE, seconds)
        run(toggle(token, closing))
        assert batch.campaign(token)["live"] is False
        assert 119 <= sum(clock.slept) <= 125

    @pytest.mark.parametrize("store", [True, False])
    def test_a_retry_does_not_take_a_campaign_that_is_not_live_yet_for_one_that_is_stopped(
        self, batch, clock, token, closing, monkeypatch, store
    ):
        kept = {"store": Store()} if store else {}
        run_killed(toggle(token, closing), monkeypatch, sent=False, **kept)
        clock.move(timedelta(seconds=20))
        arrives_late(clock, token, LIVE, 60)
        run(toggle(token, closing), try_number=2, run_after=this_minute() - HOUR, **kept)
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

    @pytest.mark.parametrize("gone", [{"targeting": []}, {"targeting": ""}, {"labels": []}])
    def test_targeting_that_became_empty_is_lost(self, later, gone):
        sandbox, faults = later
        token = sandbox.add_campaign({**DEFINITION, "targeting": {"segments": ["NEW"]}})
        faults.append(Fault("answer", "view", status=200, body={**sandbox.campaign(token), "live": True, **gone}))
        with pytest.raises(BatchParametersLostError, match=f"lost {next(iter(gone))}"):
            run(toggle(token))

    def test_reordered_messages_are_not_lost(self, later):
        sandbox, faults = later
        token = sandbox.add_campaign(DEFINITION)
        after = {**sandbox.campaign(token), "live": True, "messages": DEFINITION["messages"][::-1]}
        faults.append(Fault("answer", "view", status=200, body=after))
        assert run(toggle(token))["changed"] is True

    @pytest.mark.parametrize("store", [True, False])
    def test_a_write_that_batch_confirms_but_does_not_show_is_tried_again(self, batch, token, store):
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

    @pytest.mark.parametrize(
        "fault", ["view:429", "view:500", "view:html;status=200", "view:reset_before", "view:404", "view:401"]
    )
    def test_a_look_that_fails_after_the_write_is_only_a_warning(self, later, fault, capsys):
        sandbox, faults = later
        token = sandbox.add_campaign(DEFINITION)
        faults.append(Fault.from_text(fault))
        assert run(toggle(token))["changed"] is True
        assert "reading the campaign afterwards failed" in capsys.readouterr().out


class TestDryRun:
    def test_nothing_is_written_and_the_difference_is_returned_field_by_field(self, batch, token, capsys):
        result = run(toggle(token, dry_run=True, definition={**DEFINITION, "media": {"icon": "x"}}))
        assert operations(batch) == ["view"]
        assert result["differences"] == [{"parameter": "live", "now": False, "wanted": True}]
        assert (result["action"], result["changed"], result["live"]) == ("dry_run", False, False)
        assert (result["name"], result["http_status"]) == ("Summer sale", None)
        assert "Dry run: live would become True, it is False." in capsys.readouterr().out

    def test_without_reading_all_that_would_be_sent_is_a_difference(self, dev, token):
        result = run(toggle(token, dry_run=True))
        assert result["differences"] == [{"parameter": "live", "now": None, "wanted": True}]
        assert result["live"] is None
        assert updates(dev) == []

    def test_a_campaign_that_is_as_desired_has_an_empty_list_of_differences(self, batch, running):
        result = run(toggle(running, dry_run=True))
        assert (result["differences"], result["changed"], result["action"]) == ([], False, "dry_run")

    def test_what_would_be_refused_is_refused(self, batch):
        with pytest.raises(BatchChangeRefusedError):
            run(toggle(batch.add_campaign(PAST), dry_run=True))

    def test_being_late_is_no_reason_not_to_compare(self, batch, token):
        assert run(toggle(token, dry_run=True), late=timedelta(days=2))["differences"]
