"""The next step of a change: the decisions, without a hook, a clock or Airflow."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from airflow_batch._campaigns.history import History, Write
from airflow_batch._campaigns.payload import payload_digest
from airflow_batch._campaigns.plan import (
    AskBatch,
    Done,
    Refuse,
    Send,
    Situation,
    StillUnconfirmed,
    TooLate,
    Wait,
    plan_change,
)
from airflow_batch._campaigns.request import ChangeRequest
from airflow_batch._campaigns.rules import Clocks
from airflow_batch.exceptions import BatchChangeRefusedError, BatchRepeatRefusedError

NOW = datetime(2027, 3, 1, 9, 0, tzinfo=UTC)
SEEN = {
    "campaign_token": "abc",
    "name": "Summer sale",
    "live": False,
    "push_time": "2027-03-02T09:00:00",
    "messages": [{"language": "en", "body": "Hi"}],
}
ON, OFF = ChangeRequest(token="abc", live=True), ChangeRequest(token="abc", live=False)


def situation(request=ON, seen=SEEN, history=None, ours=NOW, batch=None, **more):
    history = history or History(began=ours)
    return Situation(request=request, seen=seen, history=history, clocks=Clocks(ours, batch or ours), **more)


def written(live, ago=timedelta(0), **more):
    """Return the history after a request of this attempt that switched the campaign."""
    write = Write(at=NOW - ago, digest=payload_digest({"live": live}), **more)
    return History(began=NOW - ago, **{"on" if live else "off": write})


def test_switching_on_sends_the_viewed_campaign_with_live_and_without_the_fields_of_the_server():
    plan = plan_change(situation())
    assert isinstance(plan, Send)
    assert plan.payloads == ({**{k: v for k, v in SEEN.items() if k != "campaign_token"}, "live": True},)
    assert not plan.at_once


def test_a_campaign_in_the_desired_state_is_not_changed():
    assert plan_change(situation(seen={**SEEN, "live": True})) == Done(False, desired={"live": True})


@pytest.mark.parametrize("clock", ["ours", "batch"])
def test_a_push_time_that_has_passed_by_either_clock_is_refused(clock):
    clocks = {"ours": NOW, "batch": NOW, clock: NOW + timedelta(days=1)}
    plan = plan_change(situation(**clocks))
    assert isinstance(plan, Refuse)
    assert isinstance(plan.error, BatchChangeRefusedError)


def test_switching_on_after_the_latest_time_is_too_late():
    assert isinstance(plan_change(situation(replace(ON, latest_on=NOW - timedelta(seconds=1)))), TooLate)


def test_nothing_is_switched_on_before_the_first_answer_of_batch():
    assert plan_change(situation(replace(ON, read=False), seen=None, has_answered=False)) == AskBatch()


def test_after_an_ambiguous_switch_on_the_campaign_is_read_again_for_two_minutes_and_then_airflow_retries():
    assert isinstance(plan_change(situation(history=written(True))), Wait)
    shown = situation(seen={**SEEN, "live": True}, history=written(True))
    assert plan_change(shown) == Done(None, desired={"live": True})
    assert plan_change(situation(history=written(True, ago=timedelta(minutes=2)))) == StillUnconfirmed()


def test_a_push_that_is_sent_at_once_is_not_sent_again():
    history = replace(written(True, ago=timedelta(minutes=2), push_at=NOW), push_at=NOW)
    plan = plan_change(situation(history=history))
    assert isinstance(plan, Refuse)
    assert isinstance(plan.error, BatchRepeatRefusedError)


def test_a_stop_has_payloads_to_fall_back_on_down_to_live_alone():
    plan = plan_change(situation(OFF, seen={**SEEN, "live": True}))
    assert isinstance(plan, Send)
    assert plan.payloads[1:] == ({"name": "Summer sale", "live": False}, {"live": False})


def test_a_stop_is_sent_after_an_own_switch_on_whatever_view_shows():
    assert isinstance(plan_change(situation(OFF, history=written(True))), Send)


def test_the_second_stop_is_sent_two_minutes_after_the_own_switch_on():
    history = replace(written(True, ago=timedelta(seconds=30)), off=Write(at=NOW, digest="", confirmed=True))
    assert plan_change(situation(OFF, history=history)) == Wait(
        timedelta(seconds=90), "an earlier request may still set it live"
    )


def test_switching_on_waits_two_minutes_after_an_own_stop_and_is_sent_whatever_view_shows():
    shown = {**SEEN, "live": True}
    waiting = plan_change(situation(seen=shown, history=written(False, confirmed=True)))
    assert isinstance(waiting, Wait)
    settled = written(False, ago=timedelta(minutes=2), confirmed=True)
    assert isinstance(plan_change(situation(seen=shown, history=settled)), Send)
