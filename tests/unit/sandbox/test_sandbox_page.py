"""The page at / and the JSON that it reads. How a browser shows them is tested in tests/browser."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from contextlib import suppress

import pytest
import requests
from canary import APP_KEYS, REST_KEY, assert_free

from airflow_batch.sandbox import Fault
from airflow_batch.sandbox.log import Counts, RequestLog
from airflow_batch.sandbox.page import CAMPAIGNS_MAX


def ask(sandbox, after=0):
    return requests.get(f"{sandbox.url}/sandbox/state", params={"after": after}, timeout=5).json()


@pytest.fixture
def page(sandbox):
    return requests.get(f"{sandbox.url}/", timeout=5)


def test_the_page_is_at_the_root_and_not_in_the_request_log(sandbox, page):
    assert page.status_code == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<title>Batch sandbox</title>" in page.text
    assert sandbox.requests == ()


def test_the_content_security_policy_allows_only_the_script_and_style_of_the_page_by_their_hashes(page):
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    for directive, element in (("script-src", "script"), ("style-src", "style")):
        (content,) = re.findall(rf"<{element}[^>]*>(.*?)</{element}>", page.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy.pop(directive) == f"'sha256-{digest}'"

    assert policy == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


@pytest.mark.parametrize("path", ["/", "/sandbox/state", "/sandbox/requests", "/sandbox/campaigns"])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_the_page_and_its_state_can_only_be_read(sandbox, api, definition, error, method, path):
    token = sandbox.add_campaign(definition)

    answer = requests.request(method, sandbox.url + path, headers=api.headers, json={}, timeout=5)

    assert error(answer) == (404, 20, "ROUTE_NOT_FOUND")
    assert sandbox.tokens() == (token,)


def test_the_state_has_the_clock_and_what_is_left_of_the_throttle_and_uses_nothing_of_it(make_sandbox, make_api):
    sandbox = make_sandbox(rate=2, burst=3, retry_after="computed")
    make_api(sandbox).list()

    for _ in range(2):
        state = ask(sandbox)
        assert state["now"] == "2030-01-01T12:00:00+00:00"
        assert state["throttle"] == {"rate": 2, "burst": 3, "left": 2, "retry_after": "computed"}
    assert ask(make_sandbox())["throttle"] is None


def test_the_state_counts_throttled_and_failed_requests(make_sandbox, make_api):
    sandbox = make_sandbox(rate=1, burst=3)
    api = make_api(sandbox)
    sandbox.inject("503", "reset_before")
    for _ in range(6):
        with suppress(requests.exceptions.ConnectionError):
            api.list()

    assert ask(sandbox)["counts"] == {"requests": 6, "throttled": 1, "failed": 2}


def test_the_state_has_a_row_for_each_campaign(sandbox, clock, definition):
    token = sandbox.add_campaign({**definition, "recurrence": {"repeat_unit": "DAILY"}})
    clock.advance(minutes=1)

    assert ask(sandbox)["campaigns"] == [
        {
            "token": token,
            "app": "app",
            "name": "Summer sale",
            "phase": "draft",
            "live": False,
            "push_time": "2030-06-01T09:00:00",
            "local": False,
            "recurring": True,
            "trigger": False,
            "changed": "2030-01-01T12:00:00+00:00",
        }
    ]


def test_the_state_shows_when_a_campaign_was_set_live_and_stopped(sandbox, api, clock, definition):
    token = sandbox.add_campaign(definition)
    seen = []
    for live in (None, True, False):
        clock.advance(minutes=1)
        if live is not None:
            api.update(token, {"live": live})
        (row,) = ask(sandbox)["campaigns"]
        seen.append((row["phase"], row["changed"][11:16]))

    assert seen == [("draft", "12:00"), ("live", "12:02"), ("stopped", "12:03")]


def test_the_state_shows_a_sent_campaign_as_sent_also_when_it_is_stopped_and_a_complete_one_as_complete(
    sandbox, api, clock, definition
):
    token = sandbox.add_campaign({**definition, "live": True, "push_time": "2030-01-01T13:00:00"})
    sandbox.complete(sandbox.add_campaign({**definition, "live": True, "trigger": {}}))
    clock.advance(hours=2)
    complete, sent = ask(sandbox)["campaigns"]
    api.update(token, {"live": False})
    _, stopped = ask(sandbox)["campaigns"]

    assert (complete["phase"], complete["trigger"]) == ("complete", True)
    assert (sent["phase"], sent["live"], sent["changed"]) == ("sent", True, "2030-01-01T13:00:00+00:00")
    assert (stopped["phase"], stopped["live"], stopped["changed"]) == ("sent", False, "2030-01-01T14:00:00+00:00")


def test_of_many_campaigns_the_state_has_those_that_changed_last(sandbox, api, clock, definition):
    oldest, *_ = [sandbox.add_campaign(definition) for _ in range(CAMPAIGNS_MAX + 5)]
    clock.advance(minutes=1)
    api.update(oldest, {"live": True})

    state = ask(sandbox)

    assert state["campaigns_total"] == CAMPAIGNS_MAX + 5
    assert len(state["campaigns"]) == CAMPAIGNS_MAX
    assert state["campaigns"][-1]["token"] == oldest


def test_the_parameter_after_gives_the_requests_since_the_last_answer_and_a_wrong_one_gives_all(sandbox, api):
    api.list()
    first = ask(sandbox)
    api.list()
    second = ask(sandbox, first["last"])

    assert [record["sequence"] for record in first["requests"]] == [1]
    assert [record["sequence"] for record in second["requests"]] == [2]
    assert ask(sandbox, second["last"])["requests"] == []
    for wrong in ("", "-1", "many", "9" * 400, "999", "\u0661"):
        assert len(ask(sandbox, wrong)["requests"]) == 2, wrong


def test_a_request_whose_change_is_applied_late_is_in_the_state_again_and_counted_once(sandbox, api):
    api.create()
    api.list()
    late, other = sandbox.requests
    log = RequestLog()
    for record in (dataclasses.replace(late, applied=False, status=None), other, late):
        log.put(record)

    assert log.newest(after=2, limit=10) == (3, [late])
    assert log.counts() == Counts(requests=2, throttled=0, failed=1)


def test_no_key_is_in_the_state_or_the_page(make_sandbox, make_api, definition):
    sandbox = make_sandbox(apps={"ios": APP_KEYS}, rest_key=REST_KEY, rate=100, burst=2)
    api = make_api(sandbox)
    api.create({**definition, "name": f"Sale {REST_KEY}"})
    sandbox.inject(Fault("echo", headers={"Retry-After": REST_KEY}))
    for key in (REST_KEY, *APP_KEYS.values()):
        api.send("GET", f"campaigns/{key}?k={key}", headers={"X-Authorization": key, "User-Agent": f"client {key}"})
        requests.get(f"{sandbox.url}/{key}", headers={"X-Authorization": key}, timeout=5)

    state = ask(sandbox)

    assert [campaign["name"] for campaign in state["campaigns"]] == ["Sale KEY"]
    assert len(state["requests"]) == 7
    assert_free(json.dumps(state), "the state")
    assert_free(requests.get(sandbox.url, timeout=5).text, "the page")
