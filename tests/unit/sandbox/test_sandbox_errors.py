"""The nine documented errors, and what is checked on create."""

from __future__ import annotations

import re

import pytest
import requests

from airflow_batch.sandbox import Contract, Fault
from airflow_batch.sandbox.errors import ERRORS

# As https://doc.batch.com/developer/api/mep/campaigns/update lists them under "Failure".
SPECIFICATION = """
* `AUTHENTICATION_INVALID` (Http status code: 401, Error code: 10)
* `API_MISUSE` (Http status code: 403, Error code: 12)
* `ROUTE_NOT_FOUND` (Http status code: 404, Error code: 20)
* `MISSING_PARAMETER` (Http status code: 400, Error code: 30)
* `MALFORMED_PARAMETER` (Http status code: 400, Error code: 31)
* `MALFORMED_JSON_BODY` (Http status code: 400, Error code: 32)
* `SERVER_ERROR` (Http status code: 500, Error code: 1)
* `MAINTENANCE_ERROR` (Http status code: 503, Error code: 2)
* `TOO_MANY_REQUESTS` (Http status code: 429, Error code: 60)
"""
SPECIFIED = {
    name: (int(status), int(code))
    for name, status, code in re.findall(r"`(\w+)` \(Http status code: (\d+), Error code: (\d+)\)", SPECIFICATION)
}


def with_a_wrong_key(sandbox, api, token):
    return api.update(token, {"live": True}, headers={"X-Authorization": "sandbox-wrong"})


def of_a_complete_campaign(sandbox, api, token):
    sandbox.complete(token)
    return api.update(token, {"live": True})


def of_an_unknown_campaign(sandbox, api, token):
    return api.update("0" * 32, {"live": True})


def with_too_few_parameters(sandbox, api, token):
    return api.update(token, {"name": "Winter sale", "live": True})


def with_a_wrong_type(sandbox, api, token):
    return api.update(token, {"live": "yes"})


def with_half_a_body(sandbox, api, token):
    return api.send("POST", f"campaigns/update/{token}", data=b'{"live": tr')


def while_the_server_fails(sandbox, api, token):
    sandbox.inject("update:500")
    return api.update(token, {"live": True})


def during_maintenance(sandbox, api, token):
    sandbox.inject("update:503")
    return api.update(token, {"live": True})


def too_soon_after_another(sandbox, api, token):
    sandbox.set_throttle(rate=1)
    api.view(token)
    return api.update(token, {"live": True})


