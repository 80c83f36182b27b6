"""How a campaign as Batch gives it and its definition become what is sent, and what a write must not lose."""

from __future__ import annotations

import pytest

from airflow_batch.campaigns import (
    TRANSLATIONS,
    completed,
    difference_rows,
    kept_against,
    lost_parameters,
    overlaid,
    request_form,
)

VIEW = {
    "campaign_token": "abc",
    "from_api": True,
    "dev_only": False,
    "created_date": "2026-01-01T00:00:00",
    "trigger": {},
    "name": "Summer",
    "live": False,
    "push_time": "2030-06-01T09:00:00",
    "gcm_collapse_key": "default",
    "labels": None,
    "messages": [{"language": "en", "body": "Hi"}],
}
LONE = {"language": "en", "body": "Hi"}

# --------------------------------------------------------------------------------------------------------- request form


def test_what_only_the_server_sets_and_what_is_null_is_not_sent_back():
    assert set(request_form(VIEW)) == {"name", "live", "push_time", "gcm_collapse_key", "messages"}


def test_a_collapse_key_given_as_text_is_sent_as_an_object():
    assert request_form(VIEW)["gcm_collapse_key"] == {"enabled": True, "key": "default"}


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_what_is_in_the_form_of_a_request_already_stays_as_it_is(name):
    value = {"enabled": False, "key": "sale"}
    assert request_form({name: value}) == {name: value}


def test_a_parameter_that_is_not_known_is_sent_back_too():
    assert request_form({"next_year": [1, {"a": None}]}) == {"next_year": [1, {"a": None}]}


# ------------------------------------------------------------------------------------------------------------- overlaid


def test_what_is_wanted_lies_over_the_definition():
    assert overlaid({"name": "A", "live": False}, {"live": True}) == {"name": "A", "live": True}


@pytest.mark.parametrize(("old", "new"), [("push_time", "local_push_time"), ("local_push_time", "push_time")])
def test_one_push_time_takes_the_place_of_the_other(old, new):
    assert overlaid({"name": "A", old: "x"}, {new: "y"}) == {"name": "A", new: "y"}


def test_a_push_time_of_null_takes_no_place():
    assert overlaid({"push_time": "x"}, {"local_push_time": None}) == {"push_time": "x", "local_push_time": None}


# ------------------------------------------------------------------------------------------------------------ completed


def test_a_definition_fills_what_is_missing():
    assert completed({"name": "A"}, {"labels": ["X"]}) == {"name": "A", "labels": ["X"]}


def test_where_they_differ_the_campaign_wins():
    assert completed({"name": "A", "labels": ["Y"]}, {"name": "B", "labels": ["X"]}) == {"name": "A", "labels": ["Y"]}


def test_messages_are_filled_one_by_one():
    seen = {"messages": [{"body": "Bonjour"}, {"body": "Hi", "title": "T"}]}
    given = {"messages": [{"language": "fr", "body": "Salut"}, {"language": "en", "body": "Hi"}]}
    assert completed(seen, given)["messages"] == [
        {"language": "fr", "body": "Bonjour"},
        {"language": "en", "body": "Hi", "title": "T"},
    ]


def test_lists_of_other_lengths_are_not_mixed():
    seen = {"messages": [{"body": "Hi"}]}
    assert completed(seen, {"messages": [{"language": "en", "body": "A"}, {"language": "fr", "body": "B"}]}) == seen


def test_objects_are_filled_at_every_depth():
    seen = {"targeting": {"query": {"a": 1}}}
    given = {"targeting": {"segments": ["NEW"], "query": {"a": 2, "b": 3}}}
    assert completed(seen, given) == {"targeting": {"segments": ["NEW"], "query": {"a": 1, "b": 3}}}


@pytest.mark.parametrize(
    "definition",
    [
        {"live": True},
        {"push_time": "now"},
        {"labels": None},
        {"campaign_token": "other"},
        {"from_api": True},
        {"trigger": {}},
    ],
)
def test_what_would_start_the_campaign_or_is_not_its_own_is_not_filled_in(definition):
    assert completed({"name": "A"}, definition) == {"name": "A"}


def test_a_push_time_is_filled_in_where_the_campaign_has_none():
    assert completed({"name": "A"}, {"push_time": "2030-01-01T00:00:00"})["push_time"] == "2030-01-01T00:00:00"


@pytest.mark.parametrize(("has", "given"), [("push_time", "local_push_time"), ("local_push_time", "push_time")])
def test_a_campaign_with_a_push_time_does_not_get_the_other_one(has, given):
    assert completed({has: "2030-01-01T00:00:00"}, {given: "2030-02-02T00:00:00"}) == {has: "2030-01-01T00:00:00"}


# --------------------------------------------------------------------------------------------------------- kept against


def test_what_differs_from_the_definition_is_named():
    seen = {"name": "A", "labels": ["X"], "messages": [LONE]}
    definition = {"name": "A", "labels": ["Y"], "messages": [{**LONE, "body": "Ho"}]}
    assert kept_against(seen, definition) == ["labels", "messages"]


