"""How a task refers to a campaign: by its token, or by the result of another task."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import TOKEN

from airflow_batch._campaigns.payload import read_reference
from airflow_batch._values import RESERVED_TOKENS, check_token
from airflow_batch.exceptions import BatchPayloadError


def refusal(function, *arguments):
    with pytest.raises(BatchPayloadError) as caught:
        function(*arguments)
    return str(caught.value)


@pytest.mark.parametrize("token", [TOKEN, "a", "A-b_c.d~9", "x" * 200, "listing", "1"])
def test_a_valid_token_is_returned_unchanged(token):
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
    ],
)
def test_a_token_that_would_change_the_path_is_refused(token):
    assert "is not a campaign token: letters, digits and ._~- are allowed" in refusal(check_token, token)


@pytest.mark.parametrize("token", [*sorted(RESERVED_TOKENS), "LIST", "Create"])
def test_a_route_of_the_api_is_not_a_token(token):
    assert "is a route of Batch's API" in refusal(check_token, token)


def test_the_words_of_every_documented_route_are_reserved():
    assert {"list", "create", "update", "delete", "stats"} == RESERVED_TOKENS


@pytest.mark.parametrize("token", ["", "  ", "None", " None "])
def test_an_empty_token_and_the_text_none_are_refused_because_a_template_may_have_rendered_to_nothing(token):
    assert "a template may have rendered to nothing" in refusal(check_token, token)


def test_a_token_that_is_an_unrendered_template_is_refused_and_the_error_names_output():
    assert "the operator's .output" in refusal(check_token, "{{ params.campaign }}")


@pytest.mark.parametrize("token", [None, 5, b"abc", ["abc"], True, pytest.param(10**5000, id="huge")])
def test_a_token_that_is_not_text_is_refused(token):
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
def test_a_reference_may_be_a_token_or_the_result_of_another_task(campaign, reference):
    assert read_reference(campaign) == reference


@pytest.mark.parametrize(
    ("campaign", "complaint"),
    [
        ({}, "has no campaign_token, but nothing"),
        ({"token": TOKEN}, "has no campaign_token, but 'token'"),
        ({"campaign_token": ""}, "is empty"),
        ({"campaign_token": None}, "must be text"),
        ({"campaign_token": "a/b"}, "is not a campaign token"),
        ({"campaign_token": TOKEN, "app": 5}, "app of the given result must be text"),
        (None, "must be text, not null"),
        ([TOKEN], "must be text"),
    ],
)
def test_a_reference_of_another_form_is_refused(campaign, complaint):
    assert complaint in refusal(read_reference, campaign)
