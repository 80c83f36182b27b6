"""The polling trigger as data: its arguments, its events, and how often it may poll."""

from __future__ import annotations

import inspect
import json
from datetime import UTC, date, datetime
from itertools import accumulate, repeat

import pytest
from airflow.serialization.serialized_objects import BaseSerialization

from airflow_batch import exceptions
from airflow_batch._airflow.compat import AirflowSensorTimeout
from airflow_batch.exceptions import BatchApiError, BatchError
from airflow_batch.triggers._events import failed, outcome, success, timed_out
from airflow_batch.triggers._poll import LivePoll, Reference, StatsPoll, least_pause
from airflow_batch.triggers.campaigns import BatchCampaignTrigger
from airflow_batch.windows import CampaignWindow

ONE = (Reference("abc", None),)
MANY = (Reference("abc", "ios"), Reference("def", "android"), Reference("ghi", None))
CRONS = CampaignWindow(on="0 9 * * 1-5", off="@daily", timezone="Europe/Paris", except_dates=[date(2026, 12, 25)])
ONE_OFF = CampaignWindow(start="2026-10-25T02:30", end="2026-11-01T00:00", timezone="Europe/Paris")
RUN_AFTER = datetime(2026, 11, 22, 9, tzinfo=UTC)
POLLS = {
    "one": LivePoll(ONE, False, True),
    "one of an app": LivePoll(MANY[:1], False, False, RUN_AFTER),
    "a list of one": LivePoll(ONE, True, True),
    "many": LivePoll(MANY, True, False, RUN_AFTER),
    "a window of crons": LivePoll(ONE, False, CRONS, RUN_AFTER),
    "a one-off window of many": LivePoll(MANY, True, ONE_OFF),
    "statistics": StatsPoll(MANY[0], 15),
}


def trigger(poll):
    return BatchCampaignTrigger(
        look=poll.as_json(),
        batch_conn_id="batch_default",
        poke_interval=30.0,
        not_before="2026-11-22T09:00:30+00:00",
        deadline="2026-11-22T09:10:00+00:00",
    )


@pytest.mark.parametrize("poll", POLLS.values(), ids=POLLS)
def test_a_trigger_is_the_same_after_json_and_airflows_own_serialisation(poll):
    path, arguments = trigger(poll).serialize()
    assert path == "airflow_batch.triggers.campaigns.BatchCampaignTrigger"
    for copied in (
        json.loads(json.dumps(arguments)),
        BaseSerialization.deserialize(BaseSerialization.serialize(arguments)),
    ):
        again = BatchCampaignTrigger(**copied)
        assert again.poll == poll
        assert (again.poke_interval, again.deadline) == (30.0, datetime(2026, 11, 22, 9, 10, tzinfo=UTC))
        assert again.serialize() == (path, arguments)


def test_a_window_has_the_same_changes_after_serialisation():
    again = BatchCampaignTrigger(**trigger(POLLS["a window of crons"]).serialize()[1]).poll
    assert again.live.next_changes(RUN_AFTER, 20) == CRONS.next_changes(RUN_AFTER, 20)


FIELDS = {
    "status_code": 404,
    "error_code": 20,
    "error_name": "ROUTE_NOT_FOUND",
    "retry_after": 12.5,
    "endpoint": "view",
    "may_have_been_applied": True,
}
ERRORS = [cls for _, cls in inspect.getmembers(exceptions, inspect.isclass) if issubclass(cls, BatchError)]


def test_the_sensor_returns_the_result_of_a_success_event():
    event = json.loads(json.dumps(success({"live": True}, ("ios", "News"))))
    assert (outcome(event), event["about"]) == ({"live": True}, ["ios", "News"])


def test_the_sensor_raises_its_timeout_for_a_timeout_event():
    with pytest.raises(AirflowSensorTimeout, match="too long"):
        outcome(timed_out("too long", None))


@pytest.mark.parametrize("cls", ERRORS)
def test_the_sensor_raises_the_error_of_an_event_with_its_class_and_attributes(cls):
    fields = FIELDS if issubclass(cls, BatchApiError) else {}
    event = json.loads(json.dumps(failed(cls("what happened", **fields), None)))
    with pytest.raises(BatchError) as caught:
        outcome(event)
    assert type(caught.value) is cls
    assert str(caught.value) == "what happened"
    assert {name: getattr(caught.value, name) for name in fields} == fields


@pytest.mark.parametrize(
    "event", [None, "done", {}, {"status": "ok"}, {"status": "error", "class": "print", "message": "x"}]
)
def test_an_unknown_event_is_a_batch_error(event):
    with pytest.raises(BatchError):
        outcome(event)


@pytest.mark.parametrize(
    ("requests", "seconds"), [(0, 5), (1, 6), (3, 18), (5, 30), (7, 60), (10, 60), (12, 72), (50, 300)]
)
def test_the_least_pause_grows_with_the_requests_of_a_poll(requests, seconds):
    assert least_pause(requests) == seconds


@pytest.mark.parametrize("requests", range(1, 13))
def test_a_trigger_sends_at_most_twelve_requests_in_any_minute(requests):
    starts = list(accumulate(repeat(least_pause(requests), 40)))
    in_a_minute = [sum(requests for other in starts if start <= other < start + 60) for start in starts]
    assert max(in_a_minute) <= 12
