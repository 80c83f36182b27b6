"""What BatchSyncCampaignsOperator does with one attempt, against the sandbox."""

from __future__ import annotations

import json
import logging
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import canary
import pytest
from airflow.sdk import DAG
from task import Attempt, Store, context_of, seconds_until

from airflow_batch._airflow import backoff
from airflow_batch._airflow.compat import HAS_RETRY_POLICY, AirflowFailException, AirflowRescheduleException
from airflow_batch._airflow.task_state import RECORD
from airflow_batch._campaigns.payload import payload_digest
from airflow_batch._sync import memory, progress, rate_limiter
from airflow_batch.exceptions import (
    BatchAuthenticationError,
    BatchChangeRefusedError,
    BatchConfigurationError,
    BatchParametersLostError,
    BatchPayloadError,
    BatchRateLimitError,
    BatchServerError,
    BatchSyncError,
    BatchSyncIncompleteError,
    BatchWaitExceededError,
)
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.operators.sync import BatchSyncCampaignsOperator
from airflow_batch.results import CampaignResult
from airflow_batch.sandbox import Contract, Fault, FaultPlan
from airflow_batch.windows import CampaignWindow

DEFINITION = {
    "name": "Sale",
    "live": False,
    "push_time": "2099-06-01T09:00:00",
    "labels": ["SALE"],
    "messages": [{"language": "en", "body": "Hi"}],
}
RESULT_KEYS = set(CampaignResult.__annotations__) - {"differences"}
CANNOT_LIST = Contract(dev_key_list="API_MISUSE")


@dataclass
class Recorded(Attempt):
    """A task instance that records what is pushed to XCom."""

    pushed: dict = field(default_factory=dict)

    def xcom_push(self, key, value):
        self.pushed[key] = value


class JsonStore(Store):
    """A store that only accepts JSON values."""

    def set(self, key, value):
        super().set(key, json.loads(json.dumps(value)))


def run(task, **context):
    """Execute one attempt."""
    return task.execute(context_of(task, kind=Recorded, **context))


def failing(error, task, **context):
    """Execute one attempt that fails; return the error and the report."""
    made = context_of(task, kind=Recorded, **context)
    with pytest.raises(error) as caught:
        task.execute(made)
    return caught.value, made["ti"].pushed["return_value"]


def sync(campaigns, **arguments):
    return BatchSyncCampaignsOperator(task_id="sync", campaigns=campaigns, **arguments)


def desired(tokens, live=True):
    return [{"campaign": token, "live": live} for token in tokens]


def add(sandbox, count, live=False, **arguments):
    return [
        sandbox.add_campaign({**DEFINITION, "name": f"Sale {number}", "live": live}, **arguments)
        for number in range(count)
    ]


def request_counts(sandbox):
    """Return the number of requests of each operation."""
    return Counter(record.operation for record in sandbox.requests)


def live_ones(sandbox, tokens):
    return [token for token in tokens if sandbox.campaign(token)["live"]]


def counts(report):
    return tuple(report[name] for name in ("total", "changed", "unchanged", "failed"))


@pytest.fixture(autouse=True)
def quick(monkeypatch, clock):
    """Retry at once, set the clock forward instead of long waits, and check that no thread is left."""
    pause = rate_limiter.RateLimiter.pause

    def move(self, seconds):
        if seconds > 10:
            clock.sleep(seconds)
        pause(self, 0 if seconds > 10 else seconds)

    monkeypatch.setattr(rate_limiter, "BETWEEN_TRIES", 0.001)
    monkeypatch.setattr("airflow_batch._sync.adaptive_rate.START", 1000.0)
    monkeypatch.setattr(rate_limiter.RateLimiter, "pause", move)
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("batch-sync")] == []


@pytest.fixture
def short_floor(monkeypatch):
    """Shorten Batch's minimum of five seconds after a 429, which the test waits for."""
    monkeypatch.setattr(backoff, "BATCH_FLOOR", 0.2)


@pytest.fixture
def progress_lines(caplog):
    """Return a function that gives the progress lines of the log so far."""
    caplog.set_level(logging.INFO, logger="airflow_batch._sync.progress")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "airflow_batch._sync.progress"]


class TestWritesOnlyDifferences:
    def test_a_sync_updates_only_the_declared_campaigns_that_differ(self, batch):
        off, on, undeclared = add(batch, 3), add(batch, 3, live=True), add(batch, 2)
        before = [batch.campaign(token) for token in (*on, *undeclared)]
        report = run(sync(desired([*off, *on])))
        assert counts(report) == (6, 3, 3, 0)
        assert {record.campaign_token for record in batch.requests if record.operation == "update"} == set(off)
        assert request_counts(batch)["update"] == 3
        assert [batch.campaign(token) for token in (*on, *undeclared)] == before
        assert live_ones(batch, off) == off

    def test_a_sync_sends_each_changed_campaign_back_whole(self, sandbox_with):
        sandbox = sandbox_with(update_mode="replace")
        tokens = add(sandbox, 5)
        before = [sandbox.campaign(token) for token in tokens]
        assert run(sync(desired(tokens)))["changed"] == 5
        assert [sandbox.campaign(token) for token in tokens] == [{**campaign, "live": True} for campaign in before]

    def test_the_report_of_a_sync_has_counts_and_a_result_of_fixed_keys_for_each_campaign(self, batch):
        (off,), (on,) = add(batch, 1), add(batch, 1, live=True)
        report = run(sync(desired([off, on])))
        results = {result["campaign_token"]: result for result in report.pop("campaigns")}
        assert report == {
            "total": 2,
            "changed": 1,
            "unchanged": 1,
            "failed": 0,
            "skipped": 0,
            "requests": len(batch.requests),
            "throttled_seconds": 0.0,
        }
        assert all(set(result) == RESULT_KEYS for result in results.values())
        common = {"app": None, "action": "set_live", "live": True, "name": "Sale 0", "attempt": 1}
        assert results[off].items() >= {**common, "changed": True, "http_status": 200}.items()
        assert results[on].items() >= {**common, "changed": False, "http_status": None}.items()
        assert results[on]["payload_digest"] == payload_digest({"live": True})

    def test_a_sync_of_no_campaigns_succeeds_with_a_warning(self, batch, caplog):
        assert counts(run(sync([]))) == (0, 0, 0, 0)
        assert "No campaign is declared" in caplog.text
        assert batch.requests == ()

    def test_a_sync_refuses_a_push_time_that_has_passed_and_updates_the_others(self, batch):
        past = batch.add_campaign({**DEFINITION, "push_time": "2020-01-01T00:00:00"})
        future = add(batch, 4)
        error, report = failing(BatchSyncError, sync(desired([past, *future])))
        assert "has passed" in str(error)
        assert counts(report) == (5, 4, 0, 1)

    def test_a_sync_sends_the_definition_of_a_campaign_that_the_key_cannot_read(self, sandbox_with):
        sandbox = sandbox_with(kind="dev", update_mode="strict")
        token = sandbox.add_campaign(DEFINITION)
        report = run(sync([{"campaign": token, "live": True, "definition": DEFINITION}]))
        assert (report["changed"], sandbox.campaign(token)["live"]) == (1, True)


