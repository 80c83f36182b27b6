"""What a campaign's token and reference may be, and how a campaign differs from what is wanted."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_batch.campaigns import ASSUMPTIONS, RESERVED_TOKENS, check_token, differences, read_reference
from airflow_batch.exceptions import BatchPayloadError

TOKEN = "d9d5e5a52ca08110d4893af3254ec21b"
# A number of more digits than Python writes as text.
HUGE = pytest.param(10**5000, id="huge")


def refusal(function, *arguments):
    with pytest.raises(BatchPayloadError) as caught:
        function(*arguments)
    return str(caught.value)


# --------------------------------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize("token", [TOKEN, "a", "A-b_c.d~9", "x" * 200, "listing", "1"])
def test_a_token_is_returned_as_it_is(token):
    assert check_token(token) == token


@pytest.mark.parametrize(
    "token",
    [
        "a/b",
        "/",
        "../list",
        "..",
        "a..b",
        ".",
        "a b",
        " abc",
        "abc ",
        "abc\n",
        "a?b",
        "a#b",
        "a%2fb",
        "a:b",
        "é",
        "x" * 201,
        "a\x00",
    ],
)
def test_a_token_that_would_change_the_path_is_refused(token):
    assert "no campaign token: letters, digits and ._~- are allowed" in refusal(check_token, token)


@pytest.mark.parametrize("token", [*sorted(RESERVED_TOKENS), "LIST", "Create"])
def test_a_word_of_the_apis_own_routes_is_no_token(token):
    assert "is a route of Batch's API" in refusal(check_token, token)


def test_the_words_of_every_documented_route_are_reserved():
    assert {"list", "create", "update", "delete", "stats"} == RESERVED_TOKENS


def test_an_empty_token_points_at_the_template():
    assert "is empty" in refusal(check_token, "")


def test_a_template_that_was_not_rendered_points_at_the_output():
    assert "the operator's .output" in refusal(check_token, "{{ params.campaign }}")


@pytest.mark.parametrize("token", [None, 5, b"abc", ["abc"], True, HUGE])
def test_a_token_that_is_no_text_is_refused(token):
    assert "must be text" in refusal(check_token, token)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_a_token_or_is_refused(text):
    try:
        assert check_token(text) == text
    except BatchPayloadError as error:
        assert str(error)  # noqa: PT017 - both ways are right
    else:
        assert not set(text) & set("/?#% \\")
        assert ".." not in text


# ----------------------------------------------------------------------------------------------------------- references


@pytest.mark.parametrize(
    ("campaign", "reference"),
    [
        (TOKEN, (TOKEN, None)),
        ({"campaign_token": TOKEN, "app": "ios", "live": True}, (TOKEN, "ios")),
        ({"campaign_token": TOKEN, "app": None}, (TOKEN, None)),
        ({"campaign_token": TOKEN, "app": ""}, (TOKEN, None)),
        ({"campaign_token": TOKEN}, (TOKEN, None)),
        (MappingProxyType({"campaign_token": TOKEN, "app": "ios"}), (TOKEN, "ios")),
    ],
)
def test_a_campaign_is_named_by_its_token_or_by_the_result_of_another_task(campaign, reference):
    assert read_reference(campaign) == reference


@pytest.mark.parametrize(
    ("campaign", "complaint"),
    [
        ({}, "has no campaign_token, but nothing"),
        ({"token": TOKEN}, "has no campaign_token, but 'token'"),
        ({"campaign_token": ""}, "is empty"),
        ({"campaign_token": None}, "must be text"),
        ({"campaign_token": "a/b"}, "no campaign token"),
        ({"campaign_token": TOKEN, "app": 5}, "app of the given result must be text"),
        (None, "must be text, not null"),
        ([TOKEN], "must be text"),
    ],
)
def test_anything_else_is_no_campaign(campaign, complaint):
    assert complaint in refusal(read_reference, campaign)


# ---------------------------------------------------------------------------------------------------------- differences

SEEN = {
    "campaign_token": TOKEN,
    "name": "Summer",
    "live": True,
    "push_time": "2030-06-01T09:00:00",
    "gcm_collapse_key": "default",
    "labels": ["A", "B"],
    "time_to_live": 1,
    "messages": [{"language": "en", "title": "T", "body": "Hi"}],
    "targeting": {"segments": ["NEW"], "query": {"a": {"$contains": ["v"]}, "b": 1}},
}


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"live": True},
        {"live": True, "push_time": "now"},
        {"push_time": "2030-06-01T09:00:00"},
        {"targeting": {"segments": ["NEW"]}},
        {"targeting": {"query": {"a": {"$contains": ["v"]}}}},
        {"messages": [{"body": "Hi"}]},
        {"labels": ["A", "B"]},
        {"recurrence": None},
    ],
)
def test_a_campaign_that_has_all_that_is_wanted_does_not_differ(wanted):
    assert differences(wanted, SEEN) == []


@pytest.mark.parametrize(
    "wanted",
    [
        {"live": False},
        {"live": 1},
        {"time_to_live": True},
        {"name": "summer"},
        {"name": None},
        {"push_time": "2030-06-01T09:00:01"},
        {"labels": ["B", "A"]},
        {"labels": ["A"]},
        {"labels": []},
        {"messages": [{"body": "Ho"}]},
        {"messages": [{"body": "Hi", "deeplink": None}]},
        {"messages": [{"body": "Hi"}, {"body": "Hi"}]},
        {"targeting": {"segments": ["NEW", "ENGAGED"]}},
        {"targeting": {"query": {"a": {"$contains": []}}}},
        {"targeting": None},
        {"unknown": "x"},
        {"local_push_time": "2030-06-01T09:00:00"},
        {"local_push_time": "now"},
    ],
)
def test_a_parameter_that_is_not_as_wanted_is_named(wanted):
    assert differences(wanted, SEEN) == list(wanted)


@pytest.mark.parametrize("key", ["default", {"enabled": True, "key": "default"}, None])
def test_what_cannot_be_compared_counts_as_different(key):
    assert differences({"live": True, "gcm_collapse_key": key}, SEEN) == ["gcm_collapse_key"]


def test_nothing_seen_differs_in_everything():
    assert differences({"live": False, "name": "Summer"}, {}) == ["live", "name"]


# ---------------------------------------------------------------------------------------------------------- assumptions


@pytest.mark.parametrize("assumption", ASSUMPTIONS.values(), ids=ASSUMPTIONS)
def test_an_assumption_has_a_label_and_says_what_would_replace_it(assumption):
    assert assumption.label in {"OBSERVED", "INFERRED", "UNKNOWN"}
    assert assumption.what.endswith(".")
    assert assumption.replaced_by