@pytest.mark.parametrize(
    ("update", "name"),
    [
        (with_a_wrong_key, "AUTHENTICATION_INVALID"),
        (of_a_complete_campaign, "API_MISUSE"),
        (of_an_unknown_campaign, "ROUTE_NOT_FOUND"),
        (with_too_few_parameters, "MISSING_PARAMETER"),
        (with_a_wrong_type, "MALFORMED_PARAMETER"),
        (with_half_a_body, "MALFORMED_JSON_BODY"),
        (while_the_server_fails, "SERVER_ERROR"),
        (during_maintenance, "MAINTENANCE_ERROR"),
        (too_soon_after_another, "TOO_MANY_REQUESTS"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_wrong_update_is_refused_as_its_page_says_and_changes_nothing(
    make_sandbox, make_api, definition, error, update, name
):
    sandbox = make_sandbox(update_mode="strict")
    token = sandbox.add_campaign(definition)

    answer = update(sandbox, make_api(sandbox), token)

    assert error(answer) == (*SPECIFIED[name], name)
    assert answer.headers["Content-Type"] == "application/json"
    assert sandbox.campaign(token).items() >= definition.items()
    assert [record.error for record in sandbox.requests][-1:] == [name]


def test_the_errors_are_those_of_the_page_and_no_others():
    assert {error.name: (error.status, error.code) for error in ERRORS.values()} == SPECIFIED


@pytest.mark.parametrize("key", [None, "sandbox-wrong"])
def test_a_missing_or_wrong_rest_key_is_401_10(api, error, key):
    headers = {} if key is None else {"X-Authorization": key}

    assert error(api.send("GET", "campaigns/list", headers=headers)) == (401, 10, "AUTHENTICATION_INVALID")


def test_an_app_key_of_no_app_is_401_10(api, error):
    api.app_key = "sandbox-unknown"

    assert error(api.list()) == (401, 10, "AUTHENTICATION_INVALID")


def test_a_request_that_is_not_allowed_is_403_12(api, sandbox, definition, error):
    token = sandbox.add_campaign(definition, complete=True)

    assert error(api.update(token, {"live": True})) == (403, 12, "API_MISUSE")


@pytest.mark.parametrize("path", ["", "campaigns", "campaigns/", "campaigns/delete", "campaigns/a/b", "other/list"])
def test_an_unknown_route_is_404_20(api, error, path):
    assert error(api.send("POST", path, json={})) == (404, 20, "ROUTE_NOT_FOUND")


def test_a_path_outside_of_the_api_is_404_20(sandbox, api, error):
    response = requests.get(f"{sandbox.url}/2.0/campaigns/list", headers=api.headers, timeout=5)

    assert error(response) == (404, 20, "ROUTE_NOT_FOUND")


def test_an_unknown_token_is_404_20(api, error):
    assert error(api.view("0" * 32)) == (404, 20, "ROUTE_NOT_FOUND")
    assert error(api.update("0" * 32, {"live": True})) == (404, 20, "ROUTE_NOT_FOUND")
    assert error(api.delete("0" * 32)) == (404, 20, "ROUTE_NOT_FOUND")
    assert error(api.stats("0" * 32)) == (404, 20, "ROUTE_NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "campaigns/create"),
        ("POST", "campaigns/list"),
        ("PUT", "campaigns/update/{token}"),
        ("DELETE", "campaigns/{token}"),
        ("GET", "campaigns/delete/{token}"),
        ("DELETE", "campaigns/delete/{token}"),
        ("POST", "campaigns/stats/{token}"),
    ],
)
def test_a_wrong_method_is_404_20(api, sandbox, definition, error, method, path):
    token = sandbox.add_campaign(definition)

    assert error(api.send(method, path.format(token=token), json={})) == (404, 20, "ROUTE_NOT_FOUND")
    assert sandbox.tokens() == (token,)


@pytest.mark.parametrize("name", ["name", "live", "messages", "push_time"])
@pytest.mark.parametrize("absent", ["left out", "null"])
def test_a_required_parameter_that_is_missing_is_400_30(api, sandbox, definition, error, name, absent):
    definition = {**definition, name: None}
    if absent == "left out":
        del definition[name]

    assert error(api.create(definition)) == (400, 30, "MISSING_PARAMETER")
    assert sandbox.tokens() == ()


@pytest.mark.parametrize(
    "timing", [{"local_push_time": "2030-06-01T09:00:00"}, {"recurrence": {"repeat_unit": "DAILY"}}]
)
def test_another_timing_parameter_does_for_push_time(api, definition, timing):
    del definition["push_time"]

    assert api.create({**definition, **timing}).status_code == 201


@pytest.mark.parametrize(
    "parameters",
    [
        {"name": "ab"},
        {"name": 12345},
        {"live": "true"},
        {"live": 1},
        {"labels": ["A", "B", "C", "D"]},
        {"labels": "A"},
        {"push_time": "tomorrow"},
        {"push_time": "2030-06-01T09:00:00Z"},
        {"push_time": "2030-06-01 09:00:00"},
        {"push_time": "2030-02-30T09:00:00"},
        {"push_time": 1890000000},
        {"local_push_time": "2030-06-01T09:00:00"},
        {"messages": []},
        {"messages": {"language": "en", "body": "hello"}},
        {"messages": ["hello"]},
        {"messages": [{"body": "hello"}]},
        {"messages": [{"language": "en"}]},
        {"messages": [{"language": "en", "body": ""}]},
        {"recurrence": "daily"},
        {"time_to_live": 2_419_201},
        {"time_to_live": -1},
        {"time_to_live": True},
        {"gcm_collapse_key": "default"},
    ],
    ids=str,
)
def test_a_parameter_with_a_value_that_is_not_allowed_is_400_31(api, sandbox, definition, error, parameters):
    assert error(api.create({**definition, **parameters})) == (400, 31, "MALFORMED_PARAMETER")
    assert sandbox.tokens() == ()


@pytest.mark.parametrize(
    "parameters",
    [
        {"name": "abc"},
        {"labels": ["A", "B", "C"]},
        {"push_time": "now"},
        {"time_to_live": 2_419_200},
        {"something_else": {"nested": [1]}},
    ],
    ids=str,
)
def test_values_at_the_limit_and_unknown_parameters_are_accepted(api, definition, parameters):
    assert api.create({**definition, **parameters}).status_code == 201


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"null", b"\xff", b'{"name": NaN}', b'{"a":' * 100_000])
def test_a_body_that_is_not_a_json_object_is_400_32(api, sandbox, error, body):
    assert error(api.send("POST", "campaigns/create", data=body)) == (400, 32, "MALFORMED_JSON_BODY")
    assert sandbox.tokens() == ()