class TestArguments:
    def test_the_campaigns_of_a_sync_may_be_a_lazy_sequence_json_text_or_results_of_other_tasks(self, batch):
        class LazyXComs(Sequence):
            def __len__(self):
                raise AssertionError("the length is a request of its own")

            def __getitem__(self, index):
                assert isinstance(index, slice)
                return items[index]

        tokens = add(batch, 3)
        items = [{"campaign": {"campaign_token": token, "app": None}, "live": "true"} for token in tokens]
        assert run(sync(LazyXComs()))["changed"] == 3
        assert counts(run(sync(json.dumps(items)))) == (3, 0, 3, 0)

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ({"campaigns": "[{"}, "campaigns is not JSON"),
            ({"campaigns": "null"}, "must be a list"),
            ({"campaigns": {"campaign": "abc"}}, "must be a list"),
            ({"campaigns": desired(["abc", "abc"])}, r"campaigns\[1\]"),
            ({"campaigns": desired(["abc"]), "at": "tomorrow"}, "at must be a moment"),
            ({"campaigns": desired(["abc"]), "at": datetime(2026, 1, 1)}, "time zone"),
            ({"campaigns": "missing.json"}, "missing.json"),
        ],
    )
    def test_an_invalid_argument_of_a_sync_fails_before_any_request(self, batch, arguments, named):
        with pytest.raises(BatchPayloadError, match=named) as caught:
            run(sync(**arguments))
        assert isinstance(caught.value, AirflowFailException)
        assert batch.requests == ()

    @pytest.mark.parametrize(
        "arguments",
        [
            {"campaigns": None},
            {"campaigns": [], "calendar": "calendar.yaml"},
            {"campaigns": [], "max_changes": -1},
            {"campaigns": [], "max_failures": True},
            {"campaigns": [], "max_in_flight": 0},
            {"campaigns": [], "max_in_flight": 33},
        ],
    )
    def test_invalid_arguments_of_a_sync_are_refused_when_the_dag_is_parsed(self, arguments):
        with pytest.raises(BatchConfigurationError):
            sync(**arguments)

    def test_the_campaigns_of_several_apps_share_one_rate_limit(self, sandbox_with):
        sandbox = sandbox_with("api_keys", apps=("ios", "android"), extra={"requests_per_second": 20})
        tokens = {app: add(sandbox, 5, app=app) for app in ("ios", "android")}
        began = time.monotonic()
        report = run(sync([{**item, "app": app} for app in tokens for item in desired(tokens[app])]))
        assert time.monotonic() - began >= (len(sandbox.requests) - 1) / 20
        assert report["changed"] == 10
        assert Counter(result["app"] for result in report["campaigns"]) == {"ios": 5, "android": 5}

    def test_a_sync_with_an_unknown_app_fails_before_any_request(self, sandbox_with):
        sandbox = sandbox_with("api_keys", apps=("ios", "android"))
        token = sandbox.add_campaign(DEFINITION, app="ios")
        items = [{"campaign": token, "app": app, "live": True} for app in ("ios", "tv")]
        error, report = failing(BatchConfigurationError, sync(items))
        assert "'tv'" in str(error)
        assert (sandbox.requests, report["requests"]) == ((), 0)

    def test_a_sync_applies_the_state_of_a_window_now_or_at_the_given_moment(self, batch):
        tokens = add(batch, 4)
        year = datetime.now(UTC).year
        window = CampaignWindow(on="0 0 1 1 *", off="0 0 1 2 *", timezone="UTC")
        for at, live in ((datetime(year, 1, 15, tzinfo=UTC), 4), (f"{year}-03-01T00:00+00:00", 0)):
            run(sync(desired(tokens, window), at=at))
            assert len(live_ones(batch, tokens)) == live
        run(sync(desired(tokens, window)))
        assert bool(live_ones(batch, tokens)) is window.is_live_at(datetime.now(UTC))

    def test_a_sync_uses_the_moment_of_its_run_where_the_workers_clock_is_behind(self, batch):
        tokens = add(batch, 4)
        flips = datetime.now(UTC) + timedelta(hours=1)
        live = SimpleNamespace(is_live_at=lambda moment: moment >= flips)
        run(sync(desired(tokens, live)))
        assert live_ones(batch, tokens) == []
        run(sync(desired(tokens, live)), run_after=flips)
        assert live_ones(batch, tokens) == tokens

    def test_the_relative_path_of_a_calendar_is_relative_to_the_dag_file(self, batch, tmp_path, monkeypatch):
        tokens = add(batch, 4)
        rows = [
            f"- {{name: Sale {n}, token: {t}, windows: [{{start: 2020-01-01, end: 2100-01-01}}]}}"
            for n, t in enumerate(tokens)
        ]
        (tmp_path / "cal.yaml").write_text("\n".join(["timezone: Europe/Paris", "campaigns:", *rows]))
        monkeypatch.chdir("/")
        task = sync(None, calendar="cal.yaml")
        DAG("calendar", template_searchpath=str(tmp_path), schedule=None).add_task(task)
        assert run(task)["changed"] == 4

    def test_a_schedule_object_without_its_own_repr_works_in_every_attempt_of_a_sync(self, batch):
        class Always:
            def is_live_at(self, moment):
                return True

        tokens, store = add(batch, 4), JsonStore()
        run(sync(desired(tokens, Always())), store=store)
        assert counts(run(sync(desired(tokens, Always())), store=store, try_number=2))[3] == 0
        assert request_counts(batch)["update"] == 4

    @pytest.mark.parametrize("name", ["None", " "])
    def test_an_expect_name_in_a_sync_that_renders_to_nothing_refuses_an_on_but_not_a_stop(self, batch, name):
        on, off = add(batch, 1), add(batch, 1, live=True)
        items = [{**item, "expect_name": name} for item in (*desired(on), *desired(off, live=False))]
        failing(BatchSyncError, sync(items))
        assert live_ones(batch, [*on, *off]) == []


