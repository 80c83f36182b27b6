"""What BatchCreateCampaignOperator does over attempts, reschedules and clears, against the sandbox."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine
from airflow.sdk import DAG
from task import Attempt, Store

from airflow_batch import creations
from airflow_batch.compat import AirflowFailException, AirflowRescheduleException
from airflow_batch.creations import SETTLE_TIME
from airflow_batch.exceptions import (
    BatchAmbiguousError,
    BatchAuthenticationError,
    BatchConnectionError,
    BatchMalformedParameterError,
    BatchPayloadError,
    BatchRateLimitError,
    BatchRepeatRefusedError,
    BatchResponseError,
    BatchServerError,
    BatchTransientApiError,
    BatchWaitExceededError,
)
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.operators.campaigns import CREATION, BatchCreateCampaignOperator
from airflow_batch.payloads import payload_digest
from airflow_batch.sandbox import BatchSandbox, Contract, Fault

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
DEFINITION = {
    "name": "Morning news",
    "live": False,
    "push_time": "2030-06-01T09:00:00",
    "messages": [{"language": "en", "body": "Good morning"}],
}
ANSWERS_LOST = {
    "reset": Fault("reset_after", "create"),
    "500": Fault("answer", "create", status=500, applied=True),
    "502": Fault("html", "create", applied=True),
    "timeout": Fault("silence", "create", applied=True),
    "broken off": Fault("truncate", "create"),
}


@dataclass
class Instance(Attempt):
    """A task instance that knows when it first gave way, and what other runs and indexes left in XCom."""

    first_reschedule: datetime | None = None
    others: Any = None

    def get_first_reschedule_date(self, context):
        return self.first_reschedule

    def xcom_pull(self, *, task_ids, include_prior_dates):
        assert (task_ids, include_prior_dates) == ("create", True)
        if isinstance(self.others, Exception):
            raise self.others
        return self.others


@dataclass
class Airflow:
    """Plays Airflow for one task instance, on a clock that only it moves."""

    clock: Any
    store: Store | None
    retries: int = 6
    others: Any = None
    run_after: datetime = NOON
    try_number: int = 1
    max_tries: int = 6
    reschedules: list[datetime] = field(default_factory=list)
    began: datetime | None = None

    def once(self, task):
        """Execute the task once; the next time is when it asked for it, or a retry 20 s later."""
        now = datetime.now(UTC)
        ti = Instance(
            self.try_number, self.max_tries, task_id="create", first_reschedule=self.began, others=self.others
        )
        context = {
            "ti": ti,
            "task": task,
            "task_reschedule_count": len(self.reschedules),
            "dag_run": SimpleNamespace(run_after=self.run_after, run_type="scheduled"),
        }
        if self.store is not None:
            context["task_state_store"] = self.store
        try:
            return task.execute(context)
        except AirflowRescheduleException as asked:
            self.began = self.began or now
            self.reschedules.append(asked.reschedule_date)
            self.clock.move_to(asked.reschedule_date)
            raise
        except Exception:
            self.retry()
            raise

    def run(self, task):
        """Execute the task as often as it gives way, to its result or its failure."""
        for _ in range(20):
            try:
                return self.once(task)
            except AirflowRescheduleException:
                continue
        raise AssertionError("it gives way for ever")

    def fail(self, task, error):
        """Run the task to the given failure and return it."""
        with pytest.raises(error) as caught:
            self.run(task)
        assert type(caught.value) is error
        return caught.value

    def retry(self):
        self.try_number, self.began, self.reschedules = self.try_number + 1, None, []
        self.clock.shift(timedelta(seconds=20))

    def clear(self):
        """Clear the task after an attempt that ended in a result."""
        self.max_tries = self.try_number + self.retries
        self.retry()

    def clear_failed(self):
        self.max_tries = self.try_number - 1 + self.retries


@pytest.fixture
def clock(monkeypatch):
    with time_machine.travel(NOON, tick=False) as moved:
        sleeper = SimpleNamespace(sleep=lambda seconds: moved.shift(timedelta(seconds=seconds)))
        monkeypatch.setattr(creations, "time", sleeper)
        yield moved


@pytest.fixture
def batch(sandbox, connect):
    connection = sandbox.connection()
    connect({**connection, "extra": {"timeout": [1, 0.2]}})
    return sandbox


@pytest.fixture
def remembering(clock):
    """Airflow 3.3 and later."""
    return Airflow(clock, Store())


@pytest.fixture
def forgetting(clock):
    """Airflow below 3.3."""
    return Airflow(clock, None)


@pytest.fixture(params=["3.3", "3.1"])
def airflow(request, clock):
    return Airflow(clock, Store() if request.param == "3.3" else None)


def create(payload=None, **arguments):
    return BatchCreateCampaignOperator(task_id="create", payload=payload or DEFINITION, **arguments)


def operations(sandbox):
    return [record.operation for record in sandbox.requests]


def test_a_creation_is_one_request_and_leaves_a_result_of_fixed_keys(batch, airflow):
    result = airflow.run(create())
    (token,) = batch.tokens()
    assert operations(batch) == ["create"]
    assert batch.campaign(token)["messages"] == DEFINITION["messages"]
    assert result == {
        "campaign_token": token,
        "app": None,
        "action": "create",
        "live": False,
        "name": "Morning news",
        "changed": True,
        "http_status": 201,
        "attempt": 1,
        "requested_at": "2030-01-01T12:00:00.000+00:00",
        "completed_at": "2030-01-01T12:00:00.000+00:00",
        "payload_digest": payload_digest(DEFINITION),
    }


def test_the_payload_may_be_json_text(batch, airflow):
    airflow.run(create(json.dumps(DEFINITION)))
    assert batch.campaign(batch.tokens()[0])["name"] == "Morning news"


def test_the_payload_may_be_a_json_file_that_is_rendered(batch, airflow, tmp_path):
    (tmp_path / "news.json").write_text(json.dumps({**DEFINITION, "name": "News of {{ task.task_id }}"}))
    with DAG("d", schedule=None, template_searchpath=str(tmp_path)):
        task = create("news.json")
    airflow.run(task)
    assert batch.campaign(batch.tokens()[0])["name"] == "News of create"


@pytest.mark.parametrize("missing", ["name", "live", "messages"])
def test_a_payload_that_lacks_what_every_campaign_has_fails_before_anything_is_sent(batch, airflow, missing):
    payload = {name: value for name, value in DEFINITION.items() if name != missing}
    assert missing in str(airflow.fail(create(payload), BatchPayloadError))
    assert batch.requests == ()


def test_an_app_is_created_for_and_stands_in_the_result(connect, airflow):
    with BatchSandbox(apps=("ios", "android")) as sandbox:
        connect(sandbox.connection("api_keys"))
        assert airflow.run(create(app="android"))["app"] == "android"
        assert len(sandbox.tokens("android")) == 1
        assert sandbox.tokens("ios") == ()


class TestRefused:
    def test_a_refusal_fails_the_task_at_once_and_a_clear_creates_without_a_look(self, batch, remembering):
        batch.inject(Fault("answer", "create", error="MALFORMED_PARAMETER"))
        error = remembering.fail(create(), BatchMalformedParameterError)
        assert isinstance(error, AirflowFailException)
        remembering.clear_failed()
        assert remembering.run(create())["changed"] is True
        assert operations(batch) == ["create", "create"]

    def test_a_throttled_creation_gives_way_and_is_then_sent_without_a_look(self, batch, airflow):
        batch.inject(Fault("answer", "create", status=429, times=2))
        assert airflow.run(create())["changed"] is True
        assert operations(batch) == ["create", "create", "create"]
        assert len(airflow.reschedules) == 2

    def test_maintenance_gives_way_as_well(self, batch, airflow):
        batch.inject(Fault("answer", "create", error="MAINTENANCE_ERROR"))
        airflow.run(create())
        assert len(batch.tokens()) == 1
        assert datetime.now(UTC) >= NOON + timedelta(seconds=60)

    def test_a_retry_after_beyond_max_wait_fails_at_once(self, batch, airflow):
        batch.inject(Fault("answer", "create", status=429, headers={"Retry-After": "9999"}))
        airflow.fail(create(), BatchWaitExceededError)

    def test_a_connection_that_failed_leaves_no_doubt_where_airflow_remembers(self, batch, remembering, connect):
        connect({**batch.connection(), "host": "http://127.0.0.1:9"})
        remembering.fail(create(), BatchConnectionError)
        remembering.fail(create(), BatchConnectionError)
        connect(batch.connection())
        assert remembering.run(create())["changed"] is True
        assert operations(batch) == ["create"]

    def test_a_connection_that_failed_is_looked_after_where_airflow_does_not(self, batch, forgetting, connect):
        connect({**batch.connection(), "host": "http://127.0.0.1:9"})
        forgetting.fail(create(), BatchConnectionError)
        connect(batch.connection())
        forgetting.run(create())
        assert operations(batch).index("create") >= 2
        assert len(batch.tokens()) == 1


class TestAnswerLost:
    @pytest.mark.parametrize("fault", ANSWERS_LOST.values(), ids=ANSWERS_LOST)
    def test_the_campaign_is_found_and_adopted_and_nothing_is_sent_again(self, batch, airflow, fault):
        batch.inject(fault)
        error = airflow.fail(create(), BatchServerError if fault.sent_status in (500, 502) else BatchAmbiguousError)
        assert error.may_have_been_applied
        result = airflow.run(create())
        assert (result["campaign_token"], result["changed"], result["http_status"]) == (batch.tokens()[0], None, None)
        assert operations(batch) == ["create", "list", "view"]

    def test_a_lagging_list_is_waited_for(self, batch, airflow):
        batch.inject(Fault("reset_after", "create"), Fault("lag", "create", seconds=100))
        airflow.fail(create(), BatchAmbiguousError)
        assert airflow.run(create())["campaign_token"] in batch.tokens()
        assert operations(batch).count("create") == 1

    def test_an_answer_without_a_token_stops_the_task_and_a_clear_finds_the_campaign(self, batch, airflow):
        batch.inject(Fault("answer", "create", status=201, body={}, applied=True))
        assert "may have been" in str(airflow.fail(create(), BatchResponseError))
        airflow.clear_failed()
        assert airflow.run(create())["campaign_token"] == batch.tokens()[0]

    def test_an_adopted_campaign_is_not_looked_for_again(self, batch, remembering):
        batch.inject(ANSWERS_LOST["reset"])
        remembering.fail(create(), BatchAmbiguousError)
        first = remembering.run(create())
        remembering.retry()
        again = remembering.run(create())
        assert (again["campaign_token"], again["changed"]) == (first["campaign_token"], None)
        assert operations(batch) == ["create", "list", "view"]

    def test_a_worker_that_died_counts_as_such_an_attempt(self, batch, airflow):
        token = BatchHook().create_campaign(DEFINITION)
        airflow.retry()
        assert airflow.run(create())["campaign_token"] == token

    def test_a_view_without_languages_contradicts_nothing(self, connect, airflow):
        with BatchSandbox(contract=Contract(message_language_in_view=False)) as sandbox:
            connect(sandbox.connection())
            sandbox.inject(ANSWERS_LOST["reset"])
            airflow.fail(create(), BatchAmbiguousError)
            assert airflow.run(create())["changed"] is None

    def test_a_campaign_switched_on_meanwhile_is_still_it(self, batch, airflow):
        batch.inject(ANSWERS_LOST["reset"])
        airflow.fail(create(), BatchAmbiguousError)
        BatchHook().update_campaign(batch.tokens()[0], {"live": True})
        assert airflow.run(create())["changed"] is None

    @pytest.mark.parametrize(("minutes", "adopted"), [(4, True), (6, False)])
    def test_a_creation_up_to_five_minutes_before_the_request_may_be_it(self, batch, airflow, minutes, adopted):
        other = batch.add_campaign(DEFINITION, created=NOON - timedelta(minutes=minutes))
        batch.inject(Fault("reset_before", "create"))
        airflow.fail(create(), BatchAmbiguousError)
        assert (airflow.run(create())["campaign_token"] == other) is adopted

    @pytest.mark.parametrize("minutes", [-20, 20])
    def test_a_clock_of_batch_that_differs_from_ours_does_not_matter(self, connect, airflow, minutes):
        with BatchSandbox(clock=lambda: datetime.now(UTC) + timedelta(minutes=minutes)) as sandbox:
            connect(sandbox.connection())
            sandbox.add_campaign(DEFINITION, created=datetime.now(UTC) + timedelta(minutes=minutes - 10))
            sandbox.inject(ANSWERS_LOST["reset"])
            airflow.fail(create(), BatchAmbiguousError)
            assert airflow.run(create())["campaign_token"] == sandbox.tokens()[0]
            assert operations(sandbox) == ["create", "list", "view"]

    @pytest.mark.parametrize(
        "fault",
        [Fault("answer", "list", status=429), Fault("answer", "view", status=429)],
        ids=lambda fault: fault.operation,
    )
    def test_a_throttled_look_never_creates(self, batch, airflow, fault):
        batch.inject(ANSWERS_LOST["reset"], fault)
        airflow.fail(create(), BatchAmbiguousError)
        with pytest.raises(AirflowRescheduleException):
            airflow.once(create())
        airflow.run(create())
        assert operations(batch).count("create") == len(batch.tokens()) == 1

    def test_a_look_throttled_until_the_end_of_its_patience_never_creates(self, batch, airflow):
        batch.inject(ANSWERS_LOST["reset"], Fault("answer", "list", status=429, times=None))
        airflow.fail(create(), BatchAmbiguousError)
        airflow.clock.shift(timedelta(minutes=5))
        airflow.fail(create(max_wait=300), BatchRateLimitError)
        assert operations(batch).count("create") == 1

    def test_a_look_that_fails_never_creates(self, batch, airflow):
        batch.inject(ANSWERS_LOST["reset"], Fault("answer", "list", status=500), Fault("reset_before", "list"))
        airflow.fail(create(), BatchAmbiguousError)
        airflow.clock.shift(timedelta(minutes=5))
        airflow.fail(create(), BatchServerError)
        airflow.fail(create(), BatchAmbiguousError)
        assert airflow.run(create())["campaign_token"] == batch.tokens()[0]
        assert operations(batch).count("create") == 1


class TestNothingFound:
    def test_it_is_looked_for_over_the_settle_time_then_created_then_looked_for_once_more(self, batch, airflow):
        batch.inject(Fault("reset_before", "create"))
        airflow.fail(create(), BatchAmbiguousError)
        result = airflow.run(create())
        done = operations(batch)
        assert (result["changed"], result["http_status"]) == (True, 201)
        assert result["campaign_token"] == batch.tokens()[0]
        assert done.count("create") == 2
        assert done[-2:] == ["list", "view"]
        first, *looks, second = [record.time for record in batch.requests if record.operation in ("create", "list")][
            : len(done) - 2
        ]
        assert len(looks) >= 3
        assert second >= first + SETTLE_TIME

    def test_a_late_first_look_is_followed_by_a_second_one(self, batch, remembering):
        batch.inject(Fault("reset_before", "create"))
        remembering.fail(create(), BatchAmbiguousError)
        remembering.clock.shift(timedelta(hours=1))
        with pytest.raises(AirflowRescheduleException):
            remembering.once(create())
        assert remembering.reschedules[0] == datetime.now(UTC)
        assert operations(batch) == ["create", "list"]

    def test_a_first_request_that_takes_effect_after_the_second_ends_in_an_error_with_both_tokens(
        self, batch, airflow, monkeypatch
    ):
        batch.inject(Fault("reset_before", "create"))
        airflow.fail(create(), BatchAmbiguousError)
        tokens = []

        def late(*_):
            tokens.extend(batch.tokens())
            tokens.append(batch.add_campaign(DEFINITION))

        if airflow.store is None:
            monkeypatch.setattr(creations.time, "sleep", late)
            error = airflow.fail(create(), BatchRepeatRefusedError)
        else:
            while not batch.tokens():
                with pytest.raises(AirflowRescheduleException):
                    airflow.once(create())
            late()
            error = airflow.fail(create(), BatchRepeatRefusedError)
        assert isinstance(error, AirflowFailException)
        assert len(set(tokens)) == 2
        assert all(token in str(error) for token in tokens)

    def test_a_repeated_request_whose_answer_was_lost_is_checked_for_the_first_one_too(self, batch, airflow):
        batch.inject(Fault("reset_before", "create"), ANSWERS_LOST["reset"])
        airflow.fail(create(), BatchAmbiguousError)
        airflow.fail(create(), BatchAmbiguousError)
        with pytest.raises(AirflowRescheduleException):
            airflow.once(create())
        batch.add_campaign(DEFINITION)
        error = airflow.fail(create(), BatchRepeatRefusedError)
        assert all(token in str(error) for token in batch.tokens())

    def test_a_repeated_request_whose_answer_was_lost_is_adopted_once_it_is_the_only_one(self, batch, airflow):
        batch.inject(Fault("reset_before", "create"), ANSWERS_LOST["reset"])
        airflow.fail(create(), BatchAmbiguousError)
        airflow.fail(create(), BatchAmbiguousError)
        result = airflow.run(create())
        assert (result["campaign_token"], result["changed"]) == (batch.tokens()[0], None)
        assert operations(batch).count("create") == 2

    def test_a_repeated_request_that_is_throttled_is_sent_later(self, batch, airflow):
        batch.inject(Fault("reset_before", "create"), Fault("answer", "create", status=429))
        airflow.fail(create(), BatchAmbiguousError)
        airflow.run(create())
        assert operations(batch).count("create") == 3
        assert len(batch.tokens()) == 1

    def test_a_repeated_request_that_is_throttled_leaves_what_was_kept(self, batch, remembering):
        remembering.run_after = NOON - timedelta(hours=1)
        other = batch.add_campaign(DEFINITION, created=NOON - timedelta(minutes=10))
        batch.inject(Fault("reset_before", "create"), Fault("answer", "create", status=429))
        remembering.fail(create(), BatchAmbiguousError)
        assert remembering.run(create())["campaign_token"] != other

    def test_a_worker_that_dies_while_a_repeated_request_settles_loses_nothing(self, batch, remembering):
        batch.inject(Fault("reset_before", "create"))
        remembering.fail(create(), BatchAmbiguousError)
        while not batch.tokens():
            with pytest.raises(AirflowRescheduleException):
                remembering.once(create())
        remembering.retry()
        assert remembering.run(create())["campaign_token"] == batch.tokens()[0]
        assert operations(batch).count("create") == 2


class TestNothingKeptBetweenAttempts:
    def test_the_task_itself_waits_before_it_checks_a_repeated_request(self, batch, forgetting):
        batch.inject(Fault("reset_before", "create"))
        forgetting.fail(create(), BatchAmbiguousError)
        forgetting.run(create())
        creation, check = [record.time for record in batch.requests if record.operation in ("create", "list")][-2:]
        assert check - creation == SETTLE_TIME

    def test_a_check_that_is_throttled_once_is_made_again(self, batch, forgetting, monkeypatch):
        batch.inject(Fault("reset_before", "create"))
        forgetting.fail(create(), BatchAmbiguousError)
        faults = [Fault("answer", "list", status=429)]
        monkeypatch.setattr(creations.time, "sleep", lambda seconds: faults and batch.inject(faults.pop()))
        assert forgetting.run(create())["changed"] is True

    @pytest.mark.parametrize("fault", ["list:429;times=all", "list:429;retry-after=600", "list:401"])
    def test_a_check_that_cannot_be_made_ends_in_an_error_with_the_token(self, batch, forgetting, monkeypatch, fault):
        batch.inject(Fault("reset_before", "create"))
        forgetting.fail(create(), BatchAmbiguousError)
        monkeypatch.setattr(creations.time, "sleep", lambda seconds: batch.inject(fault))
        error = forgetting.fail(create(), BatchRepeatRefusedError)
        (token,) = batch.tokens()
        assert token in str(error)
        assert operations(batch).count("create") == 2

    def test_a_store_that_forgets_the_token_makes_the_task_wait_itself(self, batch, clock):
        class Forgetful(Store):
            def set(self, key, value):
                if (value["value"] or {}).get("token"):
                    raise OSError("no")
                super().set(key, value)

        airflow = Airflow(clock, Forgetful())
        batch.inject(Fault("reset_before", "create"))
        airflow.fail(create(), BatchAmbiguousError)
        assert airflow.run(create())["changed"] is True
        assert operations(batch).count("create") == 2
        assert operations(batch)[-2:] == ["list", "view"]

    def test_a_store_that_takes_no_new_record_lets_nothing_be_sent(self, batch, clock):
        class Full(Store):
            def set(self, key, value):
                if self.kept.get(CREATION):
                    raise OSError("no")
                super().set(key, value)

        airflow = Airflow(clock, Full())
        batch.inject(Fault("reset_before", "create"))
        airflow.fail(create(), BatchAmbiguousError)
        airflow.store.kept[CREATION]["value"]["looks"] = 5
        clock.shift(timedelta(hours=1))
        assert "Nothing was sent" in str(airflow.fail(create(), BatchTransientApiError))
        assert operations(batch).count("create") == 1

    def test_a_store_that_never_works_is_as_none(self, batch, clock):
        class Broken(Store):
            def get(self, key):
                raise OSError("no")

            def set(self, key, value):
                raise OSError("no")

        airflow = Airflow(clock, Broken())
        batch.inject(ANSWERS_LOST["reset"])
        airflow.fail(create(), BatchAmbiguousError)
        assert airflow.run(create())["campaign_token"] == batch.tokens()[0]


class TestTokenKept:
    def test_a_result_that_was_lost_is_returned_again_without_a_request(self, batch, remembering):
        first = remembering.run(create())
        remembering.retry()
        again = remembering.run(create())
        assert (again["campaign_token"], again["changed"], again["attempt"]) == (first["campaign_token"], True, 2)
        assert operations(batch) == ["create"]

    def test_a_result_that_was_lost_is_found_again_where_nothing_is_kept(self, batch, forgetting):
        first = forgetting.run(create())
        forgetting.retry()
        assert forgetting.run(create())["campaign_token"] == first["campaign_token"]
        assert operations(batch) == ["create", "list", "view"]

    def test_a_cleared_task_views_the_campaign_once_and_returns_it(self, batch, remembering):
        first = remembering.run(create())
        remembering.clear()
        again = remembering.run(create())
        assert again["campaign_token"] == first["campaign_token"]
        assert operations(batch) == ["create", "view"]

    def test_a_cleared_task_returns_it_with_a_key_that_cannot_view(self, batch, remembering, connect):
        first = remembering.run(create())
        connect(batch.connection(kind="dev"))
        remembering.clear()
        assert remembering.run(create())["campaign_token"] == first["campaign_token"]

    def test_a_campaign_that_was_deleted_meanwhile_is_not_created_again(self, batch, remembering):
        token = remembering.run(create())["campaign_token"]
        BatchHook().delete_campaign(token)
        remembering.clear()
        error = remembering.fail(create(), BatchRepeatRefusedError)
        assert token in str(error)
        assert "force_new" in str(error)
        assert batch.tokens() == ()

    @pytest.mark.parametrize("name", ["Morning news", "Evening news"])
    def test_a_payload_that_was_changed_before_a_clear_creates_nothing_beside_the_first(self, batch, remembering, name):
        token = remembering.run(create())["campaign_token"]
        remembering.clear()
        changed = create({**DEFINITION, "name": name, "messages": [{"language": "en", "body": "Bonjour"}]})
        assert token in str(remembering.fail(changed, BatchRepeatRefusedError))
        assert batch.tokens() == (token,)

    @pytest.mark.parametrize("lost", [True, False])
    def test_a_payload_that_goes_live_now_does_not_pass_for_created_as_a_draft(self, batch, remembering, lost):
        if lost:
            batch.inject(ANSWERS_LOST["reset"])
            remembering.fail(create(), BatchAmbiguousError)
        else:
            remembering.run(create())
            remembering.clear()
        error = remembering.fail(create({**DEFINITION, "live": True}), BatchRepeatRefusedError)
        assert batch.tokens()[0] in str(error)
        assert "another payload" in str(error)

    def test_a_payload_that_was_changed_is_created_once_the_first_is_deleted(self, batch, remembering):
        token = remembering.run(create())["campaign_token"]
        BatchHook().delete_campaign(token)
        remembering.clear()
        remembering.run(create({**DEFINITION, "name": "Evening news"}))
        assert [batch.campaign(token)["name"] for token in batch.tokens()] == ["Evening news"]

    def test_a_payload_that_was_changed_after_a_doubtful_attempt_finds_what_that_created(self, batch, remembering):
        batch.inject(ANSWERS_LOST["reset"])
        remembering.fail(create(), BatchAmbiguousError)
        error = remembering.fail(create({**DEFINITION, "name": "Evening news"}), BatchRepeatRefusedError)
        assert batch.tokens()[0] in str(error)
        assert "in name" in str(error)
        assert len(batch.tokens()) == 1

    def test_a_payload_that_was_changed_finds_the_first_where_nothing_is_kept(self, batch, forgetting):
        token = forgetting.run(create())["campaign_token"]
        forgetting.clear()
        changed = create({**DEFINITION, "messages": [{"language": "en", "body": "Bonjour"}]})
        error = forgetting.fail(changed, BatchRepeatRefusedError)
        assert token in str(error)
        assert "messages" in str(error)


class TestWhatIsNotIt:
    def created_all_the_same(self, batch, airflow, other):
        batch.inject(Fault("reset_before", "create"))
        airflow.fail(create(), BatchAmbiguousError)
        result = airflow.run(create())
        assert result["campaign_token"] != other
        assert result["changed"] is True
        assert len(batch.tokens()) == 2

    def test_a_campaign_of_yesterday_is_not_adopted(self, batch, airflow):
        other = batch.add_campaign(DEFINITION, created=NOON - timedelta(days=1))
        self.created_all_the_same(batch, airflow, other)

    def test_a_campaign_made_in_the_dashboard_is_not_adopted(self, batch, airflow):
        self.created_all_the_same(batch, airflow, batch.add_campaign(DEFINITION, from_api=False))

    def test_a_campaign_of_another_name_is_not_adopted(self, batch, airflow):
        self.created_all_the_same(batch, airflow, batch.add_campaign({**DEFINITION, "name": "Evening news"}))

    @pytest.mark.parametrize("several", [True, False])
    def test_a_campaign_that_another_index_or_run_has_created_is_not_adopted(self, batch, airflow, several):
        other = batch.add_campaign(DEFINITION)
        airflow.others = {"campaign_token": other}
        if several:
            airflow.others = [None, "text", {"campaign_token": "x"}, airflow.others]
        self.created_all_the_same(batch, airflow, other)

    def test_a_campaign_of_another_app_is_not_adopted(self, connect, airflow):
        with BatchSandbox(apps=("ios", "android")) as sandbox:
            connect(sandbox.connection("api_keys"))
            sandbox.add_campaign(DEFINITION, app="android")
            sandbox.inject(Fault("reset_before", "create"))
            airflow.fail(create(app="ios"), BatchAmbiguousError)
            assert airflow.run(create(app="ios"))["campaign_token"] == sandbox.tokens("ios")[0]

    def test_nothing_is_adopted_while_other_runs_cannot_be_asked(self, batch, airflow):
        batch.inject(ANSWERS_LOST["reset"])
        airflow.fail(create(), BatchAmbiguousError)
        airflow.others = RuntimeError("no XCom")
        airflow.fail(create(), RuntimeError)
        airflow.others = None
        assert airflow.run(create())["campaign_token"] == batch.tokens()[0]
        assert len(batch.tokens()) == 1


class TestWhatCannotBeTold:
    def stops(self, airflow, task=None):
        error = airflow.fail(task or create(), BatchRepeatRefusedError)
        assert isinstance(error, AirflowFailException)
        return str(error)

    def test_other_content_under_the_same_name_stops_the_task_and_is_named(self, batch, airflow):
        other = batch.add_campaign({**DEFINITION, "messages": [{"language": "en", "body": "Bonjour"}]})
        batch.inject(Fault("reset_before", "create"))
        airflow.fail(create(), BatchAmbiguousError)
        told = self.stops(airflow)
        assert other in told
        assert "messages" in told
        assert batch.tokens() == (other,)

    def test_other_content_does_not_hide_the_campaign_itself(self, batch, airflow):
        batch.add_campaign({**DEFINITION, "messages": [{"language": "en", "body": "Bonjour"}]})
        batch.inject(ANSWERS_LOST["reset"])
        airflow.fail(create(), BatchAmbiguousError)
        assert airflow.run(create())["campaign_token"] == batch.tokens()[0]

    def test_two_matches_stop_the_task_and_are_both_named(self, batch, airflow):
        batch.add_campaign(DEFINITION)
        batch.inject(ANSWERS_LOST["reset"])
        airflow.fail(create(), BatchAmbiguousError)
        told = self.stops(airflow)
        assert all(token in told for token in batch.tokens())
        assert len(batch.tokens()) == 2

    def test_a_key_that_cannot_list_stops_the_task_and_says_so(self, connect, airflow):
        with BatchSandbox(contract=Contract(dev_key_list="API_MISUSE")) as sandbox:
            connect(sandbox.connection(kind="dev"))
            sandbox.inject(Fault("reset_before", "create"))
            airflow.fail(create(), BatchAmbiguousError)
            assert "cannot list" in self.stops(airflow)
            assert operations(sandbox).count("create") == 1

    def test_a_dev_key_that_can_list_but_not_view_adopts_by_name_and_time(self, batch, connect, airflow):
        connect(batch.connection(kind="dev"))
        batch.inject(ANSWERS_LOST["reset"])
        airflow.fail(create(), BatchAmbiguousError)
        assert airflow.run(create())["campaign_token"] == batch.tokens()[0]

    def test_a_campaign_for_dev_builds_is_not_taken_for_one_of_a_live_key(self, batch, airflow):
        other = batch.add_campaign(DEFINITION, dev_only=True)
        batch.inject(Fault("reset_before", "create"))
        airflow.fail(create(), BatchAmbiguousError)
        told = self.stops(airflow)
        assert other in told
        assert "dev_only" in told

    def test_a_campaign_created_long_after_the_request_is_not_taken_for_it(self, batch, remembering):
        batch.inject(Fault("reset_before", "create"))
        remembering.fail(create(), BatchAmbiguousError)
        remembering.clear_failed()
        remembering.clock.shift(timedelta(days=1))
        tomorrows = batch.add_campaign(DEFINITION)
        told = self.stops(remembering)
        assert tomorrows in told
        assert "created_date" in told

    def test_too_many_campaigns_to_look_through_stop_the_task(self, batch, airflow, monkeypatch):
        monkeypatch.setattr(creations, "NEWEST", 150)
        batch.inject(ANSWERS_LOST["reset"])
        airflow.fail(create(), BatchAmbiguousError)
        for number in range(150):
            batch.add_campaign({**DEFINITION, "name": f"Other {number}"})
        assert "more than 150" in self.stops(airflow)
        assert operations(batch).count("create") == 1

    def test_a_campaign_without_a_readable_date_stops_the_task(self, batch, airflow):
        batch.inject(Fault("reset_before", "create"))
        airflow.fail(create(), BatchAmbiguousError)
        batch.inject(Fault("answer", "list", status=200, body=[{"campaign_token": "abc", "name": "Morning news"}]))
        assert "'abc'" in self.stops(airflow)

    def test_a_wrong_key_in_a_later_attempt_never_creates(self, batch, airflow, connect):
        batch.inject(Fault("reset_before", "create"))
        airflow.fail(create(), BatchAmbiguousError)
        connect({**batch.connection(), "password": "sandbox-wrong"})
        airflow.fail(create(), BatchAuthenticationError)
        assert operations(batch).count("create") == 1


class TestForceNew:
    def test_the_first_attempt_after_a_clear_creates_again(self, batch, airflow):
        first = airflow.run(create(force_new=True))
        airflow.clear()
        second = airflow.run(create(force_new=True))
        assert {first["campaign_token"], second["campaign_token"]} == set(batch.tokens())
        assert operations(batch) == ["create", "create"]

    def test_a_retry_looks(self, batch, airflow):
        batch.inject(ANSWERS_LOST["reset"])
        airflow.fail(create(force_new=True), BatchAmbiguousError)
        assert airflow.run(create(force_new=True))["campaign_token"] == batch.tokens()[0]
        assert operations(batch).count("create") == 1

    def test_a_retry_returns_the_new_campaign(self, batch, remembering):
        remembering.run(create(force_new=True))
        remembering.clear()
        second = remembering.run(create(force_new=True))
        remembering.retry()
        assert remembering.run(create(force_new=True))["campaign_token"] == second["campaign_token"]
        assert len(batch.tokens()) == 2

    def test_a_retry_after_the_clear_adopts_the_new_campaign_and_not_the_older_one(self, batch, remembering):
        first = remembering.run(create(force_new=True))
        remembering.clear()
        batch.inject(ANSWERS_LOST["reset"])
        remembering.fail(create(force_new=True), BatchAmbiguousError)
        second = remembering.run(create(force_new=True))
        assert second["campaign_token"] != first["campaign_token"]
        assert second["campaign_token"] in batch.tokens()
        assert len(batch.tokens()) == 2

    def test_a_retry_after_the_clear_creates_where_only_the_older_one_is_there(self, batch, remembering):
        first = remembering.run(create(force_new=True))
        remembering.clear()
        batch.inject(Fault("answer", "create", status=429), Fault("reset_before", "create"))
        remembering.fail(create(force_new=True), BatchAmbiguousError)
        second = remembering.run(create(force_new=True))
        assert {first["campaign_token"], second["campaign_token"]} == set(batch.tokens())
        assert len(batch.tokens()) == 2

    def test_a_retry_after_the_clear_stops_where_the_older_one_cannot_be_told_apart(self, batch, forgetting):
        first = forgetting.run(create(force_new=True))
        forgetting.clear()
        batch.inject(Fault("reset_before", "create"))
        forgetting.fail(create(force_new=True), BatchAmbiguousError)
        error = forgetting.fail(create(force_new=True), BatchRepeatRefusedError)
        assert first["campaign_token"] in str(error)
        assert len(batch.tokens()) == 1
