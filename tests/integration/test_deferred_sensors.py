"""Deferred sensors without a triggerer: the first poll in the worker, the trigger in a loop, the resuming sensor."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk import BaseHook
from task import Attempt, attempt, seconds_until

from airflow_batch._airflow.compat import AirflowRescheduleException, AirflowSensorTimeout, AirflowSkipException
from airflow_batch.exceptions import (
    BatchApiMisuseError,
    BatchAuthenticationError,
    BatchConfigurationError,
    BatchError,
    BatchNotFoundError,
)
from airflow_batch.sandbox import BatchSandbox, Fault
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor, BatchCampaignStatsSensor
from airflow_batch.triggers._poll import LivePoll, Reference
from airflow_batch.triggers.campaigns import BatchCampaignTrigger
from airflow_batch.windows import CampaignWindow

pytestmark = pytest.mark.usefixtures("no_sync_connection_in_the_loop")

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:  # Airflow 3.1
    from airflow.exceptions import TaskDeferred

CAMPAIGN = {"name": "Morning news", "live": False, "push_time": "2099-01-05T08:00:00", "messages": []}
QUICK = 0.05
FAILS = Fault("answer", status=500)


def live_sensor(campaign, **arguments):
    return BatchCampaignLiveSensor(task_id="wait", campaign=campaign, deferrable=True, **arguments)


def stats_sensor(campaign, **arguments):
    return BatchCampaignStatsSensor(task_id="wait", campaign=campaign, deferrable=True, **arguments)


def deferred(task, **ti):
    """Run the worker's part, which must end in a deferral; return what Airflow gets."""
    with pytest.raises(TaskDeferred) as caught:
        attempt(task, **ti)
    return caught.value


def as_stored(deferral):
    """Return the trigger as a triggerer creates it, from what was stored."""
    return BatchCampaignTrigger(**json.loads(json.dumps(deferral.trigger.serialize()[1])))


def fire(trigger):
    """Run a trigger until its event; return its payload as it would arrive."""

    async def first():
        return await anext(trigger.run())

    return json.loads(json.dumps(asyncio.run(first()).payload))


def resumed(task, event, context=None):
    return task.resume_execution("resume", {"event": event}, {"ti": Attempt()} if context is None else context)


def run_to_the_end(task):
    """Run the worker, the triggerer and the worker again; return the sensor's result."""
    return resumed(task, fire(as_stored(deferred(task))))


@pytest.fixture
def token(batch):
    return batch.add_campaign(CAMPAIGN)


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the trigger's sleeps set forward."""

    class Clock(datetime):
        moment = datetime(2026, 11, 22, 8, 59, 50, tzinfo=UTC)

        @classmethod
        def now(cls, tz=None):
            return cls.moment

    async def sleep_until(moment):
        Clock.moment = max(Clock.moment, moment)

    for place in ("sensors._base", "triggers.campaigns", "triggers._poll"):
        monkeypatch.setattr(f"airflow_batch.{place}.datetime", Clock)
    monkeypatch.setattr("airflow_batch.triggers.campaigns._sleep_until", sleep_until)
    return Clock


@pytest.fixture
def timed(clock, connect):
    """A sandbox that uses the same clock."""
    with BatchSandbox(clock=lambda: clock.moment) as sandbox:
        connect(sandbox.connection())
        yield sandbox


def switch(batch, token, live=True):
    """Answer the next poll with another state of the campaign."""
    batch.inject(Fault("answer", status=200, body={**batch.campaign(token), "campaign_token": token, "live": live}))


