"""What BatchCampaignLiveSensor does with one attempt, against the sandbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from task import Attempt, attempt, seconds_until

from airflow_batch._airflow.compat import AirflowRescheduleException, AirflowSensorTimeout, AirflowSkipException
from airflow_batch.exceptions import BatchApiMisuseError, BatchNotFoundError, BatchPayloadError
from airflow_batch.sandbox import BatchSandbox, Fault
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


def test_a_campaign_that_is_as_wanted_ends_the_wait_with_its_summary(token, sensor):
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
def test_a_campaign_that_is_not_yet_as_wanted_is_looked_at_again_after_the_poke_interval(batch, sensor, live):
    with pytest.raises(AirflowRescheduleException) as caught:
        attempt(sensor(live=live))
    assert 29 <= seconds_until(caught.value.reschedule_date) <= 30.5
    assert [record.operation for record in batch.requests] == ["view"]


def test_it_reschedules_by_default_and_gives_up_after_ten_minutes(sensor):
    assert (sensor().mode, sensor().timeout) == ("reschedule", 600)
    with pytest.raises(AirflowSensorTimeout):
        attempt(sensor(live=False), reschedules=3, refused_for=timedelta(seconds=601))


def test_the_result_of_the_operator_names_campaign_and_app(connect):
    with BatchSandbox(apps=("ios", "android")) as sandbox:
        connect(sandbox.connection("api_keys"))
        token = sandbox.add_campaign(CAMPAIGN, app="android")
        result = {"campaign_token": token, "app": "android"}
        assert attempt(BatchCampaignLiveSensor(task_id="s", campaign=result))["app"] == "android"


def test_an_app_that_is_given_goes_before_that_of_the_result(connect):
    with BatchSandbox(apps=("ios", "android")) as sandbox:
        connect(sandbox.connection("api_keys"))
        token = sandbox.add_campaign(CAMPAIGN, app="ios")
        result = {"campaign_token": token, "app": "android"}
        assert attempt(BatchCampaignLiveSensor(task_id="s", campaign=result, app="ios"))["app"] == "ios"


def test_in_poke_mode_it_waits_in_its_slot(batch, token, sensor):
    batch.inject(Fault("answer", "view", status=500), Fault("answer", "view", status=500))
    assert attempt(sensor(mode="poke", poke_interval=0.05))["live"] is True
    assert [record.status for record in batch.requests] == [500, 500, 200]


class TestWindow:
    OPEN = CampaignWindow(start="2000-01-01T00:00", end="2098-01-01T00:00", timezone="UTC")
    AHEAD = CampaignWindow(start="2098-01-01T00:00", end="2099-01-01T00:00", timezone="UTC")
    DAILY = CampaignWindow(on="0 9 * * *", off="0 18 * * *", timezone="UTC")

    @pytest.mark.parametrize(("live", "window"), [(True, OPEN), (False, AHEAD)])
    def test_a_campaign_that_is_as_the_window_says_ends_the_wait(self, batch, sensor, live, window):
        token = batch.add_campaign({**CAMPAIGN, "live": live})
        assert attempt(sensor(campaign=token, live=window))["live"] is live

    @pytest.mark.parametrize(("live", "window"), [(True, AHEAD), (False, OPEN)])
    def test_one_that_is_not_is_looked_at_again(self, batch, sensor, live, window):
        token = batch.add_campaign({**CAMPAIGN, "live": live})
        with pytest.raises(AirflowRescheduleException):
            attempt(sensor(campaign=token, live=window))

    @pytest.mark.parametrize(("live", "before", "after"), [(True, "08:59:59", "09:00"), (False, "17:59:59", "18:00")])
    def test_a_wait_that_lasts_over_a_change_follows_it(self, batch, sensor, monkeypatch, live, before, after):
        class Clock(datetime):
            """Passes from one moment to the other with the first look."""

            @classmethod
            def now(cls, tz=None):
                return datetime.fromisoformat(f"2026-11-23T{after if batch.requests else before}+00:00")

        monkeypatch.setattr("airflow_batch.triggers._poll.datetime", Clock)
        token = batch.add_campaign({**CAMPAIGN, "live": live})
        summary = attempt(sensor(campaign=token, live=self.DAILY, mode="poke", poke_interval=0.001))
        assert summary["live"] is live
        assert len(batch.requests) == 2

    def test_a_run_that_is_ahead_of_the_workers_clock_is_at_its_own_moment(self, sensor):
        dag_run = SimpleNamespace(run_after=datetime(2098, 1, 1, tzinfo=UTC))
        assert sensor(live=self.AHEAD).execute({"ti": Attempt(), "dag_run": dag_run})["live"] is True

    def test_rendering_leaves_it_a_window(self, sensor):
        rendered = sensor(live=self.OPEN)
        rendered.render_template_fields({})
        assert attempt(rendered)["live"] is True


class TestRefused:
    @pytest.mark.parametrize("status", [429, 500, 502, 503])
    def test_a_transient_failure_means_not_yet(self, batch, sensor, status):
        batch.inject(Fault("answer", "view", status=status))
        with pytest.raises(AirflowRescheduleException):
            attempt(sensor())

    def test_so_does_a_connection_that_fails(self, batch, sensor, connect):
        connect({**batch.connection(), "host": "http://127.0.0.1:9"})
        with pytest.raises(AirflowRescheduleException):
            attempt(sensor())

    @pytest.mark.parametrize("never_fail", [False, True])
    def test_no_request_is_made_before_retry_after_has_passed(self, batch, sensor, never_fail):
        batch.inject(Fault("answer", "view", status=429, headers={"Retry-After": "200"}))
        with pytest.raises(AirflowRescheduleException) as caught:
            attempt(sensor(never_fail=never_fail))
        assert seconds_until(caught.value.reschedule_date) >= 199.9

    def test_no_request_is_made_before_batchs_floor_however_short_the_poke_interval(self, batch, sensor):
        batch.inject(Fault("answer", "view", status=429))
        with pytest.raises(AirflowRescheduleException) as caught:
            attempt(sensor(poke_interval=1))
        assert seconds_until(caught.value.reschedule_date) >= 9.9

    def test_in_poke_mode_it_stays_quiet_as_well(self, connect, monkeypatch):
        class Clock(datetime):
            """Half a second passes whenever someone looks."""

            moment = datetime(2026, 1, 1, tzinfo=UTC)

            @classmethod
            def now(cls, tz=None):
                cls.moment += timedelta(seconds=0.5)
                return cls.moment

        monkeypatch.setattr("airflow_batch.sensors._base.datetime", Clock)
        with BatchSandbox(clock=Clock.now) as sandbox:
            connect(sandbox.connection())
            sandbox.inject(Fault("answer", "view", status=429))
            token = sandbox.add_campaign(CAMPAIGN)
            attempt(BatchCampaignLiveSensor(task_id="s", campaign=token, mode="poke", poke_interval=0.001))
            first, second = (record.time for record in sandbox.requests)
        assert second - first >= timedelta(seconds=10)

    def test_a_wait_beyond_the_timeout_times_out_at_once(self, batch, sensor):
        batch.inject(Fault("answer", "view", status=429, headers={"Retry-After": "601"}))
        with pytest.raises(AirflowSensorTimeout, match="601 s"):
            attempt(sensor())

    def test_the_timeout_holds_however_often_batch_refuses(self, batch, sensor):
        batch.inject(Fault("answer", "view", status=429, times=None))
        with pytest.raises(AirflowSensorTimeout):
            attempt(sensor(), reschedules=9, refused_for=timedelta(seconds=595))

    def test_mapped_sensors_refused_together_come_back_spread_out(self, batch, sensor):
        batch.inject(Fault("answer", "view", status=429, times=None))
        seconds = set()
        for index in range(10):
            with pytest.raises(AirflowRescheduleException) as caught:
                attempt(sensor(), map_index=index)
            seconds.add(round(seconds_until(caught.value.reschedule_date)))
        assert len(seconds) > 3

    def test_the_spread_does_not_reach_beyond_the_timeout(self, batch, sensor):
        batch.inject(Fault("answer", "view", status=429, times=None))
        for index in range(10):
            with pytest.raises(AirflowRescheduleException) as caught:
                attempt(sensor(poke_interval=10), map_index=index, reschedules=9, refused_for=timedelta(seconds=585))
            assert seconds_until(caught.value.reschedule_date) <= 15


class TestPermanent:
    def test_an_unknown_campaign_fails_the_sensor(self, batch, sensor):
        with pytest.raises(BatchNotFoundError):
            attempt(sensor(campaign="unknown"))

    def test_a_key_that_cannot_read_fails_the_sensor(self, batch, sensor, connect):
        connect(batch.connection(kind="dev"))
        with pytest.raises(BatchApiMisuseError):
            attempt(sensor())

    def test_soft_fail_makes_it_a_skip(self, batch, sensor):
        with pytest.raises(AirflowSkipException):
            attempt(sensor(campaign="unknown", soft_fail=True))

    @pytest.mark.parametrize("arguments", [{"campaign": ""}, {"live": "maybe"}])
    def test_a_wrong_argument_fails_before_anything_is_sent(self, batch, sensor, arguments):
        task = sensor()
        vars(task).update(arguments)  # as templates may render them
        with pytest.raises(BatchPayloadError):
            attempt(task)
        assert batch.requests == ()


def test_poke_works_without_execute_for_tests_of_dags(batch, token, sensor):
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
def test_an_answer_that_cannot_be_read_means_not_yet(batch, sensor, garbage):
    batch.inject(garbage)
    assert attempt(sensor(mode="poke", poke_interval=0.05))["live"] is True
    assert len(batch.requests) == 2
