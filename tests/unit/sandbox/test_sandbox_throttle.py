"""The throttle: the token bucket by itself, and in the server."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_batch.sandbox import BatchSandbox, Contract
from airflow_batch.sandbox.throttle import TokenBucket


def test_the_request_after_a_burst_is_throttled(make_sandbox, make_api):
    api = make_api(make_sandbox(rate=1, burst=3))

    assert [api.list().status_code for _ in range(4)] == [200, 200, 200, 429]


def test_a_throttled_client_is_answered_again_after_the_time_for_one_request(make_sandbox, make_api, clock):
    api = make_api(make_sandbox(rate=0.5))
    api.list()

    clock.advance(seconds=1.9)
    assert api.list().status_code == 429
    clock.advance(seconds=0.1)
    assert api.list().status_code == 200


def test_after_an_idle_hour_no_more_than_one_burst_is_answered(make_sandbox, make_api, clock):
    api = make_api(make_sandbox(rate=1, burst=2))
    clock.advance(hours=1)

    assert [api.list().status_code for _ in range(3)] == [200, 200, 429]


def test_setting_the_clock_back_does_not_throttle(make_sandbox, make_api, clock):
    api = make_api(make_sandbox(rate=1, burst=2))
    api.list()
    clock.advance(hours=-1)

    assert api.list().status_code == 200


def test_a_throttled_write_changes_nothing(make_sandbox, make_api, definition):
    sandbox = make_sandbox(rate=1)
    api, token = make_api(sandbox), sandbox.add_campaign(definition)
    api.list()

    answers = [api.update(token, {"live": True}), api.create(definition), api.delete(token), api.stats(token)]
    assert [answer.status_code for answer in answers] == [429] * 4
    assert sandbox.campaign(token)["live"] is False
    assert sandbox.tokens() == (token,)
    assert not any(record.applied for record in sandbox.requests)


def test_a_429_has_no_retry_after_by_default(make_sandbox, make_api):
    api = make_api(make_sandbox(rate=1))
    api.list()

    assert "Retry-After" not in api.list().headers


@pytest.mark.parametrize(("retry_after", "header"), [(6, "6"), ("computed", "4")])
def test_a_429_can_have_retry_after_in_seconds(make_sandbox, make_api, clock, retry_after, header):
    api = make_api(make_sandbox(rate=0.25, retry_after=retry_after))
    api.list()
    clock.advance(seconds=0.5)

    assert api.list().headers["Retry-After"] == header


def test_a_429_can_have_retry_after_as_a_date_that_is_never_too_early(make_sandbox, make_api, clock):
    clock.advance(microseconds=1)
    api = make_api(make_sandbox(rate=0.25, retry_after="http-date"))
    api.list()

    moment = parsedate_to_datetime(api.list().headers["Retry-After"])

    assert (moment - clock.now).total_seconds() == pytest.approx(5, abs=1e-3)


def test_the_clock_may_return_pendulum_datetimes(make_sandbox, make_api):
    moment = pendulum.datetime(2026, 1, 1, tz="Europe/Paris")
    api = make_api(make_sandbox(rate=1, retry_after="http-date", clock=lambda: moment))

    assert [api.list().status_code for _ in range(2)] == [200, 429]


def test_the_throttle_can_be_changed_while_the_sandbox_runs(sandbox, api):
    sandbox.set_throttle(rate=1)
    assert [api.list().status_code for _ in range(2)] == [200, 429]
    sandbox.set_throttle()
    assert [api.list().status_code for _ in range(3)] == [200, 200, 200]


def test_a_request_with_a_wrong_key_does_not_count_for_the_throttle(make_sandbox, make_api):
    api = make_api(make_sandbox(rate=1))

    assert api.send("GET", "campaigns/list", headers={}).status_code == 401
    assert api.list().status_code == 200


def test_whether_throttle_or_authentication_is_checked_first_is_a_choice_of_the_contract(make_sandbox, make_api):
    contract = Contract(checks_order=("throttle", "authentication", "route"))
    api = make_api(make_sandbox(rate=1, contract=contract))

    assert api.send("GET", "campaigns/list", headers={}).status_code == 401
    assert api.send("GET", "campaigns/list", headers={}).status_code == 429


@pytest.mark.parametrize("options", [{"rate": 0}, {"rate": -1}, {"rate": 1, "burst": 0}, {"retry_after": "soon"}])
def test_a_throttle_with_values_out_of_range_is_refused(options):
    with pytest.raises(ValueError, match=r"rate|burst|retry_after"):
        BatchSandbox(**options)


@given(
    rate=st.floats(0.1, 100),
    burst=st.floats(1, 50),
    steps=st.lists(st.floats(-2, 2), min_size=1, max_size=200),
)
def test_the_bucket_grants_no_more_than_burst_and_rate_however_the_clock_changes(rate, burst, steps):
    bucket, now, forward, granted = TokenBucket(rate, burst, 0.0), 0.0, 0.0, 0
    for step in steps:
        now += step
        forward += max(0.0, step)
        granted += bucket.take(now) == 0.0

    assert granted <= burst + rate * forward + 1e-6


@given(rate=st.floats(0.01, 100), taken=st.integers(1, 5))
def test_a_request_after_the_announced_wait_is_granted(rate, taken):
    bucket = TokenBucket(rate, taken, 0.0)
    for _ in range(taken):
        assert bucket.take(0.0) == 0.0

    wait = bucket.take(0.0)

    assert wait > 0
    assert bucket.take(wait * (1 + 1e-9)) == 0.0