class TestReadsTheState:
    def test_a_sync_of_up_to_three_campaigns_views_each_instead_of_listing(self, batch):
        run(sync(desired(add(batch, 3, live=True))))
        assert request_counts(batch) == {"view": 3}

    def test_a_sync_of_250_unchanged_campaigns_takes_three_requests(self, batch):
        report = run(sync(desired(add(batch, 250, live=True))))
        assert request_counts(batch) == {"list": 3}
        assert counts(report) == (250, 0, 250, 0)

    def test_a_sync_reads_the_list_only_up_to_its_oldest_campaign(self, batch):
        add(batch, 300)
        newest = add(batch, 50, live=True)
        run(sync(desired(newest)))
        assert request_counts(batch) == {"list": 1}

    def test_a_sync_views_a_few_campaigns_that_are_far_back_in_the_list(self, batch):
        old = add(batch, 2, live=True)
        add(batch, 2000)
        new = add(batch, 50, live=True)
        assert counts(run(sync(desired([*new, *old])))) == (52, 0, 52, 0)
        assert request_counts(batch)["list"] <= 3
        assert request_counts(batch)["view"] == 2

    def test_a_sync_with_unknown_tokens_does_not_read_the_whole_list(self, batch):
        known = add(batch, 5, live=True)
        add(batch, 3000)
        failing(BatchSyncIncompleteError, sync(desired([*known, *(f"unknown{number}" for number in range(5))])))
        assert request_counts(batch)["list"] <= 10

    def test_a_sync_whose_key_cannot_view_compares_with_the_list(self, sandbox_with):
        sandbox = sandbox_with(kind="dev")
        on, off = add(sandbox, 5, live=True), add(sandbox, 5)
        assert counts(run(sync(desired([*on, *off])))) == (10, 5, 5, 0)
        assert request_counts(sandbox)["update"] == 5

    def test_a_sync_whose_key_can_neither_list_nor_view_updates_every_campaign(self, sandbox_with, caplog):
        sandbox = sandbox_with(kind="dev", contract=CANNOT_LIST)
        tokens = add(sandbox, 20)
        assert counts(run(sync(desired(tokens)))) == (20, 20, 0, 0)
        assert live_ones(sandbox, tokens) == tokens
        assert request_counts(sandbox)["update"] == 20
        assert "cannot be listed" in caplog.text

    def test_a_sync_requests_only_the_failed_page_of_the_list_again(self, batch):
        tokens = add(batch, 250, live=True)
        batch.inject("list:500", "list:reset_before")
        assert run(sync(desired(tokens)))["unchanged"] == 250
        assert request_counts(batch)["list"] == 5

    def test_a_sync_whose_list_keeps_failing_leaves_it_to_airflows_retries(self, batch):
        batch.inject("list:500;times=all")
        failing(BatchServerError, sync(desired(add(batch, 5))))
        assert request_counts(batch) == {"list": rate_limiter.TRIES}

    def test_the_last_attempt_of_a_sync_stops_campaigns_although_the_list_fails(self, batch):
        tokens = add(batch, 5, live=True)
        batch.inject("list:500;times=all")
        report = run(sync(desired(tokens, live=False)), try_number=7, max_tries=6)
        assert (counts(report), live_ones(batch, tokens)) == ((5, 5, 0, 0), [])


class TestMaxChanges:
    def test_a_sync_with_more_than_max_changes_fails_before_the_first_update(self, batch):
        tokens = add(batch, 6)
        error, report = failing(BatchChangeRefusedError, sync(desired(tokens), max_changes=5))
        assert "6 of 6" in str(error)
        assert all(token in str(error) for token in tokens)
        assert isinstance(error, AirflowFailException)
        assert request_counts(batch) == {"list": 1}
        assert report["changed"] == 0

    def test_the_error_about_max_changes_names_the_first_ten_campaigns(self, batch):
        tokens = add(batch, 12)
        error, _ = failing(BatchChangeRefusedError, sync(desired(tokens), max_changes=5))
        assert [token in str(error) for token in tokens] == [True] * 10 + [False] * 2

    def test_a_sync_makes_exactly_max_changes(self, batch):
        assert run(sync(desired([*add(batch, 5), *add(batch, 5, live=True)]), max_changes=5))["changed"] == 5

    def test_stops_that_are_repeated_after_an_earlier_attempt_do_not_count_for_max_changes(self, batch):
        window = SimpleNamespace(is_live_at=lambda moment: False)
        report = run(sync(desired(add(batch, 4), window), max_changes=0), try_number=2)
        assert (report["failed"], request_counts(batch)["update"]) == (0, 8)

    def test_campaigns_that_a_sync_had_to_view_count_for_max_changes_only_if_they_differ(self, batch):
        old = add(batch, 5, live=True)
        add(batch, 1500)
        new = add(batch, 5)
        assert counts(run(sync(desired([*old, *new]), max_changes=5))) == (10, 5, 5, 0)

    def test_a_dry_run_of_a_sync_reports_and_logs_how_many_campaigns_would_change(self, batch, progress_lines):
        off, on = add(batch, 4), add(batch, 4, live=True)
        report = run(sync(desired([*off, *on]), dry_run=True))
        assert (*counts(report), report["would_change"]) == (8, 0, 4, 0, 4)
        assert request_counts(batch) == {"list": 1}
        differing = [result for result in report["campaigns"] if result["differences"]]
        assert {result["campaign_token"] for result in differing} == set(off)
        assert differing[0]["differences"] == [{"parameter": "live", "now": False, "wanted": True}]
        assert {result["action"] for result in report["campaigns"]} == {"dry_run"}
        assert "4 would change" in progress_lines()[-1]


