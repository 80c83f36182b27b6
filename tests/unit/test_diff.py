"""How campaigns are compared, and how a viewed campaign becomes the body of an update."""

from __future__ import annotations

import pytest

from airflow_batch._campaigns.diff import (
    difference_rows,
    differences,
    lost_parameters,
    overlaid,
    read_moment,
    request_form,
    same_name,
)

EN = {"language": "en", "body": "Hello", "title": "Sale"}
FR = {"language": "fr", "body": "Bonjour"}
SEEN = {
    "campaign_token": "abc",
    "from_api": True,
    "dev_only": False,
    "created_date": "2026-01-01T00:00:00",
    "trigger": {},
    "name": "Summer",
    "live": True,
    "push_time": "2030-06-01T09:00:00",
    "gcm_collapse_key": "default",
    "labels": ["A", "B"],
    "media": None,
    "time_to_live": "60",
    "capping": 2.0,
    "rank": 2,
    "messages": [EN, FR],
    "targeting": {"segments": ["NEW"], "query": {"a": {"$contains": ["v"]}, "b": 1}},
    "next_year": [1, {"a": None}],
}
VARIANTS = {"a": [EN, FR], "b": [EN]}


def test_an_update_leaves_out_the_fields_of_the_server_and_nulls_and_sends_everything_else():
    sent = request_form(SEEN)
    assert set(SEEN) - set(sent) == {"campaign_token", "from_api", "dev_only", "created_date", "trigger", "media"}
    assert sent == {**{name: SEEN[name] for name in sent}, "gcm_collapse_key": {"enabled": True, "key": "default"}}


def test_a_collapse_key_in_the_form_of_a_request_is_not_converted():
    key = {"gcm_collapse_key": {"enabled": False, "key": "sale"}}
    assert request_form(key) == key


def test_a_desired_parameter_replaces_that_of_the_campaign_as_a_whole():
    base = {"name": "A", "live": False, "targeting": {"segments": ["NEW"], "query": {"a": 1}}}
    targeting = {"segments": ["OLD"]}
    assert overlaid(base, {"live": True, "targeting": targeting}) == {"name": "A", "live": True, "targeting": targeting}


@pytest.mark.parametrize(("old", "new"), [("push_time", "local_push_time"), ("local_push_time", "push_time")])
def test_one_kind_of_push_time_replaces_the_other_and_that_is_not_a_loss(old, new):
    assert overlaid({"name": "A", old: "x"}, {new: "y"}) == {"name": "A", new: "y"}
    assert lost_parameters({old: "x"}, {new: "y"}, {new: "y"}) == []


def test_a_push_time_of_null_replaces_nothing():
    assert overlaid({"push_time": "x"}, {"local_push_time": None}) == {"push_time": "x", "local_push_time": None}


@pytest.mark.parametrize(
    "desired",
    [
        {},
        {"live": True, "push_time": "now"},
        {"push_time": "2030-06-01T09:00:00Z"},
        {"push_time": "2030-06-01T11:00:00+02:00"},
        {"name": " Summer "},
        {"time_to_live": 60},
        {"time_to_live": 60.0},
        {"capping": 2},
        {"rank": 2.0},
        {"labels": ["B", "A"]},
        {"messages": [FR, EN]},
        {"messages": [{"body": "Hello"}, {"body": "Bonjour"}]},
        {"targeting": {"segments": ["NEW"]}},
        {"targeting": {"query": {"b": "1"}}},
        {"gcm_collapse_key": {"enabled": True, "key": "default"}},
        {"media": None},
        {"recurrence": None},
    ],
)
def test_numbers_as_text_times_with_a_zone_and_lists_in_another_order_are_not_differences(desired):
    assert differences(desired, SEEN) == []


