"""What SetCampaignLiveNotifier does when Airflow calls it, against the sandbox. tests/system has it under Airflow."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk import Connection
from task import Attempt

from airflow_batch._airflow.compat import HAS_RETRY_POLICY
from airflow_batch._campaigns.change import STOP_READ_LIMIT, WRITE_RESERVE
from airflow_batch.exceptions import (
    BatchAuthenticationError,
    BatchChangeRefusedError,
    BatchConfigurationError,
    BatchError,
    BatchPayloadError,
    BatchRateLimitError,
    BatchServerError,
)
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.notifications import campaigns
from airflow_batch.notifications.campaigns import TIME_LIMIT, SetCampaignLiveNotifier
from airflow_batch.sandbox import Fault
from airflow_batch.windows import CampaignWindow

CAMPAIGN = {
    "name": "Summer sale",
    "live": True,
    "push_time": "2026-01-05T08:00:00",
    "recurrence": {"repeat_unit": "DAILY", "repeat_frequency": 1},
    "messages": [{"language": "en", "body": "Everything must go"}],
}

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def token(batch):
    return batch.add_campaign(CAMPAIGN)


@pytest.fixture
def limits(monkeypatch):
    """The operation of each request and its time limit in seconds."""
    taken = []
    request = BatchHook._request

    def note(self, endpoint, subject, **arguments):
        taken.append((endpoint.name, self.time_limit))
        return request(self, endpoint, subject, **arguments)

    monkeypatch.setattr(BatchHook, "_request", note)
    return taken


def call(campaign, context=None, **arguments):
    """Call the notifier as Airflow does, template fields and all."""
    SetCampaignLiveNotifier(campaign=campaign, **arguments)({"ti": Attempt(), **(context or {})})


def operations(sandbox):
    return [record.operation for record in sandbox.requests]


def refuse(retry_after=None, times=1):
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Fault("answer", "update", status=429, headers=headers, times=times)


class TestSwitches:
    def test_a_notifier_stops_the_campaign_by_default_and_keeps_its_other_parameters(self, batch, token, clock):
        call(token)
        assert batch.campaign(token)["live"] is False
        assert batch.campaign(token)["messages"] == CAMPAIGN["messages"]
        assert (operations(batch), clock.slept) == (["view", "update"], [])

    def test_a_notifier_can_switch_on_and_its_fields_are_templates(self, batch, token):
        call(token)
        call("{{ token }}", {"token": token}, live="{{ 1 == 1 }}")
        assert batch.campaign(token)["live"] is True

    def test_a_notifier_applies_the_state_of_a_window(self, batch, token):
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        window = CampaignWindow(start=now + timedelta(hours=1), end=now + timedelta(hours=2), timezone="UTC")
        call(token, live=window)
        assert batch.campaign(token)["live"] is False

    def test_a_notifier_sends_no_update_where_the_campaign_is_already_stopped(self, batch, token):
        call(token)
        call(token)
        assert operations(batch).count("update") == 1

    def test_a_notifier_reads_the_campaign_after_an_ambiguous_answer(self, batch, token):
        batch.inject(Fault("reset_after", "update"))
        call(token)
        assert operations(batch) == ["view", "update", "view"]
        assert batch.campaign(token)["live"] is False

    @pytest.mark.parametrize("definition", [{"labels": 5}, "sale.json", 5, [], {"name": "ab"}])
    def test_a_notifier_stops_the_campaign_with_an_invalid_definition(self, batch, token, definition, caplog):
        call(token, definition=definition)
        assert batch.campaign(token)["live"] is False
        assert "stopped without the definition" in caplog.text

    def test_a_notifier_does_not_switch_on_with_an_invalid_definition(self, batch):
        token = batch.add_campaign({**CAMPAIGN, "live": False})
        with pytest.raises(BatchPayloadError, match="labels"):
            call(token, live=True, definition={"labels": 5})
        assert batch.requests == ()

    def test_a_notifier_stops_the_campaign_although_expect_name_renders_to_nothing(self, batch, token):
        call(token, {"nothing": None}, expect_name="{{ nothing }}")
        assert batch.campaign(token)["live"] is False


class TestTime:
    """A callback tries for 15 s, because Airflow ends it after 20 s."""

    def test_a_notifier_waits_for_the_end_of_a_429_within_15_seconds(self, batch, token, clock):
        batch.inject(refuse())
        call(token)
        assert clock.slept == [5]
        assert batch.campaign(token)["live"] is False

    @pytest.mark.parametrize(("fault", "requests"), [(refuse(30), 2), (refuse(times=None), 4)])
    def test_a_notifier_fails_at_once_for_a_429_that_does_not_end_within_15_seconds(
        self, batch, token, clock, caplog, fault, requests
    ):
        batch.inject(fault)
        with pytest.raises(BatchRateLimitError):
            call(token)
        assert "was NOT switched by the callback" in caplog.text
        assert len(operations(batch)) == requests
        assert sum(clock.slept) <= TIME_LIMIT.total_seconds()

    def test_the_read_before_a_stop_of_a_notifier_has_at_most_five_seconds(self, batch, token, limits):
        call(token)
        (_, first), (_, write) = limits
        assert first == STOP_READ_LIMIT
        assert WRITE_RESERVE <= write <= TIME_LIMIT.total_seconds()

    def test_the_read_before_an_on_of_a_notifier_leaves_five_seconds_for_the_update(self, batch, limits):
        call(batch.add_campaign({**CAMPAIGN, "live": False}), live=True)
        assert [round(limit) for _, limit in limits][:2] == [10, 15]

    def test_a_notifier_stops_the_campaign_although_batch_does_not_answer_the_view(self, batch, token, monkeypatch):
        monkeypatch.setattr("airflow_batch._campaigns.change.STOP_READ_LIMIT", 0.3)
        batch.inject(Fault("silence", "view", times=None))
        call(token)
        assert batch.campaign(token)["live"] is False

    @pytest.mark.parametrize("max_wait", [60, timedelta(minutes=2), "anything"])
    def test_max_wait_of_a_notifier_is_deprecated_and_has_no_effect(self, batch, token, clock, max_wait):
        batch.inject(refuse(retry_after=20))
        with pytest.warns(DeprecationWarning, match="max_wait"), pytest.raises(BatchRateLimitError):
            call(token, max_wait=max_wait)
        assert clock.slept == []


@pytest.mark.parametrize(
    ("arguments", "status", "error", "words"),
    [
        ({}, 401, BatchAuthenticationError, "401"),
        ({"expect_name": "Winter sale"}, None, BatchChangeRefusedError, "Winter sale"),
        ({"live": True, "app": None}, 500, BatchServerError, "500"),
        # Below 3.3 Airflow leaves a notifier's field as it is where its template renders to nothing.
        ({"campaign": "{{ nothing }}"}, None, BatchPayloadError, "empty" if HAS_RETRY_POLICY else "{{ nothing }}"),
        ({"live": "{{ 'may' }}be"}, None, BatchPayloadError, "maybe"),
        ({"batch_conn_id": "nowhere"}, None, BatchError, "nowhere"),
    ],
)
def test_a_notifier_logs_and_raises_every_failure(batch, caplog, arguments, status, error, words):
    token = batch.add_campaign({**CAMPAIGN, "live": not arguments.get("live")})
    before = batch.campaign(token)
    if status is not None:
        batch.inject(Fault("answer", "update", status=status, times=None))
    with pytest.raises(error):
        call(**{"campaign": token, **arguments})
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "was NOT switched" in record.getMessage()
    assert words in record.getMessage()
    assert batch.campaign(token) == before


class TestAsync:
    """AsyncCallback runs it in the triggerer, where it may run twice."""

    @pytest.fixture(autouse=True)
    def stored(self, batch, monkeypatch):
        async def aget_connection(conn_id):
            return Connection.from_json(json.dumps(batch.connection()), conn_id=conn_id)

        monkeypatch.setattr(campaigns.BaseHook, "aget_connection", aget_connection)

    def run(self, token, **arguments):
        async def awaited():
            await SetCampaignLiveNotifier(campaign=token, context={"ti": Attempt()}, **arguments)

        asyncio.run(awaited())

    def test_an_async_notifier_stops_a_campaign(self, batch, token):
        self.run(token)
        assert batch.campaign(token)["live"] is False

    @pytest.mark.parametrize(
        "live", [True, "true", CampaignWindow(on="0 9 * * *", off="0 18 * * *", timezone="Europe/Paris")]
    )
    def test_an_async_notifier_refuses_to_switch_on_before_any_request(self, batch, token, live):
        with pytest.raises(BatchConfigurationError, match="live=False"):
            self.run(token, live=live)
        assert batch.requests == ()
