"""Only the sandbox's own keys are accepted, and no key is logged or shown."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
import requests

from airflow_batch.sandbox import BatchSandbox, Fault
from airflow_batch.sandbox.log import RequestLog

FOREIGN = "c0ffee00c0ffee00c0ffee00c0ffee00"


@pytest.mark.parametrize(
    "options",
    [
        {"rest_key": FOREIGN},
        {"apps": {"ios": {"live": FOREIGN}}},
        {"apps": {"ios": {"dev": FOREIGN}}},
        {"rest_key": "sandbox- "},
        {"rest_key": "sandbox-é"},
    ],
    ids=str,
)
def test_a_sandbox_refuses_a_key_that_could_be_real_or_that_cannot_be_sent(options):
    with pytest.raises(ValueError, match="key") as caught:
        BatchSandbox(**options)

    assert FOREIGN not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"apps": ()},
        {"apps": "ios"},
        {"apps": {"ios": {"sdk": "sandbox-x"}}},
        {"apps": {"ios": {"live": "sandbox-x", "dev": "sandbox-x"}}},
        {"apps": ("rest",), "rest_key": "sandbox-rest-live"},
    ],
    ids=str,
)
def test_a_sandbox_refuses_keys_that_do_not_identify_one_app(options):
    with pytest.raises(ValueError, match=r"app|key"):
        BatchSandbox(**options)


def test_keys_can_be_chosen(make_sandbox, make_api):
    apps = {"ios": {"live": "sandbox-a/b%?", "dev": "sandbox-dev"}}
    sandbox = make_sandbox(apps=apps, rest_key='sandbox-"rest"')
    api = make_api(sandbox)
    api.app_key = quote(api.app_key, safe="")

    assert api.list().status_code == 200
    assert sandbox.requests[0].app == "ios"
    assert sandbox.requests[0].path == "/1.1/APP_KEY/campaigns/list"


def test_an_app_key_or_rest_key_that_is_not_the_sandboxs_is_401_10(api, error):
    response = api.send("GET", "campaigns/list", headers={"X-Authorization": FOREIGN})
    assert error(response) == (401, 10, "AUTHENTICATION_INVALID")
    assert "sandbox-" in response.json()["message"]

    for api.app_key in (FOREIGN, "sandbox-unknown"):
        assert error(api.list()) == (401, 10, "AUTHENTICATION_INVALID")


def test_a_fault_does_not_answer_a_request_with_a_foreign_key(api, sandbox):
    sandbox.inject(Fault("echo", times=None))

    response = api.send("GET", "campaigns/list", headers={"X-Authorization": FOREIGN})

    assert FOREIGN not in response.text
    assert sandbox.requests[-1].fault is None


def test_two_rest_keys_in_one_request_are_refused(api):
    answer = api.raw(extra=f"X-Authorization: {api.sandbox.rest_key}")

    assert answer.startswith(b"HTTP/1.1 401")


def everything(sandbox):
    """Return everything that the sandbox shows, as text."""
    shown = [
        requests.get(f"{sandbox.url}/sandbox/{page}", timeout=5).text for page in ("requests", "campaigns", "state")
    ]
    shown.append(requests.get(sandbox.url, timeout=5).text)
    records = [repr(record) + str(record) + json.dumps(record.as_dict()) for record in sandbox.requests]
    return "\n".join([*shown, *records])


def test_no_key_is_logged_or_shown_wherever_a_request_carries_it(api, sandbox, definition, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    token = sandbox.add_campaign(definition)
    for key in (sandbox.rest_key, FOREIGN, api.app_key):
        headers = {"X-Authorization": key, "User-Agent": f"client {key}"}
        for path in (
            "campaigns/list",
            f"campaigns/{token}",
            f"campaigns/{key}",
            f"campaigns/stats/{key}",
            key,
            f"{key}/x",
            f"campaigns/list?k={key}",
        ):
            api.send("GET", path, headers=headers)
        api.send("GET", f"campaigns/list?limit={key}", headers=headers)
        api.send(key[:20], "campaigns/list", headers=headers)
        api.send("POST", "campaigns/create", data=key, headers=headers)
        api.send("POST", f"campaigns/delete/{key}", headers=headers)
        requests.get(f"{sandbox.url}/{key}", headers=headers, timeout=5)
        requests.get(f"{sandbox.url}/1.1/{key}", headers=headers, timeout=5)

    server_log = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("urllib3"))
    shown = everything(sandbox) + server_log + "".join(capfd.readouterr())
    # An HTTP client may write a method in upper case.
    shown = shown.lower()

    assert len(sandbox.requests) == 39
    for key in (sandbox.rest_key, FOREIGN, api.app_key):
        assert key not in shown
        assert key[:20] not in shown


def test_the_request_log_records_request_and_outcome(api, sandbox, definition):
    token = sandbox.add_campaign(definition)

    api.update(token, {"live": True}, headers={**api.headers, "User-Agent": f"client/1 {sandbox.rest_key}"})

    (record,) = sandbox.requests
    assert dataclasses.asdict(record) == {
        "sequence": 1,
        "time": datetime(2030, 1, 1, 12, tzinfo=UTC),
        "method": "POST",
        "operation": "update",
        "app": "app",
        "key_kind": "live",
        "path": f"/1.1/APP_KEY/campaigns/update/{token}",
        "query": "",
        "campaign_token": token,
        "status": 200,
        "error": None,
        "retry_after": None,
        "delay": 0.0,
        "fault": None,
        "applied": True,
        "body_digest": hashlib.sha256(b'{"live": true}').hexdigest()[:16],
        "user_agent": "client/1 KEY",
    }


def test_a_request_is_in_the_log_as_soon_as_the_client_has_its_answer(api, sandbox):
    for number in range(1, 21):
        api.list()
        assert len(sandbox.requests) == number


def test_the_request_log_names_operation_key_and_campaign_and_whether_a_write_was_applied(
    sandbox, make_api, definition
):
    live, dev = make_api(sandbox), make_api(sandbox, kind="dev")
    token = live.create(definition).json()["campaign_token"]
    live.create({**definition, "name": "x"})
    dev.update(token, {"live": True})
    live.view(token)
    live.list(**{"from": 10, "limit": 5, "live": "true"})
    live.stats(token)
    live.delete(token)
    live.delete(token)
    live.send("GET", "elsewhere")

    assert [
        (record.operation, record.key_kind, record.campaign_token, record.applied) for record in sandbox.requests
    ] == [
        ("create", "live", token, True),
        ("create", "live", None, False),
        ("update", "dev", token, True),
        ("view", "live", token, False),
        ("list", "live", None, False),
        ("stats", "live", token, False),
        ("delete", "live", token, True),
        ("delete", "live", token, False),
        ("unknown", "live", None, False),
    ]
    assert sandbox.requests[4].query == "from=10&limit=5&live=true"


def test_the_request_log_has_delays_and_retry_after_without_a_key(make_sandbox, make_api):
    sandbox = make_sandbox(rate=0.25, burst=2, retry_after="computed")
    sandbox.inject("delay;delay=0.01", Fault("answer", status=429, headers={"retry-after": f"6 {sandbox.rest_key}"}))
    for _ in range(4):
        make_api(sandbox).list()

    assert [(record.error, record.retry_after, record.delay) for record in sandbox.requests] == [
        (None, None, 0.01),
        ("TOO_MANY_REQUESTS", "6 KEY", 0),
        (None, None, 0),
        ("TOO_MANY_REQUESTS", "4", 0),
    ]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("429", "TOO_MANY_REQUESTS"),
        ("MALFORMED_PARAMETER", "MALFORMED_PARAMETER"),
        ("echo;status=403", "API_MISUSE"),
        ("500;applied=true", "SERVER_ERROR"),
        ("500;body=oops", None),
        ("418", None),
        ("html;status=503", None),
        ("redirect", None),
        ("200;body=[]", None),
        ("reset_before", None),
        ("list:200;applied=true", None),
    ],
)
def test_the_request_log_names_the_documented_error_that_a_fault_has_sent_and_no_other(api, sandbox, fault, error):
    sandbox.inject(fault)
    with suppress(requests.exceptions.ConnectionError):
        api.list()

    assert sandbox.requests[0].error == error


def test_requests_and_campaigns_can_be_read_over_http_and_that_is_not_logged(api, sandbox, definition):
    token = sandbox.add_campaign(definition, complete=True)
    api.list()

    requested = requests.get(f"{sandbox.url}/sandbox/requests", timeout=5).json()["requests"]
    campaigns = requests.get(f"{sandbox.url}/sandbox/campaigns", timeout=5).json()["campaigns"]

    assert [record["operation"] for record in requested] == ["list"]
    assert campaigns == [{"app": "app", "complete": True, "campaign": sandbox.campaign(token)}]
    assert len(sandbox.requests) == 1


def test_the_request_log_keeps_the_newest_records_and_counts_all(sandbox, api, monkeypatch):
    monkeypatch.setattr("airflow_batch.sandbox.log.LOG_MAX", 3)
    for _ in range(5):
        api.list()

    assert [record.sequence for record in sandbox.requests] == [3, 4, 5]
    assert requests.get(f"{sandbox.url}/sandbox/state", timeout=5).json()["counts"]["requests"] == 5


def test_a_late_change_of_a_record_that_is_no_longer_kept_is_not_counted_again(sandbox, api, monkeypatch):
    monkeypatch.setattr("airflow_batch.sandbox.log.LOG_MAX", 1)
    log = RequestLog()
    for _ in range(2):
        api.list()
        log.put(sandbox.requests[-1])
    log.put(dataclasses.replace(sandbox.requests[-1], sequence=1))

    assert [record.sequence for record in log.records()] == [2]
    assert log.counts().requests == 2