class TestFailures:
    def test_a_sync_fails_for_another_name_and_a_dashboard_campaign_and_updates_the_others(self, batch):
        good, (renamed,) = add(batch, 5), add(batch, 1)
        made_by_hand = add(batch, 1, from_api=False)
        items = [{**desired([renamed])[0], "expect_name": "Winter"}, *desired([*made_by_hand, *good])]
        error, report = failing(BatchSyncError, sync(items))
        assert counts(report) == (7, 5, 0, 2)
        assert live_ones(batch, good) == good
        assert live_ones(batch, [renamed, *made_by_hand]) == []
        failures = {item["campaign_token"]: item for item in report["campaigns"] if "error" in item}
        assert set(failures[renamed]) == {"campaign_token", "app", "error", "message"}
        assert "Winter" in failures[renamed]["message"]
        assert "dashboard" in failures[made_by_hand[0]]["message"]
        assert "2 of 7 campaigns failed" in str(error)

    def test_a_sync_fails_for_another_name_also_where_nothing_would_change(self, batch):
        items = [{**item, "expect_name": "Winter"} for item in desired(add(batch, 5, live=True))]
        assert failing(BatchSyncError, sync(items))[1]["failed"] == 5
        assert request_counts(batch) == {"list": 1}

    @pytest.mark.parametrize("allowed", [1, 2])
    def test_a_sync_succeeds_with_up_to_max_failures_failed_campaigns(self, batch, allowed):
        task = sync(desired([*add(batch, 3), "unknown1", "unknown2"]), max_failures=allowed)
        if allowed == 2:
            assert counts(run(task)) == (5, 3, 0, 2)
        else:
            assert counts(failing(BatchSyncIncompleteError, task)[1]) == (5, 3, 0, 2)

    def test_a_sync_retries_campaigns_that_could_not_be_viewed_at_the_end(self, batch):
        tokens = add(batch, 10)
        for token in tokens[4:6]:
            batch.inject(Fault("answer", "view", status=500, token=token, times=2))
        assert counts(run(sync(desired(tokens)))) == (10, 10, 0, 0)
        last = [record.campaign_token for record in batch.requests if record.operation == "update"][-2:]
        assert set(last) == set(tokens[4:6])

    def test_a_sync_sends_a_stop_with_an_ambiguous_answer_again_in_the_same_attempt(self, batch, clock):
        tokens = add(batch, 10, live=True)
        batch.inject(Fault("answer", "update", status=500, token=tokens[4]))
        assert counts(run(sync(desired(tokens, live=False)))) == (10, 10, 0, 0)
        assert live_ones(batch, tokens) == []
        assert sum(clock.slept) == pytest.approx(120, abs=10)

    def test_a_sync_fails_for_airflows_retry_where_an_ambiguous_on_does_not_show_after_two_minutes(self, batch, clock):
        tokens, store = add(batch, 10), JsonStore()
        batch.inject(Fault("answer", "update", status=500, token=tokens[4]))
        task = sync(desired(tokens))
        error, report = failing(BatchSyncIncompleteError, task, store=store)
        assert not isinstance(error, AirflowFailException)
        assert counts(report) == (10, 9, 0, 1)
        assert sum(clock.slept) == pytest.approx(120, abs=10)
        assert counts(run(task, store=store, try_number=2)) == (10, 1, 9, 0)
        assert live_ones(batch, tokens) == tokens

    @pytest.mark.parametrize("most", [200, 1], ids=["few", "more than the record names"])
    def test_changed_is_null_where_an_earlier_attempt_has_sent_something_and_false_for_the_other_campaigns(
        self, batch, monkeypatch, most
    ):
        monkeypatch.setattr(memory, "MAX_WRITTEN", most)
        unchanged, tokens, store = add(batch, 5, live=True), add(batch, 2), JsonStore()
        batch.inject(Fault("answer", "update", status=500, token=tokens[1]))
        task = sync(desired([*unchanged, *tokens]))
        failing(BatchSyncIncompleteError, task, store=store)
        for number, last in ((2, True), (3, None)):
            report = run(task, store=store, try_number=number)
            changed = {result["campaign_token"]: result["changed"] for result in report["campaigns"]}
            others = dict.fromkeys(unchanged, False if most > 1 else None)
            assert changed == {**others, tokens[0]: None, tokens[1]: last}

    def test_changed_is_null_for_all_where_an_earlier_attempt_died_while_it_wrote(self, sandbox_with):
        def on_record(record):
            if record.operation == "update":
                kept.append(dict(store.kept))

        sandbox, kept = sandbox_with(on_record=on_record), []
        unchanged, store = add(sandbox, 2, live=True), JsonStore()
        task = sync(desired([*unchanged, *add(sandbox, 2)]))
        run(task, store=store)
        report = run(task, store=JsonStore(kept[0]), try_number=2)
        assert [result["changed"] for result in report["campaigns"]] == [None] * 4

    def test_a_sync_views_a_campaign_after_an_ambiguous_update_and_does_not_repeat_it(self, batch):
        tokens = add(batch, 10)
        for token in tokens[3:6]:
            batch.inject(Fault("reset_after", "update", token=token))
        report = run(sync(desired(tokens)))
        assert counts(report) == (10, 10, 0, 0)
        assert request_counts(batch)["update"] == 10
        unknown = {result["campaign_token"] for result in report["campaigns"] if result["changed"] is None}
        assert unknown == set(tokens[3:6])

    def test_a_confirmed_update_that_the_list_does_not_show_at_the_end_is_a_transient_failure(self, sandbox_with):
        def on_record(record):
            if record.operation == "update" and record.campaign_token == tokens[7]:
                stale = {"campaign_token": tokens[7], "name": "Sale 7", "live": False}
                sandbox.inject(Fault("answer", "list", status=200, body=[stale]))

        sandbox = sandbox_with(on_record=on_record)
        tokens = add(sandbox, 10)
        error, report = failing(BatchSyncIncompleteError, sync(desired(tokens)))
        assert "still shows it not live" in str(error)
        assert counts(report) == (10, 9, 0, 1)

    def test_confirmed_updates_are_not_failures_where_the_list_fails_at_the_end(self, sandbox_with, caplog):
        def on_record(record):
            if record.operation == "update":
                sandbox.inject("list:500;times=all")

        sandbox = sandbox_with(on_record=on_record)
        assert counts(run(sync(desired(add(sandbox, 5))))) == (5, 5, 0, 0)
        assert "could not be compared" in caplog.text

    def test_a_lost_parameter_ends_further_ons_of_its_app_only_and_every_stop_is_sent(self, sandbox_with):
        def on_record(record):
            if record.operation == "update" and record.campaign_token in on["ios"]:
                after = {**sandbox.campaign(record.campaign_token)}
                del after["labels"]
                sandbox.inject(Fault("answer", "view", status=200, body=after, token=record.campaign_token))

        sandbox = sandbox_with("api_keys", apps=("ios", "android"), on_record=on_record)
        # No stop of ios is confirmed before its first "on", so the campaign is read after it.
        on = {app: add(sandbox, 10, app=app) for app in ("ios", "android")}
        off = add(sandbox, 5, live=True, app="android")
        items = [{**item, "app": app} for app in on for item in desired(on[app])]
        items += [{**item, "app": "android"} for item in desired(off, live=False)]
        error, report = failing(BatchParametersLostError, sync(items))
        assert "lost labels" in str(error)
        assert live_ones(sandbox, off) == []
        assert live_ones(sandbox, on["android"]) == on["android"]
        assert len(live_ones(sandbox, on["ios"])) == 1
        assert report["failed"] == 10
        assert report["campaigns"][0]["error"] == "BatchParametersLostError"

    def test_stops_of_an_app_are_sent_although_one_of_them_lost_a_parameter(self, sandbox_with):
        def on_record(record):
            if record.operation == "update" and record.campaign_token == off[0]:
                after = {**sandbox.campaign(off[0]), "labels": []}
                sandbox.inject(Fault("answer", "view", status=200, body=after, token=off[0]))

        sandbox = sandbox_with(on_record=on_record)
        off, on = add(sandbox, 20, live=True), add(sandbox, 20)
        failing(BatchParametersLostError, sync([*desired(on), *desired(off, live=False)]))
        assert (live_ones(sandbox, off), live_ones(sandbox, on)) == ([], [])

    def test_a_sync_with_failed_stops_is_retried_although_a_parameter_was_lost(self, sandbox_with):
        def on_record(record):
            if record.operation == "update" and record.campaign_token in on:
                after = {**sandbox.campaign(record.campaign_token), "labels": []}
                sandbox.inject(Fault("answer", "view", status=200, body=after, token=record.campaign_token))

        sandbox = sandbox_with("api_keys", apps=("ios", "android"), on_record=on_record)
        on, off = add(sandbox, 5, app="ios"), add(sandbox, 5, live=True, app="android")
        items = [{**item, "app": "ios"} for item in desired(on)]
        items += [{**item, "app": "android"} for item in desired(off, live=False)]
        sandbox.inject(Fault("answer", "view", status=500, token=off[0], times=None))
        store = JsonStore()
        failing(BatchSyncIncompleteError, sync(items), store=store)
        sandbox.clear_faults()
        failing(BatchParametersLostError, sync(items), store=store, try_number=2)
        assert live_ones(sandbox, off) == []
        assert len(live_ones(sandbox, on)) == 1

    def test_a_sync_sends_stops_first(self, batch):
        on, off = add(batch, 10), add(batch, 10, live=True)
        run(sync([*desired(on), *desired(off, live=False)]))
        updated = [record.campaign_token for record in batch.requests if record.operation == "update"]
        assert set(updated[:10]) == set(off)

    def test_a_sync_views_the_first_campaign_whose_update_succeeded_after_it(self, batch):
        tokens = add(batch, 12)
        batch.inject(Fault("answer", "update", status=400, token=tokens[0]))
        failing(BatchSyncError, sync(desired(tokens)))
        operations = [(record.operation, record.campaign_token) for record in batch.requests]
        second = operations.index(("update", tokens[1]))
        assert operations[second + 1] == ("view", tokens[1])
        assert operations.count(("view", tokens[2])) == 1

    def test_a_sync_views_the_first_updated_campaign_of_each_app_after_it(self, sandbox_with):
        sandbox = sandbox_with("api_keys", apps=("ios", "android"))
        tokens = {app: add(sandbox, 8, app=app) for app in ("ios", "android")}
        run(sync([{**item, "app": app} for app in tokens for item in desired(tokens[app])]))
        views = Counter(record.campaign_token for record in sandbox.requests if record.operation == "view")
        assert {token for token, count in views.items() if count == 2} == {tokens["ios"][0], tokens["android"][0]}

    def test_a_report_of_more_than_48_kb_has_only_counts_and_failures(self, batch):
        on = add(batch, 200, live=True)
        items = [*desired(on), *({**item, "expect_name": "x" * 400} for item in desired(add(batch, 30)))]
        _, report = failing(BatchSyncError, sync(items))
        assert counts(report) == (230, 0, 200, 30)
        assert len(report["campaigns"]) == 30
        assert len(json.dumps(report)) <= 48_000

    def test_a_report_with_too_many_failures_is_cut(self, batch):
        items = [{**item, "expect_name": "x" * 400} for item in desired(add(batch, 200))]
        error, report = failing(BatchSyncError, sync(items))
        assert (report["failed"], len(json.dumps(report)) <= 48_000) == (200, True)
        assert 50 < len(report["campaigns"]) < 200
        assert "and 190 more" in str(error)

    def test_a_report_that_cannot_be_pushed_to_xcom_does_not_hide_the_failure(self, batch, monkeypatch):
        def refuse(self, key, value):
            raise RuntimeError("XCom is down")

        monkeypatch.setattr(Recorded, "xcom_push", refuse)
        with pytest.raises(BatchSyncIncompleteError):
            run(sync(desired(["unknown"])))

    def test_no_key_is_in_the_error_the_report_or_the_log_of_a_sync(self, sandbox_with, caplog):
        caplog.set_level(logging.DEBUG)
        sandbox = sandbox_with(apps={"app": canary.APP_KEYS}, rest_key=canary.REST_KEY)
        sandbox.inject(*(Fault("echo", "update", status=status, times=3) for status in (400, 403, 404, 500, 503)))
        error, report = failing((BatchSyncError, BatchSyncIncompleteError), sync(desired(add(sandbox, 9))))
        assert report["failed"] > 0
        for place, text in (("error", repr(error)), ("report", json.dumps(report)), ("log", caplog.text)):
            canary.assert_free(text, place)


