"""Which changes are refused before anything is sent, and when a push is sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_batch._campaigns import rules
from airflow_batch._campaigns.rules import Clocks
from airflow_batch.exceptions import BatchChangeRefusedError, BatchClockError
from airflow_batch.windows import CampaignWindow

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
PAST, FUTURE = "2026-06-01T11:59:59", "2026-06-01T12:00:01"
DAILY = {"repeat_unit": "DAILY", "repeat_frequency": 1}
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def live_at(window, ours, batch, run_after=None):
    return rules.live_now(window, Clocks(ours, batch), run_after, "abc")


@pytest.mark.parametrize(
    ("seen", "expected", "agree"),
    [
        ({"name": "Winter"}, "Summer", False),
        ({"name": " Summer "}, "Summer", True),
        ({"name": "Cafe\u0301"}, "Caf\u00e9", True),
        ({"name": "Winter"}, None, None),
        ({"name": "Winter"}, "", None),
        ({}, "Summer", None),
        ({"name": None}, "Summer", None),
        (None, "Summer", None),
    ],
)
def test_the_viewed_name_equals_the_expected_one_or_differs_or_cannot_be_compared(seen, expected, agree):
    assert rules.names_agree(seen, expected) is agree


def test_the_name_that_the_task_itself_sets_is_accepted():
    assert rules.names_agree({"name": "Autumn"}, "Summer", "Autumn") is True


@pytest.mark.parametrize("messages", [None, [], {}])
def test_a_change_of_a_campaign_that_is_viewed_without_messages_is_refused(messages):
    with pytest.raises(BatchChangeRefusedError, match="without messages"):
        rules.check_change("abc", {"messages": messages}, {"live": True})


def test_a_change_of_a_campaign_created_in_the_dashboard_is_refused_with_what_to_do():
    with pytest.raises(BatchChangeRefusedError, match="Change it in the dashboard, or create it from the API"):
        rules.check_change("abc", {"from_api": False, "messages": [{}]}, {"live": True})


@pytest.mark.parametrize("seen", [{}, {"from_api": None}, {"from_api": True}])
def test_a_campaign_without_from_api_false_may_be_changed(seen):
    rules.check_change("abc", {**seen, "messages": {"a": [{}]}}, {"live": True})


@pytest.mark.parametrize(
    ("desired", "seen", "words"),
    [
        ({"recurrence": None}, {"recurrence": DAILY}, "does not turn a recurring campaign into a one-time one"),
        ({"recurrence": {}}, {"recurrence": DAILY}, "does not turn a recurring campaign into a one-time one"),
        ({"labels": None, "media": None}, {"labels": ["A"], "media": {}}, "removes labels, media, and"),
        ({"push_time": None, "local_push_time": None}, {"push_time": FUTURE}, "removes push_time, and"),
    ],
)
def test_a_change_that_removes_a_parameter_is_refused_and_named(desired, seen, words):
    with pytest.raises(BatchChangeRefusedError, match=words):
        rules.check_change("abc", {"messages": [{}], **seen}, desired)


@pytest.mark.parametrize(
    "desired", [{"labels": None}, {"recurrence": None}, {"push_time": None, "local_push_time": FUTURE}]
)
def test_null_for_a_missing_parameter_or_a_replaced_push_time_is_not_a_removal(desired):
    rules.check_change("abc", {"messages": [{}], "push_time": PAST, "recurrence": None}, desired)


@pytest.mark.parametrize(
    ("campaign", "passed"),
    [
        ({"live": True, "push_time": PAST}, True),
        ({"push_time": PAST}, True),
        ({"live": True, "push_time": "2026-06-01T12:00:00"}, True),
        ({"live": True, "push_time": PAST, "trigger": None}, True),
        ({"live": True, "push_time": PAST, "recurrence": {}}, True),
        ({"live": True, "push_time": PAST, "recurrence": []}, True),
        ({"live": True, "push_time": PAST, "recurrence": False}, True),
        ({"live": True, "push_time": PAST, "recurrence": DAILY}, False),
        ({"live": True, "push_time": PAST, "trigger": {}}, False),
        ({"live": True, "push_time": PAST, "trigger": []}, False),
        ({"live": False, "push_time": PAST}, False),
        ({"live": True, "push_time": FUTURE}, False),
        ({"live": True, "push_time": "now"}, False),
        ({"live": True, "push_time": "some day"}, False),
        ({"live": True}, False),
    ],
)
def test_a_push_has_passed_only_for_a_one_time_campaign_that_would_be_live(campaign, passed):
    assert rules.push_has_passed(campaign, NOW) is passed


@pytest.mark.parametrize(
    ("payload", "moment"),
    [
        ({"live": True, "push_time": "now"}, NOW),
        ({"push_time": "now"}, NOW),
        ({"live": True, "push_time": "now", "recurrence": DAILY}, NOW),
        ({"live": True, "push_time": FUTURE}, NOW + timedelta(seconds=1)),
        ({"live": True, "local_push_time": "2026-06-02T02:00:00"}, NOW),
        ({"live": True, "push_time": FUTURE, "recurrence": DAILY}, None),
        ({"live": True, "push_time": FUTURE, "trigger": {}}, None),
        ({"live": False, "push_time": "now"}, None),
        ({"live": True}, None),
    ],
)
def test_a_push_is_sent_at_its_push_time_or_now_or_fourteen_hours_before_a_local_push_time(payload, moment):
    assert rules.push_moment(payload, NOW) == moment


@pytest.mark.parametrize(
    ("campaign", "warned"),
    [
        ({"recurrence": {**DAILY, "end_date": "2026-06-01T12:00:00"}}, True),
        ({"recurrence": {**DAILY, "end_date": FUTURE}}, False),
        ({"recurrence": DAILY}, False),
        ({"local_push_time": "2026-06-01T00:00:00"}, True),
        ({"local_push_time": "2026-06-01T00:00:01"}, False),
        ({"local_push_time": "2020-01-01T00:00:00", "live": False}, False),
    ],
)
def test_a_campaign_that_has_ended_in_every_time_zone_gets_a_warning_only(campaign, warned):
    assert (rules.finished_warning("abc", campaign, NOW) is not None) is warned


def test_the_start_of_a_window_is_not_evaluated_before_run_after_nor_its_end_later():
    window = CampaignWindow(start=NOW, end=NOW + HOUR, timezone="UTC")
    assert live_at(window, NOW - MINUTE, NOW - MINUTE) == (False, None)
    assert live_at(window, NOW - MINUTE, NOW - MINUTE, run_after=NOW) == (True, None)
    assert live_at(window, NOW + 2 * HOUR, NOW + 2 * HOUR, run_after=NOW) == (False, None)


@pytest.mark.parametrize("ahead", ["ours", "batch"])
def test_with_clocks_that_differ_by_minutes_a_window_opens_late_and_closes_early(ahead):
    window = CampaignWindow(start=NOW, end=NOW + HOUR, timezone="UTC")
    for edge in (NOW, NOW + HOUR):
        early, late = edge - 2 * MINUTE, edge + 2 * MINUTE
        assert live_at(window, *((late, early) if ahead == "ours" else (early, late))) == (False, None)


@pytest.mark.parametrize("wrong", [-24 * HOUR, -HOUR, HOUR, 24 * HOUR])
def test_with_clocks_that_differ_by_hours_no_window_opens_and_closing_one_ends_in_an_error(wrong):
    opening = CampaignWindow(start=NOW + wrong / 2, end=NOW + 9 * 24 * HOUR, timezone="UTC")
    with pytest.raises(BatchClockError, match="The clocks disagree"):
        live_at(opening, NOW, NOW + wrong)
    closing = CampaignWindow(start=NOW - 9 * 24 * HOUR, end=NOW + wrong / 2, timezone="UTC")
    live, error = live_at(closing, NOW, NOW + wrong)
    assert live is False
    assert isinstance(error, BatchClockError)
    assert error.transient
