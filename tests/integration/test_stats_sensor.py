"""What BatchCampaignStatsSensor does with one attempt, against the sandbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk import DAG
from task import attempt, seconds_until

from airflow_batch._airflow.compat import AirflowRescheduleException, AirflowSensorTimeout
from airflow_batch.exceptions import BatchApiMisuseError, BatchPayloadError
from airflow_batch.sandbox import BatchSandbox, Fault
from airflow_batch.sensors.campaigns import BatchCampaignStatsSensor

CAMPAIGN = {"name": "Summer sale", "live": True, "push_time": "2099-01-01T09:00:00", "messages": []}
ROW = {"date": "2026-11-20", "sent": 10, "sent_optins": 9, "direct_open": 2, "influenced_open": 1, "errors": 0}


@pytest.fixture
def token(batch):
    """A campaign of which 10 pushes were sent."""
    token = batch.add_campaign(CAMPAIGN)
    batch.set_stats(token, [ROW])
    return token


@pytest.fixture
def sensor(token):
    """Return a function that makes a sensor for the sandbox's campaign."""

    def make(**arguments):
        return BatchCampaignStatsSensor(task_id="wait", **{"campaign": token, **arguments})

    return make


class TestSent:
    def test_a_stats_sensor_succeeds_with_the_statistics_once_pushes_were_sent(self, token, sensor):
        detail = [{**ROW, "open_rate": 0.3}]
        assert attempt(sensor()) == {"campaign_token": token, "app": None, "sent": 10, "detail": detail}

    def test_a_stats_sensor_polls_again_after_a_minute_while_nothing_was_sent(self, batch, token, sensor):
        batch.set_stats(token, [])
        with pytest.raises(AirflowRescheduleException) as caught:
            attempt(sensor())
        assert 59 <= seconds_until(caught.value.reschedule_date) <= 60.5
        assert [record.operation for record in batch.requests] == ["stats"]

    def test_a_stats_sensor_does_not_succeed_for_a_row_with_0_sent(self, batch, token, sensor):
        batch.set_stats(token, [{**ROW, "sent": 0}])
        with pytest.raises(AirflowRescheduleException):
            attempt(sensor())

    def test_a_stats_sensor_succeeds_once_the_push_time_has_passed(self, connect):
        moment = datetime(2026, 11, 20, 8, 59, tzinfo=UTC)
        with BatchSandbox(clock=lambda: moment) as sandbox:
            connect(sandbox.connection())
            token = sandbox.add_campaign({**CAMPAIGN, "push_time": "2026-11-20T09:00:00"})
            wait = BatchCampaignStatsSensor(task_id="wait", campaign=token)
            with pytest.raises(AirflowRescheduleException):
                attempt(wait)
            moment = datetime(2026, 11, 20, 9, tzinfo=UTC)
            assert attempt(wait)["sent"] > 0


class TestNumber:
    @pytest.mark.parametrize("min_sent", [15, "15", " 15 "])
    def test_min_sent_is_compared_with_the_sum_of_all_dates(self, batch, token, sensor, min_sent):
        batch.set_stats(token, [ROW, {**ROW, "date": "2026-11-21", "sent": 5}])
        assert attempt(sensor(min_sent=min_sent))["sent"] == 15

    @pytest.mark.parametrize("min_sent", [11, "11"])
    def test_a_stats_sensor_waits_on_with_one_push_fewer_than_min_sent(self, sensor, min_sent):
        with pytest.raises(AirflowRescheduleException):
            attempt(sensor(min_sent=min_sent))

    def test_min_sent_is_a_template(self, sensor):
        rendered = sensor(min_sent="{{ params.least }}")
        rendered.render_template_fields({"params": {"least": 10}})
        assert attempt(rendered)["sent"] == 10

    def test_min_sent_does_not_count_the_versions_of_an_ab_test_twice(self, batch, token, sensor):
        batch.set_stats(token, [{**ROW, "versions": {"a": {"sent": 6}, "b": {"sent": 4}}}])
        assert attempt(sensor(min_sent=10))["sent"] == 10
        with pytest.raises(AirflowRescheduleException):
            attempt(sensor(min_sent=11))

    @pytest.mark.parametrize("sent", ["many", None, True, 500.0, -5, 10**16, {"a": 500}])
    def test_a_sent_value_that_is_no_number_of_pushes_counts_as_0(self, batch, token, sensor, sent):
        batch.set_stats(token, [ROW, {**ROW, "sent": sent}, {"date": "2026-11-22"}])
        assert attempt(sensor())["sent"] == 10

    @pytest.mark.parametrize("min_sent", [0, -1, True, 1.5, None, "", "0", "-1", "1.5", "many", "٣", "9" * 5000, []])
    def test_an_invalid_min_sent_fails_before_any_request(self, batch, sensor, min_sent):
        with pytest.raises(BatchPayloadError, match="min_sent"):
            attempt(sensor(min_sent=min_sent))
        assert batch.requests == ()


class TestDefaults:
    def test_a_stats_sensor_reschedules_each_minute_for_an_hour_by_default(self, sensor):
        assert (sensor().mode, sensor().poke_interval, sensor().timeout) == ("reschedule", 60, 3600)

    def test_a_stats_sensor_times_out_after_an_hour_by_default(self, batch, token, sensor):
        batch.set_stats(token, [])
        with pytest.raises(AirflowSensorTimeout):
            attempt(sensor(), reschedules=60, refused_for=timedelta(seconds=3601))

    def test_the_dags_default_args_have_precedence_over_the_defaults_of_a_stats_sensor(self):
        chosen = {"mode": "poke", "poke_interval": 5, "timeout": 50, "batch_conn_id": "other"}
        with DAG("dag", schedule=None, default_args=chosen):
            wait = BatchCampaignStatsSensor(task_id="wait", campaign="abc")
        assert {name: getattr(wait, name) for name in chosen} == chosen


class TestRefused:
    @pytest.mark.parametrize("fault", ["stats:429", "stats:500"])
    def test_a_stats_sensor_polls_again_after_a_transient_error(self, batch, sensor, fault):
        batch.inject(fault)
        with pytest.raises(AirflowRescheduleException):
            attempt(sensor())


class TestPermanent:
    def test_a_stats_sensor_whose_key_cannot_read_fails_at_once(self, batch, sensor, connect):
        connect(batch.connection(kind="dev"))
        with pytest.raises(BatchApiMisuseError):
            attempt(sensor())
        assert [record.status for record in batch.requests] == [403]

    def test_a_stats_sensor_polls_again_after_an_unreadable_response(self, batch, sensor):
        batch.inject(Fault("answer", "stats", status=200, body={}))
        with pytest.raises(AirflowRescheduleException):
            attempt(sensor())
        assert attempt(sensor())["sent"] == 10

    @pytest.mark.parametrize("campaign", ["", None, ["abc"]])
    def test_a_stats_sensor_of_an_invalid_campaign_fails_before_any_request(self, batch, sensor, campaign):
        with pytest.raises(BatchPayloadError):
            attempt(sensor(campaign=campaign))
        assert batch.requests == ()


@pytest.mark.parametrize("sent", ["754", " 754 "])
def test_a_sent_value_that_is_a_number_as_text_counts(batch, token, sensor, sent):
    batch.set_stats(token, [{**ROW, "sent": sent}, ROW])
    assert attempt(sensor(min_sent=764))["sent"] == 764