def test_a_server_error_is_500_with_code_1_for_create_and_update_and_0_for_all_others(api, sandbox, definition, error):
    token = sandbox.add_campaign(definition)
    sandbox.inject(Fault("answer", status=500, times=6))

    assert error(api.create(definition)) == (500, 1, "SERVER_ERROR")
    assert error(api.update(token, {"live": True})) == (500, 1, "SERVER_ERROR")
    assert error(api.delete(token)) == (500, 0, "SERVER_ERROR")
    assert error(api.view(token)) == (500, 0, "SERVER_ERROR")
    assert error(api.list()) == (500, 0, "SERVER_ERROR")
    assert error(api.stats(token)) == (500, 0, "SERVER_ERROR")


def test_maintenance_is_503_2(api, sandbox, error):
    sandbox.inject(Fault("answer", status=503))

    assert error(api.list()) == (503, 2, "MAINTENANCE_ERROR")


def test_too_many_requests_is_429_60(make_sandbox, make_api, error):
    api = make_api(make_sandbox(rate=1))
    api.list()

    assert error(api.list()) == (429, 60, "TOO_MANY_REQUESTS")


def test_a_message_names_the_parameter_it_is_about(api, definition):
    del definition["messages"]

    assert "messages" in api.create(definition).json()["message"]
    assert "labels" in api.create({**definition, "messages": [], "labels": [1]}).json()["message"]


def test_errors_that_batch_does_not_document_are_choices(make_sandbox, make_api, definition, error):
    contract = Contract(
        unknown_app_key="ROUTE_NOT_FOUND",
        unknown_token="API_MISUSE",
        wrong_method="API_MISUSE",
        content_type="MALFORMED_JSON_BODY",
        past_push_time="MALFORMED_PARAMETER",
        list_bad_value="MISSING_PARAMETER",
        collapse_key_text=None,
    )
    sandbox = make_sandbox(contract=contract)
    api, stranger = make_api(sandbox), make_api(sandbox)
    stranger.app_key = "sandbox-unknown"

    assert error(stranger.list()) == (404, 20, "ROUTE_NOT_FOUND")
    assert error(api.view("0" * 32)) == (403, 12, "API_MISUSE")
    assert error(api.send("DELETE", "campaigns/list")) == (403, 12, "API_MISUSE")
    assert error(api.send("GET", "campaigns/create")) == (403, 12, "API_MISUSE")
    assert error(api.send("GET", "campaigns/stats")) == (404, 20, "ROUTE_NOT_FOUND")
    assert error(api.send("POST", "campaigns/create", data=b"{}")) == (400, 32, "MALFORMED_JSON_BODY")
    assert error(api.create({**definition, "push_time": "2029-12-31T23:59:59"})) == (400, 31, "MALFORMED_PARAMETER")
    assert error(api.list(limit="many")) == (400, 30, "MISSING_PARAMETER")
    assert api.create({**definition, "gcm_collapse_key": "default"}).status_code == 201


def test_the_keys_of_an_error_body_are_a_choice(make_sandbox, make_api):
    api = make_api(make_sandbox(contract=Contract(error_keys=("error_code", "error", "error_message"))))

    assert sorted(api.view("0" * 32).json()) == ["error", "error_code", "error_message"]
