"""What BatchCreateCampaignOperator does over attempts, reschedules and cleared tasks, against the sandbox."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk import DAG
from samples import SUMMER_SALE
from task import Store, context_of

from airflow_batch._airflow.compat import AirflowFailException, AirflowRescheduleException, AirflowSkipException
from airflow_batch._campaigns.payload import payload_digest
from airflow_batch.exceptions import (
    BatchChangeRefusedError,
    BatchMalformedParameterError,
    BatchNotVisibleError,
    BatchPayloadError,
    BatchRepeatRefusedError,
    BatchServerError,
    BatchStateError,
    BatchWaitExceededError,
)
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.operators.campaigns import BatchCreateCampaignOperator
from airflow_batch.sandbox import BatchSandbox, Fault
from airflow_batch.sandbox.log import digest

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
LIVE = {**SUMMER_SALE, "live": True}
NOW = {**LIVE, "push_time": "now"}
ANSWER_LOST = ["create:reset_after", "create:500;applied=true"]
EACH_STORE = pytest.mark.parametrize("has_store", [True, False], ids=["with a store", "without a store"])


class Killed(BaseException):
    """The worker process is killed here."""


@dataclass
class TaskInstance:
    """Simulates Airflow for one task instance.

    :param store: None as below Airflow 3.3.
    """

    store: Store | None
    try_number: int = 1
    max_tries: int = 6
    reschedules: int = 0

    def run(self, task, **context):
        """Run one attempt, or what follows a reschedule; the next one is a retry if this one failed."""
        ti = {"try_number": self.try_number, "max_tries": self.max_tries, "task_id": "create"}
        self.context = context_of(task, store=self.store, reschedules=self.reschedules, **ti, **context)
        try:
            return task.execute(self.context)
        except AirflowRescheduleException:
            self.reschedules += 1
            raise
        except BaseException:
            self.try_number, self.reschedules = self.try_number + 1, 0
            raise

    def fail(self, task, error, **context):
        with pytest.raises(error) as caught:
            self.run(task, **context)
        assert type(caught.value) is error
        return caught.value

    def clear(self, *, empties_store=False):
        """Clear the task.

        :param empties_store: As Airflow 3.4 does.
        """
        self.max_tries, self.try_number, self.reschedules = self.try_number + 6, self.try_number + 1, 0
        if empties_store and self.store is not None:
            self.store.kept.clear()


def create(payload=LIVE, **arguments):
    return BatchCreateCampaignOperator(task_id="create", payload=payload, **arguments)


def operations(sandbox):
    return [record.operation for record in sandbox.requests]


def states(sandbox):
    """Return for each campaign whether it is live, newest first."""
    return [sandbox.campaign(token)["live"] for token in sandbox.tokens()]


def pushes(sandbox):
    return sum(sandbox.pushes(token) for token in sandbox.tokens())


@pytest.fixture
def ti():
    return TaskInstance(Store())


@pytest.fixture
def without_store():
    return TaskInstance(None)


@pytest.fixture
def instance(has_store):
    return TaskInstance(Store() if has_store else None)


@pytest.fixture
def launched(batch, ti):
    """A campaign that the task has created and made live."""
    return ti.run(create())["campaign_token"]


class TestWhatIsSent:
    @EACH_STORE
    def test_a_live_campaign_is_created_as_a_draft_and_then_updated_with_its_whole_payload(self, batch, instance):
        result = instance.run(create())
        (token,) = batch.tokens()
        drafted, going_live = (record for record in batch.requests if record.operation in ("create", "update"))
        assert operations(batch) == ["create", "view", "update", "view"]
        assert drafted.body_digest == digest(json.dumps({**LIVE, "live": False}).encode())
        assert going_live.body_digest == digest(json.dumps(LIVE).encode())
        assert (going_live.campaign_token, batch.campaign(token)["live"]) == (token, True)
        requested, completed = (datetime.fromisoformat(result.pop(key)) for key in ("requested_at", "completed_at"))
        assert requested <= completed
        assert result == {
            "campaign_token": token,
            "app": None,
            "action": "create",
            "live": True,
            "name": "Summer sale",
            "changed": True,
            "http_status": 200,
            "attempt": 1,
            "payload_digest": payload_digest(LIVE),
        }

    @EACH_STORE
    def test_a_campaign_that_is_not_live_is_created_with_one_request(self, batch, instance):
        result = instance.run(create(SUMMER_SALE))
        assert operations(batch) == ["create"]
        assert (states(batch), result["live"], result["changed"]) == ([False], False, True)

    @pytest.mark.parametrize("status", [200, 201])
    def test_the_result_of_a_creation_has_the_http_status_of_batchs_answer(self, batch, ti, status):
        batch.inject(Fault("delay", "create", delay=0.01, status=status))
        assert ti.run(create(SUMMER_SALE))["http_status"] == status

    @EACH_STORE
    @pytest.mark.parametrize("payload", [LIVE, NOW], ids=["scheduled", "now"])
    def test_a_creation_with_a_key_that_cannot_view_goes_live(self, batch, connect, instance, payload):
        connect(batch.connection(kind="dev"))
        assert instance.run(create(payload))["changed"] is True
        assert (states(batch), operations(batch).count("update")) == ([True], 1)

    def test_a_draft_that_the_view_does_not_show_yet_goes_live(self, batch, ti):
        batch.inject(Fault("answer", "view", error="ROUTE_NOT_FOUND"))
        assert ti.run(create())["live"] is True
        assert states(batch) == [True]

    def test_the_payload_of_a_creation_may_be_a_json_file_that_is_rendered(self, batch, ti, tmp_path):
        (tmp_path / "news.json").write_text(json.dumps({**SUMMER_SALE, "name": "News of {{ task.task_id }}"}))
        with DAG("d", schedule=None, template_searchpath=str(tmp_path)):
            task = create("news.json")
        assert ti.run(task)["name"] == "News of create"

    @pytest.mark.parametrize("missing", ["name", "live", "messages"])
    def test_a_payload_without_a_required_parameter_fails_before_any_request(self, batch, ti, missing):
        payload = {name: value for name, value in SUMMER_SALE.items() if name != missing}
        assert missing in str(ti.fail(create(payload), BatchPayloadError))
        assert batch.requests == ()

    def test_a_name_of_400_characters_is_cut_for_the_label_of_the_map_index(self, batch, ti):
        assert ti.run(create({**LIVE, "name": "n" * 400}))["name"] == "n" * 400
        assert len(ti.context["batch_index"]) <= 200

    @pytest.mark.parametrize("payload", [SUMMER_SALE, LIVE, NOW], ids=["draft", "scheduled", "now"])
    def test_a_dry_run_of_a_creation_sends_no_request_and_returns_the_payload_as_differences(self, batch, ti, payload):
        result = ti.run(create(payload, dry_run=True), late=6 * HOUR)
        assert (result["action"], result["changed"], result["live"]) == ("dry_run", False, False)
        assert {row["parameter"] for row in result["differences"]} == set(payload)
        assert batch.requests == ()
        assert ti.run(create())["changed"] is True

    def test_force_new_of_a_creation_is_deprecated_and_has_no_effect(self, batch, ti):
        with pytest.warns(DeprecationWarning, match="force_new has no effect any more"):
            task = create(force_new=True)
        first = ti.run(task)
        ti.clear()
        assert ti.run(task)["campaign_token"] == first["campaign_token"]
        assert len(batch.tokens()) == 1


class TestRefusedBeforeAnythingIsSent:
    @EACH_STORE
    def test_a_live_campaign_whose_push_time_has_passed_is_not_created(self, batch, instance):
        passed = {**LIVE, "push_time": f"{datetime.now(UTC) - 6 * HOUR:%Y-%m-%dT%H:%M:%S}"}
        assert "has passed" in str(instance.fail(create(passed), BatchChangeRefusedError))
        assert batch.requests == ()

    def test_a_creation_whose_push_time_passes_while_it_waits_does_not_go_live(self, batch, ti, clock):
        soon = {**LIVE, "push_time": f"{datetime.now(UTC) + timedelta(seconds=4):%Y-%m-%dT%H:%M:%S}"}
        batch.inject("create:reset_before")
        ti.fail(create(soon), BatchChangeRefusedError)
        assert (states(batch), pushes(batch), clock.slept) == ([False], 0, [5.0])

    def test_a_draft_does_not_go_live_where_the_push_time_has_passed_by_batchs_date(self, batch, ti):
        batch.date_offset = HOUR
        ti.fail(
            create({**LIVE, "push_time": f"{datetime.now(UTC) + HOUR / 2:%Y-%m-%dT%H:%M:%S}"}), BatchChangeRefusedError
        )
        assert states(batch) == [False]

    @EACH_STORE
    def test_a_creation_with_push_time_now_is_skipped_in_a_scheduled_run_that_is_6_hours_late(self, batch, instance):
        with pytest.raises(AirflowSkipException, match="max_lateness"):
            instance.run(create(NOW), late=6 * HOUR)
        assert batch.requests == ()

    @pytest.mark.parametrize(
        ("arguments", "context"), [({"max_lateness": None}, {}), ({}, {"run_type": "manual"}), ({}, {"late": HOUR / 2})]
    )
    def test_a_creation_with_push_time_now_is_sent_in_time_in_a_manual_run_and_without_max_lateness(
        self, batch, ti, arguments, context
    ):
        ti.run(create(NOW, **arguments), **{"late": 6 * HOUR, **context})
        assert pushes(batch) == 1


class TestAnswerToTheCreationLost:
    @EACH_STORE
    @pytest.mark.parametrize("fault", ANSWER_LOST)
    def test_a_creation_with_an_ambiguous_answer_is_repeated_after_5_s_and_can_leave_one_more_draft(
        self, batch, instance, clock, fault, capsys
    ):
        batch.inject(fault)
        result = instance.run(create())
        live, draft = batch.tokens()
        assert (result["campaign_token"], result["changed"], states(batch)) == (live, True, [True, False])
        assert clock.slept == [5.0]
        assert "one more may remain" in capsys.readouterr().out
        assert draft != live

    def test_a_creation_with_three_ambiguous_answers_is_left_to_airflows_retries(self, batch, ti, clock):
        batch.inject(Fault("answer", "create", status=500, applied=True, times=3))
        assert not isinstance(ti.fail(create(), BatchServerError), AirflowFailException)
        assert (states(batch), clock.slept) == ([False] * 3, [5.0, 15.0])
        assert ti.run(create())["changed"] is True
        assert states(batch) == [True, False, False, False]

    @EACH_STORE
    def test_a_creation_that_was_not_applied_is_repeated_and_leaves_one_campaign(self, batch, instance, clock):
        batch.inject("create:reset_before")
        instance.run(create())
        assert states(batch) == [True]

    @EACH_STORE
    @pytest.mark.parametrize("ahead", [6, 600])
    def test_a_creation_where_batchs_date_is_ahead_gives_one_live_campaign_and_one_push(
        self, batch, instance, clock, ahead, has_store
    ):
        batch.date_offset = ahead * MINUTE
        batch.inject("create:reset_after")
        assert instance.run(create(NOW), run_type="manual")["changed"] is True
        assert (states(batch), pushes(batch)) == ([True, False], 1)

    def test_a_creation_on_a_worker_whose_clock_is_two_hours_ahead_gives_one_live_campaign_and_one_push(
        self, connect, ti, clock
    ):
        with BatchSandbox(clock=lambda: datetime.now(UTC) - offset) as sandbox:
            offset = 2 * HOUR
            connect(sandbox.connection())
            sandbox.inject(Fault("reset_after", "create", times=3))
            with pytest.raises(Exception, match="create"):
                ti.run(create(NOW))
            clock.move(-2 * HOUR)
            offset = timedelta(0)
            ti.run(create(NOW))
            assert (states(sandbox), pushes(sandbox)) == ([True, False, False, False], 1)

    def test_a_creation_whose_name_batch_trims_gives_one_live_campaign_and_one_push(self, batch, ti, clock):
        batch.inject("create:reset_after")
        ti.run(create({**NOW, "name": "Flash sale "}))
        assert (states(batch), pushes(batch)) == ([True, False], 1)

    def test_two_tasks_with_the_same_payload_create_two_campaigns(self, batch, clock):
        batch.inject("create:reset_before", "create:reset_after")
        results = [TaskInstance(Store()).run(create()) for _ in range(2)]
        assert len({result["campaign_token"] for result in results}) == 2
        assert states(batch).count(True) == 2

    @EACH_STORE
    def test_the_retry_of_a_creation_does_not_return_a_campaign_of_another_run(self, batch, instance, clock):
        later = batch.add_campaign(SUMMER_SALE)
        batch.inject(Fault("answer", "create", status=500, times=3))
        context = {"run_after": datetime(2024, 1, 1, tzinfo=UTC), "run_type": "backfill"}
        instance.fail(create(SUMMER_SALE), BatchServerError, **context)
        assert instance.run(create(SUMMER_SALE), **context)["campaign_token"] != later

    @EACH_STORE
    def test_fewer_retries_while_a_creation_is_up_for_retry_cause_no_second_live_campaign(
        self, batch, instance, clock, has_store
    ):
        batch.inject(Fault("reset_after", "create", times=3))
        with pytest.raises(Exception, match="create"):
            instance.run(create(retries=6))
        with suppress(BatchRepeatRefusedError):
            instance.run(create(retries=2))
        assert states(batch).count(True) == int(has_store)


class TestAnswerToGoingLiveLost:
    @EACH_STORE
    @pytest.mark.parametrize("payload", [LIVE, NOW], ids=["scheduled", "now"])
    @pytest.mark.parametrize("fault", ["update:reset_after", "update:500;applied=true"])
    def test_an_attempt_that_got_no_answer_to_going_live_reads_the_campaign_and_sends_nothing_again(
        self, batch, instance, clock, payload, fault
    ):
        batch.inject(fault)
        result = instance.run(create(payload))
        assert (result["changed"], result["live"], operations(batch).count("update")) == (None, True, 1)
        assert (states(batch), pushes(batch)) == ([True], int(payload is NOW))

    @EACH_STORE
    def test_a_push_of_a_creation_that_does_not_show_within_two_minutes_is_never_sent_again(
        self, batch, instance, clock
    ):
        batch.inject("update:reset_before")
        assert isinstance(instance.fail(create(NOW), BatchRepeatRefusedError), AirflowFailException)
        instance.clear()
        instance.fail(create(NOW), BatchRepeatRefusedError)
        assert (operations(batch).count("update"), operations(batch).count("create")) == (1, 1)

    def test_the_retry_of_a_scheduled_creation_makes_the_same_draft_live(self, batch, ti, clock):
        batch.inject("update:reset_before")
        with pytest.raises(Exception, match="update"):
            ti.run(create())
        assert ti.run(create())["changed"] is True
        assert states(batch) == [True]

    def test_the_retry_of_a_creation_that_shows_late_makes_the_same_draft_live(self, batch, ti, clock):
        batch.inject(Fault("answer", "update", status=200, body={}))
        with pytest.raises(Exception, match="does not show"):
            ti.run(create())
        assert ti.run(create())["live"] is True
        assert states(batch) == [True]


class TestKilledWorker:
    """A worker is killed before or after any request and any save of its state."""

    @pytest.fixture
    def run_to(self, monkeypatch):
        """Return a function that kills an attempt at a step, and returns whether the attempt got there."""

        def run(instance, task, last):
            steps = iter(range(last))

            def killable(call):
                def step(*arguments, **named):
                    if next(steps, None) is None:
                        raise Killed("before")
                    result = call(*arguments, **named)
                    if next(steps, None) is None:
                        raise Killed("after")
                    return result

                return step

            with monkeypatch.context() as patch:
                for name in ("create_campaign", "get_campaign", "update_campaign"):
                    patch.setattr(BatchHook, name, killable(getattr(BatchHook, name)))
                if instance.store is not None:
                    patch.setattr(instance.store, "set", killable(instance.store.set), raising=False)
                try:
                    instance.run(task)
                except Killed:
                    return True
                instance.try_number += 1  # Killed before the result is in XCom.
                return False

        return run

    @EACH_STORE
    @pytest.mark.parametrize("payload", [SUMMER_SALE, LIVE, NOW], ids=["draft", "scheduled", "now"])
    def test_a_creation_killed_at_any_step_never_leaves_two_live_campaigns_or_two_pushes(
        self, batch, run_to, clock, has_store, payload
    ):
        is_killed, step = True, 0
        while is_killed:
            instance, before = TaskInstance(Store() if has_store else None), set(batch.tokens())
            is_killed = run_to(instance, create(payload), step)
            requests = len(batch.requests)
            try:
                result = instance.run(create(payload))
            except BatchRepeatRefusedError:
                # Without a record no later attempt goes live. With one, a push that may have been sent is not repeated.
                assert payload is not SUMMER_SALE, step
                assert payload is NOW or not has_store or step == 0, step
                assert "create" not in operations(batch)[requests:], step
            else:
                assert has_store or payload is SUMMER_SALE, step
                assert batch.campaign(result["campaign_token"])["live"] is payload["live"], step
            new = set(batch.tokens()) - before
            assert sum(batch.campaign(token)["live"] for token in new) <= 1, step
            assert sum(batch.pushes(token) for token in new) <= 1, step
            step += 1
        assert step > 2

    def test_a_creation_killed_before_xcom_returns_the_same_result_in_the_next_attempt(self, batch, ti):
        first = ti.run(create())
        ti.try_number += 1
        again = ti.run(create())
        assert {**again, "attempt": 1, "http_status": 200}.items() >= {
            name: first[name] for name in ("campaign_token", "live", "changed", "payload_digest", "http_status")
        }.items()
        assert operations(batch).count("update") == 1


class TestClearedTask:
    def test_a_cleared_creation_does_not_send_a_campaign_again_that_has_gone_live(self, batch, ti, launched):
        ti.clear()
        result = ti.run(create())
        assert (result["campaign_token"], result["live"], result["changed"]) == (launched, True, True)
        assert operations(batch)[-1] == "view"
        assert operations(batch).count("update") == 1

    @pytest.mark.parametrize("payload", [LIVE, NOW], ids=["scheduled", "now"])
    def test_a_cleared_creation_does_not_switch_on_a_campaign_that_somebody_has_stopped(self, batch, ti, payload):
        token = ti.run(create(payload))["campaign_token"]
        BatchHook().update_campaign(token, {"live": False})
        ti.clear()
        assert ti.run(create(payload))["live"] is False
        assert (states(batch), pushes(batch)) == ([False], int(payload is NOW))

    def test_a_cleared_creation_does_not_repeat_going_live_after_an_ambiguous_answer(self, batch, ti, clock):
        batch.inject("update:reset_before")
        with pytest.raises(Exception, match="update"):
            ti.run(create())
        ti.clear()
        ti.fail(create(), BatchRepeatRefusedError)
        assert states(batch) == [False]

    def test_a_cleared_creation_with_another_payload_fails_once_the_campaign_has_gone_live(self, batch, ti, launched):
        ti.clear()
        error = ti.fail(
            create({**LIVE, "messages": [{"language": "en", "body": "Corrected"}]}), BatchChangeRefusedError
        )
        assert launched in str(error)
        assert "BatchUpdateCampaignOperator" in str(error)
        assert batch.tokens() == (launched,)

    def test_a_cleared_creation_with_another_payload_creates_a_new_campaign_and_names_the_old_draft(
        self, batch, ti, capsys
    ):
        batch.inject("update:400")
        with pytest.raises(AirflowFailException):
            ti.run(create())
        (draft,) = batch.tokens()
        ti.clear()
        corrected = {**LIVE, "name": "Corrected"}
        assert ti.run(create(corrected))["name"] == "Corrected"
        assert states(batch) == [True, False]
        assert f"the draft {draft!r} of an earlier attempt" in capsys.readouterr().out

    def test_a_cleared_creation_whose_campaign_batch_does_not_show_fails_and_asks_for_a_new_run(
        self, batch, ti, launched
    ):
        BatchHook().delete_campaign(launched)
        ti.clear()
        assert "new DAG run" in str(ti.fail(create(), BatchNotVisibleError))
        assert batch.tokens() == ()

    def test_a_dry_run_of_a_cleared_creation_does_not_change_the_saved_campaign(self, batch, ti, launched):
        ti.clear()
        ti.run(create(dry_run=True))
        ti.clear()
        assert ti.run(create())["campaign_token"] == launched
        assert batch.tokens() == (launched,)

    def test_a_creation_that_batch_refused_succeeds_after_the_payload_is_corrected_and_the_task_cleared(
        self, batch, ti
    ):
        batch.inject(Fault("answer", "create", error="MALFORMED_PARAMETER"))
        assert isinstance(ti.fail(create(), BatchMalformedParameterError), AirflowFailException)
        ti.clear()
        assert ti.run(create({**LIVE, "name": "Corrected"}))["changed"] is True
        assert states(batch) == [True]

    def test_an_invalid_payload_succeeds_after_it_is_corrected_and_the_task_cleared(self, batch, ti):
        ti.fail(create({**LIVE, "messages": None}), BatchPayloadError)
        ti.clear()
        assert ti.run(create())["changed"] is True

    def test_a_cleared_creation_whose_store_was_emptied_creates_no_live_campaign_again(self, batch, ti, launched):
        ti.clear(empties_store=True)
        ti.fail(create(), BatchRepeatRefusedError)
        assert batch.tokens() == (launched,)


class TestThrottled:
    @EACH_STORE
    @pytest.mark.parametrize("fault", ["create:429", "create:503"])
    def test_a_throttled_creation_is_rescheduled_and_leaves_one_campaign(self, batch, instance, fault):
        batch.inject(Fault("answer", "create", error="MAINTENANCE_ERROR") if "503" in fault else fault)
        with pytest.raises(AirflowRescheduleException):
            instance.run(create())
        assert instance.run(create())["attempt"] == 1
        assert states(batch) == [True]

    @pytest.mark.parametrize("fault", ["view:429;retry-after=20", "update:429;retry-after=20"])
    def test_a_creation_throttled_before_going_live_is_rescheduled_and_makes_the_same_draft_live(
        self, batch, ti, fault
    ):
        batch.inject(fault)
        with pytest.raises(AirflowRescheduleException):
            ti.run(create(NOW))
        assert states(batch) == [False]
        assert ti.run(create(NOW))["changed"] is True
        assert (states(batch), pushes(batch)) == ([True], 1)

    @pytest.mark.parametrize("fault", ["view:429;retry-after=40", "update:429;retry-after=40"])
    def test_without_a_store_a_creation_waits_in_its_slot_for_a_throttle_before_going_live(
        self, batch, without_store, clock, fault
    ):
        batch.inject(f"{fault};times=2")
        assert without_store.run(create(NOW))["changed"] is True
        assert (states(batch), pushes(batch)) == ([True], 1)
        assert [seconds for seconds in clock.slept if seconds > 1] == [40.0, 40.0]

    @pytest.mark.parametrize("operation", ["view", "update"])
    def test_without_a_store_a_creation_throttled_for_more_than_five_minutes_fails_and_names_the_draft(
        self, batch, without_store, clock, operation
    ):
        batch.inject(Fault("answer", operation, status=429, headers={"Retry-After": "50"}, times=None))
        error = without_store.fail(create(), BatchWaitExceededError)
        assert isinstance(error, AirflowFailException)
        assert batch.tokens()[0] in str(error)
        assert 250 <= sum(clock.slept) <= 300
        assert states(batch) == [False]

    @pytest.mark.parametrize("fault", ["view:500", "update:503"])
    def test_without_a_store_a_creation_goes_live_after_a_short_failure(self, batch, without_store, clock, fault):
        batch.inject(fault)
        assert without_store.run(create())["live"] is True
        assert states(batch) == [True]


class TestStore:
    def test_without_a_store_a_second_attempt_of_a_live_creation_fails_and_creates_nothing(
        self, batch, without_store, connect
    ):
        connect({**batch.connection(), "host": "http://127.0.0.1:9", "extra": {"timeout": [1, 1]}})
        without_store.try_number = 2
        error = without_store.fail(create(), BatchRepeatRefusedError)
        assert isinstance(error, AirflowFailException)
        assert "new DAG run" in str(error)
        assert without_store.try_number == 3
        connect(batch.connection())
        assert without_store.run(create(SUMMER_SALE))["changed"] is True

    def test_a_draft_does_not_go_live_where_its_token_cannot_be_saved(self, batch, ti, clock, monkeypatch):
        monkeypatch.setattr(ti.store, "set", lambda *_: (_ for _ in ()).throw(OSError()), raising=False)
        ti.fail(create(), BatchStateError)
        assert states(batch) == [False]

    def test_a_second_attempt_whose_store_cannot_be_read_creates_nothing(self, batch, ti, monkeypatch):
        monkeypatch.setattr(ti.store, "get", lambda *_: (_ for _ in ()).throw(OSError()), raising=False)
        ti.try_number = 2
        ti.fail(create(), BatchRepeatRefusedError)
        assert batch.requests == ()