@pytest.mark.parametrize(
    "desired",
    [
        {"live": False},
        {"live": 1},
        {"time_to_live": True},
        {"time_to_live": 61},
        {"name": "summer"},
        {"name": None},
        {"push_time": "2030-06-01T09:00:01"},
        {"labels": ["A"]},
        {"labels": []},
        {"messages": [EN, {**FR, "body": "Salut"}]},
        {"messages": [EN, {**FR, "deeplink": None}]},
        {"messages": [EN, EN]},
        {"messages": VARIANTS},
        {"targeting": {"segments": ["NEW", "ENGAGED"]}},
        {"targeting": {"query": {"a": {"$contains": []}}}},
        {"targeting": None},
        {"unknown": "x"},
        {"local_push_time": "2030-06-01T09:00:00"},
        {"gcm_collapse_key": "default"},
    ],
)
def test_a_parameter_that_differs_from_the_desired_one_is_named(desired):
    assert differences(desired, SEEN) == list(desired)


def test_names_are_equal_with_surrounding_blanks_and_in_another_unicode_form():
    assert same_name("Caf\u00e9 ", "Cafe\u0301")
    assert not same_name("Cafe", "Caf\u00e9")
    assert not same_name(5, 5)


@pytest.mark.parametrize(
    ("after", "lost"),
    [
        ({}, []),
        ({"labels": ["C"], "targeting": {"segments": ["OLD"], "query": {"a": 2}}}, []),
        ({"labels": None}, ["labels"]),
        ({"labels": []}, ["labels"]),
        ({"name": ""}, ["name"]),
        ({"messages": [{**EN, "body": ""}, FR]}, ["messages[0].body"]),
        ({"messages": [{**EN, "title": False}, FR]}, ["messages[0].title"]),
        ({"messages": [EN]}, ["messages[1]"]),
        ({"messages": {}}, ["messages"]),
        ({"recurrence": []}, ["recurrence"]),
        ({"recurrence": False}, ["recurrence"]),
        ({"targeting": []}, ["targeting"]),
        ({"targeting": ""}, ["targeting"]),
        ({"targeting": False}, ["targeting"]),
        ({"targeting": "everybody"}, ["targeting"]),
        ({"targeting": {"segments": "", "query": {"a": 1}}}, ["targeting.segments"]),
        ({"targeting": {"segments": ["NEW"], "query": []}}, ["targeting.query"]),
    ],
)
def test_a_parameter_that_is_missing_empty_or_of_another_type_after_a_write_is_named_as_lost(after, lost):
    before = {
        "name": "A",
        "labels": ["A"],
        "media": None,
        "messages": [EN, FR],
        "recurrence": {"repeat_unit": "DAILY"},
        "targeting": {"segments": ["NEW"], "query": {"a": 1}},
    }
    assert lost_parameters(before, {**before, **after}, {"live": True}) == lost


@pytest.mark.parametrize("before", [[EN, FR], [FR, EN]])
@pytest.mark.parametrize("edit", [{}, {"body": "Changed"}])
def test_messages_in_another_order_are_not_a_loss(before, edit):
    after = [{**message, **edit} if message is EN else message for message in reversed(before)]
    assert lost_parameters({"messages": before}, {"messages": after}, {"live": True}) == []


def test_a_missing_variant_of_an_ab_test_is_a_loss_and_a_parameter_that_the_write_replaced_is_not():
    assert lost_parameters({"messages": VARIANTS}, {"messages": {"a": [FR, EN]}}, {}) == ["messages.b"]
    assert lost_parameters({"targeting": {"segments": ["NEW"]}}, {"targeting": {}}, {"targeting": {}}) == []


def test_a_dry_run_has_a_row_for_each_parameter_that_would_change():
    seen = {"live": True, "name": "A", "gcm_collapse_key": "x", "push_time": "2030-01-01T00:00:00"}
    desired = {"live": True, "name": "B", "labels": ["X"], "gcm_collapse_key": {"enabled": True, "key": "x"}}
    assert difference_rows({**desired, "push_time": "now"}, seen) == [
        {"parameter": "name", "now": "A", "wanted": "B"},
        {"parameter": "labels", "now": None, "wanted": ["X"]},
        {"parameter": "push_time", "now": "2030-01-01T00:00:00", "wanted": "now"},
    ]


@pytest.mark.parametrize("value", ["now", "", None, 5, [], {}])
def test_a_value_that_is_not_a_time_is_read_as_none(value):
    assert read_moment(value) is None
