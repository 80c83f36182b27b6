"""Stats: the documented shape, when there are rows, and rows that a test decides."""

from __future__ import annotations

import pytest

from airflow_batch.sandbox import Contract, Fault

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
    assert response.status_code == 200
    return response.json()["detail"]


@pytest.fixture
def sent(definition):
    """A definition that is sent an hour after the test begins."""
    return {**definition, "live": True, "push_time": "2030-01-01T13:00:00"}


def test_stats_of_a_draft_are_the_token_and_no_rows(api, sandbox, definition):
    token = sandbox.add_campaign(definition)

    response = api.stats(token)

    assert (response.status_code, response.json()) == (200, {"campaign_token": token, "detail": []})


def test_there_are_no_rows_before_the_push_time_and_one_from_then_on(api, sandbox, clock, sent):
    token = sandbox.add_campaign(sent)

    clock.advance(minutes=59, seconds=59)
    assert detail(api, token) == []
    clock.advance(seconds=1)
    assert [row["date"] for row in detail(api, token)] == ["2030-01-01"]


def test_a_row_has_the_documented_counters(api, sandbox, clock, sent):
    token = sandbox.add_campaign(sent)
    clock.advance(hours=1)

    (row,) = detail(api, token)

    assert list(row) == ["date", *COUNTERS, "errors"]
    assert all(isinstance(row[name], int) and row[name] >= 0 for name in [*COUNTERS, "errors"])
    assert 0 < row["sent_optins"] <= row["sent"] <= 500
    assert row["reengaged"] <= row["direct_open"] + row["influenced_open"] <= row["sent_optins"]


def test_a_row_is_dated_the_day_of_the_push_time_however_late_it_is_read(api, sandbox, clock, sent):
    token = sandbox.add_campaign({**sent, "push_time": "2030-01-31T23:59:59"})
    clock.advance(days=90)

    assert [row["date"] for row in detail(api, token)] == ["2030-01-31"]


def test_a_campaign_sent_now_has_a_row_at_once(api, definition):
    token = api.create({**definition, "live": True, "push_time": "now"}).json()["campaign_token"]

    assert [row["date"] for row in detail(api, token)] == ["2030-01-01"]


def test_a_draft_whose_push_time_has_passed_has_no_rows(api, sandbox, clock, sent):
    token = sandbox.add_campaign({**sent, "live": False})
    clock.advance(days=1)

    assert detail(api, token) == []


def test_a_campaign_stopped_before_its_push_time_has_no_rows(api, sandbox, clock, sent):
    token = sandbox.add_campaign(sent)
    api.update(token, {"live": False})
    clock.advance(days=1)

    assert detail(api, token) == []


def test_a_campaign_stopped_after_it_was_sent_keeps_its_row(api, sandbox, clock, sent):
    token = sandbox.add_campaign(sent)
    clock.advance(hours=1)
    before = detail(api, token)

    api.update(token, {"live": False, "push_time": "2030-02-01T13:00:00"})

    assert detail(api, token) == before


@pytest.mark.parametrize(
    "timing",
    [
        {"recurrence": {"repeat_unit": "DAILY"}},
        {"local_push_time": "2030-01-01T13:00:00"},
        {"push_time": "2030-01-01T13:00:00", "trigger": {}},
    ],
)
def test_a_campaign_that_is_not_sent_at_one_moment_has_only_the_rows_a_test_sets(
    api, sandbox, clock, definition, timing
):
    del definition["push_time"]
    token = sandbox.add_campaign({**definition, **timing, "live": True})
    clock.advance(days=365)
    assert detail(api, token) == []

    sandbox.set_stats(token, [ROW, {**ROW, "date": "2015-11-21"}])

    assert [row["date"] for row in detail(api, token)] == ["2015-11-20", "2015-11-21"]


def test_stats_do_not_wait_for_completion(make_sandbox, make_api, definition):
    sandbox = make_sandbox(contract=Contract(complete_by_push_time=False))
    token = sandbox.add_campaign({**definition, "live": True, "push_time": "now"})

    assert len(detail(make_api(sandbox), token)) == 1
    assert not sandbox.is_complete(token)


def sent_now(sandbox, definition):
    return [sandbox.add_campaign({**definition, "live": True, "push_time": "now"}) for _ in range(3)]


def test_the_same_token_and_seed_give_the_same_numbers_in_whatever_order_they_are_read(
    make_sandbox, make_api, definition
):
    first, second = make_sandbox(seed=7), make_sandbox(seed=7)
    tokens = sent_now(first, definition)
    assert sent_now(second, definition) == tokens

    forwards = [detail(make_api(first), token) for token in tokens]
    backwards = [detail(make_api(second), token) for token in reversed(tokens)]

    assert backwards[::-1] == forwards
    assert [detail(make_api(first), token) for token in tokens] == forwards


def test_campaigns_differ_in_their_numbers(api, sandbox, definition):
    one, two, three = (detail(api, token) for token in sent_now(sandbox, definition))

    assert one != two != three