class TestKeysAreRefused:
    @pytest.mark.parametrize("in_flight", [1, 4])
    def test_a_sync_reads_the_connection_again_after_a_401_and_continues(self, sandbox_with, caplog, in_flight):
        """The delay makes all requests in flight get a 401: they were sent with the old keys."""

        def on_record(record):
            updates.append(record.operation == "update")
            if record.operation == "update" and sum(updates) == 5:
                sandbox.inject(Fault("answer", status=401, times=in_flight, delay=0.5))

        updates = []
        sandbox = sandbox_with(on_record=on_record)
        tokens = add(sandbox, 40)
        assert counts(run(sync(desired(tokens), max_in_flight=in_flight))) == (40, 40, 0, 0)
        assert live_ones(sandbox, tokens) == tokens
        assert caplog.text.count("Reading the connection again") == 1

    def test_a_sync_whose_keys_stay_refused_fails_after_few_requests(self, sandbox_with):
        sandbox = sandbox_with(
            on_record=lambda record: record.operation == "update" and sandbox.inject("401;times=all")
        )
        tokens = add(sandbox, 40)
        error, report = failing(BatchAuthenticationError, sync(desired(tokens)))
        assert isinstance(error, AirflowFailException)
        refused = [record for record in sandbox.requests if record.status == 401]
        assert 2 <= len(refused) <= 12
        assert report["changed"] >= 1

    def test_a_sync_with_invalid_keys_sends_two_requests(self, batch, connect):
        connect({**batch.connection(), "password": "sandbox-wrong"})
        failing(BatchAuthenticationError, sync(desired(add(batch, 10))))
        assert len(batch.requests) == 2


