"""How fast requests are sent: the adaptive rate with a fake clock, against a simulated server that throttles."""

from __future__ import annotations

from itertools import pairwise, product
from math import inf, isfinite

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from throttled_server import Bucket, Run

from airflow_batch._sync.adaptive_rate import HALVED, LEAST, MOST, START, AdaptiveRate

LIMITS = st.floats(0.05, 500)
TINY = 1e-6


def slot(pacer, now):
    """Take the next slot and return its time."""
    moment = pacer.next_slot(now)
    pacer.take(moment)
    return moment


# ----------------------------------------------------------------------------------------------- with a known limit


@given(limit=LIMITS, steps=st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_no_period_has_more_requests_than_the_limit_allows(limit, steps):
    pacer, now, moments = AdaptiveRate(limit, 0.0), 0.0, []
    for step in steps:
        now += step
        moments.append(slot(pacer, now))
    for first in range(len(moments)):
        for last in range(first, len(moments)):
            assert last - first + 1 <= limit * (moments[last] - moments[first]) + 1 + TINY


@given(limit=LIMITS, steps=st.lists(st.tuples(st.floats(0, 9), st.booleans()), max_size=100))
def test_the_limit_is_not_exceeded_after_refusals(limit, steps):
    pacer, now, moments = AdaptiveRate(limit, 0.0), 0.0, [0.0 - 1 / limit]
    for step, refused in steps:
        now += step
        if refused:
            pacer.refused(now, now, 5.0)
        moments.append(slot(pacer, now))
        assert pacer.rate(now) <= limit
    assert all(after - before >= 1 / limit - TINY for before, after in pairwise(moments))


@given(limit=st.floats(0.5, 100))
def test_continuous_requests_use_the_whole_limit(limit):
    pacer = AdaptiveRate(limit, 0.0)
    moments = [slot(pacer, 0.0) for _ in range(100)]
    assert moments == pytest.approx([index / limit for index in range(100)])


@given(limit=st.floats(0.5, 100), burst=st.integers(1, 50))
def test_a_burst_is_sent_at_once_at_the_start_and_the_requests_after_it_are_spaced(limit, burst):
    pacer = AdaptiveRate(limit, 0.0, burst)
    moments = [slot(pacer, 0.0) for _ in range(burst + 20)]
    assert moments == pytest.approx([0.0] * burst + [(index + 1) / limit for index in range(20)])


def test_nothing_of_the_burst_is_left_after_a_refusal():
    pacer = AdaptiveRate(10, 0.0, 20)
    slot(pacer, 0.0)
    pacer.refused(0.0, 0.0, 5.0)
    moments = [slot(pacer, 0.0) for _ in range(5)]
    assert moments[0] == 5.0
    assert all(after - before >= 0.1 for before, after in pairwise(moments))


def test_idle_time_is_not_saved_for_a_burst():
    pacer = AdaptiveRate(10, 0.0)
    slot(pacer, 0.0)
    assert [slot(pacer, 100.0) for _ in range(3)] == pytest.approx([100.0, 100.1, 100.2])


def test_the_limit_is_reached_again_a_minute_after_a_refusal():
    pacer = AdaptiveRate(10, 0.0)
    for _ in range(50):
        slot(pacer, 0.0)
    pacer.refused(5.0, 5.0, 5.0)
    assert pacer.rate(10.0) < 8
    assert pacer.rate(71.0) == 10


@given(limit=st.integers(2, 100), latency=st.floats(0.01, 1))
@settings(max_examples=20, deadline=None)
def test_a_server_with_the_same_limit_refuses_nothing(limit, latency):
    run = Run(Bucket(limit * 1.0001, 1), latency, requests=300, limit=limit)
    assert run.refusals == []


# -------------------------------------------------------------------------------------------- without a known limit


def test_the_rate_starts_low_and_doubles_every_second():
    pacer = AdaptiveRate(None, 10.0)
    assert [pacer.rate(10.0 + second) for second in range(4)] == [START, 2 * START, 4 * START, 8 * START]


@pytest.mark.parametrize("rate", [1, 2, 5, 10, 20, 50, 100, 200])
def test_the_rate_approaches_the_limit_of_a_server(rate):
    for burst, latency in product((1, 5, 20, 50), (0.05, 0.15, 0.5)):
        assert_the_limit_is_found(rate, burst, latency)


def assert_the_limit_is_found(rate, burst, latency):
    run = Run(Bucket(rate, burst), latency, requests=2000)
    within_reach = min(rate, 4 / latency)
    ideal = max((2000 - burst) / rate, 2000 / (4 / latency))
    assert run.took <= 1.3 * ideal + 40  # until the limit is found, each refusal takes five seconds
    assert len(run.refusals) < 0.02 * len(run.sent)
    second_half = run.sent[len(run.sent) // 2 :]
    assert len(second_half) / (second_half[-1] - second_half[0]) > 0.5 * within_reach


@given(rate=st.floats(1, 50), burst=st.integers(1, 50), latency=st.floats(0.05, 0.5))
@settings(max_examples=15, deadline=None)
def test_the_rate_stays_near_a_limit_that_it_has_found(rate, burst, latency):
    run = Run(Bucket(rate, burst), latency, requests=4000)
    # In the second half the burst is used up.
    late = [after for (now, _), after in zip(run.refusals, run.rates, strict=True) if now > run.took / 2]
    assert all(0.4 * rate <= after <= 1.2 * rate for after in late)


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 50), st.booleans(), st.floats(0, 60), st.floats(0, 600)), min_size=1, max_size=60
    )
)
def test_no_request_is_sent_before_retry_after_and_times_never_go_back(steps):
    pacer, now, until, last = AdaptiveRate(None, 0.0), 0.0, 0.0, 0.0
    for step, refused, ago, wait in steps:
        now += step
        if refused:
            pacer.refused(max(0.0, now - ago), now, wait)
            until = max(until, now + wait)
        moment = slot(pacer, now)
        assert moment >= max(until, now, last)
        assert LEAST <= pacer.rate(now) <= MOST
        last = moment


