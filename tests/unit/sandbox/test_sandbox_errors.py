"""The nine documented errors, and which requests get them."""

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
UNKNOWN_TOKEN = "0" * 32
MISSING, MALFORMED = (400, 30, "MISSING_PARAMETER"), (400, 31, "MALFORMED_PARAMETER")
NOT_FOUND, MISUSE = (404, 20, "ROUTE_NOT_FOUND"), (403, 12, "API_MISUSE")


def with_a_wrong_key(sandbox, api, token):
    return api.update(token, {"live": True}, headers={"X-Authorization": "sandbox-wrong"})


def of_a_complete_campaign(sandbox, api, token):
    sandbox.complete(token)
    return api.update(token, {"live": True})


def of_an_unknown_campaign(sandbox, api, token):
    return api.update(UNKNOWN_TOKEN, {"live": True})


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


def too_soon_after_another_request(sandbox, api, token):
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
        (too_soon_after_another_request, "TOO_MANY_REQUESTS"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_wrong_update_gets_the_documented_error_and_changes_nothing(
    make_sandbox, make_api, definition, error, update, name
):
    sandbox = make_sandbox(update_mode="strict")
    token = sandbox.add_campaign(definition)

    answer = update(sandbox, make_api(sandbox), token)

    assert error(answer) == (*SPECIFIED[name], name)
    assert answer.headers["Content-Type"] == "application/json"
    assert sandbox.campaign(token).items() >= definition.items()
    assert [record.error for record in sandbox.requests][-1:] == [name]


def test_the_sandbox_has_the_documented_errors_and_no_others():
    assert {error.name: (error.status, error.code) for error in ERRORS.values()} == SPECIFIED


@pytest.mark.parametrize("call", ["view", "stats", "delete", "list"])
def test_every_operation_needs_the_rest_key(api, sandbox, definition, error, call):
    token = sandbox.add_campaign(definition)
    path, method = {
        "view": (f"campaigns/{token}", "GET"),
        "stats": (f"campaigns/stats/{token}", "GET"),
        "delete": (f"campaigns/delete/{token}", "POST"),
        "list": ("campaigns/list", "GET"),
    }[call]

    assert error(api.send(method, path, headers={})) == (401, 10, "AUTHENTICATION_INVALID")
    assert sandbox.tokens() == (token,)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", path) for path in ("", "campaigns", "campaigns/", "campaigns/delete", "campaigns/a/b", "a/list")),
        ("GET", "campaigns/create"),
        ("POST", "campaigns/list"),
        ("PUT", "campaigns/update/{token}"),
        ("DELETE", "campaigns/{token}"),
        ("GET", "campaigns/delete/{token}"),
        ("POST", "campaigns/stats/{token}"),
    ],
)
def test_an_unknown_route_or_method_is_404_20(api, sandbox, definition, error, method, path):
    token = sandbox.add_campaign(definition)

    assert error(api.send(method, path.format(token=token), json={})) == NOT_FOUND
    assert sandbox.tokens() == (token,)


def test_a_path_outside_of_the_api_is_404_20(sandbox, api, error):
    assert error(requests.get(f"{sandbox.url}/2.0/campaigns/list", headers=api.headers, timeout=5)) == NOT_FOUND


def test_a_token_that_is_unknown_or_of_another_app_is_404_20_for_every_operation(
    make_sandbox, make_api, definition, error
):
    sandbox = make_sandbox(apps=("ios", "android"))
    token = sandbox.add_campaign(definition, app="ios")
    api = make_api(sandbox, "android")

    for other in (token, UNKNOWN_TOKEN):
        answers = [api.view(other), api.update(other, {"live": True}), api.delete(other), api.stats(other)]
        assert [error(answer) for answer in answers] == [NOT_FOUND] * 4
    assert api.list().json() == []
    assert [item["campaign_token"] for item in make_api(sandbox, "ios").list().json()] == [token]


@pytest.mark.parametrize("name", ["name", "live", "messages", "push_time"])
def test_a_new_campaign_without_a_required_parameter_is_400_30_and_named(api, sandbox, definition, error, name):
    without = {key: value for key, value in definition.items() if key != name}

    for payload in (without, {**definition, name: None}):
        answer = api.create(payload)
        assert error(answer) == MISSING
        assert name in answer.json()["message"]
    assert sandbox.tokens() == ()