class TestInTheWorker:
    def test_a_sensor_that_succeeds_at_its_first_poll_is_not_deferred(self, batch, token):
        assert attempt(live_sensor(token, live=False))["campaign_token"] == token
        assert len(batch.requests) == 1

    def test_a_sensor_is_deferred_for_the_rest_of_its_timeout(self, token):
        deferral = deferred(live_sensor(token, timeout=100, poke_interval=20))
        assert deferral.method_name == "resume"
        assert 98 < deferral.timeout.total_seconds() <= 100
        assert 98 < seconds_until(deferral.trigger.deadline) <= 100
        assert 19 < seconds_until(deferral.trigger.not_before) <= 20

    @pytest.mark.parametrize("mode", ["poke", "reschedule"])
    def test_a_deferrable_sensor_is_deferred_in_each_mode(self, token, mode):
        assert deferred(live_sensor(token, mode=mode)).method_name == "resume"

    def test_a_sensor_is_not_deferred_without_deferrable(self, token):
        task = BatchCampaignLiveSensor(task_id="wait", campaign=token, live=False)
        assert task.deferrable is False
        assert attempt(task)["live"] is False

    def test_the_trigger_waits_for_the_end_of_a_429_of_the_first_poll(self, batch, token):
        batch.inject(Fault("answer", "view", status=429, headers={"Retry-After": "200"}))
        assert seconds_until(deferred(live_sensor(token)).trigger.not_before) >= 199

    def test_a_permanent_error_of_the_first_poll_fails_a_deferrable_sensor(self, batch):
        with pytest.raises(BatchNotFoundError):
            attempt(live_sensor("unknown"))

    def test_a_deferrable_sensor_whose_timeout_is_over_after_the_first_poll_times_out(self, token):
        with pytest.raises(AirflowSensorTimeout):
            attempt(live_sensor(token, timeout=0))

    @pytest.mark.parametrize("never", ["soft_fail", "never_fail"])
    def test_soft_fail_and_never_fail_do_not_prevent_a_deferral(self, token, never):
        deferred(live_sensor(token, **{never: True}))

    def test_the_default_of_deferrable_is_airflows_setting(self):
        code = (
            "from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor as L, BatchCampaignStatsSensor as S\n"
            "print([k(task_id='t', campaign='abc').deferrable for k in (L, S)])"
        )
        env = {**os.environ, "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True"}
        output = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
        assert output.stdout.splitlines()[-1] == "[True, True]", output.stderr

    def test_the_stored_trigger_contains_no_key(self, batch, token):
        for task in (live_sensor(token), live_sensor([token]), stats_sensor(token)):
            text = json.dumps(deferred(task).trigger.serialize()) + repr(deferred(task).trigger)
            assert batch.rest_key not in text
            assert batch.app_key() not in text


class TestDone:
    def test_a_deferred_sensor_of_one_campaign_succeeds_with_its_summary(self, batch, token):
        task = live_sensor(token, poke_interval=QUICK)
        deferral = deferred(task)
        switch(batch, token)
        summary = resumed(task, fire(as_stored(deferral)))
        assert datetime.fromisoformat(summary.pop("checked_at")).utcoffset() == timedelta(0)
        assert summary.pop("created_date")
        assert summary == {
            "campaign_token": token,
            "app": None,
            "live": True,
            "name": "Morning news",
            "push_time": "2099-01-05T08:00:00",
        }

    def test_a_deferred_sensor_of_two_apps_succeeds_with_a_summary_of_each_campaign(self, clock, connect):
        with BatchSandbox(apps=("ios", "android"), clock=lambda: clock.moment) as sandbox:
            connect(sandbox.connection("api_keys"))
            given = [{"campaign_token": sandbox.add_campaign(CAMPAIGN, app=app), "app": app} for app in sandbox.apps]
            task = live_sensor(given)
            deferral = deferred(task)
            for app in sandbox.apps:
                body = [{"campaign_token": ref["campaign_token"], "live": True} for ref in given if ref["app"] == app]
                sandbox.inject(Fault("answer", "list", app=app, status=200, body=body))
            summaries = resumed(task, fire(as_stored(deferral)))
            assert [{name: seen[name] for name in ("campaign_token", "app")} for seen in summaries] == given

    def test_a_deferred_stats_sensor_succeeds_once_pushes_were_sent(self, batch, token):
        batch.set_stats(token, [])
        task = stats_sensor(token, poke_interval=QUICK)
        deferral = deferred(task)
        batch.set_stats(token, [{"date": "2026-11-20", "sent": 10}])
        assert resumed(task, fire(as_stored(deferral)))["sent"] == 10
        assert {record.operation for record in batch.requests} == {"stats"}

    def test_the_map_index_of_a_deferred_sensor_is_labelled_with_app_and_name(self, connect):
        with BatchSandbox(apps=("ios", "android")) as sandbox:
            connect(sandbox.connection("api_keys"))
            token = sandbox.add_campaign(CAMPAIGN, app="ios")
            task = live_sensor(token, app="ios", poke_interval=QUICK)
            deferral = deferred(task)
            switch(sandbox, token)
            context = {"ti": Attempt()}
            resumed(task, fire(as_stored(deferral)), context)
            assert context["batch_index"] == "ios Morning news"

    def test_a_deferred_sensor_only_reads(self, batch, token):
        with pytest.raises(AirflowSensorTimeout):
            run_to_the_end(live_sensor(token, poke_interval=QUICK, timeout=0.5))
        assert len(batch.requests) > 2
        assert {(record.method, record.applied) for record in batch.requests} == {("GET", False)}