def test_another_seed_gives_other_numbers(make_sandbox, make_api, definition):
    rows = [
        [detail(make_api(sandbox), token) for token in sent_now(sandbox, definition)]
        for sandbox in (make_sandbox(seed=7), make_sandbox(seed=8))
    ]

    assert rows[0] != rows[1]


def test_reading_stats_does_not_move_the_tokens(make_sandbox, make_api, definition):
    read, unread = make_sandbox(seed=7), make_sandbox(seed=7)
    for sandbox in (read, unread):
        sandbox.add_campaign({**definition, "live": True, "push_time": "now"})
    detail(make_api(read), read.tokens()[0])

    assert read.add_campaign(definition) == unread.add_campaign(definition)


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


def test_what_makes_a_campaign_an_ab_test_is_a_choice(make_sandbox, make_api, definition):
    sandbox = make_sandbox(contract=Contract(ab_test_parameter="variants"))
    live = {**definition, "live": True, "push_time": "now"}
    plain, test = sandbox.add_campaign({**live, "ab_test": {}}), sandbox.add_campaign({**live, "variants": []})

    assert "versions" not in detail(make_api(sandbox), plain)[0]
    assert "versions" in detail(make_api(sandbox), test)[0]


def test_rows_that_are_set_are_given_as_they_are(api, sandbox, definition):
    token = sandbox.add_campaign(definition)
    rows = [{"date": "2017-07-05T00:00:00", "versions": {"a": {"sent": 1}}, "extra": None, "sent": "many"}, ROW]

    sandbox.set_stats(token, rows)

    assert api.stats(token).json() == {"campaign_token": token, "detail": rows}


def test_rows_that_are_set_take_the_place_of_those_made_up(api, sandbox, definition):
    token = sandbox.add_campaign({**definition, "live": True, "push_time": "now"})

    sandbox.set_stats(token, [])

    assert detail(api, token) == []


def test_rows_that_are_set_are_copied(api, sandbox, definition):
    token = sandbox.add_campaign(definition)
    row = {**ROW, "versions": {"a": {"sent": 1}}}
    sandbox.set_stats(token, [row])

    row["versions"]["a"]["sent"] = 2

    assert detail(api, token)[0]["versions"] == {"a": {"sent": 1}}


@pytest.mark.parametrize(
    "rows", [["2015-11-20"], [{}], [{"sent": 1}], [{"date": 20151120}], [{**ROW, "sent": {1}}], [None]], ids=str
)
def test_rows_that_are_no_rows_are_refused_and_nothing_changes(api, sandbox, definition, rows):
    token = sandbox.add_campaign(definition)
    sandbox.set_stats(token, [ROW])

    with pytest.raises(ValueError, match="stats"):
        sandbox.set_stats(token, rows)

    assert detail(api, token) == [ROW]


def test_a_dev_key_may_not_read_stats(sandbox, make_api, definition, error):
    token = sandbox.add_campaign(definition)

    assert error(make_api(sandbox, kind="dev").stats(token)) == (403, 12, "API_MISUSE")


def test_whether_a_dev_key_may_read_stats_is_a_choice(make_sandbox, make_api, definition):
    sandbox = make_sandbox(contract=Contract(dev_key_stats=None))

    assert make_api(sandbox, kind="dev").stats(sandbox.add_campaign(definition)).status_code == 200


def test_stats_of_a_campaign_of_another_app_are_404_20(make_sandbox, make_api, definition, error):
    sandbox = make_sandbox(apps=("ios", "android"))
    token = sandbox.add_campaign(definition, app="ios")

    assert error(make_api(sandbox, "android").stats(token)) == (404, 20, "ROUTE_NOT_FOUND")


def test_stats_need_the_rest_key(api, sandbox, definition, error):
    response = api.stats(sandbox.add_campaign(definition), headers={})

    assert error(response) == (401, 10, "AUTHENTICATION_INVALID")


def test_stats_are_throttled(make_sandbox, make_api, definition, error):
    sandbox = make_sandbox(rate=1)
    api, token = make_api(sandbox), sandbox.add_campaign(definition)
    api.stats(token)

    assert error(api.stats(token)) == (429, 60, "TOO_MANY_REQUESTS")


def test_a_fault_can_be_for_stats_alone(api, sandbox, definition, error):
    token = sandbox.add_campaign(definition)
    sandbox.inject(Fault("answer", "stats", status=503))

    assert api.view(token).status_code == 200
    assert error(api.stats(token)) == (503, 2, "MAINTENANCE_ERROR")
    assert api.stats(token).status_code == 200


def test_a_record_of_stats_holds_the_token_and_applies_nothing(api, sandbox, definition):
    token = sandbox.add_campaign(definition)
    api.stats(token)

    (record,) = sandbox.requests
    assert (record.operation, record.path, record.campaign_token, record.status, record.applied) == (
        "stats",
        f"/1.1/APP_KEY/campaigns/stats/{token}",
        token,
        200,
        False,
    )
