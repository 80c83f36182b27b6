"""Each kind of fault, as the client sees it."""

from __future__ import annotations

import errno
import time

import pytest
import requests

from airflow_batch.sandbox import Fault

DROPPED = requests.exceptions.ConnectionError


def eventually(condition, seconds=3.0):
    """Wait until a condition holds: what the server does after an answer has no answer to wait for."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


@pytest.fixture
def token(sandbox, definition):
    return sandbox.add_campaign(definition)


@pytest.fixture
def is_live(sandbox, token):
    return lambda: sandbox.campaign(token)["live"]


def test_an_answer_can_be_any_status_body_and_header(api, sandbox, token, is_live):
    fault = Fault("answer", status=429, body={"odd": 1}, headers={"Retry-After": "Wed, 99 Foo", "content-type": "x/y"})
    sandbox.inject(fault)

    response = api.update(token, {"live": True})

    assert (response.status_code, response.json()) == (429, {"odd": 1})
    assert response.headers["Retry-After"] == "Wed, 99 Foo"
    assert response.headers["Content-Type"] == "x/y"
    assert not is_live()


@pytest.mark.parametrize(
    ("body", "sent"), [(b"\xff\x00", b"\xff\x00"), ("", b""), ("[", b"["), ([1], b"[1]"), ("é", "é".encode())], ids=str
)
def test_a_200_can_have_any_body(api, sandbox, body, sent):
    sandbox.inject(Fault("answer", status=200, body=body))

    response = api.list()

    assert (response.status_code, response.content) == (200, sent)


def test_an_answer_without_a_body_of_its_own_has_that_of_the_documented_error(api, sandbox, error):
    sandbox.inject("429", "MALFORMED_PARAMETER", "418")

    assert error(api.list()) == (429, 60, "TOO_MANY_REQUESTS")
    assert error(api.list()) == (400, 31, "MALFORMED_PARAMETER")
    response = api.list()
    assert (response.status_code, response.content) == (418, b"")


def test_a_204_has_no_body_whatever_is_asked_for(api, sandbox, caplog):
    sandbox.inject(Fault("answer", status=204, body="text"))

    assert api.raw().endswith(b"\r\n\r\n")
    assert [record.message for record in caplog.records if record.name == "uvicorn.error"] == []


def test_an_error_can_hide_a_change_that_was_applied(api, sandbox, token, is_live, error):
    sandbox.inject(Fault("answer", status=500, applied=True))

    assert error(api.update(token, {"live": True})) == (500, 1, "SERVER_ERROR")
    assert is_live()


def test_a_delayed_answer_is_the_usual_one(api, sandbox, token, is_live):
    sandbox.inject(Fault("delay", delay=0.2))
    start = time.monotonic()

    response = api.update(token, {"live": True})

    assert time.monotonic() - start >= 0.2
    assert (response.status_code, response.content) == (200, b"{}")
    assert is_live()


def test_a_client_that_disconnects_during_a_delay_does_not_undo_the_change(api, sandbox, token, is_live):
    sandbox.inject(Fault("delay", delay=30))

    with pytest.raises(requests.exceptions.ReadTimeout):
        api.update(token, {"live": True}, timeout=0.1)

    assert is_live()


@pytest.mark.parametrize(("kind", "applied"), [("reset_before", False), ("reset_after", True)])
def test_a_reset_is_a_tcp_reset_before_or_after_the_change(api, sandbox, token, is_live, kind, applied):
    sandbox.inject(Fault(kind))

    with pytest.raises(ConnectionResetError) as caught:
        api.raw(b'{"live": true}', path=f"campaigns/update/{token}")

    assert caught.value.errno == errno.ECONNRESET
    assert is_live() is applied
    assert sandbox.requests[-1].status is None
    assert sandbox.requests[-1].applied is applied


def test_a_late_change_is_applied_after_the_client_has_timed_out(api, sandbox, token, is_live):
    sandbox.inject(Fault("late", seconds=30, apply_after=0.5))

    with pytest.raises(requests.exceptions.ReadTimeout):
        api.update(token, {"live": True}, timeout=0.1)

    assert not is_live()
    assert not sandbox.requests[-1].applied
    assert eventually(is_live)
    assert eventually(lambda: sandbox.requests[-1].applied)
    assert len(sandbox.requests) == 1


def test_a_late_change_is_applied_also_where_the_server_closes_the_connection_first(api, sandbox, token, is_live):
    sandbox.inject(Fault("late", seconds=0.05))

    with pytest.raises(DROPPED):
        api.update(token, {"live": True})

    assert eventually(is_live)


@pytest.mark.parametrize(
    ("fault", "timeout", "error"),
    [
        (Fault("silence"), 0.1, requests.exceptions.ReadTimeout),
        (Fault("silence", seconds=0.05), 5, DROPPED),
        (Fault("silence", seconds=0.05, applied=True), 5, DROPPED),
    ],
)
def test_silence_is_no_answer_and_can_hide_a_change(api, sandbox, token, is_live, fault, timeout, error):
    sandbox.inject(fault)

    with pytest.raises(error):
        api.update(token, {"live": True}, timeout=timeout)

    assert sandbox.requests[-1].status is None
    assert is_live() is bool(fault.applied)


def test_a_new_campaign_can_be_missing_from_the_next_lists(api, sandbox, token, definition):
    sandbox.inject(Fault("lag", calls=2))
    new = api.create(definition).json()["campaign_token"]

    assert [[item["campaign_token"] for item in api.list().json()] for _ in range(3)] == [
        [token],
        [token],
        [new, token],
    ]
    assert api.view(new).status_code == 200


def test_a_new_campaign_can_be_missing_from_the_list_for_some_time(api, sandbox, clock, definition):
    sandbox.inject(Fault("lag", seconds=30))
    api.create(definition)

    clock.advance(seconds=29)
    assert api.list().json() == []
    clock.advance(seconds=1)
    assert len(api.list().json()) == 1


def test_a_create_can_be_reset_and_lag(api, sandbox, definition):
    sandbox.inject(Fault("lag", calls=1), Fault("reset_after"))

    with pytest.raises(DROPPED):
        api.create(definition)

    assert len(sandbox.tokens()) == 1
    assert api.list().json() == []
    assert sandbox.requests[0].fault == "reset_after+lag"


def test_a_truncated_answer_announces_more_than_it_sends(api, sandbox):
    sandbox.inject(Fault("truncate"))

    head, _, body = api.raw(b'{"live": true}').partition(b"\r\n\r\n")

    assert int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]) > len(body) > 0


@pytest.mark.parametrize("body", [None, ""])
def test_a_client_sees_that_an_answer_is_truncated_and_the_change_is_applied(api, sandbox, token, is_live, body):
    sandbox.inject(Fault("truncate", body=body))

    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        api.update(token, {"live": True})

    assert is_live()


def test_an_html_page_can_have_any_status(api, sandbox):
    sandbox.inject(Fault("html"), Fault("html", status=200), Fault("html", status=503, body="<p>maintenance</p>"))

    answers = [api.list() for _ in range(3)]

    assert [answer.status_code for answer in answers] == [502, 200, 503]
    assert all(answer.headers["Content-Type"].startswith("text/html") for answer in answers)
    assert "<html>" in answers[0].text
    assert answers[2].text == "<p>maintenance</p>"


@pytest.mark.parametrize(
    ("location", "start"),
    [
        ("same", "/1.1/"),
        ("other", "https://other.invalid/1.1/"),
        ("http", "http://api.invalid/1.1/"),
        ("http://127.0.0.1:1{path}", "http://127.0.0.1:1/1.1/"),
    ],
)
def test_a_redirect_leads_to_this_host_or_another(api, sandbox, location, start):
    sandbox.inject(Fault("redirect", location=location), Fault("redirect", status=308))

    response = api.send("GET", "campaigns/list?limit=5")

    assert response.status_code == 302
    assert response.headers["Location"].startswith(start)
    assert response.headers["Location"].endswith("/campaigns/list?limit=5")
    assert api.list().status_code == 308


def test_an_answer_can_be_sent_byte_by_byte(api, sandbox, token, is_live):
    sandbox.inject(Fault("drip", interval=0.002))
    start = time.monotonic()

    response = api.update(token, {"live": True})

    assert (response.status_code, response.content) == (200, b"{}")
    # More than a hundred bytes of headers are sent one by one too.
    assert time.monotonic() - start > 0.2
    assert is_live()


def test_the_body_alone_can_be_sent_byte_by_byte(api, sandbox):
    sandbox.inject(Fault("drip", part="body", interval=0.1, body="1234"))
    start = time.monotonic()

    with requests.get(
        f"{sandbox.url}/1.1/{api.app_key}/campaigns/list", headers=api.headers, stream=True, timeout=5
    ) as response:
        until_headers = time.monotonic() - start
        content = response.content

    assert content == b"1234"
    assert until_headers < 0.25
    assert time.monotonic() - start >= 0.3


def test_an_echo_repeats_both_keys(api, sandbox, error):
    sandbox.inject(Fault("echo"), Fault("echo", status=403))

    response = api.list()

    assert error(response) == (401, 10, "AUTHENTICATION_INVALID")
    assert sandbox.rest_key in response.text
    assert sandbox.app_key() in response.text
    assert error(api.list()) == (403, 12, "API_MISUSE")


def test_a_fault_with_a_usual_answer_does_not_skip_authentication(api, sandbox, token, is_live, error):
    sandbox.inject(Fault("delay", delay=0.01))

    response = api.send("POST", f"campaigns/update/{token}", json={"live": True}, headers={})

    assert error(response) == (401, 10, "AUTHENTICATION_INVALID")
    assert not is_live()


@pytest.mark.parametrize(("kind", "applied"), [("reset_before", False), ("reset_after", True), ("truncate", True)])
def test_a_fault_can_be_for_a_delete(api, sandbox, token, kind, applied):
    sandbox.inject(Fault(kind, "delete"))
    assert api.list().status_code == 200

    with pytest.raises((DROPPED, requests.exceptions.ChunkedEncodingError)):
        api.delete(token)

    assert (sandbox.tokens() == ()) is applied
    assert (sandbox.requests[-1].applied, sandbox.requests[-1].campaign_token) == (applied, token)


def test_a_lag_does_not_apply_to_a_delete(api, sandbox, token):
    sandbox.inject(Fault("lag", calls=1))

    assert api.delete(token).status_code == 200
    assert sandbox.requests[-1].fault is None


def test_a_view_can_be_answered_with_another_campaign(sandbox, api, token, definition):
    other = sandbox.add_campaign(definition)
    sandbox.inject(Fault("answer", "view", token=token, status=200, body=sandbox.campaign(other)))

    assert [api.view(token).json()["campaign_token"] for _ in range(2)] == [other, token]