@pytest.mark.parametrize(
    "parameters",
    [
        {"name": "ab"},
        {"name": 12345},
        {"live": "true"},
        {"live": 1},
        {"labels": ["A", "B", "C", "D"]},
        {"labels": "A"},
        {"labels": [1]},
        {"push_time": "tomorrow"},
        {"push_time": "2030-06-01T09:00:00Z"},
        {"push_time": "2030-06-01 09:00:00"},
        {"push_time": "2030-02-30T09:00:00"},
        {"push_time": 1890000000},
        {"local_push_time": "2030-06-01T09:00:00"},
        {"messages": []},
        {"messages": {"language": "en", "body": "hello"}},
        {"messages": {"a": [{"language": "en", "body": "Hi"}], "b": []}},
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
def test_a_new_campaign_with_a_malformed_parameter_is_400_31(api, sandbox, definition, error, parameters):
    assert error(api.create({**definition, **parameters})) == MALFORMED
    assert sandbox.tokens() == ()


@pytest.mark.parametrize(
    "parameters",
    [
        {"name": "abc"},
        {"labels": ["A", "B", "C"]},
        {"push_time": "now"},
        {"push_time": "2029-12-31T23:59:59"},
        {"push_time": None, "local_push_time": "2030-06-01T09:00:00"},
        {"push_time": None, "recurrence": {"repeat_unit": "DAILY"}},
        {"time_to_live": 2_419_200},
        {"something_else": {"nested": [1]}},
        {"messages": {"a": [{"language": "en", "body": "Hi"}], "b": [{"language": "en", "body": "Hello"}]}},
    ],
    ids=str,
)
def test_values_at_their_limit_and_unknown_parameters_are_accepted(api, sandbox, definition, parameters):
    given = {name: value for name, value in {**definition, **parameters}.items() if value is not None}

    assert api.create(given).status_code == 201
    assert sandbox.campaign(sandbox.tokens()[0]).keys() >= given.keys()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"null", b"\xff", b'{"name": NaN}', b'{"a":' * 100_000])
def test_a_body_that_is_not_a_json_object_is_400_32(api, sandbox, error, body):
    assert error(api.send("POST", "campaigns/create", data=body)) == (400, 32, "MALFORMED_JSON_BODY")
    assert sandbox.tokens() == ()


def test_a_server_error_is_500_with_code_1_for_create_and_update_and_0_for_all_others(api, sandbox, definition, error):
    token = sandbox.add_campaign(definition)
    sandbox.inject(Fault("answer", status=500, times=6))

    answers = [api.create(definition), api.update(token, {"live": True})]
    assert [error(answer) for answer in answers] == [(500, 1, "SERVER_ERROR")] * 2
    answers = [api.delete(token), api.view(token), api.list(), api.stats(token)]
    assert [error(answer) for answer in answers] == [(500, 0, "SERVER_ERROR")] * 4


def test_errors_that_batch_does_not_document_are_choices_of_the_contract(make_sandbox, make_api, definition, error):
    contract = Contract(
        unknown_app_key="ROUTE_NOT_FOUND",
        unknown_token="API_MISUSE",
        wrong_method="API_MISUSE",
        content_type="MALFORMED_JSON_BODY",
        past_push_time="MALFORMED_PARAMETER",
        list_bad_value="MISSING_PARAMETER",
        list_limit_above_max="MALFORMED_PARAMETER",
        collapse_key_text=None,
        dashboard_update=None,
        dashboard_delete="API_MISUSE",
        dev_key_view=None,
        dev_key_list="API_MISUSE",
        dev_key_stats=None,
    )
    sandbox = make_sandbox(contract=contract)
    api, other, dev = make_api(sandbox), make_api(sandbox), make_api(sandbox, kind="dev")
    other.app_key = "sandbox-unknown"
    past = {"push_time": "2029-12-31T23:59:59"}
    from_dashboard = sandbox.add_campaign(definition, from_api=False)

    assert error(other.list()) == NOT_FOUND
    assert error(api.view(UNKNOWN_TOKEN)) == MISUSE
    assert error(api.send("DELETE", "campaigns/list")) == MISUSE
    assert error(api.send("GET", "campaigns/create")) == MISUSE
    assert error(api.send("GET", "campaigns/stats")) == NOT_FOUND
    assert error(api.send("POST", "campaigns/create", data=b"{}")) == (400, 32, "MALFORMED_JSON_BODY")
    assert error(api.create({**definition, **past})) == MALFORMED
    assert error(api.update(sandbox.add_campaign(definition), past)) == MALFORMED
    assert error(api.list(limit="many")) == MISSING
    assert api.list(limit=100).status_code == 200
    assert error(api.list(limit=101)) == MALFORMED
    assert api.create({**definition, "gcm_collapse_key": "default"}).status_code == 201
    assert api.update(from_dashboard, {"live": True}).status_code == 200
    assert error(api.delete(from_dashboard)) == MISUSE
    assert dev.view(from_dashboard).status_code == dev.stats(from_dashboard).status_code == 200
    assert error(dev.list()) == MISUSE


def test_the_keys_of_an_error_body_are_a_choice_of_the_contract(make_sandbox, make_api):
    api = make_api(make_sandbox(contract=Contract(error_keys=("error_code", "error", "error_message"))))

    assert sorted(api.view(UNKNOWN_TOKEN).json()) == ["error", "error_code", "error_message"]