class TestWindow:
    DAILY = CampaignWindow(on="0 9 * * *", off="0 18 * * *", timezone="UTC")

    def test_a_deferred_sensor_follows_a_change_of_the_window_while_it_waits(self, timed):
        token = timed.add_campaign({**CAMPAIGN, "live": True})
        summary = run_to_the_end(live_sensor(token, live=self.DAILY, poke_interval=6))
        assert (summary["live"], len(timed.requests)) == (True, 3)  # at 08:59:50 and :56, and at 09:00:02

    def test_a_deferred_sensor_uses_the_moment_of_its_run_where_the_clock_is_behind(self, timed):
        token = timed.add_campaign(CAMPAIGN)
        task = live_sensor(token, live=self.DAILY, poke_interval=6)
        context = {"ti": Attempt(), "dag_run": SimpleNamespace(run_after=datetime(2026, 11, 22, 9, tzinfo=UTC))}
        with pytest.raises(TaskDeferred) as caught:
            task.execute(context)
        switch(timed, token)
        assert fire(as_stored(caught.value))["status"] == "success"


class TestLoop:
    def test_the_event_loop_is_not_blocked_by_a_server_that_does_not_answer(self, batch, token, connect):
        connect({**batch.connection(), "extra": {"timeout": [1, 1]}})
        trigger = as_stored(deferred(live_sensor(token, poke_interval=QUICK)))
        batch.inject(Fault("silence", "view", seconds=5))
        switch(batch, token)

        async def both():
            worst, last = 0.0, time.monotonic()
            event = asyncio.ensure_future(anext(trigger.run()))
            while not event.done():
                await asyncio.sleep(0.01)
                now = time.monotonic()
                worst, last = max(worst, now - last), now
            return worst, event.result().payload

        began = time.monotonic()
        worst, event = asyncio.run(both())
        assert time.monotonic() - began > 1
        assert event["status"] == "success"
        assert worst < 0.5

    def test_twenty_triggers_wait_at_the_same_time_for_a_server_that_does_not_answer(self, batch, token, connect):
        connect({**batch.connection(), "extra": {"timeout": [1, 1]}})
        triggers = [as_stored(deferred(live_sensor(token, poke_interval=QUICK, timeout=60))) for _ in range(20)]
        batch.inject(Fault("silence", "view", seconds=5, times=20))
        batch.inject(Fault("answer", status=200, body={"campaign_token": token, "live": True}, times=None))

        async def together():
            return await asyncio.gather(*(anext(trigger.run()) for trigger in triggers))

        began = time.monotonic()
        assert {event.payload["status"] for event in asyncio.run(together())} == {"success"}
        assert time.monotonic() - began < 8

    def test_a_trigger_ends_a_poll_that_outlasts_its_timeout(self, batch, token):
        trigger = as_stored(deferred(live_sensor(token, poke_interval=QUICK, timeout=1)))
        batch.inject(Fault("silence", "view", seconds=3))

        async def measured():
            began = time.monotonic()
            return await anext(trigger.run()), time.monotonic() - began

        event, seconds = asyncio.run(measured())
        assert event.payload["status"] == "timeout"
        assert seconds < 2


