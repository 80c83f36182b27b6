"""What BatchCampaignLiveSensor does with a list of campaigns, against the sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs
from task import attempt, seconds_until

from airflow_batch._airflow.compat import AirflowRescheduleException, AirflowSensorTimeout
from airflow_batch.exceptions import (
    BatchApiMisuseError,
    BatchConfigurationError,
    BatchPayloadError,
)
from airflow_batch.sandbox import BatchSandbox, Contract, Fault
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor
from airflow_batch.windows import CampaignWindow

CAMPAIGN = {"name": "Morning news", "live": True, "push_time": "2099-01-05T08:00:00", "messages": []}


def sensor(campaign, **arguments):
    return BatchCampaignLiveSensor(task_id="confirm", campaign=campaign, **arguments)


def add(sandbox, count, *, live=True, app=None):
    """Add campaigns and return their tokens, oldest first."""
    return [sandbox.add_campaign({**CAMPAIGN, "live": live}, app=app) for _ in range(count)]


def log_of(task):
    """Run an attempt that must end without a result, and return its log as (level, text), without the hook's."""
    with capture_logs() as lines, pytest.raises(AirflowRescheduleException):
        attempt(task)
    return [(line["log_level"], line["event"]) for line in lines if "uses the Batch sandbox" not in line["event"]]


def tokens(summaries):
    return [summary["campaign_token"] for summary in summaries]


class TestInTheDesiredState:
    @pytest.mark.parametrize(("live", "desired"), [(True, True), (False, False), (False, "False")])
    def test_a_live_sensor_of_a_list_succeeds_with_a_summary_of_each_campaign_in_the_given_order(
        self, batch, live, desired
    ):
        first, second = add(batch, 2, live=live)
        summaries = attempt(sensor([first, second], live=desired))
        assert tokens(summaries) == [first, second]
        summary = summaries[0]
        assert datetime.fromisoformat(summary.pop("checked_at")).utcoffset() == timedelta(0)
        assert summary.pop("created_date")
        assert summary == {
            "campaign_token": first,
            "app": None,
            "live": live,
            "name": "Morning news",
            "push_time": None,
        }

    def test_a_live_sensor_of_20_campaigns_reads_one_page_of_the_list(self, batch):
        attempt(sensor(add(batch, 20)))
        assert [(record.operation, record.query) for record in batch.requests] == [("list", "from=0&limit=100")]

    def test_a_live_sensor_of_a_list_with_one_campaign_returns_a_list(self, batch):
        assert tokens(attempt(sensor(given := add(batch, 1)))) == given

    def test_a_live_sensor_takes_tokens_and_results_of_tasks_in_one_list(self, batch):
        first, second = add(batch, 2)
        assert tokens(attempt(sensor([{"campaign_token": first, "app": None}, second]))) == [first, second]

    def test_a_live_sensor_counts_a_campaign_that_is_given_twice_once(self, batch):
        first, second = add(batch, 2)
        assert tokens(attempt(sensor([second, first, {"campaign_token": second}]))) == [second, first]

    def test_a_live_sensor_takes_the_lazy_output_of_a_mapped_task(self, batch):
        class Lazy(Sequence):
            """Has what Airflow's own sequence has: items by index or slice, and a length."""

            def __init__(self, items):
                self.items = items

            def __getitem__(self, index):
                return self.items[index]

            def __len__(self):
                return len(self.items)

        given = add(batch, 3)
        assert tokens(attempt(sensor(Lazy([{"campaign_token": token} for token in given])))) == given

    def test_the_items_of_a_live_sensors_list_are_templates(self, batch):
        first, second = add(batch, 2)
        task = sensor(["{{ first }}", {"campaign_token": "{{ second }}"}])
        task.render_template_fields({"first": first, "second": second})
        assert tokens(attempt(task)) == [first, second]

    def test_a_live_sensor_of_a_list_compares_every_campaign_with_the_window(self, batch):
        given = add(batch, 2, live=False)
        past = CampaignWindow(start="2000-01-01T00:00", end="2001-01-01T00:00", timezone="UTC")
        assert tokens(attempt(sensor(given, live=past))) == given


class TestManyPages:
    def test_a_live_sensor_of_250_campaigns_sends_three_requests(self, batch):
        given = add(batch, 250)
        assert tokens(attempt(sensor(given))) == given
        assert [record.query for record in batch.requests] == [
            "from=0&limit=100",
            "from=100&limit=100",
            "from=200&limit=100",
        ]

    def test_a_live_sensor_of_the_newest_100_campaigns_sends_one_request(self, batch):
        newest = add(batch, 250)[150:]
        assert tokens(attempt(sensor(newest))) == newest
        assert len(batch.requests) == 1

    def test_a_live_sensor_reads_the_whole_list_for_a_campaign_that_is_missing(self, batch):
        given = add(batch, 250)
        with pytest.raises(AirflowRescheduleException):
            attempt(sensor([*given[-3:], "unknown"]))
        assert len(batch.requests) == 3


