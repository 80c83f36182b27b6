"""What SetCampaignLiveNotifier does when Airflow calls it, against the sandbox. Its waits are a fake clock's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from task import Attempt

from airflow_batch.compat import HAS_RETRY_POLICY
from airflow_batch.exceptions import BatchConfigurationError
from airflow_batch.notifications import campaigns
from airflow_batch.notifications.campaigns import SetCampaignLiveNotifier
from airflow_batch.sandbox import BatchSandbox, Fault
from airflow_batch.windows import CampaignWindow

CAMPAIGN = {
    "name": "Summer sale",
    "live": True,
    "push_time": "2026-01-05T08:00:00",
    "recurrence": {"repeat_unit": "DAILY", "repeat_frequency": 1},
    "messages": [{"language": "en", "body": "Everything must go"}],
}


@dataclass
class Clock:
    """Stands for ``time``: it moves only while somebody sleeps."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    fake = Clock()
    monkeypatch.setattr(campaigns, "time", fake)
    return fake


@pytest.fixture
def token(batch):
    return batch.add_campaign(CAMPAIGN)


def call(campaign, context=None, **arguments):
    """Call the notifier as Airflow does, template fields and all."""
    SetCampaignLiveNotifier(campaign=campaign, **arguments)({"ti": Attempt(), **(context or {})})


def operations(sandbox):
    return [record.operation for record in sandbox.requests]


def refuse(retry_after=None, times=1):
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Fault("answer", "update", status=429, headers=headers, times=times)


def test_by_default_the_campaign_is_stopped_and_keeps_all_else(batch, token, clock):
    call(token)
    assert batch.campaign(token)["live"] is False
    assert batch.campaign(token)["messages"] == CAMPAIGN["messages"]
    assert (operations(batch), clock.slept) == (["view", "update", "view"], [])


def test_it_can_switch_on_and_its_fields_are_templates(batch, token):
    call(token)
    call("{{ token }}", {"token": token}, live="{{ 1 == 1 }}")
    assert batch.campaign(token)["live"] is True


def test_it_takes_the_result_of_another_task(connect):
    with BatchSandbox(apps=("ios", "android")) as sandbox:
        connect(sandbox.connection("api_keys"))
        token = sandbox.add_campaign(CAMPAIGN, app="android")
        call({"campaign_token": token, "app": "android"})
        assert sandbox.campaign(token)["live"] is False


def test_it_takes_a_window(batch, token):
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    call(token, live=CampaignWindow(start=now + timedelta(hours=1), end=now + timedelta(hours=2)))
    assert batch.campaign(token)["live"] is False


def test_what_is_stopped_already_is_not_written_again(batch, token):
    call(token)
    call(token)
    assert operations(batch).count("update") == 1


def test_after_a_429_it_waits_five_seconds_and_longer_each_time(batch, token, clock):
    batch.inject(refuse(times=3))
    call(token)
    assert clock.slept == [5, 10, 20]
    assert batch.campaign(token)["live"] is False


def test_retry_after_is_never_shortened(batch, token, clock):
    batch.inject(refuse(retry_after=42))
    call(token)
    assert clock.slept == [42]


def test_a_failure_in_doubt_is_looked_at_before_it_is_repeated(batch, token):
    batch.inject(Fault("reset_after", "update"))
    call(token)
    assert operations(batch) == ["view", "update", "view"]
    assert batch.campaign(token)["live"] is False


def test_stopping_goes_ahead_where_reading_fails(batch, token):
    batch.inject(Fault("answer", "view", status=500, times=None))
    call(token)
    assert batch.campaign(token)["live"] is False


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        ({}, 401, "401"),
        ({"expect_name": "Winter sale"}, None, "Winter sale"),
        ({"max_wait": 30}, 429, "429"),
        # Below 3.3 Airflow leaves a notifier's field as it is where its template renders to nothing.
        ({"campaign": "{{ nothing }}"}, None, "empty" if HAS_RETRY_POLICY else "{{ nothing }}"),
        ({"live": "maybe"}, None, "maybe"),
    ],
)
def test_what_fails_for_good_is_an_error_in_the_log_and_nothing_else(batch, token, caplog, arguments, status, told):
    if status is not None:
        batch.inject(Fault("answer", "update", status=status, times=None))
    call(**{"campaign": token, **arguments})
    (error,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "NOT switched" in error.getMessage()
    assert told in error.getMessage()
    assert batch.campaign(token)["live"] is True


def test_it_does_not_try_beyond_max_wait(batch, token, clock):
    batch.inject(refuse(times=None))
    call(token, max_wait=timedelta(seconds=60))
    assert clock.slept == [5, 10, 20]
    assert clock.now <= 60


def test_by_default_it_tries_for_two_minutes(batch, token, clock):
    batch.inject(refuse(retry_after=121))
    call(token)
    assert clock.slept == []
    batch.clear_faults()
    batch.inject(refuse(retry_after=119))
    call(token)
    assert clock.slept == [119]


@pytest.mark.parametrize("max_wait", [0, -1, "60", True])
def test_a_wrong_max_wait_is_refused_when_the_dag_is_parsed(max_wait):
    with pytest.raises(BatchConfigurationError, match="max_wait"):
        SetCampaignLiveNotifier(campaign="abc", max_wait=max_wait)


def test_its_asynchronous_form_refuses_to_write(batch, token):
    async def awaited():
        await SetCampaignLiveNotifier(campaign=token)

    with pytest.raises(NotImplementedError, match="triggerer"):
        asyncio.run(awaited())
    assert batch.requests == ()