class TestRefused:
    @pytest.mark.parametrize(
        ("headers", "least"), [({"Retry-After": "200"}, 200), ({"Retry-After": "1"}, 10), ({}, 10)]
    )
    def test_a_trigger_does_not_poll_before_retry_after_has_passed(self, timed, headers, least):
        token = timed.add_campaign(CAMPAIGN)
        task = live_sensor(token, poke_interval=1)
        deferral = deferred(task)
        timed.inject(Fault("answer", "view", status=429, headers=headers))
        switch(timed, token)
        assert resumed(task, fire(as_stored(deferral)))["live"] is True
        _, refused, after = (record.time for record in timed.requests)
        assert timedelta(seconds=least) <= after - refused <= timedelta(seconds=least + 1)

    def test_a_trigger_times_out_at_once_for_a_retry_after_beyond_its_timeout(self, timed, clock):
        task = live_sensor(timed.add_campaign(CAMPAIGN))
        deferral = deferred(task)
        began = clock.moment
        timed.inject(Fault("answer", "view", status=429, headers={"Retry-After": "601"}))
        with pytest.raises(AirflowSensorTimeout, match="601 s"):
            resumed(task, fire(as_stored(deferral)))
        assert clock.moment - began < timedelta(seconds=40)

    @pytest.mark.parametrize("fault", ["view:500"])
    def test_a_trigger_polls_again_after_a_transient_error(self, timed, fault):
        token = timed.add_campaign(CAMPAIGN)
        task = live_sensor(token)
        deferral = deferred(task)
        timed.inject(fault)
        switch(timed, token)
        assert resumed(task, fire(as_stored(deferral)))["live"] is True

    def test_a_trigger_polls_again_where_the_connection_cannot_be_read(self, timed, monkeypatch):
        token = timed.add_campaign({**CAMPAIGN, "live": True})
        task = live_sensor(token, live=False, timeout=100)
        deferral = deferred(task)
        monkeypatch.delenv("AIRFLOW_CONN_BATCH_DEFAULT")
        with pytest.raises(AirflowSensorTimeout, match="'batch_default' cannot be read"):
            resumed(task, fire(as_stored(deferral)))
        assert len(timed.requests) == 1

    def test_triggers_that_another_triggerer_takes_over_poll_at_different_moments(self, timed, clock):
        token = timed.add_campaign(CAMPAIGN)
        deferral = deferred(live_sensor(token, poke_interval=60))
        clock.moment += timedelta(seconds=100)
        began, moments = clock.moment, []
        for index in range(10):
            trigger = as_stored(deferral)
            trigger.task_instance = Attempt(map_index=index)
            clock.moment = began
            switch(timed, token)
            fire(trigger)
            moments.append((timed.requests[-1].time - began).total_seconds())
        assert 0 <= min(moments) <= max(moments) <= 60
        assert len({round(moment) for moment in moments}) > 5