LATE_REQUESTS = 6
"""Requests that the three other threads may send, two each, before a busy machine has read the 429."""


class TestThrottled:
    def test_a_sync_sends_nothing_before_retry_after_has_passed(self, sandbox_with, short_floor):
        sandbox = sandbox_with()
        tokens = add(sandbox, 20)
        sandbox.inject(Fault("answer", "update", status=429, headers={"Retry-After": "1"}, token=tokens[8]))
        report = run(sync(desired(tokens)))
        assert counts(report) == (20, 20, 0, 0)
        moments = [record.time for record in sandbox.requests]
        (refused,) = [number for number, record in enumerate(sandbox.requests) if record.status == 429]
        in_flight = [moment for moment in moments[refused + 1 :] if (moment - moments[refused]).total_seconds() < 0.99]
        assert len(in_flight) <= LATE_REQUESTS
        assert report["throttled_seconds"] == 1.0

    def test_what_somebody_edits_while_a_sync_waits_for_a_429_is_kept(self, sandbox_with, short_floor):
        def edit():
            for token in tokens:
                BatchHook().update_campaign(token, {"name": "Corrected"})

        def on_record(record):
            if record.status == 429:
                threading.Timer(0.3, edit).start()

        sandbox = sandbox_with(on_record=on_record)
        tokens = add(sandbox, 12, live=True)
        sandbox.inject(Fault("answer", "update", status=429, headers={"Retry-After": "2"}))
        assert run(sync(desired(tokens, False)))["changed"] == 12
        assert {sandbox.campaign(token)["name"] for token in tokens} == {"Corrected"}
        assert live_ones(sandbox, tokens) == []

    def test_a_sync_waits_in_its_slot_for_a_short_429_of_the_list(self, batch, short_floor):
        batch.inject("list:429", "list:429")
        assert run(sync(desired(add(batch, 5, live=True))))["unchanged"] == 5
        assert request_counts(batch) == {"list": 3}

    def test_a_sync_adapts_its_rate_to_a_server_that_always_throttles(self, sandbox_with, monkeypatch, short_floor):
        monkeypatch.setattr("airflow_batch._sync.adaptive_rate.START", 8.0)
        sandbox = sandbox_with(rate=30, burst=10)
        tokens = add(sandbox, 40)
        assert counts(run(sync(desired(tokens)))) == (40, 40, 0, 0)
        assert sum(record.status == 429 for record in sandbox.requests) <= 12

    @pytest.mark.parametrize("operation", ["list", "view", "update"])
    def test_a_sync_is_rescheduled_at_once_for_a_long_throttle_and_sends_nothing_more(self, sandbox_with, operation):
        sandbox = sandbox_with()
        tokens = add(sandbox, 40)
        sandbox.inject(Fault("answer", operation, status=429, headers={"Retry-After": "600"}))
        with pytest.raises(AirflowRescheduleException) as caught:
            run(sync(desired(tokens)))
        assert seconds_until(caught.value.reschedule_date) >= 599
        (refused,) = [number for number, record in enumerate(sandbox.requests) if record.status == 429]
        assert len(sandbox.requests) - refused - 1 <= LATE_REQUESTS

    def test_max_wait_of_a_sync_starts_again_where_the_attempt_has_written(self, sandbox_with):
        sandbox = sandbox_with()
        tokens = add(sandbox, 20)
        long_ago = timedelta(minutes=25)
        sandbox.inject(Fault("answer", "list", status=429, headers={"Retry-After": "600"}))
        # Airflow's retry can wait for so long from 3.3 on; below, one would come too early.
        with pytest.raises(BatchRateLimitError if HAS_RETRY_POLICY else BatchWaitExceededError):
            run(sync(desired(tokens)), refused_for=long_ago)
        sandbox.inject(Fault("answer", "update", status=429, headers={"Retry-After": "600"}, token=tokens[10]))
        with pytest.raises(AirflowRescheduleException):
            run(sync(desired(tokens)), refused_for=long_ago)

    def test_a_sync_is_rescheduled_for_a_maintenance(self, batch):
        batch.inject(Fault("answer", "list", error="MAINTENANCE_ERROR"))
        with pytest.raises(AirflowRescheduleException) as caught:
            run(sync(desired(add(batch, 5))))
        assert seconds_until(caught.value.reschedule_date) >= 59

    def test_a_sync_is_rescheduled_after_many_short_throttles_in_a_row(self, batch, monkeypatch, short_floor):
        monkeypatch.setattr(rate_limiter, "HOLD_IN_ALL", 0.7)
        batch.inject("list:429;times=all")
        with pytest.raises(AirflowRescheduleException):
            run(sync(desired(add(batch, 5))))
        assert 2 <= len(batch.requests) <= 5

    @pytest.mark.parametrize(
        ("kind", "contract"), [("live", None), ("dev", CANNOT_LIST)], ids=["readable", "not readable"]
    )
    def test_a_rescheduled_sync_compares_again_and_changed_is_null_where_it_may_have_written_before(
        self, sandbox_with, kind, contract
    ):
        def on_record(record):
            updates.append(record.operation == "update")
            if record.operation == "update" and sum(updates) == 15:
                sandbox.inject(Fault("answer", status=429, headers={"Retry-After": "600"}))

        updates = []
        sandbox = sandbox_with(kind=kind, on_record=on_record, **({"contract": contract} if contract else {}))
        tokens, store = add(sandbox, 40), JsonStore()
        task = sync(desired(tokens))
        with pytest.raises(AirflowRescheduleException):
            run(task, store=store)
        written = live_ones(sandbox, tokens)
        assert 15 <= len(written) < 40
        report = run(task, store=store, reschedules=1)
        assert live_ones(sandbox, tokens) == tokens
        changed = {result["campaign_token"]: result["changed"] for result in report["campaigns"]}
        if kind == "live":
            assert (report["changed"], report["unchanged"]) == (40 - len(written), len(written))
            assert changed == {token: None if token in written else True for token in tokens}
            assert request_counts(sandbox)["update"] <= 40 + LATE_REQUESTS
        else:
            assert set(changed.values()) == {True}

    def test_a_sync_with_throttle_retry_leaves_a_429_to_airflows_retries(self, batch):
        batch.inject(Fault("answer", "list", status=429, headers={"Retry-After": "600"}))
        task = sync(desired(add(batch, 5)), throttle="retry")
        if getattr(task, "retry_policy", None) is None:
            pytest.skip("before Airflow 3.3 a retry cannot carry the delay")
        failing(BatchRateLimitError, task)

    def test_a_sync_fails_for_a_retry_after_beyond_max_wait_and_names_it(self, batch):
        batch.inject(Fault("answer", "list", status=429, headers={"Retry-After": "10000"}))
        error, _ = failing(BatchWaitExceededError, sync(desired(add(batch, 5))))
        assert "10000 s" in str(error)

    def test_a_sync_computes_the_desired_state_again_after_a_throttled_update(self, sandbox_with, short_floor):
        closes = []
        sandbox = sandbox_with(on_record=lambda record: record.status == 429 and closes.append(True))
        tokens = add(sandbox, 4)
        live = SimpleNamespace(is_live_at=lambda moment: not closes)
        sandbox.inject(Fault("answer", "update", status=429))
        report = run(sync(desired(tokens, live)))
        assert live_ones(sandbox, tokens) == []
        assert counts(report) == (4, 0, 4, 0)

    def test_a_sync_views_a_campaign_again_after_its_update_was_throttled(self, batch, short_floor):
        batch.inject("update:429")
        run(sync(desired(add(batch, 1))))
        operations = [record.operation for record in batch.requests]
        assert operations[:6] == ["view", "view", "update", "view", "update", "view"]

    def test_a_sync_sends_no_on_whose_window_closed_while_it_waited_for_the_rate_limiter(self, batch):
        (token,) = add(batch, 1)
        seen_twice = []

        def is_live_at(moment):
            # Viewed to compare and again to write. The window is open then, and closed when the write may be sent.
            if request_counts(batch)["view"] == 2:
                seen_twice.append(moment)
            return len(seen_twice) <= 3

        report = run(sync(desired([token], SimpleNamespace(is_live_at=is_live_at))))
        assert request_counts(batch)["update"] == 0
        assert counts(report) == (1, 0, 1, 0)

    def test_threads_that_wait_in_the_rate_limiter_after_a_429_continue_one_after_the_other(self, monkeypatch):
        monkeypatch.setattr(backoff, "BATCH_FLOOR", 0.5)
        limiter, moments = rate_limiter.RateLimiter(20.0), []
        threads = [threading.Thread(target=lambda: moments.append(limiter.acquire())) for _ in range(8)]
        sent = limiter.acquire()
        for thread in threads:
            thread.start()
        limiter.refused(sent, BatchRateLimitError("429"), writes=True)
        ends = time.monotonic() + 0.5
        for thread in threads:
            thread.join()
        waited = sorted(moment for moment in moments if moment > sent + 0.3)
        assert len(waited) >= 4
        assert waited[0] >= ends - 0.1
        assert waited[-1] - waited[0] >= (len(waited) - 2) / 20


