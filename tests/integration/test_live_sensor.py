"""What BatchCampaignLiveSensor does with one attempt, against the sandbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from task import Attempt, attempt, seconds_until

from airflow_batch._airflow.compat import AirflowRescheduleException, AirflowSensorTimeout, AirflowSkipException
from airflow_batch.exceptions import BatchApiMisuseError, BatchNotFoundError, BatchPayloadError
from airflow_batch.sandbox import Fault
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor
from airflow_batch.windows import CampaignWindow

CAMPAIGN = {
    "name": "Morning news",
    "live": True,
    "push_time": "2099-01-05T08:00:00",
    "messages": [{"language": "en", "body": "Good morning"}],
}


@pytest.fixture
def token(batch):
    return batch.add_campaign(CAMPAIGN)


@pytest.fixture
def sensor(token):
    """Return a function that makes a sensor for the sandbox's campaign."""

    def make(**arguments):
        return BatchCampaignLiveSensor(task_id="confirm", **{"campaign": token, **arguments})

    return make


def test_a_live_sensor_succeeds_with_a_summary_where_the_campaign_is_in_the_desired_state(token, sensor):
    summary = attempt(sensor())
    assert datetime.fromisoformat(summary.pop("checked_at")).utcoffset() == timedelta(0)
    assert summary.pop("created_date")
    assert summary == {
        "campaign_token": token,
        "app": None,
        "live": True,
        "name": "Morning news",
        "push_time": "2099-01-05T08:00:00",
    }


@pytest.mark.parametrize("live", [False, "False"])
def test_a_live_sensor_polls_again_after_the_poke_interval_until_the_desired_state(batch, sensor, live):
    with pytest.raises(AirflowRescheduleException) as caught:
        attempt(sensor(live=live))
    assert 29 <= seconds_until(caught.value.reschedule_date) <= 30.5
    assert [record.operation for record in batch.requests] == ["view"]


def test_a_live_sensor_reschedules_and_times_out_after_ten_minutes_by_default(sensor):
    assert (sensor().mode, sensor().timeout) == ("reschedule", 600)
    with pytest.raises(AirflowSensorTimeout):
        attempt(sensor(live=False), reschedules=3, refused_for=timedelta(seconds=601))


def test_a_live_sensor_in_poke_mode_waits_in_its_slot(batch, token, sensor):
    batch.inject(Fault("answer", "view", status=500), Fault("answer", "view", status=500))
    assert attempt(sensor(mode="poke", poke_interval=0.05))["live"] is True
    assert [record.status for record in batch.requests] == [500, 500, 200]


class TestWindow:
    OPEN = CampaignWindow(start="2000-01-01T00:00", end="2098-01-01T00:00", timezone="UTC")
    AHEAD = CampaignWindow(start="2098-01-01T00:00", end="2099-01-01T00:00", timezone="UTC")
    DAILY = CampaignWindow(on="0 9 * * *", off="0 18 * * *", timezone="UTC")

    @pytest.mark.parametrize(("live", "window"), [(True, OPEN), (False, AHEAD)])
    def test_a_live_sensor_with_a_window_succeeds_where_the_campaign_is_in_the_state_of_the_window(
        self, batch, sensor, live, window
    ):
        token = batch.add_campaign({**CAMPAIGN, "live": live})
        assert attempt(sensor(campaign=token, live=window))["live"] is live

    @pytest.mark.parametrize(("live", "window"), [(True, AHEAD), (False, OPEN)])
    def test_a_live_sensor_with_a_window_polls_again_where_the_campaign_is_in_the_other_state(
        self, batch, sensor, live, window
    ):
        token = batch.add_campaign({**CAMPAIGN, "live": live})
        with pytest.raises(AirflowRescheduleException):
            attempt(sensor(campaign=token, live=window))

    @pytest.mark.parametrize(("live", "before", "after"), [(True, "08:59:59", "09:00"), (False, "17:59:59", "18:00")])
    def test_a_live_sensor_follows_a_change_of_the_window_while_it_waits(
        self, batch, sensor, monkeypatch, live, before, after
    ):
        class Clock(datetime):
            """Passes from one moment to the other with the first poll."""

            @classmethod
            def now(cls, tz=None):
                return datetime.fromisoformat(f"2026-11-23T{after if batch.requests else before}+00:00")

        monkeypatch.setattr("airflow_batch.triggers._poll.datetime", Clock)
        token = batch.add_campaign({**CAMPAIGN, "live": live})
        summary = attempt(sensor(campaign=token, live=self.DAILY, mode="poke", poke_interval=0.001))
        assert summary["live"] is live
        assert len(batch.requests) == 2

    def test_a_live_sensor_uses_the_moment_of_its_run_where_the_workers_clock_is_behind(self, sensor):
        dag_run = SimpleNamespace(run_after=datetime(2098, 1, 1, tzinfo=UTC))
        assert sensor(live=self.AHEAD).execute({"ti": Attempt(), "dag_run": dag_run})["live"] is True

    def test_rendering_the_templates_of_a_live_sensor_keeps_its_window(self, sensor):
        rendered = sensor(live=self.OPEN)
        rendered.render_template_fields({})
        assert attempt(rendered)["live"] is True


