"""What a response means, however it is formed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    read_json,
    shorten,
)
from airflow_batch.exceptions import (
    ERRORS,
    BatchAmbiguousError,
    BatchApiError,
    BatchApiMisuseError,
    BatchAuthenticationError,
    BatchMaintenanceError,
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
    ],
)
def test_retry_after_is_the_largest_readable_number_of_seconds_or_none(header, seconds):
    assert parse_retry_after(header, NOW) == seconds


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Wed, 04 Mar 2026 12:00:10 GMT", 10.0),
        ("Wed, 04 Mar 2026 13:00:10 +0100", 10.0),
        ("Wednesday, 04-Mar-26 12:00:10 GMT", 10.0),
        ("Wed Mar  4 12:00:10 2026", 10.0),
        ("Wed, 04 Mar 2026 11:59:50 GMT", 0.0),
        ("Mon, 01 Jan 1900 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER),
    ],
)
def test_retry_after_is_read_as_an_http_date_too(header, seconds):
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


@settings(deadline=None)
@given(
    st.text()
    | st.lists(st.sampled_from([*"0123456789:,-+ ", "Wed", "Mar", "2026", "99999", "GMT", "+9999"])).map("".join)
)
def test_a_retry_after_is_never_below_zero_nor_beyond_what_dates_hold(header):
    seconds = parse_retry_after(header, NOW)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


# -------------------------------------------------------------------------------------------------------- which failure


@pytest.mark.parametrize(("key", "error"), ERRORS.items(), ids=lambda x: str(x))
def test_a_documented_error_has_its_class_code_and_name(key, error):
    (status, code), (name, kind) = key, error
    problem = refused(status, error_body(code, name))
    assert type(problem) is kind
    assert (problem.status_code, problem.error_code, problem.error_name) == (status, code, name)
    assert problem.endpoint == "update"
    assert "Please read the documentation." in str(problem)
    assert isinstance(problem, AirflowFailException) is (not kind.transient)


STATUSES = {
    302: BatchResponseError,
    400: BatchRequestError,
    401: BatchAuthenticationError,
    403: BatchApiMisuseError,
    404: BatchNotFoundError,
    408: BatchAmbiguousError,
    418: BatchRequestError,
    429: BatchRateLimitError,
    500: BatchServerError,
    502: BatchServerError,
    503: BatchServerError,
    504: BatchServerError,
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
    "everything_is_odd": b'{"code": {}, "type": 5, "message": ["x"]}',
}


@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
def test_the_status_decides_where_the_body_tells_nothing(status, kind, body):
    problem = refused(status, body)
    assert type(problem) is kind
    assert problem.status_code == status


def test_a_code_written_as_text_counts():
    problem = refused(503, {"code": "2"})
    assert type(problem) is BatchMaintenanceError
    assert problem.error_code == 2


def test_a_wrong_code_does_not_move_a_failure_to_another_class():
    assert type(refused(401, error_body(60, "TOO_MANY_REQUESTS"))) is BatchAuthenticationError
    assert type(refused(500, error_body(10, "AUTHENTICATION_INVALID"))) is BatchServerError


def test_an_error_name_that_batch_does_not_document_is_kept():
    assert refused(409, error_body(77, "CAMPAIGN_LOCKED")).error_name == "CAMPAIGN_LOCKED"


@pytest.mark.parametrize("name", ["", "x" * 100, "A B", "A\nB", KEY, 5, None, ["A"]])
def test_an_error_name_that_is_none_is_left_out(name):
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


# -------------------------------------------------------------------------------------------------------- what it tells


def test_a_throttled_failure_tells_how_long_batch_asks_to_wait():
    assert "429 TOO_MANY_REQUESTS (code 60), Retry-After 7 s" in str(
        refused(429, error_body(60, "TOO_MANY_REQUESTS"), {"Retry-After": "7"})
    )
    assert "no Retry-After" in str(refused(429))


def test_a_redirect_is_explained():
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


def test_an_empty_body_is_named():
    assert str(refused(502)).endswith("with no explanation.")


def test_a_body_that_could_not_be_read_is_named():
    assert "could not be read (too long, or broken off)" in str(refused(502, None))


def test_a_servers_text_is_one_printable_line_of_limited_length():
    text = shorten("a\x1b[31m\r\n" + "ü" * 10_000, scrub)
    assert text.isprintable()
    assert len(text) == MAX_SERVER_TEXT
    assert text.endswith("…")


def test_a_servers_text_is_not_cut_without_need():
    assert shorten("x" * MAX_SERVER_TEXT, scrub) == "x" * MAX_SERVER_TEXT


@pytest.mark.parametrize("place", [0, MAX_SERVER_TEXT - len(KEY) // 2, MAX_SERVER_TEXT - 1, 5_000])
@pytest.mark.parametrize("form", ["message", "type", "plain", "spaces"])
def test_an_echoed_key_is_taken_out_wherever_it_stands(form, place):
    text = ("." if form != "spaces" else " ") * place + KEY + " and more" * 100
    body = {form: text} if form in ("message", "type") else text.encode()
    assert_no_piece_of_the_key(str(refused(401, body)))


@pytest.mark.parametrize("filler", [b" ", b"\0"], ids=["spaces", "nul_bytes"])
@pytest.mark.parametrize("left_out", [1, len(KEY) // 2])
def test_an_echoed_key_is_taken_out_where_a_long_body_is_cut(filler, left_out):
    cut = 64 * MAX_SERVER_TEXT
    body = filler * (cut - len(KEY) + left_out) + KEY.encode() + b" and more"
    assert_no_piece_of_the_key(str(refused(401, body)))


def assert_no_piece_of_the_key(text):
    assert [KEY[start : start + 6] for start in range(len(KEY) - 5) if KEY[start : start + 6] in text] == []


# ------------------------------------------------------------------------------------------------------------ successes


@pytest.mark.parametrize("body", [b"", b" \n", b"{}", b'{"ok": true}', b'{"message": "updated"}', b'{"code": 0}'])
def test_an_update_is_confirmed_by_nothing_or_an_object(body):
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
def test_a_read_gives_the_json_that_was_asked_for(what):
    read, value = EXPECTED[what]
    assert read(answer_of(json.dumps(value).encode(), READ)) == value


@pytest.mark.parametrize("what", EXPECTED)
@pytest.mark.parametrize(
    "body", [None, b"", b"null", b'"x"', b"{}", b"[1]", b"<html></html>", b'{"live": ', b"[" * 10**5]
)
def test_a_read_that_gives_anything_else_is_refused(what, body):
    with pytest.raises(BatchResponseError, match=f"not with .*{what}") as caught:
        EXPECTED[what][0](answer_of(body, READ))
    assert not caught.value.may_have_been_applied


@pytest.mark.parametrize("named", [{}, {"campaign_token": None}, {"campaign_token": "abc"}])
def test_a_viewed_campaign_that_names_the_asked_token_or_none_is_returned(named):
    body = json.dumps({"live": True, **named}).encode()
    assert expect_campaign(answer_of(body, READ), "abc")["live"] is True


@pytest.mark.parametrize("other", ["abd", "", 5, ["abc"]])
def test_a_viewed_campaign_that_names_another_token_is_an_unreadable_answer(other):
    body = json.dumps({"live": True, "campaign_token": other}).encode()
    with pytest.raises(BatchResponseError, match="names another token") as caught:
        expect_campaign(answer_of(body, READ), "abc")
    assert caught.value.transient


def test_an_answer_prints_neither_its_headers_nor_its_body():
    assert repr(answer_of(KEY.encode(), READ, 302, {"Location": KEY})) == "Answer(status=302)"


def test_a_key_in_an_unexpected_success_is_taken_out():
    with pytest.raises(BatchResponseError) as caught:
        expect_campaign(answer_of(KEY.encode(), READ), "abc")
    assert_no_piece_of_the_key(str(caught.value))


# ----------------------------------------------------------------------------------------------------- whatever is sent

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
BODIES = (
    st.none()
    | st.binary(max_size=200)
    | st.fixed_dictionaries({}, optional={"code": JSON, "type": JSON, "message": JSON}).map(
        lambda x: json.dumps(x).encode()
    )
)
HEADERS = st.fixed_dictionaries({}, optional={"Retry-After": st.text(max_size=40), "Date": st.text(max_size=40)})


@settings(deadline=None)
@given(status=st.integers(100, 999), body=BODIES, headers=HEADERS)
def test_whatever_a_server_sends_is_one_of_this_providers_failures(status, body, headers):
    problem = refused(status, body, headers)
    assert isinstance(problem, BatchApiError)
    assert problem.status_code == status
    assert str(problem).isprintable()
    assert len(str(problem)) < 3 * MAX_SERVER_TEXT


@settings(deadline=None)
@given(BODIES)
def test_whatever_body_is_sent_reads_as_json_or_as_nothing(body):
    read_json(body)


@settings(deadline=None)
@given(BODIES)
def test_whatever_confirms_an_update_is_accepted_or_a_response_error(body):
    try:
        confirm_write(answer_of(body, WRITE))
    except BatchResponseError as error:
        assert error.may_have_been_applied  # noqa: PT017 - both ways are right