class TestStops:
    @pytest.mark.parametrize("operation", ["list", "update"])
    def test_a_sync_that_is_killed_while_it_waits_ends_at_once(self, sandbox_with, operation):
        sandbox = sandbox_with(
            on_record=lambda record: record.status == 429 and threading.Timer(0.2, task.on_kill).start()
        )
        tokens = add(sandbox, 20)
        task = sync(desired(tokens))
        sandbox.inject(Fault("answer", operation, status=429, headers={"Retry-After": "25"}))
        began = time.monotonic()
        error, _ = failing(BatchSyncIncompleteError, task)
        assert "was stopped" in str(error)
        assert time.monotonic() - began < 25
        assert sandbox.requests[-1].sequence <= next(r for r in sandbox.requests if r.status == 429).sequence + 3

    def test_a_timeout_of_airflow_ends_a_sync_whose_threads_wait_for_a_throttle(self, sandbox_with, monkeypatch):
        """Airflow raises execution_timeout in the main thread, while the others wait for the end of a throttle."""

        def on_line(self, rate_limiter, last=False):
            if any(record.status == 429 for record in sandbox.requests) and not last:
                raise KeyboardInterrupt
            return True

        sandbox = sandbox_with()
        tokens = add(sandbox, 20)
        monkeypatch.setattr(progress.Progress, "log", on_line)
        sandbox.inject(Fault("answer", "update", status=429, headers={"Retry-After": "25"}, token=tokens[8]))
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            run(sync(desired(tokens)))
        assert time.monotonic() - began < 25

    def test_on_kill_of_a_sync_that_has_not_started_does_nothing(self):
        sync([]).on_kill()


class TestProgress:
    def test_the_last_progress_line_of_a_sync_has_the_final_counts(self, batch, progress_lines):
        run(sync(desired([*add(batch, 5), *add(batch, 5, live=True)])))
        (line,) = progress_lines()
        assert re.match(r"10 of 10 campaigns: 5 changed, 5 unchanged, 0 failed\. \d+ requests, ", line)

    def test_the_progress_lines_of_a_sync_are_some_seconds_apart(self, sandbox_with, progress_lines, monkeypatch):
        monkeypatch.setattr(progress, "BETWEEN_LINES_SECONDS", 0.3)
        sandbox = sandbox_with(extra={"requests_per_second": 50})
        began = time.monotonic()
        run(sync(desired(add(sandbox, 25))))
        assert 2 <= len(progress_lines()) <= (time.monotonic() - began) / 0.3 + 2
        assert "s left" in progress_lines()[-2]
        assert "left" not in progress_lines()[-1]

    def test_a_sync_works_with_a_task_state_store_that_fails(self, batch):
        class Broken(Store):
            def get(self, key):
                raise RuntimeError("down")

            def set(self, key, value):
                raise RuntimeError("down")

        assert run(sync(desired(add(batch, 5))), store=Broken())["changed"] == 5


class TestLate:
    """A fixed "on" has max_lateness and 30 minutes of throttling, whatever else is in the list."""

    @pytest.mark.parametrize(
        ("arguments", "run_type", "skipped"),
        [
            ({}, "scheduled", 4),
            ({}, "manual", 0),
            ({"max_lateness": None}, "scheduled", 0),
            ({"max_lateness": timedelta(hours=3)}, "scheduled", 0),
            ({"max_lateness": 60}, "backfill", 4),
        ],
    )
    def test_a_late_sync_reports_fixed_ons_as_skipped_and_sends_stops(self, batch, arguments, run_type, skipped):
        on, off = add(batch, 4), add(batch, 4, live=True)
        task = sync([*desired(on), *desired(off, live=False)], **arguments)
        report = run(task, late=timedelta(hours=2), run_type=run_type)
        assert (*counts(report), report["skipped"]) == (8, 8 - skipped, 0, 0, skipped)
        assert live_ones(batch, off) == []
        assert len(live_ones(batch, on)) == 4 - skipped
        reasons = [item["skipped"] for item in report["campaigns"] if "skipped" in item]
        assert len(reasons) == skipped
        assert all("max_lateness" in reason for reason in reasons)

    def test_max_lateness_of_a_sync_does_not_apply_to_windows(self, batch):
        tokens = add(batch, 4)
        run(sync(desired(tokens, SimpleNamespace(is_live_at=lambda moment: True))), late=timedelta(hours=20))
        assert live_ones(batch, tokens) == tokens

    def test_a_sync_skips_fixed_ons_after_thirty_minutes_of_throttling_and_sends_stops(self, batch):
        on, off = add(batch, 4), add(batch, 4, live=True)
        task = sync([*desired(on), *desired(off, live=False)])
        batch.inject(Fault("answer", "list", status=429, headers={"Retry-After": "600"}))
        with pytest.raises(AirflowRescheduleException):
            run(task, refused_for=timedelta(hours=5))
        report = run(task, refused_for=timedelta(minutes=31))
        assert (report["changed"], report["skipped"], report["failed"]) == (4, 4, 0)
        assert live_ones(batch, [*on, *off]) == []

    def test_max_wait_of_a_sync_limits_how_long_fixed_ons_may_be_throttled(self, batch):
        tokens = add(batch, 4)
        run(sync(desired(tokens), max_wait=timedelta(hours=2)), refused_for=timedelta(hours=1))
        assert live_ones(batch, tokens) == tokens