class TestRotated:
    def test_a_trigger_reads_the_connection_again_after_a_401(self, batch, token, connect):
        task = live_sensor(token, poke_interval=QUICK)
        deferral = deferred(task)
        with BatchSandbox(rest_key="sandbox-new-rest-key") as renewed:
            connect({**batch.connection(), "password": "sandbox-outdated"})
            trigger = as_stored(deferral)
            stock, calls = BaseHook.aget_connection.__func__, []

            async def rotate(cls, conn_id):
                calls.append(conn_id)
                connection = await stock(cls, conn_id)
                connect({**renewed.connection()})
                return connection

            fresh = renewed.add_campaign({**CAMPAIGN, "live": True})
            trigger.poll = LivePoll((Reference(fresh, None),), False, True)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(BaseHook, "aget_connection", classmethod(rotate))
                assert resumed(task, fire(trigger))["campaign_token"] == fresh
            assert len(calls) == 2
            assert [record.status for record in batch.requests] == [200, 401]
            assert [record.status for record in renewed.requests] == [200]

    def test_a_trigger_whose_keys_are_refused_twice_fails(self, batch, token, connect):
        task = live_sensor(token, poke_interval=QUICK)
        deferral = deferred(task)
        connect({**batch.connection(), "password": "sandbox-outdated"})
        with pytest.raises(BatchAuthenticationError):
            resumed(task, fire(as_stored(deferral)))
        assert [record.status for record in batch.requests] == [200, 401]

    def test_a_trigger_whose_connection_has_become_invalid_fails(self, batch, token, connect):
        task = live_sensor(token, poke_interval=QUICK)
        deferral = deferred(task)
        connect({**batch.connection(), "password": ""})
        with pytest.raises(BatchConfigurationError, match="password"):
            resumed(task, fire(as_stored(deferral)))


class TestPermanent:
    def test_a_deferred_sensor_raises_the_error_of_its_trigger_with_all_its_fields(self, batch, token):
        task = live_sensor(token, poke_interval=QUICK)
        deferral = deferred(task)
        batch.inject(Fault("answer", "view", error="API_MISUSE", headers={"Retry-After": "7"}))
        event = fire(as_stored(deferral))
        with pytest.raises(BatchApiMisuseError) as caught:
            resumed(task, event)
        error = caught.value
        assert (error.status_code, error.error_code, error.error_name) == (403, 12, "API_MISUSE")
        assert (error.retry_after, error.endpoint, error.may_have_been_applied) == (7, "view", False)
        assert token in str(error)

    def test_the_event_of_a_trigger_contains_no_key(self, batch, token):
        deferral = deferred(live_sensor(token, poke_interval=QUICK))
        batch.inject(Fault("echo", "view", status=403))
        text = json.dumps(fire(as_stored(deferral)))
        assert "BatchApiMisuseError" in text
        assert batch.rest_key not in text
        assert batch.app_key() not in text

    def test_a_deferred_sensor_with_soft_fail_is_skipped_for_a_permanent_error(self, batch, token):
        task = live_sensor(token, poke_interval=QUICK, soft_fail=True)
        deferral = deferred(task)
        batch.inject("view:404")
        with pytest.raises(AirflowSkipException):
            resumed(task, fire(as_stored(deferral)))


class TestTimeout:
    def test_a_deferred_sensor_times_out_as_in_the_other_modes(self, batch, token):
        with pytest.raises(AirflowSensorTimeout, match="timed out"):
            run_to_the_end(live_sensor(token, poke_interval=QUICK, timeout=0.5))

    def test_a_deferred_sensor_with_soft_fail_is_skipped_for_its_timeout(self, batch, token):
        with pytest.raises(AirflowSkipException):
            run_to_the_end(live_sensor(token, poke_interval=QUICK, timeout=0.5, soft_fail=True))

    def test_airflows_own_timeout_of_a_trigger_is_a_timeout_of_the_sensor(self, token):
        with pytest.raises(AirflowSensorTimeout):
            live_sensor(token).resume_execution("__fail__", {"error": "Trigger timeout"}, {"ti": Attempt()})

    def test_a_deferred_sensor_times_out_at_its_deadline_and_does_not_poll_afterwards(self, timed, clock):
        task = live_sensor(timed.add_campaign(CAMPAIGN), poke_interval=30, timeout=100)
        began = clock.moment
        with pytest.raises(AirflowSensorTimeout):
            run_to_the_end(task)
        assert (clock.moment - began).total_seconds() == 100
        assert [(record.time - began).total_seconds() for record in timed.requests] == [0, 30, 60, 90]

    def test_the_timeout_of_a_deferred_sensor_names_the_last_error(self, timed):
        task = live_sensor(timed.add_campaign(CAMPAIGN), timeout=100)
        deferral = deferred(task)
        timed.inject(Fault("answer", "view", status=502, times=None))
        with pytest.raises(AirflowSensorTimeout, match="502"):
            resumed(task, fire(as_stored(deferral)))