@pytest.mark.parametrize(("has", "given"), [("push_time", "local_push_time"), ("local_push_time", "push_time")])
def test_one_push_time_instead_of_the_other_is_a_difference(has, given):
    assert kept_against({has: "2030-01-01T00:00:00"}, {given: "2030-01-01T00:00:00"}) == [given]


@pytest.mark.parametrize(
    ("seen", "definition"),
    [
        ({"live": True}, {"live": False}),
        ({"push_time": "2026-01-01T00:00:00"}, {"push_time": "now"}),
        ({"name": "A"}, {"labels": ["X"]}),
        ({"labels": ["X"]}, {"labels": None}),
        ({"messages": [{"body": "Hi"}]}, {"messages": [LONE]}),
        ({"targeting": {"segments": ["NEW"]}}, {"targeting": {"segments": ["NEW"], "query": {}}}),
        ({"gcm_collapse_key": {"enabled": True, "key": "a"}}, {"gcm_collapse_key": {"enabled": True, "key": "b"}}),
    ],
)
def test_what_was_filled_in_or_cannot_be_compared_is_no_difference(seen, definition):
    assert kept_against(seen, definition) == []


# ----------------------------------------------------------------------------------------------------------------- lost


@pytest.mark.parametrize(
    ("after", "lost"),
    [
        ({"labels": ["A"], "messages": [LONE], "targeting": {"query": {"x": 1}}}, []),
        ({"labels": ["B"], "messages": [LONE], "targeting": {"query": {"x": 2}}}, []),
        ({"messages": [LONE], "targeting": {"query": {"x": 1}}}, ["labels"]),
        ({"labels": None, "messages": [LONE], "targeting": {"query": {"x": 1}}}, ["labels"]),
        ({"labels": ["A"], "messages": [{"body": "Hi"}], "targeting": {"query": {"x": 1}}}, ["messages[0].language"]),
        ({"labels": ["A"], "messages": [LONE], "targeting": {"query": {}}}, ["targeting.query.x"]),
        ({"labels": ["A"], "messages": [], "targeting": {}}, ["messages[0]", "targeting.query"]),
        ({}, ["labels", "messages", "targeting"]),
    ],
)
def test_each_place_that_is_gone_after_a_write_is_named(after, lost):
    before = {"labels": ["A"], "messages": [LONE], "targeting": {"query": {"x": 1}}}
    assert lost_parameters(before, after, {"live": True}) == lost


def test_what_the_write_itself_replaced_is_not_lost():
    assert lost_parameters({"targeting": {"segments": ["NEW"]}}, {"targeting": {}}, {"targeting": {}}) == []


@pytest.mark.parametrize(("old", "new"), [("push_time", "local_push_time"), ("local_push_time", "push_time")])
def test_a_push_time_that_gave_way_to_the_other_is_not_lost(old, new):
    assert lost_parameters({old: "x"}, {new: "y"}, {new: "y"}) == []


def test_a_null_that_is_gone_is_not_lost():
    assert lost_parameters({"labels": None}, {}, {"live": True}) == []


# ----------------------------------------------------------------------------------------------------------------- rows


def test_a_row_for_each_parameter_says_what_it_is_and_would_be():
    rows = difference_rows({"live": True, "name": "B", "labels": ["X"]}, {"live": True, "name": "A"})
    assert rows == [
        {"parameter": "name", "now": "A", "wanted": "B"},
        {"parameter": "labels", "now": None, "wanted": ["X"]},
    ]


def test_a_collapse_key_that_stays_has_no_row():
    key = {"enabled": True, "key": "default"}
    assert difference_rows({"gcm_collapse_key": key}, {"gcm_collapse_key": dict(key)}) == []


def test_a_push_that_would_go_out_now_has_a_row():
    rows = difference_rows({"push_time": "now"}, {"push_time": "2030-01-01T00:00:00"})
    assert rows == [{"parameter": "push_time", "now": "2030-01-01T00:00:00", "wanted": "now"}]


MESSAGES = [
    {"language": "en", "body": "Hello"},
    {"language": "fr", "body": "Bonjour"},
    {"language": "de", "body": "Hallo"},
]


@pytest.mark.parametrize(
    ("bodies", "languages"),
    [
        (["Hello", "Bonjour", "Hallo"], ["en", "fr", "de"]),
        (["Bonjour", "Hallo", "Hello"], ["fr", "de", "en"]),
        (["Hello", "Salut", "Hallo"], ["en", "fr", "de"]),
        (["Hallo", "Hello", "Salut"], ["de", "en", "fr"]),
    ],
    ids=["as created", "in another order", "one edited", "one edited, in another order"],
)
def test_a_message_gets_the_language_of_the_one_it_is(bodies, languages):
    seen = {"messages": [{"body": body} for body in bodies]}
    filled = completed(seen, {"messages": MESSAGES})["messages"]
    assert [message["language"] for message in filled] == languages
    assert [message["body"] for message in filled] == bodies