class TestAmbiguousWrites:
    """After an ambiguous write, a sync ends two minutes later and reads the list once more."""

    def test_a_sync_stops_a_campaign_whose_ambiguous_on_took_effect_after_its_window_closed(self, batch, clock):
        tokens = add(batch, 5)
        closes = datetime.now(UTC) + timedelta(seconds=60)
        batch.inject(Fault("reset_before", "update", token=tokens[0]))

        def take_effect(seconds):
            if 70 < sum(clock.slept) < 80:
                BatchHook().update_campaign(tokens[0], {**DEFINITION, "live": True})

        clock.while_asleep = take_effect
        run(sync(desired(tokens, SimpleNamespace(is_live_at=lambda moment: moment < closes))))
        assert sum(clock.slept) == pytest.approx(120, abs=10)
        assert live_ones(batch, tokens) == []

    def test_a_sync_whose_updates_are_all_confirmed_does_not_wait(self, batch, clock):
        run(sync(desired(add(batch, 5))))
        assert clock.slept == []

    def test_the_attempt_after_an_ambiguous_on_reads_the_list_two_minutes_later_and_stops_what_should_be_off(
        self, batch, clock
    ):
        tokens, store = add(batch, 5), JsonStore()
        task = sync(desired(tokens))
        batch.inject(Fault("answer", "update", status=500, token=tokens[2]))
        failing(BatchSyncIncompleteError, task, store=store)
        off = sync(desired(tokens, live=False))
        clock.slept.clear()
        clock.while_asleep = lambda seconds: BatchHook().update_campaign(tokens[2], {**DEFINITION, "live": True})
        run(off, store=store, try_number=2)
        assert sum(clock.slept) == pytest.approx(120, abs=10)
        assert live_ones(batch, tokens) == []
        clock.slept.clear()
        run(off, store=store, try_number=3)
        assert clock.slept == []

    @pytest.mark.parametrize("live", [True, False])
    def test_without_a_store_a_second_attempt_of_a_sync_waits_two_minutes_for_earlier_writes(self, batch, clock, live):
        tokens = add(batch, 5)
        report = run(sync(desired(tokens, SimpleNamespace(is_live_at=lambda moment: live))), try_number=2)
        assert (report["failed"], live_ones(batch, tokens)) == (0, tokens if live else [])
        assert sum(clock.slept) == pytest.approx(120, abs=10)

    def test_without_a_store_a_sync_that_has_written_nothing_is_rescheduled_for_a_throttle(self, batch):
        batch.inject(Fault("answer", "list", status=429, headers={"Retry-After": "600"}))
        with pytest.raises(AirflowRescheduleException):
            run(sync(desired(add(batch, 5))), try_number=2)

    def test_a_sync_views_a_stop_with_fewer_parameters_again_two_minutes_later(self, batch, clock):
        tokens = add(batch, 5, live=True)
        batch.inject(Fault("answer", "update", status=400, token=tokens[1]))
        run(sync(desired(tokens, live=False)))
        assert sum(clock.slept) == pytest.approx(120, abs=10)
        views = [r.campaign_token for r in batch.requests if r.operation == "view"]
        assert (views.count(tokens[1]) >= 3, live_ones(batch, tokens)) == (True, [])

    @pytest.mark.parametrize("kept", ["text", {"attempt": 5}, {"extra": "x", "attempt": 1, "is_known": True}])
    def test_a_sync_with_an_unreadable_record_treats_earlier_writes_as_unknown(self, batch, kept):
        tokens = add(batch, 5)
        store = JsonStore({RECORD: kept})
        assert run(sync(desired(tokens)), store=store, try_number=2)["changed"] == 5


def test_a_sync_of_600_campaigns_on_a_failing_network_writes_each_difference_once(sandbox_with):
    chances = {"update:reset_after": 0.02, "update:500;applied=true": 0.02, "500": 0.03, "view:reset_before": 0.02}
    sandbox = sandbox_with(faults=FaultPlan(chances=chances), seed=1)
    draw = random.Random(1)
    tokens = [sandbox.add_campaign({**DEFINITION, "live": draw.random() < 0.5}) for _ in range(600)]
    before = {token: sandbox.campaign(token)["live"] for token in tokens}
    should_be_live = {token: before[token] ^ (draw.random() < 0.25) for token in tokens}
    task, store = sync([{"campaign": t, "live": live} for t, live in should_be_live.items()]), JsonStore()
    for number in range(1, 8):
        made = context_of(task, kind=Recorded, store=store, try_number=number)
        with suppress(BatchSyncIncompleteError):
            report = task.execute(made)
            break
    assert (report["changed"] + report["unchanged"], report["failed"]) == (600, 0)
    assert [token for token in tokens if sandbox.campaign(token)["live"] is not should_be_live[token]] == []
    applied = Counter(
        record.campaign_token for record in sandbox.requests if record.operation == "update" and record.applied
    )
    assert set(applied) == {token for token in tokens if before[token] is not should_be_live[token]}
    assert number <= 4


@pytest.mark.parametrize("store", [Store(), None], ids=["3.3", "3.1"])
def test_a_second_attempt_of_a_sync_reports_null_for_what_an_earlier_one_may_have_changed(batch, store):
    task = sync(desired(add(batch, 5)))
    assert run(task, store=store)["changed"] == 5
    report = run(task, try_number=2, store=store)
    assert [campaign["changed"] for campaign in report["campaigns"]] == [None] * 5