def test_concurrent_refusals_lower_the_rate_once():
    alone, together = AdaptiveRate(None, 0.0), AdaptiveRate(None, 0.0)
    for pacer in (alone, together):
        for _ in range(30):
            slot(pacer, slot(pacer, 0.0))
    sent = [6.0, 6.05, 6.1, 6.15, 6.2]
    alone.refused(sent[0], 6.3, 5.0)
    for moment in sent:
        together.refused(moment, 6.3, 5.0)
    assert together.rate(12.0) == alone.rate(12.0)
    assert (together.refusals, together.paused) == (5, pytest.approx(alone.paused))


def test_a_refusal_soon_after_the_pause_halves_the_rate():
    pacer = AdaptiveRate(10, 0.0)
    pacer.refused(1.0, 1.0, 5.0)
    once = pacer.rate(6.0)
    slot(pacer, 6.0)
    pacer.refused(6.0, 6.2, 5.0)
    assert pacer.rate(11.2) == pytest.approx(HALVED * once, rel=0.01)


def test_the_rate_does_not_recover_during_the_pause():
    pacer = AdaptiveRate(None, 0.0)
    slot(pacer, 0.0)
    pacer.refused(3.0, 3.0, 600.0)
    assert pacer.rate(603.0) == pacer.rate(3.0)
    assert pacer.rate(700.0) > pacer.rate(603.0)


def test_a_longer_retry_after_extends_the_pause_and_a_shorter_one_does_not_shorten_it():
    pacer = AdaptiveRate(None, 0.0)
    for wait, until in ((20.0, 21.0), (5.0, 21.0), (30.0, 31.0)):
        pacer.refused(0.5, 1.0, wait)
        assert pacer.next_slot(1.0) == until
    assert pacer.paused == 30.0


def test_a_refusal_lowers_the_rate_that_was_used_and_not_the_one_that_was_allowed():
    pacer = AdaptiveRate(None, 0.0)
    moments = [slot(pacer, second / 2) for second in range(120)]
    assert pacer.rate(60.0) == MOST
    pacer.refused(moments[-1], 60.0, 5.0)
    assert pacer.rate(65.0) <= 2.0


def test_the_rate_recovers_when_the_limit_rises():
    run = Run(Bucket(4, 1), 0.1, requests=200)
    before = run.pacer.rate(run.took)
    assert before < 6
    assert run.pacer.rate(run.took + 600) > before * 1.2


@pytest.mark.parametrize("burst", [1, 20])
def test_the_rate_follows_a_limit_that_falls_for_a_minute(burst):
    run = Run(Bucket([(60, 20.0), (120, 4.0), (inf, 20.0)], burst), 0.05, until=180, in_flight=16)
    assert run.granted >= 0.6 * (44 * 60 + burst)


@pytest.mark.parametrize("burst", [1, 20])
@pytest.mark.parametrize("limit", [0.5, 1, 2, 5, 10, 20, 50])
def test_over_an_hour_most_of_the_limit_is_used_and_little_is_refused(limit, burst):
    run = Run(Bucket(limit, burst), 0.05, until=3600, in_flight=16)
    assert run.granted >= 0.8 * (limit * 3600 + burst)
    refused = sum(now > 60 for now, _ in run.refusals)
    assert refused <= 0.01 * sum(moment > 60 for moment in run.sent)


@pytest.mark.parametrize("burst", [1, 20])
def test_many_requests_take_little_more_time_than_the_limit_requires(burst):
    run = Run(Bucket(20, burst), 0.05, requests=6000, in_flight=16)
    assert run.took <= 1.15 * (6000 - burst) / 20


def test_all_numbers_are_finite_and_memory_is_small_after_a_million_requests():
    pacer, now = AdaptiveRate(None, 0.0), 0.0
    for index in range(1_000_000):
        now = slot(pacer, now)
        if index % 50_000 == 49_999:
            pacer.refused(now, now, 5.0)
    assert all(map(isfinite, (now, pacer.rate(now), pacer.rate(now + 1e12), slot(pacer, now + 1e12), pacer.paused)))
    assert len(pacer._sent) < 10_000
