"""``POST /sandbox/faults``: faults for a sandbox that runs already."""

from __future__ import annotations

import pytest
import requests


def post(sandbox, **options):
    return requests.post(f"{sandbox.url}/sandbox/faults", timeout=5, **options)


def test_faults_are_added_in_order_without_a_key_and_outside_of_the_request_log(sandbox, api):
    sandbox.inject("list:500")

    answer = post(sandbox, json=["list:503;retry-after=6", {"kind": "answer", "status": 429}])

    assert (answer.status_code, answer.json()) == (200, {"added": 2})
    assert sandbox.requests == ()
    assert [api.list().status_code for _ in range(4)] == [500, 503, 429, 200]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_a_type_that_any_web_page_may_send_is_refused(sandbox, api, kind):
    answer = post(sandbox, data=b'["503"]', headers={"Content-Type": kind} if kind else {})

    assert answer.status_code == 415
    assert api.list().status_code == 200


def test_a_web_page_that_asks_for_permission_does_not_get_it(sandbox):
    answer = requests.options(
        f"{sandbox.url}/sandbox/faults",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
        timeout=5,
    )

    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'["explode"]', "kind is one of"),
        (b"[1]", "fault file"),
        (b"[", "Expecting value"),
        (b"\xff", "decode"),
        (b'{"chances": {"503": 0.5}}', "when the sandbox starts"),
        (b'["503", "explode"]', "kind is one of"),
    ],
)
def test_what_is_no_fault_is_explained_and_adds_none(sandbox, api, body, message):
    answer = post(sandbox, data=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 400
    assert message in answer.text
    assert api.list().status_code == 200