class TestRefused:
    @pytest.mark.parametrize("status", [429, 500])
    def test_a_live_sensor_polls_again_after_a_transient_error(self, batch, sensor, status):
        batch.inject(Fault("answer", "view", status=status))
        with pytest.raises(AirflowRescheduleException):
            attempt(sensor())

    def test_a_live_sensor_polls_again_after_a_refused_connection(self, batch, sensor, connect):
        connect({**batch.connection(), "host": "http://127.0.0.1:9"})
        with pytest.raises(AirflowRescheduleException):
            attempt(sensor())

    @pytest.mark.parametrize("never_fail", [False, True])
    def test_a_live_sensor_does_not_poll_before_retry_after_has_passed(self, batch, sensor, never_fail):
        batch.inject(Fault("answer", "view", status=429, headers={"Retry-After": "200"}))
        with pytest.raises(AirflowRescheduleException) as caught:
            attempt(sensor(never_fail=never_fail))
        assert seconds_until(caught.value.reschedule_date) >= 199.9

    def test_a_live_sensor_does_not_poll_within_10_s_of_a_429_with_a_shorter_poke_interval(self, batch, sensor):
        batch.inject(Fault("answer", "view", status=429))
        with pytest.raises(AirflowRescheduleException) as caught:
            attempt(sensor(poke_interval=1))
        assert seconds_until(caught.value.reschedule_date) >= 9.9

    def test_a_live_sensor_in_poke_mode_does_not_poll_within_10_s_of_a_429(self, sandbox_with, sensor_clock):
        sandbox = sandbox_with(clock=sensor_clock.now)
        sandbox.inject(Fault("answer", "view", status=429))
        token = sandbox.add_campaign(CAMPAIGN)
        attempt(BatchCampaignLiveSensor(task_id="s", campaign=token, mode="poke", poke_interval=0.001))
        first, second = (record.time for record in sandbox.requests)
        assert second - first >= timedelta(seconds=10)

    def test_a_live_sensor_times_out_at_once_for_a_retry_after_beyond_its_timeout(self, batch, sensor):
        batch.inject(Fault("answer", "view", status=429, headers={"Retry-After": "601"}))
        with pytest.raises(AirflowSensorTimeout, match="601 s"):
            attempt(sensor())

    def test_a_live_sensor_times_out_although_it_is_throttled(self, batch, sensor):
        batch.inject(Fault("answer", "view", status=429, times=None))
        with pytest.raises(AirflowSensorTimeout):
            attempt(sensor(), reschedules=9, refused_for=timedelta(seconds=595))

    def test_mapped_live_sensors_that_are_throttled_together_are_rescheduled_at_different_moments(self, batch, sensor):
        batch.inject(Fault("answer", "view", status=429, times=None))
        seconds = set()
        for index in range(10):
            with pytest.raises(AirflowRescheduleException) as caught:
                attempt(sensor(), map_index=index)
            seconds.add(round(seconds_until(caught.value.reschedule_date)))
        assert len(seconds) > 3

    def test_the_jitter_of_a_throttled_live_sensor_ends_with_its_timeout(self, batch, sensor):
        batch.inject(Fault("answer", "view", status=429, times=None))
        for index in range(10):
            with pytest.raises(AirflowRescheduleException) as caught:
                attempt(sensor(poke_interval=10), map_index=index, reschedules=9, refused_for=timedelta(seconds=585))
            assert seconds_until(caught.value.reschedule_date) <= 15


class TestPermanent:
    def test_a_live_sensor_of_an_unknown_campaign_fails(self, batch, sensor):
        with pytest.raises(BatchNotFoundError):
            attempt(sensor(campaign="unknown"))

    def test_a_live_sensor_whose_key_cannot_read_fails(self, batch, sensor, connect):
        connect(batch.connection(kind="dev"))
        with pytest.raises(BatchApiMisuseError):
            attempt(sensor())

    def test_a_live_sensor_with_soft_fail_is_skipped_for_a_permanent_error(self, batch, sensor):
        with pytest.raises(AirflowSkipException):
            attempt(sensor(campaign="unknown", soft_fail=True))

    @pytest.mark.parametrize("arguments", [{"campaign": ""}, {"live": "maybe"}])
    def test_an_invalid_argument_of_a_live_sensor_fails_before_any_request(self, batch, sensor, arguments):
        task = sensor()
        vars(task).update(arguments)  # as templates may render them
        with pytest.raises(BatchPayloadError):
            attempt(task)
        assert batch.requests == ()


def test_poke_of_a_live_sensor_works_without_execute_for_tests_of_dags(batch, token, sensor):
    context = {"ti": Attempt()}
    assert sensor().poke(context).xcom_value["campaign_token"] == token
    assert not sensor(live=False).poke(context).is_done
    batch.inject(Fault("answer", "view", status=429))
    refused = sensor()
    assert [refused.poke(context).is_done for _ in range(2)] == [False, False]
    assert [record.status for record in batch.requests] == [200, 200, 429]


@pytest.mark.parametrize(
    "garbage", [Fault("html", "view", status=200), Fault("answer", "view", status=200, body="")], ids=["html", "empty"]
)
def test_a_live_sensor_polls_again_after_an_unreadable_response(batch, sensor, garbage):
    batch.inject(garbage)
    assert attempt(sensor(mode="poke", poke_interval=0.05))["live"] is True
    assert len(batch.requests) == 2