def most_in_a_minute(times):
    return max(bisect_left(times, time + 60) - index for index, time in enumerate(times))


class TestRequestsAMinute:
    @pytest.mark.parametrize("pages", [1, 2, 7, 10])
    @pytest.mark.parametrize("poke_interval", [1, 30])
    def test_a_deferred_sensor_of_many_campaigns_sends_at_most_twelve_requests_a_minute(
        self, timed, pages, poke_interval
    ):
        given = [timed.add_campaign(CAMPAIGN) for _ in range(100 * (pages - 1) + 1)]
        with pytest.raises(AirflowSensorTimeout):
            run_to_the_end(live_sensor(given, poke_interval=poke_interval, timeout=600))
        times = [record.time.timestamp() for record in timed.requests]
        assert most_in_a_minute(times) <= 12
        assert len(times) % pages == 0
        assert len(times) >= 10 * pages

    def test_a_deferred_sensor_whose_pages_fail_sends_at_most_twelve_requests_a_minute(self, timed):
        given = [timed.add_campaign(CAMPAIGN) for _ in range(901)]
        task = live_sensor(given, poke_interval=1, timeout=600)
        deferral = deferred(task)
        timed.inject(
            *(fault for good in range(1, 9) for fault in (Fault("delay", delay=0.001, times=good), FAILS, FAILS))
        )
        with pytest.raises(AirflowSensorTimeout):
            resumed(task, fire(as_stored(deferral)))
        times = [record.time.timestamp() for record in timed.requests]
        assert most_in_a_minute(times) <= 12

    def test_a_rescheduled_sensor_of_901_campaigns_polls_again_after_a_minute(self, batch):
        given = [batch.add_campaign(CAMPAIGN) for _ in range(901)]
        with pytest.raises(AirflowRescheduleException) as caught:
            attempt(BatchCampaignLiveSensor(task_id="wait", campaign=given, poke_interval=10))
        assert 59 <= seconds_until(caught.value.reschedule_date) <= 60

    def test_a_deferred_sensor_of_one_campaign_polls_once_in_each_poke_interval(self, timed):
        with pytest.raises(AirflowSensorTimeout):
            run_to_the_end(live_sensor(timed.add_campaign(CAMPAIGN), poke_interval=2, timeout=60))
        assert len(timed.requests) == 30


@pytest.mark.parametrize(
    "about", [["ios"], ["ios", "Summer", "x"], "ab", 5, {"a": 1}, [5, "Summer"], ["ios", None]], ids=repr
)
def test_an_event_with_an_invalid_campaign_is_an_error_of_this_provider(token, about):
    event = {"status": "success", "result": {}, "about": about}
    with pytest.raises(BatchError, match="no event of this provider"):
        resumed(live_sensor(token), event)


def test_a_trigger_polls_again_after_an_unreadable_response(batch, token):
    task = live_sensor(token, poke_interval=QUICK)
    deferral = deferred(task)
    batch.inject(Fault("html", "view", status=200))
    switch(batch, token)
    assert resumed(task, fire(as_stored(deferral)))["live"] is True
    assert len(batch.requests) == 3
