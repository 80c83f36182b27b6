"""Which changes of a campaign are refused before anything is sent, and which writes may send a push."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_batch.compat import AirflowFailException
from airflow_batch.exceptions import BatchChangeRefusedError
from airflow_batch.transitions import check_change, check_identity, read_moment, sends_after, sends_by

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
PAST, FUTURE = "2026-06-01T11:59:59", "2026-06-01T12:00:01"
DAILY = {"repeat_unit": "DAILY", "repeat_frequency": 1}


def refusal(function, *arguments):
    with pytest.raises(BatchChangeRefusedError) as caught:
        function(*arguments)
    assert isinstance(caught.value, AirflowFailException)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------------- identity


def test_a_campaign_of_another_name_is_refused_with_both_names():
    text = refusal(check_identity, "abc", {"name": "Winter"}, "Summer")
    assert "'Winter', not 'Summer'" in text
    assert "Nothing was sent. Correct the token" in text


def test_a_campaign_without_a_name_is_not_the_expected_one():
    assert "named None" in refusal(check_identity, "abc", {}, "Summer")


def test_a_campaign_made_in_the_dashboard_is_refused_with_what_to_do():
    text = refusal(check_identity, "abc", {"name": "Summer", "from_api": False}, None)
    assert "Change it in the dashboard, or create it from the API" in text


@pytest.mark.parametrize("seen", [{"from_api": True}, {}, {"from_api": None}])
def test_only_a_campaign_that_is_said_to_be_the_dashboards_is_refused_as_such(seen):
    assert check_identity("abc", {"name": "Summer", **seen}, "Summer") is None


# ----------------------------------------------------------------------------------------------------- removal and form


@pytest.mark.parametrize("live", [True, False])
def test_a_recurring_campaign_is_not_turned_into_a_one_time_one(live):
    text = refusal(check_change, "abc", {"live": live, "recurrence": None}, {"recurrence": DAILY}, NOW)
    assert "does not turn a recurring campaign into a one-time one" in text
    assert "create a new campaign" in text


def test_each_parameter_that_would_be_removed_is_named():
    text = refusal(check_change, "abc", {"labels": None, "media": None}, {"labels": ["A"], "media": {}}, NOW)
    assert "takes labels, media from campaign 'abc'" in text


@pytest.mark.parametrize(
    "wanted",
    [
        {"labels": None},
        {"recurrence": None},
        {"push_time": None, "local_push_time": FUTURE},
        {"local_push_time": FUTURE},
    ],
)
def test_what_is_not_there_or_gives_way_to_the_other_push_time_is_no_removal(wanted):
    assert check_change("abc", wanted, {"push_time": PAST}, NOW) is None


def test_both_push_times_taken_away_is_a_removal():
    wanted = {"push_time": None, "local_push_time": None}
    assert "takes push_time from" in refusal(check_change, "abc", wanted, {"push_time": FUTURE}, NOW)


# ----------------------------------------------------------------------------------------------------------- going live


@pytest.mark.parametrize("push_time", [PAST, "2026-06-01T12:00:00"])
def test_a_one_time_campaign_whose_push_time_has_passed_cannot_go_live(push_time):
    text = refusal(check_change, "abc", {"live": True}, {"live": False, "push_time": push_time}, NOW)
    assert f"its push time {push_time} UTC has passed" in text
    assert "Give it a push_time in the future" in text


def test_one_that_is_live_is_complete_then():
    text = refusal(check_change, "abc", {"live": True}, {"live": True, "push_time": PAST}, NOW)
    assert "complete and cannot go live again" in text
    assert "Create a new campaign" in text


def test_a_complete_campaign_cannot_go_live_again_with_a_new_push_time_either():
    wanted = {"live": True, "push_time": FUTURE}
    assert "is complete" in refusal(check_change, "abc", wanted, {"live": True, "push_time": PAST}, NOW)


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        ({"live": True}, {"push_time": FUTURE}),
        ({"live": True}, {"push_time": PAST, "recurrence": DAILY}),
        ({"live": True}, {"push_time": PAST, "trigger": {}}),
        ({"live": True}, {"live": True, "push_time": PAST, "recurrence": DAILY}),
        ({"live": True}, {"push_time": "some day"}),
        ({"live": True}, {}),
        ({"live": True, "push_time": FUTURE}, {"live": False, "push_time": PAST}),
        ({"live": True, "push_time": "now"}, {"live": False, "push_time": PAST}),
        ({"live": True, "local_push_time": FUTURE}, {"live": False, "push_time": PAST}),
        ({"live": False}, {"live": True, "push_time": PAST}),
        ({"labels": ["A"]}, {"live": True, "push_time": PAST}),
    ],
)
def test_every_other_change_is_allowed_without_a_word(wanted, seen):
    assert check_change("abc", wanted, seen, NOW) is None


def test_a_wanted_push_time_that_has_passed_is_refused_as_well():
    wanted = {"live": True, "push_time": PAST}
    assert "has passed" in refusal(check_change, "abc", wanted, {"live": False, "push_time": FUTURE}, NOW)


@pytest.mark.parametrize(
    ("end", "warned"), [("2026-06-01T12:00:00", True), ("2026-06-01T12:00:01", False), (None, False)]
)
def test_a_recurring_campaign_after_its_end_date_is_only_warned_about(end, warned):
    warning = check_change("abc", {"live": True}, {"recurrence": {**DAILY, "end_date": end}}, NOW)
    assert (warning is not None) is warned


@pytest.mark.parametrize(("local", "warned"), [("2026-06-01T00:00:00", True), ("2026-06-01T00:00:01", False)])
def test_a_local_push_time_has_passed_everywhere_twelve_hours_after_it_in_utc(local, warned):
    warning = check_change("abc", {"live": True}, {"local_push_time": local}, NOW)
    assert (warning is not None) is warned


def test_switching_off_is_never_warned_about():
    assert check_change("abc", {"live": False}, {"local_push_time": "2020-01-01T00:00:00"}, NOW) is None


# ------------------------------------------------------------------------------------------------------- sending a push


@pytest.mark.parametrize(
    ("payload", "sends"),
    [
        ({"live": True, "push_time": "now"}, True),
        ({"push_time": "now"}, True),
        ({"live": True, "push_time": PAST}, True),
        ({"live": True, "push_time": "2026-06-01T12:00:00"}, True),
        ({"live": True, "push_time": FUTURE}, False),
        ({"live": True}, False),
        ({"live": False, "push_time": "now"}, False),
        ({"live": True, "push_time": "now", "recurrence": DAILY}, False),
        # In the first time zone, 14 hours ahead, it is 02:00 of the next day.
        ({"live": True, "local_push_time": "2026-06-02T02:00:00"}, True),
        ({"live": True, "local_push_time": "2026-06-02T02:00:01"}, False),
    ],
)
def test_a_write_may_send_a_push_once_its_time_has_come_somewhere(payload, sends):
    assert sends_by(payload, NOW) is sends


@pytest.mark.parametrize(
    ("seen", "after"),
    [
        ({"push_time": FUTURE}, True),
        ({"push_time": PAST}, False),
        ({"local_push_time": PAST}, True),
        ({}, False),
        ({"push_time": "some day"}, False),
    ],
)
def test_a_push_is_still_to_come_where_its_time_is_later_or_only_local(seen, after):
    assert sends_after(seen, NOW) is after


@pytest.mark.parametrize("text", ["2026-06-01T12:00:00", "2026-06-01T12:00:00Z", "2026-06-01T14:00:00+02:00"])
def test_a_moment_without_a_zone_is_utc(text):
    assert read_moment(text) == NOW
    assert read_moment(text).utcoffset() == timedelta(0)


@pytest.mark.parametrize("value", ["now", "", None, 5, [], {}, "0001-01-01T00:00:00+14:00"])
def test_what_is_no_moment_is_none(value):
    assert read_moment(value) is None
