"""What an attempt knows of earlier attempts, with and without a record in Airflow's task state store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from airflow_batch._campaigns.history import MAX_BEFORE, Journal, Write
from airflow_batch._campaigns.payload import payload_digest
from airflow_batch._campaigns.protocol import Attempt
from airflow_batch.exceptions import BatchStateError

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
ON = Write(at=NOW, digest=payload_digest({"live": True}), push_at=NOW, batch_at=NOW, before={"push_time": None})


class Clock:
    def now(self):
        return NOW + timedelta(hours=1)

    def sleep(self, seconds):
        pass


class Store:
    def __init__(self, record=None, failures=0):
        self.record, self.failures = record, failures

    def load(self):
        if self.failures:
            raise OSError
        return self.record

    def save(self, record):
        if self.failures:
            self.failures -= 1
            raise OSError
        self.record = dict(record)


class Log:
    def info(self, *arguments):
        pass

    warning = info


def journal(token="abc", app=None, **attempt):
    return Journal(Attempt(**attempt), Clock(), token, app, Log())


def test_a_recorded_write_is_read_by_the_next_attempt_and_dated_to_its_start():
    store = Store()
    first = journal(store=store)
    assert first.save(first.load().with_write(ON, stops=False))
    history = journal(number=2, store=store).load()
    assert history.on == replace(ON, at=Clock().now(), is_own=False)
    assert (history.off, history.push_at, history.is_known, history.may_push) == (None, NOW, True, True)


def test_the_confirmation_of_a_write_is_recorded():
    store = Store()
    first = journal(store=store)
    first.save(first.load().with_write(replace(ON, confirmed=True), stops=True))
    assert journal(number=2, store=store).load().off.confirmed


@pytest.mark.parametrize("stops", [True, False])
def test_a_later_attempt_knows_the_last_write(stops):
    store = Store()
    history = journal(store=store).load().with_write(ON, stops=not stops)
    journal(store=store).save(history.with_write(replace(ON, digest="other"), stops=stops))
    assert journal(number=2, store=store).load().last.digest == "other"


@pytest.mark.parametrize(
    ("attempt", "known"),
    [
        ({}, True),
        ({"store": Store()}, True),
        ({"is_rescheduled": True}, True),
        ({"is_rescheduled": True, "store": Store()}, False),
        ({"number": 2}, False),
        ({"number": 2, "store": Store()}, False),
        ({"number": 2, "store": Store("garbage")}, False),
        ({"number": 2, "store": Store(failures=9)}, False),
    ],
)
def test_only_a_first_attempt_or_one_with_a_readable_record_knows_what_was_sent(attempt, known):
    history = journal(**attempt).load()
    assert (history.is_known, history.may_push) == (known, known)


def test_a_record_that_is_older_than_the_previous_attempt_is_incomplete():
    store = Store()
    first = journal(store=store)
    first.note_end(first.load())
    second = journal(number=2, store=store).load()
    assert (second.is_known, second.may_push) == (True, True)
    assert not journal(number=3, store=store).load().is_known


@pytest.mark.parametrize("other", [{"token": "other"}, {"app": "ios"}])
def test_a_push_of_another_campaign_counts_and_its_other_writes_do_not(other):
    store = Store()
    first = journal(store=store)
    first.save(first.load().with_write(ON, stops=False))
    history = journal(number=2, store=store, **other).load()
    assert (history.on, history.push_at) == (None, NOW)


def test_an_attempt_that_sent_nothing_does_not_replace_a_record_that_it_could_not_read():
    store = Store({"on": "precious"}, failures=1)
    second = journal(number=2, store=store)
    history = second.load()
    store.failures = 0
    second.note_end(history)
    assert store.record == {"on": "precious"}


@pytest.mark.parametrize(("failures", "saved"), [(2, True), (3, False)])
def test_a_push_is_not_sent_when_its_record_cannot_be_written_three_times(failures, saved):
    store = Store()
    first = journal(store=store)
    history = first.load().with_write(ON, stops=False)
    store.failures = failures
    if saved:
        first.save_before_push(history)
        assert store.record["push_at"] == NOW.isoformat()
    else:
        with pytest.raises(BatchStateError, match="Nothing was sent") as caught:
            first.save_before_push(history)
        assert caught.value.transient


def test_the_first_attempt_may_push_without_a_store():
    first = journal()
    first.save_before_push(first.load().with_write(ON, stops=False))
    assert not first.is_saved


def test_a_campaign_that_is_too_large_for_the_store_is_left_out_of_the_record():
    store = Store()
    first = journal(store=store)
    first.save(first.load().with_write(replace(ON, before={"x": "y" * MAX_BEFORE}), stops=True))
    assert store.record["off"]["before"] is None
