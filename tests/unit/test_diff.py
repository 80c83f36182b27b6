"""How campaigns are compared, and how what Batch shows becomes what is sent."""

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
    "messages": [EN, FR],
    "targeting": {"segments": ["NEW"], "query": {"a": {"$contains": ["v"]}, "b": 1}},
    "next_year": [1, {"a": None}],
}
VARIANTS = {"a": [EN, FR], "b": [EN]}


def test_what_only_batch_sets_and_nulls_are_not_sent_back_and_everything_else_is():
    sent = request_form(SEEN)
    assert set(SEEN) - set(sent) == {"campaign_token", "from_api", "dev_only", "created_date", "trigger", "media"}
    assert sent == {**{name: SEEN[name] for name in sent}, "gcm_collapse_key": {"enabled": True, "key": "default"}}


def test_a_collapse_key_in_the_form_of_a_request_is_not_translated():
    key = {"gcm_collapse_key": {"enabled": False, "key": "sale"}}
    assert request_form(key) == key


def test_the_desired_parameters_replace_those_of_the_campaign_whole():
    base = {"name": "A", "live": False, "targeting": {"segments": ["NEW"], "query": {"a": 1}}}
    targeting = {"segments": ["OLD"]}
    assert overlaid(base, {"live": True, "targeting": targeting}) == {"name": "A", "live": True, "targeting": targeting}


@pytest.mark.parametrize(("old", "new"), [("push_time", "local_push_time"), ("local_push_time", "push_time")])
def test_one_push_time_replaces_the_other_and_that_is_no_loss(old, new):
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
def test_numbers_as_text_moments_with_a_zone_and_lists_in_another_order_are_no_difference(desired):
    assert differences(desired, SEEN) == []


@pytest.mark.parametrize(("one", "other"), [({"capping": 2.0}, {"capping": 2}), ({"capping": 2}, {"capping": 2.0})])
def test_a_number_is_the_same_whether_or_not_it_has_a_decimal_point(one, other):
    assert differences(one, other) == []


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
def test_a_parameter_that_is_not_as_desired_is_named(desired):
    assert differences(desired, SEEN) == list(desired)


def test_two_names_are_the_same_with_blanks_around_them_and_in_another_unicode_form():
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
def test_what_is_gone_empty_or_of_another_kind_after_a_write_is_lost_and_named(after, lost):
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
def test_messages_in_another_order_are_not_lost(before, edit):
    after = [{**message, **edit} if message is EN else message for message in reversed(before)]
    assert lost_parameters({"messages": before}, {"messages": after}, {"live": True}) == []


def test_a_variant_of_an_ab_test_that_is_gone_is_lost():
    assert lost_parameters({"messages": VARIANTS}, {"messages": {"a": [FR, EN]}}, {}) == ["messages.b"]


def test_what_the_write_itself_replaced_is_not_lost():
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
def test_a_value_that_is_no_time_is_no_moment(value):
    assert read_moment(value) is None
