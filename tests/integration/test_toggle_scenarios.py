"""Sequences of runs that BatchSetCampaignLiveOperator must get right, against the sandbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from task import context_of

from airflow_batch._airflow.compat import AirflowRescheduleException
from airflow_batch.exceptions import (
    BatchAuthenticationError,
    BatchNotVisibleError,
)
from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator
from airflow_batch.sandbox import Fault
from airflow_batch.windows import CampaignWindow

DEFINITION = {
    "name": "Evening news",
    "live": False,
    "push_time": "2020-01-01T08:00:00",
    "recurrence": {"repeat_unit": "DAILY", "repeat_frequency": 1},
    "labels": ["NEWS"],
    "messages": [{"language": "en", "body": "Good evening"}],
}
LIVE = {**DEFINITION, "live": True}
THIS_MINUTE = datetime.now(UTC).replace(second=0, microsecond=0)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)

pytestmark = pytest.mark.usefixtures("clock")


def toggle(campaign, live, **arguments):
    return BatchSetCampaignLiveOperator(task_id="toggle", campaign=campaign, live=live, **arguments)


def run(task, run_after=None, *, reschedules=0, **ti):
    """Execute one attempt of a scheduled run that was due at ``run_after``."""
    return task.execute(context_of(task, run_after=run_after, reschedules=reschedules, **ti))


def writes(sandbox):
    return [record for record in sandbox.requests if record.operation == "update"]


def test_of_the_missed_runs_of_a_dag_that_was_paused_for_two_days_only_the_first_sends_an_update(batch):
    """Airflow makes up for the missed runs one after the other, and each applies the state of the window now."""
    token = batch.add_campaign(DEFINITION)
    # The window is open now, and it changed each half day before.
    changes = [THIS_MINUTE - 12 * HOUR * step - HOUR for step in (4, 3, 2, 1, 0)]
    window = CampaignWindow(on=f"{changes[0]:%M %H} * * *", off=f"{changes[1]:%M %H} * * *", timezone="UTC")
    results = [run(toggle(token, window), moment) for moment in changes]
    assert [result["changed"] for result in results] == [True, False, False, False, False]
    assert {result["live"] for result in results} == {True}
    assert len(writes(batch)) == 1


def test_the_run_of_a_windows_opening_that_is_rescheduled_past_its_end_leaves_the_campaign_off(batch):
    """The run of the window's end overtakes that of its opening, which was throttled."""
    token = batch.add_campaign(DEFINITION)
    opened, closed = THIS_MINUTE - 2 * HOUR, THIS_MINUTE - MINUTE
    task = toggle(token, CampaignWindow(start=opened, end=closed, timezone="UTC"))
    batch.inject(Fault("answer", status=429, headers={"Retry-After": "20"}))
    with pytest.raises(AirflowRescheduleException):
        run(task, opened)
    assert run(task, closed)["changed"] is False
    late = run(task, opened, reschedules=1)
    assert (late["live"], late["changed"]) == (False, False)
    assert batch.campaign(token)["live"] is False
    assert writes(batch) == []


def test_the_retry_of_a_windows_opening_after_its_end_leaves_the_campaign_off(batch):
    """The answer to the on is lost, and the run of the window's end stops the campaign before the retry."""
    token = batch.add_campaign(DEFINITION)
    opened, closed = THIS_MINUTE - 2 * HOUR, THIS_MINUTE - MINUTE
    batch.inject(Fault("reset_after", "update"))
    on = run(toggle(token, CampaignWindow(start=opened, end=THIS_MINUTE + HOUR, timezone="UTC")), opened)
    assert (on["live"], on["changed"]) == (True, None)
    closed_window = CampaignWindow(start=opened, end=closed, timezone="UTC")
    assert run(toggle(token, closed_window), closed)["changed"] is True
    assert run(toggle(token, closed_window), opened, try_number=2)["live"] is False
    assert batch.campaign(token)["live"] is False


@pytest.mark.parametrize("operation", ["any", "update"])
def test_a_stop_during_a_maintenance_of_40_minutes_is_sent_after_it_without_a_retry(batch, operation):
    """Batch answers 503 with code 2 for 40 minutes, to all requests or to updates."""
    token = batch.add_campaign(LIVE)
    task = toggle(token, False)
    due = datetime.now(UTC)
    batch.inject(Fault("answer", operation, error="MAINTENANCE_ERROR", times=None))
    passed, waits = timedelta(0), []
    while passed < 40 * MINUTE:
        with pytest.raises(AirflowRescheduleException) as caught:
            run(task, due - passed, reschedules=len(waits), refused_for=passed if waits else None)
        waits.append(caught.value.reschedule_date - datetime.now(UTC))
        passed += waits[-1]
    batch.clear_faults()
    result = run(task, due - passed, reschedules=len(waits), refused_for=passed)
    assert (result["live"], result["changed"], result["attempt"]) == (False, True, 1)
    assert batch.campaign(token)["live"] is False
    assert 5 < len(waits) < 40
    assert min(waits) > timedelta(seconds=59)
    # No delay is so long that the campaign stays live long after the maintenance.
    assert passed < 50 * MINUTE


def test_a_toggle_of_another_apps_campaign_fails_and_names_the_app(two_apps):
    token = two_apps.add_campaign(DEFINITION, app="android")
    with pytest.raises(BatchNotVisibleError, match=r"app 'ios'.*belongs to the app"):
        run(toggle(token, True, app="ios"))
    assert two_apps.campaign(token)["live"] is False


def test_each_attempt_of_a_toggle_reads_the_connection_again(batch, connect):
    token = batch.add_campaign(LIVE)
    task = toggle(token, False)
    connect({**batch.connection(), "login": "sandbox-the-old-key"})
    batch.inject(Fault("answer", error="MAINTENANCE_ERROR"))
    with pytest.raises(AirflowRescheduleException):
        run(task)
    with pytest.raises(BatchAuthenticationError):
        run(task, reschedules=1)
    connect(batch.connection())
    assert run(task, reschedules=1)["changed"] is True
    assert batch.campaign(token)["live"] is False


def test_keys_that_are_not_the_sandboxs_are_refused_and_shown_neither_in_the_error_nor_in_its_log(batch, connect):
    rest, live = "d4c3b2a1d4c3b2a1d4c3b2a1d4c3b2a1", "5F2A0C1D9E8B7A6F5E4D3C2B1A0F9E"
    token = batch.add_campaign(LIVE)
    connect({**batch.connection(), "password": rest, "login": live})
    with pytest.raises(BatchAuthenticationError, match="This is the sandbox") as caught:
        run(toggle(token, False))
    seen = f"{caught.value!r} {[record.as_dict() for record in batch.requests]}"
    assert rest not in seen
    assert live not in seen
    assert batch.campaign(token)["live"] is True
