"""What a response means: Retry-After, the class of a failure, its message, and valid answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from airflow_batch._airflow.compat import AirflowFailException
from airflow_batch._http.endpoints import Endpoint
from airflow_batch._http.responses import (
    MAX_RETRY_AFTER,
    MAX_SERVER_TEXT,
    Answer,
    confirm_write,
    expect_campaign,
    expect_page,
    expect_stats,
    failure,
    parse_http_date,
    parse_retry_after,
    shorten,
)
from airflow_batch.exceptions import (
    BatchAmbiguousError,
    BatchApiMisuseError,
    BatchAuthenticationError,
    BatchMaintenanceError,
    BatchMalformedJsonError,
    BatchMalformedParameterError,
    BatchMissingParameterError,
    BatchNotFoundError,
    BatchRateLimitError,
    BatchRequestError,
    BatchResponseError,
    BatchServerError,
)

NOW = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
WRITE = Endpoint("update", "POST", "update/{token}", writes=True)
READ = Endpoint("view", "GET", "{token}", writes=False)
KEY = "k3y7qwzx9vjpl2mn"


def scrub(text):
    return text.replace(KEY, "***")


def answer_of(body, endpoint, status=200, headers=None):
    return Answer(status, headers or {}, body, endpoint, f"{endpoint.name} of campaign 'abc'", scrub)


def refused(status, body=b"", headers=None, endpoint=WRITE):
    body = json.dumps(body).encode() if isinstance(body, dict | list) else body
    return failure(answer_of(body, endpoint, status, headers), NOW)


def error_body(code, name, message="Please read the documentation."):
    return {"code": code, "type": name, "message": message}


# ---------------------------------------------------------------------------------------------------------- Retry-After


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("5", 5.0),
        (" 7 ", 7.0),
        ("+5", 5.0),
        ("1.5", 1.5),
        ("0", 0.0),
        ("-3", 0.0),
        ("-0.5", 0.0),
        ("9" * 30, MAX_RETRY_AFTER),
        ("9" * 5000, MAX_RETRY_AFTER),
        (None, None),
        ("", None),
        ("   ", None),
        ("soon", None),
        ("120s", 120.0),
        ("5 s", 5.0),
        ("120;", 120.0),
        ("120, 120", 120.0),
        ("5, 120", 120.0),
        ("120, soon", 120.0),
        ("5, Wed, 04 Mar 2026 12:00:10 GMT", 10.0),
        ("Wed, 04 Mar 2026 12:00:10 GMT, Wed, 04 Mar 2026 12:00:20 GMT", 20.0),
        ("soon, later", None),
        ("1e3", None),
        ("0x10", None),
        ("inf", None),
        ("nan", None),
        ("٣", None),
        ("5.", None),
        ("2026-03-04T12:00:10", None),
        ("Wed, 99 Mar 2026 12:00:10 GMT", None),
        ("Wed, 04 Mar 2026 12:00:10 +9999", None),
        ("Wed, 04 Mar 2026 12:00:10 GMT", 10.0),
        ("Wed, 04 Mar 2026 13:00:10 +0100", 10.0),
        ("Wednesday, 04-Mar-26 12:00:10 GMT", 10.0),
        ("Wed Mar  4 12:00:10 2026", 10.0),
        ("Wed, 04 Mar 2026 11:59:50 GMT", 0.0),
        ("Mon, 01 Jan 1900 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER),
    ],
)
def test_retry_after_is_the_largest_readable_number_of_seconds_or_http_date_or_none(header, seconds):
    assert parse_retry_after(header, NOW) == seconds


def test_a_retry_after_date_counts_from_the_date_of_the_response():
    servers = NOW + timedelta(hours=3)
    headers = {
        "Date": format_datetime(servers, usegmt=True),
        "Retry-After": format_datetime(servers + timedelta(seconds=20), usegmt=True),
    }
    assert refused(429, headers=headers).retry_after == 20.0


@pytest.mark.parametrize("date", [None, "", "yesterday", "Wed, 99 Mar 2026 12:00:10 GMT"])
def test_a_retry_after_date_counts_from_now_where_the_response_has_no_readable_date(date):
    headers = {"Retry-After": format_datetime(NOW + timedelta(seconds=20), usegmt=True)}
    assert refused(429, headers=headers | ({} if date is None else {"Date": date})).retry_after == 20.0


def test_an_http_date_is_aware_and_in_utc():
    moment = parse_http_date("Wed, 04 Mar 2026 13:00:10 +0100")
    assert moment == datetime(2026, 3, 4, 12, 0, 10, tzinfo=UTC)
    assert moment.utcoffset() == timedelta(0)


# ------------------------------------------------------------------------------------------------------------ failures


# As Batch documents them, but for code 0 of a server error, which its delete and stats pages have.
DOCUMENTED = {
    (401, 10, "AUTHENTICATION_INVALID"): BatchAuthenticationError,
    (403, 12, "API_MISUSE"): BatchApiMisuseError,
    (404, 20, "ROUTE_NOT_FOUND"): BatchNotFoundError,
    (400, 30, "MISSING_PARAMETER"): BatchMissingParameterError,
    (400, 31, "MALFORMED_PARAMETER"): BatchMalformedParameterError,
    (400, 32, "MALFORMED_JSON_BODY"): BatchMalformedJsonError,
    (500, 0, "SERVER_ERROR"): BatchServerError,
    (500, 1, "SERVER_ERROR"): BatchServerError,
    (503, 2, "MAINTENANCE_ERROR"): BatchMaintenanceError,
    (429, 60, "TOO_MANY_REQUESTS"): BatchRateLimitError,
}


@pytest.mark.parametrize(("status", "code", "name"), DOCUMENTED)
def test_a_documented_error_has_its_class_code_and_name(status, code, name):
    kind = DOCUMENTED[status, code, name]
    problem = refused(status, error_body(code, name))
    assert type(problem) is kind
    assert (problem.status_code, problem.error_code, problem.error_name) == (status, code, name)
    assert problem.endpoint == "update"
    assert "Please read the documentation." in str(problem)
    assert isinstance(problem, AirflowFailException) is (not kind.transient)


STATUSES = {
    199: BatchAmbiguousError,
    **dict.fromkeys((300, 301, 302, 304, 308), BatchResponseError),
    400: BatchRequestError,
    401: BatchAuthenticationError,
    403: BatchApiMisuseError,
    404: BatchNotFoundError,
    408: BatchAmbiguousError,
    **dict.fromkeys((402, 405, 409, 413, 418, 422, 499), BatchRequestError),
    429: BatchRateLimitError,
    **dict.fromkeys((500, 501, 502, 503, 504, 599), BatchServerError),
}
ODD_BODIES = {
    "unreadable": None,
    "empty": b"",
    "blank": b" \r\n ",
    "html": b"<html><body><h1>502 Bad Gateway</h1></body></html>",
    "array": b"[]",
    "array_of_errors": b'[{"code": 10}]',
    "null": b"null",
    "number": b"60",
    "text": b'"60"',
    "truncated": b'{"code": 60, "type": "TOO_MANY',
    "not_utf8": b"\xff\xfe\xfa",
    "deeply_nested": b"[" * 200_000,
    "deeply_nested_object": b'{"code":' * 200_000,
    "huge_number": b'{"code": ' + b"9" * 10_000 + b"}",
    "no_code": b'{"message": "no"}',
    "code_is_null": b'{"code": null}',
    "code_is_true": b'{"code": true}',
    "code_is_a_float": b'{"code": 60.0}',
    "code_is_nan": b'{"code": NaN}',
    "code_is_a_list": b'{"code": [60]}',
    "code_is_words": b'{"code": "sixty"}',
    "code_of_another_error": b'{"code": 999, "type": "NEW_ERROR"}',
    "code_of_a_throttle": b'{"code": 60, "type": "TOO_MANY_REQUESTS"}',
    "code_of_a_wrong_key": b'{"code": 10, "type": "AUTHENTICATION_INVALID"}',
    "everything_is_odd": b'{"code": {}, "type": 5, "message": ["x"]}',
}


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
def test_the_status_decides_where_the_body_has_no_code_that_refines_it(status, kind):
    for name, body in ODD_BODIES.items():
        problem = refused(status, body)
        assert type(problem) is kind, name
        assert problem.status_code == status


def test_a_code_written_as_text_is_read_as_a_number():
    problem = refused(503, {"code": "2"})
    assert type(problem) is BatchMaintenanceError
    assert problem.error_code == 2


def test_an_error_name_that_batch_does_not_document_is_kept():
    assert refused(409, error_body(77, "CAMPAIGN_LOCKED")).error_name == "CAMPAIGN_LOCKED"


@pytest.mark.parametrize("name", ["", "x" * 100, "A B", "A\nB", KEY, 5, None, ["A"]])
def test_a_value_that_is_not_an_error_name_is_left_out(name):
    assert refused(409, {"code": 77, "type": name}).error_name is None


@pytest.mark.parametrize("status", [302, 408, 500, 502, 503, 504])
def test_a_write_may_have_been_applied_behind_a_redirect_a_408_or_a_5xx(status):
    assert refused(status, endpoint=WRITE).may_have_been_applied
    assert not refused(status, endpoint=READ).may_have_been_applied


@pytest.mark.parametrize(
    ("status", "body"),
    [(429, b""), (503, error_body(2, "MAINTENANCE_ERROR")), (400, b""), (401, b""), (404, b"")],
)
def test_a_refused_write_was_not_applied(status, body):
    assert not refused(status, body).may_have_been_applied


# ---------------------------------------------------------------------------------------------------------- messages


def test_the_message_of_a_throttled_request_has_the_wait_that_batch_asks_for():
    assert "429 TOO_MANY_REQUESTS (code 60), Retry-After 7 s" in str(
        refused(429, error_body(60, "TOO_MANY_REQUESTS"), {"Retry-After": "7"})
    )
    assert "no Retry-After" in str(refused(429))


def test_the_message_of_a_redirect_explains_it():
    assert "Redirects are not followed, to keep the keys from other servers" in str(refused(301))
    assert "check it before you repeat" in str(refused(301))
    assert "check it" not in str(refused(301, endpoint=READ))


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "company REST API key"), (403, "not allowed with them"), (404, "belongs to the app")]
)
def test_a_refusal_of_keys_or_token_says_what_to_check(status, hint):
    assert hint in str(refused(status))


def test_a_body_without_a_message_is_quoted():
    assert "saying '<h1>Bad Gateway</h1>'" in str(refused(502, b"<h1>Bad\n\tGateway</h1>"))


def test_the_message_says_that_a_body_is_empty():
    assert str(refused(502)).endswith("with no explanation.")


def test_the_message_says_that_a_body_could_not_be_read():
    assert "could not be read (too long, or broken off)" in str(refused(502, None))


def test_a_servers_text_is_one_printable_line_of_limited_length():
    text = shorten("a\x1b[31m\r\n" + "ü" * 10_000, scrub)
    assert text.isprintable()
    assert len(text) == MAX_SERVER_TEXT
    assert text.endswith("…")


def test_a_servers_text_of_the_maximum_length_is_not_cut():
    assert shorten("x" * MAX_SERVER_TEXT, scrub) == "x" * MAX_SERVER_TEXT


@pytest.mark.parametrize("place", [0, MAX_SERVER_TEXT - len(KEY) // 2, MAX_SERVER_TEXT - 1, 5_000])
@pytest.mark.parametrize("form", ["message", "type", "plain", "spaces"])
def test_a_key_that_the_server_repeats_is_removed_at_any_position(form, place):
    text = ("." if form != "spaces" else " ") * place + KEY + " and more" * 100
    body = {form: text} if form in ("message", "type") else text.encode()
    assert_no_piece_of_the_key(str(refused(401, body)))


@pytest.mark.parametrize("filler", [b" ", b"\0"], ids=["spaces", "nul_bytes"])
@pytest.mark.parametrize("left_out", [1, len(KEY) // 2])
def test_a_key_that_the_server_repeats_is_removed_where_a_long_body_is_cut(filler, left_out):
    cut = 64 * MAX_SERVER_TEXT
    body = filler * (cut - len(KEY) + left_out) + KEY.encode() + b" and more"
    assert_no_piece_of_the_key(str(refused(401, body)))


def assert_no_piece_of_the_key(text):
    assert [KEY[start : start + 6] for start in range(len(KEY) - 5) if KEY[start : start + 6] in text] == []


# ------------------------------------------------------------------------------------------------------------ successes


def test_an_update_is_confirmed_by_an_empty_body_or_an_object():
    for body in (b"", b" \n", b"{}", b'{"ok": true}', b'{"message": "updated"}', b'{"code": 0}'):
        confirm_write(answer_of(body, WRITE))


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"[]",
        b"null",
        b"1",
        b"<html></html>",
        b'{"ok": ',
        b"\xff",
        b'{"code": 1, "type": "SERVER_ERROR", "message": "x"}',
    ],
)
def test_an_update_is_not_confirmed_by_anything_else(body):
    with pytest.raises(BatchResponseError, match="may have been changed") as caught:
        confirm_write(answer_of(body, WRITE))
    assert caught.value.may_have_been_applied
    assert caught.value.status_code == 200


EXPECTED = {
    "campaign": (lambda answer: expect_campaign(answer, "abc"), {"live": True}),
    "statistics": (expect_stats, {"detail": [{"sent": 1}]}),
    "a list of campaigns": (expect_page, [{"campaign_token": "abc"}]),
}


@pytest.mark.parametrize("what", EXPECTED)
def test_a_read_returns_the_json_that_was_requested(what):
    read, value = EXPECTED[what]
    assert read(answer_of(json.dumps(value).encode(), READ)) == value


@pytest.mark.parametrize("what", EXPECTED)
def test_a_read_refuses_any_other_body(what):
    for body in (None, b"", b"null", b'"x"', b"{}", b"[1]", b"<html></html>", b'{"live": ', b"[" * 10**5):
        with pytest.raises(BatchResponseError, match=f"not with .*{what}") as caught:
            EXPECTED[what][0](answer_of(body, READ))
        assert not caught.value.may_have_been_applied


@pytest.mark.parametrize("named", [{}, {"campaign_token": None}, {"campaign_token": "abc"}])
def test_a_viewed_campaign_with_the_requested_token_or_none_is_returned(named):
    body = json.dumps({"live": True, **named}).encode()
    assert expect_campaign(answer_of(body, READ), "abc")["live"] is True


@pytest.mark.parametrize("other", ["abd", "", 5, ["abc"]])
def test_a_viewed_campaign_with_another_token_is_an_unreadable_answer(other):
    body = json.dumps({"live": True, "campaign_token": other}).encode()
    with pytest.raises(BatchResponseError, match="names another token") as caught:
        expect_campaign(answer_of(body, READ), "abc")
    assert caught.value.transient


def test_the_repr_of_an_answer_shows_neither_headers_nor_body():
    assert repr(answer_of(KEY.encode(), READ, 302, {"Location": KEY})) == "Answer(status=302)"


def test_a_key_in_an_unexpected_success_is_removed():
    with pytest.raises(BatchResponseError) as caught:
        expect_campaign(answer_of(KEY.encode(), READ), "abc")
    assert_no_piece_of_the_key(str(caught.value))