class TestTwoApps:
    def test_a_live_sensor_of_two_apps_reads_the_list_of_each_once(self, two_apps):
        by_app = {app: add(two_apps, 2, app=app) for app in ("ios", "android")}
        results = [{"campaign_token": by_app[app][n], "app": app} for n in range(2) for app in by_app]
        summaries = attempt(sensor(results))
        assert [{name: summary[name] for name in ("campaign_token", "app")} for summary in summaries] == results
        assert [(record.operation, record.app) for record in two_apps.requests] == [
            ("list", "ios"),
            ("list", "android"),
        ]

    def test_a_live_sensor_of_two_apps_stops_reading_each_list_at_its_own_last_campaign(self, two_apps):
        (oldest, *_), (*_, newest) = add(two_apps, 101, app="ios"), add(two_apps, 101, app="android")
        attempt(sensor([{"campaign_token": oldest, "app": "ios"}, {"campaign_token": newest, "app": "android"}]))
        assert [record.app for record in two_apps.requests] == ["ios", "ios", "android"]

    def test_a_live_sensor_does_not_find_a_campaign_of_another_app(self, two_apps):
        (token,) = add(two_apps, 1, app="ios")
        log = log_of(sensor([{"campaign_token": token, "app": "android"}]))
        assert ("warning", f"Not in Batch's list: {token} (app 'android').") in log

    def test_a_live_sensor_of_tokens_without_an_app_fails_before_any_request(self, two_apps):
        with pytest.raises(BatchConfigurationError, match="app"):
            attempt(sensor(add(two_apps, 2)))
        assert two_apps.requests == ()

    def test_a_live_sensor_of_two_apps_waits_for_all_campaigns_of_both(self, two_apps):
        given = [(app, add(two_apps, 1, app=app, live=app == "ios")[0]) for app in ("ios", "android")]
        log = log_of(sensor([{"campaign_token": token, "app": app} for app, token in given]))
        token = given[1][1]
        assert log == [("info", f"1 of 2 campaigns are live. Not yet: {token} ('Morning news', app 'android').")]


class TestNotYet:
    def test_a_live_sensor_of_a_list_polls_again_after_the_poke_interval(self, batch):
        with pytest.raises(AirflowRescheduleException) as caught:
            attempt(sensor([*add(batch, 1), *add(batch, 1, live=False)]))
        assert 29 <= seconds_until(caught.value.reschedule_date) <= 30.5

    def test_the_log_of_a_live_sensor_names_the_campaigns_that_are_not_yet_live(self, batch):
        (stopped,) = add(batch, 1, live=False)
        log = log_of(sensor([stopped, *add(batch, 39)]))
        assert log == [("info", f"39 of 40 campaigns are live. Not yet: {stopped} ('Morning news').")]

    def test_the_log_of_a_live_sensor_for_live_false_names_the_campaigns_that_are_still_live(self, batch):
        (running,) = add(batch, 1)
        log = log_of(sensor([running, *add(batch, 2, live=False)], live=False))
        assert log == [("info", f"2 of 3 campaigns are not live. Not yet: {running} ('Morning news').")]

    def test_the_log_of_a_live_sensor_names_at_most_five_campaigns(self, batch):
        stopped = add(batch, 7, live=False)
        ((_, line),) = log_of(sensor(stopped))
        assert [token in line for token in stopped] == [True] * 5 + [False] * 2
        assert line.startswith("0 of 7 campaigns are live.")
        assert line.endswith(", and 2 more.")

    def test_the_log_of_a_live_sensor_names_exactly_five_campaigns_without_a_rest(self, batch):
        ((_, line),) = log_of(sensor(stopped := add(batch, 5, live=False)))
        assert all(token in line for token in stopped)
        assert "more" not in line

    def test_the_log_of_a_live_sensor_names_a_campaign_that_is_not_in_the_list(self, batch):
        log = log_of(sensor([*add(batch, 1), "unknown"]))
        assert log == [("info", "1 of 2 campaigns are live."), ("warning", "Not in Batch's list: unknown.")]

    def test_the_log_of_a_live_sensor_names_at_most_five_missing_campaigns(self, batch):
        log = log_of(sensor([f"unknown-{number}" for number in range(1, 8)]))
        named = "unknown-1, unknown-2, unknown-3, unknown-4, unknown-5, and 2 more"
        assert log[-1] == ("warning", f"Not in Batch's list: {named}.")

    def test_a_campaign_that_is_not_in_the_list_does_not_count_as_not_live(self, batch):
        with pytest.raises(AirflowRescheduleException):
            attempt(sensor(["unknown"], live=False))

    @pytest.mark.parametrize("desired", [True, False])
    @pytest.mark.parametrize(
        "item", [{}, {"live": None}, {"live": "false"}, {"live": "true"}, {"live": 0}, {"live": 1}]
    )
    def test_a_listed_campaign_whose_live_is_no_boolean_counts_neither_as_live_nor_as_not_live(
        self, batch, item, desired
    ):
        batch.inject(Fault("answer", "list", status=200, body=[{"campaign_token": "abc", **item}]))
        with pytest.raises(AirflowRescheduleException):
            attempt(sensor(["abc"], live=desired))

    def test_all_campaigns_of_a_live_sensor_must_be_in_the_desired_state_in_the_same_poll(self, batch):
        given = [*add(batch, 1), *add(batch, 1, live=False)]
        task = sensor(given)
        log_of(task)
        batch.inject(
            Fault("answer", "list", status=200, body=[{"campaign_token": t, "live": t == given[1]} for t in given])
        )
        assert log_of(task) == [("info", f"1 of 2 campaigns are live. Not yet: {given[0]}.")]

    def test_a_live_sensor_in_poke_mode_succeeds_once_the_last_campaign_appears_in_the_list(self, batch, sensor_clock):
        given = add(batch, 2)
        batch.inject(Fault("answer", "list", status=200, body=[{"campaign_token": given[0], "live": True}]))
        assert tokens(attempt(sensor(given, mode="poke", poke_interval=0.001))) == given
        assert len(batch.requests) == 2


