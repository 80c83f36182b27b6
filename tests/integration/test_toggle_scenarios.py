"""The nights that the toggle is for, one test for each, named after it, against the sandbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from task import Attempt

from airflow_batch._airflow.compat import AirflowRescheduleException, AirflowSkipException
from airflow_batch.exceptions import (
    BatchAuthenticationError,
    BatchChangeRefusedError,
    BatchConfigurationError,
    BatchMalformedParameterError,
    BatchNotVisibleError,
)
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator
from airflow_batch.sandbox import BatchSandbox, Contract, Fault
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
ONE_TIME = {name: value for name, value in DEFINITION.items() if name != "recurrence"}
THIS_MINUTE = datetime.now(UTC).replace(second=0, microsecond=0)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)

pytestmark = pytest.mark.usefixtures("clock")


def toggle(campaign, live, **arguments):
    return BatchSetCampaignLiveOperator(task_id="toggle", campaign=campaign, live=live, **arguments)


def run(task, run_after=None, *, reschedules=0, **ti):
    """Execute one attempt of a scheduled run that was due at ``run_after``."""
    context = {
        "ti": Attempt(**ti),
        "task": task,
        "task_reschedule_count": reschedules,
        "dag_run": SimpleNamespace(run_after=run_after or datetime.now(UTC), run_type="scheduled"),
    }
    return task.execute(context)


def writes(sandbox):
    return [record for record in sandbox.requests if record.operation == "update"]


class TestUnpausedAfterTwoDays:
    """The DAG was paused on Friday; on Sunday Airflow makes up for the runs of two days, one after the other."""

    # On now, and it was switched each half day before.
    CHANGES = [THIS_MINUTE - 12 * HOUR * step - HOUR for step in (4, 3, 2, 1, 0)]

    def test_unpaused_after_two_days(self, batch):
        """Each made-up run does what is right now: the first switches on, no other does anything."""
        token = batch.add_campaign(DEFINITION)
        window = CampaignWindow(
            on=f"{self.CHANGES[0]:%M %H} * * *", off=f"{self.CHANGES[1]:%M %H} * * *", timezone="UTC"
        )
        results = [run(toggle(token, window), moment) for moment in self.CHANGES]
        assert [result["changed"] for result in results] == [True, False, False, False, False]
        assert {result["live"] for result in results} == {True}
        assert len(writes(batch)) == 1

    def test_unpaused_after_two_days_with_fixed_booleans(self, batch):
        """The ons of the past days are skipped with the reason, the offs are still done: it ends switched off."""
        token = batch.add_campaign(LIVE)
        with pytest.raises(AirflowSkipException, match="max_lateness"):
            run(toggle(batch.add_campaign(DEFINITION), True), self.CHANGES[0])
        assert run(toggle(token, False), self.CHANGES[1])["changed"] is True
        assert batch.campaign(token)["live"] is False


def test_on_and_off_overlapping(batch):
    """The run of the off overtakes that of the on, which was throttled: the campaign stays off."""
    token = batch.add_campaign(DEFINITION)
    opened, closed = THIS_MINUTE - 2 * HOUR, THIS_MINUTE - MINUTE
    task = toggle(token, CampaignWindow(start=opened, end=closed, timezone="UTC"))
    batch.inject(Fault("answer", status=429))
    with pytest.raises(AirflowRescheduleException):
        run(task, opened)
    assert run(task, closed)["changed"] is False
    late = run(task, opened, reschedules=1)
    assert (late["live"], late["changed"]) == (False, False)
    assert batch.campaign(token)["live"] is False
    assert writes(batch) == []


def test_on_and_off_overlapping_where_the_on_was_sent(batch):
    """The on's answer is lost, the off is done meanwhile: the on's retry must not switch on again."""
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
def test_maintenance_of_40_minutes_at_the_evening_off(batch, operation):
    """All is refused with 503/2 for 40 minutes: the campaign is stopped when that ends, at no cost of a retry."""
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
    # No wait is so long that the campaign stays on for long after the maintenance.
    assert passed < 50 * MINUTE


def test_a_toggle_to_live_whose_push_time_has_passed(batch):
    """Nothing is sent, and the error says what to do; a clear of the task cannot set it live either."""
    token = batch.add_campaign(ONE_TIME)
    for try_number in (1, 2):
        with pytest.raises(BatchChangeRefusedError, match="Give it a push_time in the future"):
            run(toggle(token, True), try_number=try_number)
    assert writes(batch) == []
    assert batch.campaign(token)["live"] is False


def test_view_output_that_update_refuses(connect):
    """On fails with the way out, and works with the definition; off works with nothing at all."""
    with BatchSandbox(contract=Contract(message_language_in_view=False)) as sandbox:
        connect(sandbox.connection())
        token = sandbox.add_campaign(DEFINITION)
        with pytest.raises(BatchMalformedParameterError, match=r"pass definition=.*read='never'"):
            run(toggle(token, True, definition=DEFINITION))
        assert run(toggle(token, True, definition=DEFINITION, read="never"))["changed"] is True
        assert run(toggle(token, False))["changed"] is True
        assert sandbox.campaign(token)["live"] is False


def test_dev_key_only(batch, connect):
    """On and off work, nothing is read but tried, and what cannot be known is null."""
    connect(batch.connection(kind="dev"))
    token = batch.add_campaign(DEFINITION)
    for live in (True, False):
        result = run(toggle(token, live))
        assert (result["live"], result["changed"], result["name"]) == (live, True, None)
        assert batch.campaign(token)["live"] is live
    assert [record.status for record in batch.requests] == [403, 200, 403] * 2


def test_token_of_another_app(connect):
    """The campaign of the other platform is not switched, and the error names the app."""
    with BatchSandbox(apps=("ios", "android")) as sandbox:
        connect(sandbox.connection("api_keys"))
        token = sandbox.add_campaign(DEFINITION, app="android")
        with pytest.raises(BatchNotVisibleError, match=r"app 'ios'.*belongs to the app"):
            run(toggle(token, True, app="ios"))
        assert sandbox.campaign(token)["live"] is False


@pytest.mark.parametrize("mode", ["strict", "merge", "replace"])
def test_marketers_edit_between_two_toggles(connect, mode):
    """What a colleague changed in the dashboard after the on is still there after the off, whatever the definition."""
    with BatchSandbox(update_mode=mode) as sandbox:
        connect(sandbox.connection())
        token = sandbox.add_campaign(DEFINITION)
        run(toggle(token, True, definition=DEFINITION))
        edited = {**LIVE, "messages": [{"language": "en", "body": "Good night", "title": "News"}], "priority": "high"}
        BatchHook().update_campaign(token, edited)
        before = sandbox.campaign(token)
        run(toggle(token, False, definition=DEFINITION))
        assert sandbox.campaign(token) == {**before, "live": False}


def test_key_rotated_while_waiting(batch, connect):
    """The connection is read anew by each attempt: the one that comes back has the new key."""
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


def test_key_rotated_while_waiting_is_a_permanent_failure_where_the_connection_is_not(batch, connect):
    """A key that Batch takes no more fails the task at once: it does not wait out its retries."""
    connect({**batch.connection(), "password": "sandbox-the-old-key"})
    with pytest.raises(BatchAuthenticationError, match="Check the connection's password"):
        run(toggle(batch.add_campaign(DEFINITION), True))
    assert len(batch.requests) == 1


def test_sandbox_keys_against_the_real_host(batch, connect):
    """They are not sent: the error says which of the two is wrong."""
    connect({**batch.connection(), "host": "https://api.batch.com"})
    with pytest.raises(BatchConfigurationError, match="Sandbox keys are only sent to this machine"):
        run(toggle(batch.add_campaign(DEFINITION), True))
    assert batch.requests == ()


def test_real_keys_against_the_sandbox(batch, connect):
    """They are refused, and neither the error nor the sandbox's log shows them."""
    rest, live = "d4c3b2a1d4c3b2a1d4c3b2a1d4c3b2a1", "5F2A0C1D9E8B7A6F5E4D3C2B1A0F9E"
    token = batch.add_campaign(LIVE)
    connect({**batch.connection(), "password": rest, "login": live})
    with pytest.raises(BatchAuthenticationError, match="This is the sandbox") as caught:
        run(toggle(token, False))
    seen = f"{caught.value!r} {[record.as_dict() for record in batch.requests]}"
    assert rest not in seen
    assert live not in seen
    assert batch.campaign(token)["live"] is True
