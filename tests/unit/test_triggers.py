"""The polling trigger as data: its arguments, its events, and how often it may look."""

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
LOOKS = {
    "one": LivePoll(ONE, False, True),
    "one of an app": LivePoll(MANY[:1], False, False, RUN_AFTER),
    "a list of one": LivePoll(ONE, True, True),
    "many": LivePoll(MANY, True, False, RUN_AFTER),
    "a window of crons": LivePoll(ONE, False, CRONS, RUN_AFTER),
    "a one-off window of many": LivePoll(MANY, True, ONE_OFF),
    "statistics": StatsPoll(MANY[0], 15),
}


def trigger(look):
    return BatchCampaignTrigger(
        look=look.as_json(),
        batch_conn_id="batch_default",
        poke_interval=30.0,
        not_before="2026-11-22T09:00:30+00:00",
        deadline="2026-11-22T09:10:00+00:00",
    )


class TestSerialised:
    @pytest.fixture(params=LOOKS.values(), ids=LOOKS.keys())
    def look(self, request):
        return request.param

    def test_it_comes_back_from_json_as_it_was(self, look):
        path, arguments = trigger(look).serialize()
        again = BatchCampaignTrigger(**json.loads(json.dumps(arguments)))
        assert path == "airflow_batch.triggers.campaigns.BatchCampaignTrigger"
        assert again.poll == look
        assert again.serialize() == (path, arguments)

    def test_it_comes_back_from_airflows_own_encoding(self, look):
        _, arguments = trigger(look).serialize()
        again = BatchCampaignTrigger(**BaseSerialization.deserialize(BaseSerialization.serialize(arguments)))
        assert again.poll == look
        assert (again.poke_interval, again.deadline) == (30.0, datetime(2026, 11, 22, 9, 10, tzinfo=UTC))

    def test_a_window_changes_at_the_same_moments(self):
        again = BatchCampaignTrigger(**trigger(LOOKS["a window of crons"]).serialize()[1]).poll
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


class TestEvents:
    def test_a_result_arrives(self):
        event = json.loads(json.dumps(success({"live": True}, ("ios", "News"))))
        assert (outcome(event), event["about"]) == ({"live": True}, ["ios", "News"])

    def test_a_timeout_is_the_sensors(self):
        with pytest.raises(AirflowSensorTimeout, match="too long"):
            outcome(timed_out("too long", None))

    @pytest.mark.parametrize("cls", ERRORS)
    def test_a_failure_is_raised_again_with_its_class_and_all_its_fields(self, cls):
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
    def test_what_is_no_event_of_ours_is_an_error_of_ours(self, event):
        with pytest.raises(BatchError):
            outcome(event)


class TestLeastPause:
    @pytest.mark.parametrize(("requests", "seconds"), [(0, 5), (1, 6), (3, 18), (5, 30), (7, 60), (10, 60), (12, 72)])
    def test_it_grows_with_the_requests_of_a_look(self, requests, seconds):
        assert least_pause(requests) == seconds

    @pytest.mark.parametrize("requests", range(1, 13))
    def test_no_minute_holds_more_than_twelve_requests_however_it_is_laid(self, requests):
        starts = list(accumulate(repeat(least_pause(requests), 40)))
        in_a_minute = [sum(requests for other in starts if start <= other < start + 60) for start in starts]
        assert max(in_a_minute) <= 12

    def test_beyond_that_ten_a_minute_is_the_average(self):
        assert least_pause(50) == 300
