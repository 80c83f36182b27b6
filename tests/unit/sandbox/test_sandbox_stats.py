"""Stats: the documented shape, when there are rows, and rows that a test sets."""

from __future__ import annotations

import pytest

from airflow_batch.sandbox import Contract

COUNTERS = ["sent", "sent_optins", "direct_open", "influenced_open", "reengaged"]
ROW = {
    "date": "2015-11-20",
    "sent": 754,
    "sent_optins": 521,
    "direct_open": 102,
    "influenced_open": 98,
    "reengaged": 12,
    "errors": 0,
}


def detail(api, token):
    response = api.stats(token)
    assert (response.status_code, response.json()["campaign_token"]) == (200, token)
    return response.json()["detail"]


@pytest.fixture
def sent(definition):
    """A definition that is sent an hour after the test begins."""
    return {**definition, "live": True, "push_time": "2030-01-01T13:00:00"}


def test_a_campaign_has_a_row_of_its_push_day_from_its_push_time_on_even_after_it_is_stopped(api, sandbox, clock, sent):
    token = sandbox.add_campaign(sent)
    clock.advance(minutes=59, seconds=59)
    assert detail(api, token) == []

    clock.advance(seconds=1)
    first = detail(api, token)
    clock.advance(days=90)
    api.update(token, {"live": False, "push_time": "2030-02-01T13:00:00"})

    assert [row["date"] for row in first] == ["2030-01-01"]
    assert detail(api, token) == first


def test_a_row_has_the_documented_counters(api, definition):
    token = api.create({**definition, "live": True, "push_time": "now"}).json()["campaign_token"]

    (row,) = detail(api, token)

    assert list(row) == ["date", *COUNTERS, "errors"]
    assert all(isinstance(row[name], int) and row[name] >= 0 for name in [*COUNTERS, "errors"])
    assert 0 < row["sent_optins"] <= row["sent"] <= 500
    assert row["reengaged"] <= row["direct_open"] + row["influenced_open"] <= row["sent_optins"]


def test_a_campaign_that_is_off_at_its_push_time_has_no_rows(api, sandbox, clock, sent):
    draft, stopped = sandbox.add_campaign({**sent, "live": False}), sandbox.add_campaign(sent)
    api.update(stopped, {"live": False})
    clock.advance(days=1)

    assert detail(api, draft) == detail(api, stopped) == []


@pytest.mark.parametrize(
    "timing",
    [
        {"recurrence": {"repeat_unit": "DAILY"}},
        {"local_push_time": "2030-01-01T13:00:00"},
        {"push_time": "2030-01-01T13:00:00", "trigger": {}},
    ],
)
def test_a_campaign_that_is_not_sent_at_one_time_has_only_the_rows_that_a_test_sets(
    api, sandbox, clock, definition, timing
):
    del definition["push_time"]
    token = sandbox.add_campaign({**definition, **timing, "live": True})
    clock.advance(days=365)
    assert detail(api, token) == []

    sandbox.set_stats(token, [ROW, {**ROW, "date": "2015-11-21"}])

    assert [row["date"] for row in detail(api, token)] == ["2015-11-20", "2015-11-21"]


def test_a_campaign_has_rows_also_where_the_contract_does_not_complete_it(make_sandbox, make_api, definition):
    sandbox = make_sandbox(contract=Contract(complete_by_push_time=False))
    token = sandbox.add_campaign({**definition, "live": True, "push_time": "now"})

    assert len(detail(make_api(sandbox), token)) == 1


def test_numbers_and_tokens_depend_on_the_seed_and_not_on_the_order_of_reading(make_sandbox, make_api, definition):
    def add(sandbox):
        return sandbox.add_campaign({**definition, "live": True, "push_time": "now"})

    first, second, other = (make_sandbox(seed=seed) for seed in (7, 7, 8))
    tokens, same, others = ([add(sandbox) for _ in range(3)] for sandbox in (first, second, other))
    forwards = [detail(make_api(first), token) for token in tokens]
    backwards = [detail(make_api(second), token) for token in reversed(same)]

    assert same == tokens != others
    assert backwards[::-1] == forwards
    assert forwards[0] != forwards[1] != forwards[2]
    assert [detail(make_api(other), token) for token in others] != forwards
    assert add(second) == add(first)


def test_the_row_of_an_ab_test_has_versions_and_no_optins(api, sandbox, sent, clock):
    token = sandbox.add_campaign({**sent, "ab_test": {"a": {}, "b": {}}})
    clock.advance(hours=1)

    (row,) = detail(api, token)

    assert set(row) == {"date", *COUNTERS, "errors", "versions"} - {"sent_optins"}
    assert list(row["versions"]) == ["a", "b"]
    assert all(list(version) == COUNTERS for version in row["versions"].values())
    assert all(
        row[name] == row["versions"]["a"][name] + row["versions"]["b"][name]
        for name in COUNTERS
        if name != "sent_optins"
    )


def test_the_parameter_that_makes_a_campaign_an_ab_test_is_a_choice_of_the_contract(make_sandbox, make_api, definition):
    sandbox = make_sandbox(contract=Contract(ab_test_parameter="variants"))
    live = {**definition, "live": True, "push_time": "now"}
    plain, test = sandbox.add_campaign({**live, "ab_test": {}}), sandbox.add_campaign({**live, "variants": []})

    assert "versions" not in detail(make_api(sandbox), plain)[0]
    assert "versions" in detail(make_api(sandbox), test)[0]


def test_rows_that_a_test_sets_replace_the_generated_ones_and_are_copied(api, sandbox, definition):
    token = sandbox.add_campaign({**definition, "live": True, "push_time": "now"})
    sandbox.set_stats(token, [])
    assert detail(api, token) == []
    row = {"date": "2017-07-05T00:00:00", "versions": {"a": {"sent": 1}}, "extra": None, "sent": "many"}

    sandbox.set_stats(token, [row, ROW])
    row["versions"]["a"]["sent"] = 2

    assert detail(api, token) == [{**row, "versions": {"a": {"sent": 1}}}, ROW]


@pytest.mark.parametrize(
    "rows", [["2015-11-20"], [{}], [{"sent": 1}], [{"date": 20151120}], [{**ROW, "sent": {1}}], [None]], ids=str
)
def test_rows_of_another_shape_are_refused_and_change_nothing(api, sandbox, definition, rows):
    token = sandbox.add_campaign(definition)
    sandbox.set_stats(token, [ROW])

    with pytest.raises(ValueError, match="stats"):
        sandbox.set_stats(token, rows)

    assert detail(api, token) == [ROW]
