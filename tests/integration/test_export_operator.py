"""What BatchExportCampaignsOperator does with one attempt, against the sandbox."""

from __future__ import annotations

import csv
import json
import logging
import re
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import canary
import duckdb
import pytest
from airflow.sdk import DAG, Asset, AssetAlias, ObjectStoragePath
from task import Attempt, context_of

from airflow_batch._airflow.compat import AirflowFailException, AirflowRescheduleException
from airflow_batch._export import files, parts
from airflow_batch._export.tables import TABLES
from airflow_batch._sync import adaptive_rate, rate_limiter
from airflow_batch._values import iso_utc
from airflow_batch.exceptions import (
    BatchApiMisuseError,
    BatchAuthenticationError,
    BatchConfigurationError,
    BatchExportError,
    BatchExportIncompleteError,
    BatchPayloadError,
)
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.operators.export import BatchExportCampaignsOperator
from airflow_batch.sandbox import BatchSandbox, Contract, Fault

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLES, PAGE = CHECKOUT / "dags_examples", CHECKOUT / "docs/operators/export-campaigns.md"
NOW = datetime.now(UTC)
LONG_AGO = "2020-01-01T00:00:00"
SENT = {"push_time": (NOW - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")}
NAMES = [
    "Soldes d'été",
    "夏のセール",
    "تخفيضات الصيف",
    "Θερινές εκπτώσεις",
    "Летняя распродажа",
    'Say "hi", 🎉\nnow',
    "ฤดูร้อน",
]


@dataclass
class Recorded(Attempt):
    """A task instance that records what is pushed to XCom."""

    pushed: dict = field(default_factory=dict)

    def xcom_push(self, key, value):
        self.pushed[key] = value


class Run(SimpleNamespace):
    """A scheduled run of a day."""

    def __init__(self, **given):
        end = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
        usual = {"run_type": "scheduled", "data_interval_start": end - timedelta(days=1), "data_interval_end": end}
        super().__init__(run_after=end, **{**usual, **given})


def campaign(name="News", **given):
    return {"name": name, "live": True, "messages": [{"language": "en", "body": "Hi"}], **SENT, **given}


@pytest.fixture
def exports(tmp_path):
    """Return a function that runs one attempt of an export to a folder, and returns its result."""

    def export(context=None, run=None, events=None, **arguments):
        task = BatchExportCampaignsOperator(
            task_id="export", **{"destination": f"file://{tmp_path}/batch", **arguments}
        )
        made = {**context_of(task, kind=Recorded, **(context or {})), "dag_run": run or Run(), "outlet_events": events}
        export.context = made
        return task.execute(made)

    return export


def failing(error, export, **arguments):
    """Run one attempt that fails; return the error and the result."""
    with pytest.raises(error) as caught:
        export(**arguments)
    return caught.value, export.context["ti"].pushed["return_value"]


def rows(result, table):
    """Return the rows of a JSON Lines file of a result."""
    path = result["files"][table].removeprefix("file://")
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def tokens(result, table="campaigns"):
    return [row["campaign_token"] for row in rows(result, table)]


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def reads(sandbox, operation="view"):
    return [record.campaign_token for record in sandbox.requests if record.operation == operation]


@pytest.fixture(autouse=True)
def quick_start(monkeypatch):
    """Without a known limit, an export begins with few requests a second."""
    monkeypatch.setattr(adaptive_rate, "START", 500.0)


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(rate_limiter, "BETWEEN_TRIES", 0.0)


# ------------------------------------------------------------ rows and result


def test_campaigns_with_names_in_every_script_are_exported_newest_first_as_batch_shows_them(batch, exports):
    made = [batch.add_campaign(campaign(name, labels=["SALE"])) for name in NAMES]
    result = exports()
    assert tokens(result) == made[::-1]
    assert [row["name"] for row in rows(result, "campaigns")] == NAMES[::-1]
    assert {row["labels"] for row in rows(result, "campaigns")} == {'["SALE"]'}
    assert [row["body"] for row in rows(result, "messages")] == ["Hi"] * len(NAMES)
    assert tokens(result, "stats") == made[::-1]
    assert {row["app"] for row in rows(result, "campaigns")} == {None}


def test_the_result_counts_files_rows_campaigns_and_requests(batch, exports, tmp_path):
    for _ in range(3):
        batch.add_campaign(campaign())
    result = exports()
    folder = f"file://{tmp_path}/batch"
    for table, url in result.pop("files").items():
        assert url.startswith(f"{folder}/{table}/{table}.dag.task."), url
    assert result == {
        "rows": {"campaigns": 3, "messages": 3, "stats": 3},
        "campaigns": 3,
        "without_stats": 0,
        "vanished": 0,
        "failed": 0,
        "failures": [],
        "requests": len(batch.requests),
        "throttled_seconds": 0.0,
    }
    assert Counter(record.operation for record in batch.requests) == {"view": 3, "stats": 3, "list": 2}


def test_an_ab_test_has_messages_and_statistics_for_each_variant(batch, exports):
    variants = {"a": [{"language": "en", "body": "A"}], "b": [{"language": "en", "body": "B"}]}
    batch.add_campaign(campaign(messages=variants))
    result = exports()
    assert [(row["variant"], row["body"]) for row in rows(result, "messages")] == [("a", "A"), ("b", "B")]
    assert [row["variant"] for row in rows(result, "stats")] == ["total", "a", "b"]


def test_all_apps_of_the_connection_are_exported_unless_some_are_named(two_apps, exports):
    made = {app: two_apps.add_campaign(campaign(), app=app) for app in ("ios", "android")}
    assert {row["app"]: row["campaign_token"] for row in rows(exports(), "campaigns")} == made
    assert [row["app"] for row in rows(exports(apps="android"), "campaigns")] == ["android"]
    assert [row["app"] for row in rows(exports(apps=["ios"]), "stats")] == ["ios"]


def test_an_app_that_the_connection_does_not_know_is_an_error_before_any_request(two_apps, exports):
    with pytest.raises(BatchConfigurationError, match="'web'"):
        exports(apps=["ios", "web"])
    assert two_apps.requests == ()


@pytest.mark.parametrize("apps", [["ios", "android"], None])
def test_apps_with_one_key_are_refused_because_each_campaign_would_be_exported_twice(batch, connect, exports, apps):
    single = batch.connection()
    if apps is None:
        key = single.pop("login")
        single["extra"] = {**single.get("extra", {}), "api_keys": {"ios": key, "android": key}}
        connect(single)
    with pytest.raises(BatchConfigurationError, match="The apps 'ios' and 'android' have the same key") as caught:
        exports(apps=apps)
    assert single.get("login", key if apps is None else "") not in str(caught.value)
    assert batch.requests == ()


def test_a_name_for_the_single_key_of_a_connection_is_in_the_column_app(batch, exports):
    batch.add_campaign(campaign())
    assert [row["app"] for row in rows(exports(apps=["ios"]), "campaigns")] == ["ios"]


@pytest.mark.parametrize("max_in_flight", [1, 3])
def test_never_more_than_max_in_flight_requests_are_under_way(batch, exports, monkeypatch, max_in_flight):
    for _ in range(120):
        batch.add_campaign(campaign(live=False))
    batch.inject(Fault("delay", "list", delay=0.3, times=None))
    running, most, lock = Counter(), [], threading.Lock()
    request = BatchHook._request

    def counted(self, *arguments, **named):
        with lock:
            running["now"] += 1
            most.append(running["now"])
        try:
            return request(self, *arguments, **named)
        finally:
            with lock:
                running["now"] -= 1

    monkeypatch.setattr(BatchHook, "_request", counted)
    assert exports(max_in_flight=max_in_flight)["campaigns"] == 120
    assert max(most) == max_in_flight


def test_filters_are_those_of_batchs_list(batch, exports):
    live = batch.add_campaign(campaign())
    off = batch.add_campaign(campaign(live=False))
    dashboard = batch.add_campaign(campaign(), from_api=False)
    assert tokens(exports(live=True)) == [dashboard, live]
    assert tokens(exports(live=False)) == [off]
    assert tokens(exports(from_api=False)) == [dashboard]


def test_since_leaves_out_what_was_neither_created_nor_pushed_since(batch, exports):
    created = NOW - timedelta(days=90)
    batch.add_campaign(campaign(push_time=LONG_AGO), created=created)
    pushed = batch.add_campaign(campaign(), created=created)
    new = batch.add_campaign(campaign(live=False, push_time=LONG_AGO))
    result = exports(since=(NOW - timedelta(days=7)).isoformat())
    assert tokens(result) == [new, pushed]
    assert result["campaigns"] == 2


def test_statistics_are_read_again_only_of_what_was_live_or_pushed_within_restate_days(batch, exports):
    old = batch.add_campaign(campaign(push_time=LONG_AGO))
    recent = batch.add_campaign(campaign())
    recurring = batch.add_campaign(campaign(push_time=LONG_AGO, recurrence={"repeat_unit": "DAILY"}))
    for token in (old, recent, recurring):
        batch.set_stats(token, [{"date": "2026-01-01", "sent": 1}])
    result = exports()
    assert tokens(result) == [recurring, recent, old]
    assert tokens(result, "stats") == [recurring, recent]
    assert result["without_stats"] == 1
    assert tokens(exports(restate_days=None), "stats") == [recurring, recent, old]


def test_restate_days_are_counted_from_the_end_of_the_runs_interval(batch, exports):
    batch.add_campaign(campaign(push_time="2026-01-10T00:00:00"))
    end = datetime(2026, 2, 1, tzinfo=UTC)
    run = Run(data_interval_start=end - timedelta(days=1), data_interval_end=end)
    assert len(rows(exports(run=run), "stats")) == 1


def test_no_campaign_gives_empty_files(batch, exports):
    result = exports()
    assert result["rows"] == {"campaigns": 0, "messages": 0, "stats": 0}
    assert rows(result, "campaigns") == []


# ------------------------------------------------------------ a list that changes meanwhile


@pytest.fixture
def changing(connect):
    """Return a function that starts a sandbox whose campaigns change when a request of an operation was answered."""
    started = []

    def start(operation, change, count=1):
        def record(done):
            if done.operation == operation and len(seen) < count:
                seen.append(done)
                change(sandbox, done)

        seen = []
        sandbox = BatchSandbox(on_record=record)
        sandbox.start()
        started.append(sandbox)
        connect(sandbox.connection())
        return sandbox

    yield start
    for sandbox in started:
        sandbox.stop()


def test_a_campaign_that_is_deleted_while_the_pages_are_read_hides_no_other(changing, exports):
    """The pages are counted from the newest: the first campaign of the second page moves to the first."""
    sandbox = changing("list", lambda sandbox, _: sandbox.remove_campaign(made[-1]))
    made = [sandbox.add_campaign(campaign(live=False, push_time="2099-01-01T00:00:00")) for _ in range(150)]
    result = exports()
    assert sorted(tokens(result)) == sorted(made[:-1])
    assert (result["vanished"], result["failed"]) == (1, 0)
    assert result["failures"][0] == {
        "campaign_token": made[-1],
        "app": None,
        "name": "News",
        "error": "vanished",
        "message": "It was deleted meanwhile.",
    }


def test_a_campaign_that_is_created_while_the_pages_are_read_doubles_no_other(changing, exports):
    sandbox = changing("list", lambda sandbox, _: sandbox.add_campaign(campaign("New")))
    made = [sandbox.add_campaign(campaign(live=False)) for _ in range(150)]
    result = exports()
    assert Counter(tokens(result)) == Counter(sandbox.tokens())
    assert len(tokens(result)) == len(made) + 1


# ------------------------------------------------------------ failures


def test_a_campaign_that_cannot_be_read_once_is_read_again(batch, exports, no_pauses):
    made = [batch.add_campaign(campaign()) for _ in range(3)]
    batch.inject(Fault("answer", "view", status=500, token=made[1]))
    batch.inject(Fault("reset_after", "stats", token=made[0]))
    result = exports()
    assert sorted(tokens(result)) == sorted(made)
    assert result["failed"] == 0


def test_a_campaign_that_cannot_be_read_is_named_and_fails_the_task(batch, exports, no_pauses, tmp_path):
    made = [batch.add_campaign(campaign(name)) for name in NAMES]
    batch.inject(Fault("html", "view", token=made[1], times=None))
    error, result = failing(BatchExportIncompleteError, exports)
    assert f"1 campaigns could not be read, more than max_failures=0. No file was written. {made[1]!r}" in str(error)
    assert [(failure["campaign_token"], failure["name"]) for failure in result["failures"]] == [(made[1], NAMES[1])]
    assert result["files"] == {}
    assert [name for name in files_of(tmp_path) if "_parts" not in name] == []


def test_up_to_max_failures_the_others_are_exported(batch, exports, no_pauses):
    made = [batch.add_campaign(campaign()) for _ in range(4)]
    batch.inject(Fault("answer", "stats", status=500, token=made[1], times=None))
    result = exports(max_failures=1)
    assert tokens(result) == [made[3], made[2], made[0]]
    assert (result["failed"], result["failures"][0]["error"]) == (1, "BatchServerError")


def test_a_campaign_that_is_listed_and_not_found_is_a_failure_for_good(batch, exports, tmp_path):
    made = [batch.add_campaign(campaign()) for _ in range(2)]
    batch.inject(Fault("answer", "view", status=404, token=made[0], times=None))
    error, result = failing(BatchExportError, exports)
    assert isinstance(error, AirflowFailException)
    assert result["failures"][0]["error"] == "BatchNotFoundError"
    assert files_of(tmp_path) == []


def test_a_campaign_without_statistics_is_exported(batch, exports):
    """Batch does not document what it answers for a campaign that was never sent."""
    token = batch.add_campaign(campaign())
    batch.inject(Fault("answer", "stats", status=404, token=token, times=None))
    result = exports()
    assert (tokens(result), result["rows"]["stats"], result["without_stats"]) == ([token], 0, 1)


def test_a_key_that_cannot_read_is_an_error_that_says_so(dev, exports):
    dev.add_campaign(campaign())
    with pytest.raises(BatchApiMisuseError, match="An export needs a Live API key: the app API key cannot read"):
        exports()
    assert len(reads(dev)) <= 4


def test_a_key_that_cannot_read_is_found_out_after_a_few_campaigns(dev, exports, tmp_path):
    for _ in range(120):
        dev.add_campaign(campaign())
    with pytest.raises(BatchApiMisuseError, match="An export needs a Live API key"):
        exports(max_failures=120, max_in_flight=1)
    assert len(reads(dev)) <= 20


@pytest.mark.parametrize("place", [0, 3])
def test_a_campaign_that_the_key_may_not_read_is_a_failure_wherever_it_is_in_the_list(batch, exports, place):
    for _ in range(4):
        batch.add_campaign(campaign())
    refused = batch.tokens()[place]
    batch.inject(Fault("answer", "view", status=403, token=refused, times=None))
    result = exports(max_failures=1, max_in_flight=1)
    assert sorted(tokens(result)) == sorted(set(batch.tokens()) - {refused})
    assert [failure["error"] for failure in result["failures"]] == ["BatchApiMisuseError"]


def test_after_a_throttle_such_a_campaign_is_a_failure_as_well(batch, exports):
    for _ in range(6):
        batch.add_campaign(campaign())
    batch.inject(Fault("answer", "view", status=403, token=batch.tokens()[1], times=None))
    batch.inject(Fault("answer", "view", status=429, headers={"Retry-After": "90"}, token=batch.tokens()[5]))
    with pytest.raises(AirflowRescheduleException):
        exports(max_failures=1, max_in_flight=1)
    batch.inject(Fault("answer", "view", status=403, token=batch.tokens()[5], times=None))
    result = exports(max_failures=2, max_in_flight=1)
    assert (result["campaigns"], result["failed"]) == (4, 2)


@pytest.mark.parametrize("status", [500, 403])
def test_a_campaign_that_could_not_be_read_and_is_then_deleted_has_vanished(changing, exports, no_pauses, status):
    sandbox = changing("view", lambda sandbox, done: sandbox.remove_campaign(made[0]))
    made = [sandbox.add_campaign(campaign()) for _ in range(3)]
    sandbox.inject(Fault("answer", "view", status=status, token=made[0]))
    sandbox.inject(Fault("delay", "view", token=made[2], delay=0.3), Fault("delay", "view", token=made[1], delay=0.3))
    result = exports(max_in_flight=4)
    assert (sorted(tokens(result)), result["failed"], result["vanished"]) == (sorted(made[1:]), 0, 1)


def test_a_key_that_cannot_list_is_an_error_that_says_so(sandbox_with, exports):
    sandbox_with(kind="dev", contract=Contract(dev_key_list="API_MISUSE"))
    with pytest.raises(BatchApiMisuseError, match="An export needs a Live API key"):
        exports()


def test_a_key_that_was_rotated_meanwhile_is_read_again(batch, exports):
    made = [batch.add_campaign(campaign()) for _ in range(3)]
    batch.inject(Fault("answer", "view", status=401, token=made[1]))
    assert sorted(tokens(exports())) == sorted(made)


def test_keys_that_are_refused_twice_are_an_error(batch, exports):
    batch.add_campaign(campaign())
    batch.inject(Fault("answer", "view", status=401, times=None))
    with pytest.raises(BatchAuthenticationError):
        exports()


# ------------------------------------------------------------ throttling, resuming, clearing


def throttled(sandbox, exports, after, **arguments):
    """Run an attempt that Batch throttles for long after so many campaigns; return their tokens."""
    left = sandbox.tokens()[after:]
    for token in left:
        sandbox.inject(Fault("answer", "view", status=429, headers={"Retry-After": "90"}, token=token, times=1))
    with pytest.raises(AirflowRescheduleException):
        exports(max_in_flight=1, **arguments)
    sandbox.clear_faults()
    return sandbox.tokens()[:after]


def test_a_long_throttle_frees_the_slot_and_the_next_attempt_continues_after_what_was_read(batch, exports, tmp_path):
    for _ in range(6):
        batch.add_campaign(campaign())
    done = throttled(batch, exports, 4)
    assert {name.split("/")[1] for name in files_of(tmp_path)} == {"_parts"}
    before = len(batch.requests)
    result = exports(context={"reschedules": 1})
    again = [record.campaign_token for record in batch.requests[before:] if record.operation == "view"]
    assert set(again) == set(batch.tokens()) - set(done)
    assert Counter(tokens(result)) == Counter(batch.tokens())
    assert Counter(tokens(result, "stats")) == Counter(batch.tokens())
    assert [name.split("/")[1] for name in files_of(tmp_path)] == ["campaigns", "messages", "stats"]
    assert files_of(tmp_path / "batch/_parts") == []
    # Other mapped tasks may be making their folders in it.
    assert (tmp_path / "batch/_parts").is_dir()


def test_a_short_throttle_is_waited_for(batch, exports, clock, monkeypatch):
    monkeypatch.setattr(rate_limiter.RateLimiter, "poll_seconds", 0.01)
    made = batch.add_campaign(campaign())
    batch.inject(Fault("answer", "view", status=429, token=made))
    result = exports()
    assert tokens(result) == [made]
    assert result["throttled_seconds"] == 5.0


def test_a_cleared_task_reads_everything_anew(batch, exports):
    for _ in range(4):
        batch.add_campaign(campaign("Old"))
    throttled(batch, exports, 3, context={"max_tries": 6})
    before = len(batch.requests)
    result = exports(context={"try_number": 2, "max_tries": 7})
    assert Counter(reads(batch)[-4:]) == Counter(batch.tokens())
    assert len(batch.requests) == before + 2 + 8
    assert Counter(tokens(result)) == Counter(batch.tokens())


@pytest.mark.parametrize(
    "changed",
    [
        {"live": True},
        {"from_api": True},
        {"since": "2020-01-01T00:00Z"},
        {"restate_days": None},
        {"batch_conn_id": "batch_other"},
        {"apps": "ios"},
        {"run": Run(start_date=NOW)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_an_attempt_with_other_arguments_or_of_another_run_reads_everything_anew(
    batch, connect, exports, tmp_path, changed
):
    connect(batch.connection(), "batch_other")
    for _ in range(4):
        batch.add_campaign(campaign())
    throttled(batch, exports, 3)
    before = len(batch.requests)
    result = exports(**changed)
    assert len(batch.requests) == before + 2 + 8
    assert Counter(tokens(result)) == Counter(batch.tokens())
    assert [name for name in files_of(tmp_path) if "_parts" in name] == []


def test_where_the_connection_names_its_apps_meanwhile_no_campaign_is_exported_twice(connect, exports):
    with BatchSandbox(apps=("ios",)) as sandbox:
        connect(sandbox.connection())
        for _ in range(3):
            sandbox.add_campaign(campaign())
        throttled(sandbox, exports, 2)
        connect(sandbox.connection("api_keys"))
        assert [row["app"] for row in rows(exports(), "campaigns")] == ["ios"] * 3


def test_what_was_read_more_than_a_day_ago_is_read_again(batch, exports, tmp_path):
    for _ in range(4):
        batch.add_campaign(campaign())
    throttled(batch, exports, 3)
    (part,) = (tmp_path / "batch/_parts").rglob("*.jsonl")
    moment = iso_utc(datetime.now(UTC) - timedelta(days=1, minutes=1))
    part.write_text(re.sub(r'"exported_at":"[^"]*"', f'"exported_at":"{moment}"', part.read_text()))
    before = len(batch.requests)
    result = exports()
    assert len(batch.requests) == before + 2 + 8
    assert moment not in {row["exported_at"] for row in rows(result, "campaigns")}


def test_parts_of_another_task_run_or_map_index_are_left_alone(batch, exports, tmp_path):
    for _ in range(4):
        batch.add_campaign(campaign())
    throttled(batch, exports, 2, context={"map_index": 1})
    kept = files_of(tmp_path)
    before = len(batch.requests)
    exports(context={"map_index": 2})
    assert len(batch.requests) == before + 2 + 8
    assert set(kept) <= set(files_of(tmp_path))


def test_what_a_process_that_was_taken_for_dead_wrote_as_well_is_exported_once(batch, exports, tmp_path):
    for _ in range(4):
        batch.add_campaign(campaign())
    throttled(batch, exports, 3)
    (part,) = (tmp_path / "batch/_parts").rglob("*.jsonl")
    part.with_name("000000-ffffffff.jsonl").write_bytes(part.read_bytes())
    assert Counter(tokens(exports())) == Counter(batch.tokens())


@pytest.mark.parametrize("harm", [Path.unlink, lambda part: part.write_bytes(part.read_bytes()[:-40])])
def test_a_part_that_is_gone_or_cut_is_an_error_and_its_campaigns_are_read_again(
    batch, exports, tmp_path, monkeypatch, harm
):
    monkeypatch.setattr(parts, "MAX_CAMPAIGNS", 2)
    for _ in range(4):
        batch.add_campaign(campaign())
    flush = parts.Parts.flush

    def harm_one(self):
        flush(self)
        for part in list((tmp_path / "batch/_parts").rglob("*000001-*.jsonl")):
            harm(part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts.Parts, "flush", harm_one)
        error, _ = failing(BatchExportIncompleteError, exports)
    assert "campaigns must be read again" in str(error)
    assert [name for name in files_of(tmp_path) if "_parts" not in name] == []
    before = len(reads(batch))
    assert Counter(tokens(exports())) == Counter(batch.tokens())
    assert len(reads(batch)) - before in (1, 2)


@pytest.fixture
def full(monkeypatch):
    """Return a function after which nothing can be copied to the destination any more."""
    from fsspec.implementations.local import LocalFileSystem

    def fill(self, path1, path2, **_):
        raise OSError("No space left on device")

    return lambda: monkeypatch.setattr(LocalFileSystem, "put_file", fill)


def test_a_destination_that_cannot_be_written_is_an_error_before_any_request_with_a_result(batch, exports, full):
    batch.add_campaign(campaign())
    full()
    _, result = failing(OSError, exports)
    assert batch.requests == ()
    assert (result["files"], result["campaigns"]) == ({}, 0)


def test_an_error_of_the_storage_does_not_hide_a_throttle(changing, exports, full, caplog):
    sandbox = changing("view", lambda *_: full())
    for _ in range(3):
        sandbox.add_campaign(campaign())
    throttled(sandbox, exports, 2)
    assert "What was read last is not kept: OSError: No space left on device" in caplog.text


def test_a_stopped_task_keeps_what_it_has_read(batch, exports, tmp_path):
    for _ in range(5):
        batch.add_campaign(campaign())
    task = BatchExportCampaignsOperator(task_id="export", destination=f"file://{tmp_path}/batch", max_in_flight=1)
    context = {**context_of(task, kind=Recorded), "dag_run": Run()}
    batch.inject(Fault("delay", "view", delay=0.5, token=batch.tokens()[2]))

    class Stopping(logging.Handler):
        def emit(self, record):
            if "campaigns read" in record.getMessage():
                task.on_kill()

    log = logging.getLogger("airflow_batch._export.run")
    handler = Stopping()
    log.addHandler(handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("airflow_batch._export.run.BETWEEN_LINES_SECONDS", 0.0)
            with pytest.raises(BatchExportIncompleteError, match="The task was stopped"):
                task.execute(context)
    finally:
        log.removeHandler(handler)
    before = set(reads(batch))
    assert 0 < len(before) < 5
    assert Counter(tokens(exports())) == Counter(batch.tokens())


# ------------------------------------------------------------ names and files


def name_of(result):
    return result["files"]["campaigns"].rpartition("/")[2]


def test_a_retry_and_a_cleared_task_replace_the_files_of_their_run_and_no_others(batch, exports, tmp_path):
    batch.add_campaign(campaign("First"))
    exports()
    other = files_of(tmp_path)
    batch.add_campaign(campaign("Second"))
    end = Run().data_interval_start
    earlier = Run(data_interval_start=end - timedelta(days=1), data_interval_end=end)
    result = exports(run=earlier)
    assert len(files_of(tmp_path)) == 6
    batch.add_campaign(campaign("Third"))
    again = exports(run=earlier, context={"try_number": 3, "max_tries": 9})
    assert again["files"] == result["files"]
    assert len(rows(again, "campaigns")) == 3
    assert len(files_of(tmp_path)) == 6
    first = tmp_path / next(name for name in other if "campaigns." in name)
    assert len(first.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("run", "ti", "name"),
    [
        (
            Run(
                data_interval_start=datetime(2026, 11, 1, tzinfo=UTC),
                data_interval_end=datetime(2026, 11, 2, tzinfo=UTC),
            ),
            {"map_index": 3},
            "campaigns.dag.task.20261101T000000Z_20261102T000000Z.3.jsonl",
        ),
        (
            Run(
                data_interval_start=datetime(2026, 11, 1, tzinfo=UTC),
                data_interval_end=datetime(2026, 11, 1, tzinfo=UTC),
                run_type="backfill",
            ),
            {},
            "campaigns.dag.task.20261101T000000Z.jsonl",
        ),
        (Run(run_type="manual"), {"run_id": "by-hand"}, "campaigns.dag.task.by-hand.jsonl"),
        (
            Run(run_type="asset_triggered"),
            {"run_id": "asset_triggered__2026-11-01T00:00:00+00:00_x"},
            "campaigns.dag.task.asset_triggered__2026-11-01T00_00_00_00_00_x_",
        ),
    ],
)
def test_a_file_is_named_by_table_interval_or_run_id_and_map_index(batch, exports, run, ti, name):
    assert name_of(exports(run=run, context=ti)).startswith(name)


def test_task_instances_with_similar_ids_have_files_of_their_own(batch, exports):
    ids = [("a.b", "c"), ("a", "b.c"), ("a", "b_c"), ("a", "b-c"), ("a", "é"), ("a", "è"), ("x" * 200, "y" * 200)]
    names = [name_of(exports(context={"dag_id": dag, "task_id": task})) for dag, task in ids]
    assert len(set(names)) == len(ids)


def test_the_longest_ids_give_a_name_that_a_file_system_takes(batch, exports):
    longest = {"dag_id": "d" * 250, "task_id": "t" * 250, "run_id": "r" * 250, "map_index": 10_000}
    result = exports(run=Run(run_type="manual"), context=longest, file_format="parquet")
    assert len(name_of(result)) < 255


def test_a_run_id_in_the_form_of_an_interval_gives_another_name_than_the_run_of_the_interval(batch, exports):
    name = name_of(exports())
    run_id = name.split(".")[-2]
    assert name_of(exports(run=Run(run_type="manual"), context={"run_id": run_id})) != name
    assert name_of(exports(run=Run(run_type="manual"), context={"run_id": f"{run_id}_x"})).endswith("_x.jsonl")


def test_csv_has_a_header_quotes_and_distinguishes_null_from_empty_text(batch, exports):
    batch.add_campaign(campaign('Say "hi",\nnow', messages=[{"language": "", "body": "é"}]))
    result = exports(file_format="csv")
    with open(result["files"]["campaigns"].removeprefix("file://"), encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["name"], row["live"], row["labels"]) == ('Say "hi",\nnow', "true", "")
    text = Path(result["files"]["messages"].removeprefix("file://")).read_text(encoding="utf-8").splitlines()
    assert text[0] == ",".join(next(table for table in TABLES if table.name == "messages").names)
    assert text[1].endswith(',,0,"",,"é",,')


@pytest.mark.parametrize("limit", ["BATCH", "BATCH_CHARACTERS"])
def test_parquet_has_typed_columns_and_row_groups_of_limited_size(batch, exports, monkeypatch, limit):
    from pyarrow import parquet

    monkeypatch.setattr(files._Parquet, limit, 2)
    made = [batch.add_campaign(campaign(name)) for name in NAMES[:5]]
    result = exports(file_format="parquet")
    table = parquet.read_table(result["files"]["campaigns"].removeprefix("file://"))
    assert table.column("campaign_token").to_pylist() == made[::-1]
    assert table.column("name").to_pylist() == NAMES[:5][::-1]
    stats = parquet.read_table(result["files"]["stats"].removeprefix("file://"))
    types = {name: str(stats.schema.field(name).type) for name in ("date", "sent", "open_rate")}
    assert types == {"date": "string", "sent": "int64", "open_rate": "double"}
    groups = parquet.ParquetFile(result["files"]["campaigns"].removeprefix("file://")).num_row_groups
    assert groups == (3 if limit == "BATCH" else 5)


def test_a_token_that_is_no_text_for_a_database_is_a_failure_that_xcom_can_hold(batch, exports):
    token = batch.add_campaign(campaign())
    odd = ["x" * 1_000, "half\ud800", "nul\0"]
    page = [{"campaign_token": text, "name": "Odd"} for text in (token, *odd)]
    batch.inject(Fault("answer", "list", status=200, body=json.dumps(page), times=None))
    result = exports(max_failures=3)
    assert tokens(result) == [token]
    shown = sorted(failure["campaign_token"] for failure in result["failures"])
    assert shown == sorted(["x" * 200, "half\ufffd", "nul\ufffd"])


def test_a_file_that_cannot_be_completed_leaves_the_one_before(batch, exports, tmp_path, monkeypatch):
    batch.add_campaign(campaign("First"))
    result = exports()
    batch.add_campaign(campaign("Second"))

    def full(self, path1, path2, **_):
        with open(path2, "wb") as file:
            file.write(b"{")
        raise OSError("No space left on device")

    from fsspec.implementations.local import LocalFileSystem

    monkeypatch.setattr(LocalFileSystem, "put_file", full)
    with pytest.raises(OSError, match="No space left"):
        exports()
    assert [row["name"] for row in rows(result, "campaigns")] == ["First"]


def test_the_copies_that_two_attempts_make_of_a_file_do_not_mix(batch, exports, monkeypatch):
    """A process that Airflow takes for dead may still copy while the next attempt does, and end halfway."""
    from fsspec.implementations.local import LocalFileSystem

    batch.add_campaign(campaign("First"))
    put_file, running = LocalFileSystem.put_file, []

    def halting(self, path1, path2, **named):
        if Path(path1).name != "campaigns.jsonl":
            return put_file(self, path1, path2, **named)
        data = Path(path1).read_bytes()
        with open(path2, "wb", buffering=0) as file:
            file.write(data[: 50 if running else 100])
            if running:
                raise OSError("This attempt ends")
            running.append(path2)
            with pytest.raises(OSError, match="This attempt ends"):
                exports()
            file.write(data[100:])

    monkeypatch.setattr(LocalFileSystem, "put_file", halting)
    result = exports()
    assert [row["name"] for row in rows(result, "campaigns")] == ["First"]


def test_a_destination_may_be_an_object_storage_path(batch, exports, tmp_path):
    token = batch.add_campaign(campaign())
    assert tokens(exports(destination=ObjectStoragePath(f"file://{tmp_path}/other"))) == [token]


def test_the_events_of_asset_outlets_carry_the_result(batch, exports):
    from airflow.sdk.execution_time.context import OutletEventAccessors

    batch.add_campaign(campaign())
    events, asset = OutletEventAccessors(), Asset("batch_stats")
    result = exports(outlets=[asset, AssetAlias("batch")], events=events)
    assert events[asset].extra == result
    assert events[AssetAlias("batch")].extra == {}


# ------------------------------------------------------------ loading into a database


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return the function of the example that loads the files of a result, and the database for queries."""
    monkeypatch.syspath_prepend(EXAMPLES)
    from export_to_duckdb import load as task

    path = str(tmp_path / "batch.duckdb")

    def query(sql):
        with duckdb.connect(path, read_only=True) as database:
            return database.execute(sql).fetchall()

    return lambda result: task.function(result, {"database": path}), query


def test_the_newest_messages_are_those_of_the_newest_export_also_where_there_are_none(batch, exports, load):
    into_database, query = load
    changed, gone = batch.add_campaign(campaign("Changed")), batch.add_campaign(campaign("Gone"))
    into_database(exports())
    shown = {**campaign("Changed"), "campaign_token": changed, "messages": []}
    batch.inject(Fault("answer", "view", status=200, body=shown, token=changed, times=None))
    batch.remove_campaign(gone)
    second = exports(run=Run(run_type="manual"))
    into_database(second)
    into_database(second)  # twice does no harm
    assert query("SELECT campaign_token FROM newest_messages") == [(gone,)]
    assert sorted(query("SELECT name FROM newest_campaigns")) == [("Changed",), ("Gone",)]
    (newest,) = {row["exported_at"] for row in rows(second, "campaigns")}
    assert query(f"SELECT exported_at = '{newest}' FROM newest_exports WHERE campaign_token = '{changed}'") == [(True,)]


def test_two_rows_of_one_date_and_rows_without_a_date_are_all_kept(batch, exports, load):
    into_database, query = load
    token = batch.add_campaign(campaign())
    detail = [{"date": "2026-11-01", "sent": 1}, {"date": "2026-11-01", "sent": 2}, {"sent": 5}, {"date": None}]
    batch.inject(Fault("answer", "stats", status=200, body={"detail": detail}, token=token, times=None))
    into_database(exports())
    found = query("SELECT date, sent FROM newest_stats ORDER BY date, sent")
    assert found == [("2026-11-01", 1), ("2026-11-01", 2), (None, 5), (None, None)]


def test_the_example_loads_from_a_folder_with_a_quote_in_its_name(batch, exports, load, tmp_path):
    into_database, query = load
    batch.add_campaign(campaign())
    into_database(exports(destination=f"file://{tmp_path}/it's"))
    assert query("SELECT name FROM newest_campaigns") == [("News",)]


def test_csv_as_the_page_loads_it_keeps_empty_text_and_null_apart(batch, exports):
    batch.add_campaign(campaign("", messages=[{"language": "", "body": "NULL"}]))
    result = exports(file_format="csv")
    options = re.search(r"`(FORMAT csv[^`]*)`", PAGE.read_text())[1]
    with duckdb.connect() as database:
        database.execute((EXAMPLES / "export_tables.sql").read_text())
        for table, url in result["files"].items():
            database.execute(f"COPY batch_{table} FROM '{url}' ({options})")
        assert database.execute("SELECT app, language, title, body FROM batch_messages").fetchall() == [
            (None, "", None, "NULL")
        ]
        assert database.execute("SELECT name, deeplink FROM batch_campaigns").fetchall() == [("", None)]


# ------------------------------------------------------------ arguments and keys


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"file_format": "xml"}, "file_format must be 'jsonl' or 'csv' or 'parquet', not 'xml'"),
        ({"live": "yes"}, "live must be True, False or None, not 'yes'"),
        ({"from_api": 1}, "from_api must be True, False or None, not 1"),
        ({"restate_days": -1}, "restate_days must be a whole number from 0 to 36,500, not -1"),
        ({"max_in_flight": 0}, "max_in_flight must be a whole number from 1 to 32, not 0"),
        ({"max_failures": None}, "max_failures must be a whole number of at least 0, not None"),
    ],
)
def test_wrong_arguments_are_refused_when_the_dag_is_parsed(arguments, message):
    with pytest.raises(BatchConfigurationError, match=message):
        BatchExportCampaignsOperator(task_id="export", destination="file:///tmp/x", **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"destination": "batch/files"}, "destination must be a URL such as"),
        ({"destination": None}, "destination must be a URL such as"),
        ({"destination": "file://data/batch"}, "destination must be a URL such as"),
        ({"since": "yesterday"}, "since must be a moment with a time zone"),
        ({"apps": 5}, "apps must be the name of an app, a list of names, or None, not 5"),
        ({"apps": []}, "apps must be the name of an app"),
    ],
)
def test_wrong_rendered_arguments_are_refused_before_any_request(batch, exports, arguments, message):
    with pytest.raises(BatchPayloadError, match=message):
        exports(**arguments)
    assert batch.requests == ()


def test_parquet_without_pyarrow_is_refused_before_any_request(batch, exports, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BatchConfigurationError, match="needs pyarrow: pip install"):
        exports(file_format="parquet")
    assert batch.requests == ()


def test_the_operator_can_be_mapped_over_apps_and_templated():
    with DAG("exports", schedule=None):
        mapped = BatchExportCampaignsOperator.partial(
            task_id="export", destination="file:///tmp/{{ ds }}", restate_days=7, live=None
        ).expand(apps=["ios", "android"])
    assert mapped.template_fields == ("destination", "apps", "since", "batch_conn_id", "app")


@pytest.mark.parametrize("fault", canary.FAULTS, ids=lambda fault: "-".join(map(str, fault.values())))
def test_no_key_is_in_files_log_result_or_error(connect, exports, no_pauses, caplog, tmp_path, fault, monkeypatch):
    monkeypatch.setattr(rate_limiter, "HOLD", 0.0)
    caplog.set_level(logging.DEBUG)
    with BatchSandbox(rest_key=canary.REST_KEY, apps={"ios": canary.APP_KEYS}) as sandbox:
        connect({**sandbox.connection(), "extra": {"timeout": [0.4, 0.4]}})
        for _ in range(2):
            sandbox.add_campaign(campaign())
        sandbox.inject(Fault(**{"operation": "view", "times": None, **fault}))
        try:
            result = exports(max_failures=2)
        except Exception as error:
            result = exports.context["ti"].pushed.get("return_value")
            canary.assert_free(f"{error!r} {error.__dict__}", "the error")
        assert len(sandbox.requests) >= 2
    canary.assert_free(json.dumps(result), "XCom")
    canary.assert_free(caplog.text, "the log")
    for name in files_of(tmp_path):
        canary.assert_free((tmp_path / name).read_text(), name)