class TestRefused:
    def test_a_live_sensor_throttled_between_two_pages_waits_for_retry_after(self, batch):
        batch.set_throttle(rate=0.001, burst=2, retry_after=200)
        with pytest.raises(AirflowRescheduleException) as caught:
            attempt(sensor(add(batch, 250)))
        assert [record.status for record in batch.requests] == [200, 200, 429]
        assert seconds_until(caught.value.reschedule_date) >= 199.9

    def test_a_live_sensor_throttled_at_its_second_app_waits_for_retry_after(self, two_apps):
        given = [{"campaign_token": add(two_apps, 1, app=app)[0], "app": app} for app in ("ios", "android")]
        two_apps.inject(Fault("answer", "list", app="android", status=429, headers={"Retry-After": "200"}))
        with pytest.raises(AirflowRescheduleException) as caught:
            attempt(sensor(given))
        assert seconds_until(caught.value.reschedule_date) >= 199.9

    @pytest.mark.parametrize("fault", ["list:429", "list:500"])
    def test_a_live_sensor_of_a_list_polls_again_after_a_transient_error(self, batch, fault):
        batch.inject(fault)
        (level, line), *rest = log_of(sensor(add(batch, 2)))
        assert (level, rest) == ("warning", [])
        assert line.startswith("Not yet: ")


class TestPermanent:
    def test_a_live_sensor_of_a_list_whose_key_cannot_list_fails(self, connect):
        with BatchSandbox(contract=Contract(dev_key_list="API_MISUSE")) as sandbox:
            connect(sandbox.connection(kind="dev"))
            with pytest.raises(BatchApiMisuseError):
                attempt(sensor(add(sandbox, 2)))

    def test_a_live_sensor_polls_again_after_a_response_that_is_no_list(self, batch):
        batch.inject(Fault("answer", "list", status=200, body={"campaigns": []}))
        with pytest.raises(AirflowRescheduleException):
            attempt(task := sensor(add(batch, 2)))
        assert len(attempt(task)) == 2

    @pytest.mark.parametrize("empty", [[], ()])
    def test_a_live_sensor_refuses_an_empty_list(self, batch, empty):
        with pytest.raises(BatchPayloadError, match="empty list"):
            attempt(sensor(empty))
        assert batch.requests == ()

    @pytest.mark.parametrize("wrong", ["", None, 5, "list", {"app": "ios"}, ["abc"]])
    def test_a_live_sensor_names_an_invalid_item_of_its_list_before_any_request(self, batch, wrong):
        with pytest.raises(BatchPayloadError, match=r"^campaign\[1\]: "):
            attempt(sensor(["abc", wrong]))
        assert batch.requests == ()

    @pytest.mark.parametrize("wrong", [b"abc", {"abc"}])
    def test_a_live_sensor_refuses_bytes_and_sets(self, batch, wrong):
        with pytest.raises(BatchPayloadError, match=r"^A campaign token must be text"):
            attempt(sensor(wrong))
        assert batch.requests == ()


def test_a_live_sensor_in_poke_mode_reads_a_list_at_most_twelve_times_a_minute(batch):
    with pytest.raises(AirflowSensorTimeout):
        attempt(sensor(add(batch, 3, live=False), mode="poke", poke_interval=0.05, timeout=0.6))
    assert len(batch.requests) == 1
