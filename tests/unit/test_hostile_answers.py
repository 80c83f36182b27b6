"""Whatever a server sends, a call returns a result or raises a BatchError, in bounded time and memory.

Bytes are sent over a real socket; JSON values go to the readers directly, and to the code that uses their results. What
each answer means is in test_responses.py; lost answers are in test_transport.py.
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
import zlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hostile import APP, REST, assert_fit_to_show, examples, memory_below
from hypothesis import example, given
from hypothesis import strategies as st
from samples import TOKEN

from airflow_batch import exceptions
from airflow_batch._airflow.backoff import delay_floor
from airflow_batch._airflow.compat import AirflowSensorTimeout
from airflow_batch._airflow.task_context import text_or_none
from airflow_batch._campaigns.diff import difference_rows, differences, lost_parameters, overlaid, request_form
from airflow_batch._http.responses import (
    Answer,
    confirm_write,
    expect_campaign,
    expect_page,
    expect_stats,
    expect_token,
    failure,
    parse_http_date,
    parse_retry_after,
    read_json,
)
from airflow_batch.exceptions import BatchApiError, BatchError, BatchResponseError
from airflow_batch.hooks import batch
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.results import campaign_summary, with_open_rate
from airflow_batch.triggers._events import outcome

NOW = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
CALLS = {
    "create": lambda hook: hook.create_campaign({"name": "Sale", "live": False}),
    "update": lambda hook: hook.update_campaign(TOKEN, {"live": False}),
    "delete": lambda hook: hook.delete_campaign(TOKEN),
    "view": lambda hook: hook.get_campaign(TOKEN),
    "stats": lambda hook: hook.get_campaign_stats(TOKEN),
    "list": lambda hook: list(hook.list_campaigns()),
    "test": lambda hook: hook.test_connection(),
}
ENDPOINTS = [batch.CREATE, batch.UPDATE, batch.DELETE, batch.VIEW, batch.STATS, batch.LIST]
each_call = st.sampled_from(sorted(CALLS))


class Sender:
    """A TCP server on loopback: reads a request, sends the bytes of ``answer``, and ends the connection."""

    def __init__(self):
        self.answer = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with suppress(OSError), connection:
                self._read(connection)
                connection.sendall(self.answer)
                connection.shutdown(socket.SHUT_WR)
                # Not closed under bytes unread, which would be a reset.
                connection.settimeout(30)
                while connection.recv(65536):
                    pass

    def _read(self, connection):
        connection.settimeout(30)
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := connection.recv(65536)):
                return
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        while len(body) < length and (more := connection.recv(65536)):
            body += more

    def close(self):
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture(scope="module")
def sender():
    server = Sender()
    yield server
    server.close()


@pytest.fixture
def ask(sender, connect):
    """Return a function that makes one call to a server that answers with these bytes, and returns result or error."""
    extra = {"timeout": [30, 30]}
    connect({"conn_type": "batch", "host": f"http://127.0.0.1:{sender.port}", "password": REST, "login": APP,
             "extra": extra})  # fmt: skip
    hook = BatchHook()

    def make(call, answer):
        sender.answer = answer
        result, error = None, None
        try:
            result = CALLS[call](hook)
        except BatchApiError as refused:
            error = refused
        hook.get_conn().close()
        # The next request of the task uses the clock of this answer.
        assert hook.batch_now().tzinfo is UTC
        if error is not None:
            assert_fit_to_show(error)
            assert (error.__context__, error.__cause__) == (None, None)
            return error
        if call == "test":
            assert_fit_to_show(result[1])
        return result

    return make


def answer_of(status, body, *headers):
    return b"\r\n".join([b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]) + b"\r\n\r\n" + body


# ----------------------------------------------------------------------------------------------------- any bytes at all

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -(10**308), 10**400, 0, -1])
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["\ud800", "\0", "now", "9999-12-31T23:59:59", "0001-01-01T00:00:00", "true", ""]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    "campaign_token", "live", "name", "push_time", "local_push_time", "recurrence", "created_date", "from_api",
    "dev_only", "messages", "labels", "gcm_collapse_key", "trigger", "code", "type", "message",
)  # fmt: skip
campaigns = st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=8)
rows = st.dictionaries(st.sampled_from(["date", "sent", "direct_open", "influenced_open", "versions"]), json_values)
shaped = (
    json_values
    | campaigns
    | campaigns.map(lambda seen: {**seen, "live": True})
    | st.lists(campaigns, max_size=3)
    | st.lists(campaigns.map(lambda seen: {**seen, "campaign_token": TOKEN}), max_size=3)
    | st.fixed_dictionaries({"detail": st.lists(rows, max_size=3)})
    | st.fixed_dictionaries({"campaign_token": json_values})
    | st.fixed_dictionaries({"code": json_values, "type": json_values, "message": json_values})
)
bodies = (
    st.binary(max_size=60)
    | shaped.map(json.dumps).map(str.encode)
    | shaped.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass"))
)
line_bytes = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=30).map(
    lambda text: text.encode("latin-1")
)
statuses = st.one_of(
    st.sampled_from([b"200 OK", b"204 No", b"400", b"401 X", b"403 X", b"404 X", b"429 Slow", b"503 X", b"302 Found"]),
    st.integers(0, 1200).map(lambda code: b"%d" % code),
    line_bytes,
)
retry_afters = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.datetimes().map(lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S GMT")),
    st.text(max_size=30),
    st.lists(st.sampled_from([*"0123456789:,-+ ", "Wed", "Mar", "2026", "99999", "GMT", "+9999"])).map("".join),
    st.sampled_from(["9" * 5000, "-" + "9" * 5000, "nan", "inf", "1e999", "Fri, 31 Dec 9999 23:59:59 -2359",
                     "Mon, 01 Jan 0001 00:00:00 +2359", "Sun, 06 Nov 1994 08:49:37 +99999999999999999999"]),
)  # fmt: skip
headers = st.lists(
    st.one_of(
        retry_afters.map(lambda text: b"Retry-After: " + text.encode("utf-8", "replace").replace(b"\n", b" ")),
        retry_afters.map(lambda text: b"Date: " + text.encode("utf-8", "replace").replace(b"\n", b" ")),
        st.sampled_from(
            [b"Content-Encoding: " + name for name in (b"gzip", b"deflate", b"br", b"zstd", b"gzip, gzip", b"x", b"")]
            + [b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Content-Length: 0", b"Content-Length: -1"]
            + [
                b"Content-Length: 99999999999999999999",
                b"Content-Length: 5, 7",
                b"Content-Type: text/html;charset=x-no",
            ]
            + [b"Location: http://127.0.0.1:1/" + REST.encode(), b"Location: //[", b"Set-Cookie: a=b; Domain=127.0.0.1"]
            + [b"Connection: upgrade", b"WWW-Authenticate: Digest", b" folded: on", b"no colon", b": no name"]
        ),
        st.tuples(line_bytes, line_bytes).map(b": ".join),
    ),
    max_size=5,
)
chunk_sizes = st.integers(0, 300).map(lambda size: b"%x" % size) | st.sampled_from(
    [b"-1", b"-5", b"", b"ffffffffffffffffffff", b"0x5", b"5;name=value", b"zz", b" 5", b"1_0"]
)
framings = st.one_of(
    st.tuples(statuses, headers, bodies).map(lambda parts: answer_of(parts[0], parts[2], *parts[1])),
    st.tuples(statuses, headers, bodies).map(
        lambda parts: b"\r\n".join([b"HTTP/1.1 " + parts[0], *parts[1]]) + b"\r\n\r\n" + parts[2]
    ),
    st.tuples(statuses, headers, st.lists(st.tuples(chunk_sizes, st.binary(max_size=20)), max_size=4)).map(
        lambda parts: (
            b"\r\n".join([b"HTTP/1.1 " + parts[0], b"Transfer-Encoding: chunked", *parts[1]])
            + b"\r\n\r\n"
            + b"".join(size + b"\r\n" + data + b"\r\n" for size, data in parts[2])
        )
    ),
    st.tuples(statuses, bodies, st.sampled_from([gzip.compress, zlib.compress])).map(
        lambda parts: answer_of(parts[0], parts[2](parts[1]), b"Content-Encoding: gzip")
    ),
    st.binary(max_size=100),
    st.sampled_from([b"HTTP/1.0 ", b"HTTP/2 ", b"HTTP/9.9 ", b"ICY ", b"http/1.1 "]).flatmap(
        lambda version: statuses.map(lambda status: version + status + b"\r\n\r\n")
    ),
)
spoilt = st.tuples(framings, st.integers(0, 200), st.binary(max_size=3)).map(
    lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] :]
)


@examples(150)
@given(call=each_call, answer=framings | spoilt)
def test_any_bytes_from_a_server_are_an_answer_or_a_batch_error(ask, call, answer):
    ask(call, answer)


@examples(150)
@given(call=each_call, body=bodies)
def test_any_body_of_a_200_is_a_result_or_a_batch_error(ask, call, body):
    ask(call, answer_of(b"200 OK", body))


# ------------------------------------------------------------------------------------------------- the readers directly


def scrub(text):
    return text.replace(REST, "***").replace(APP, "***")


def read(reader, *arguments):
    try:
        return reader(*arguments)
    except BatchError as error:
        assert_fit_to_show(error)
        return error


def answer_with(body, endpoint, status=200, headers=None):
    return Answer(status, headers or {}, body, endpoint, f"{endpoint.name} of campaign {TOKEN!r}", scrub)


READERS = {
    "campaign": lambda answer: expect_campaign(answer, TOKEN),
    "token": expect_token,
    "stats": expect_stats,
    "page": expect_page,
    "write": confirm_write,
}


@examples(200)
@given(reader=st.sampled_from(sorted(READERS)), endpoint=st.sampled_from(ENDPOINTS), body=st.none() | bodies)
def test_every_reader_of_a_200_returns_a_value_or_raises_a_batch_error(reader, endpoint, body):
    result = read(READERS[reader], answer_with(body, endpoint))
    if isinstance(result, BatchError):
        assert isinstance(result, BatchResponseError)
        assert result.may_have_been_applied is endpoint.writes


@examples(200)
@given(
    status=st.integers(100, 999),
    endpoint=st.sampled_from(ENDPOINTS),
    body=st.none() | bodies,
    retry_after=st.none() | retry_afters,
    date=st.none() | retry_afters,
)
def test_every_refusal_has_a_message_of_one_printable_line(status, endpoint, body, retry_after, date):
    headers = {name: text for name, text in (("Retry-After", retry_after), ("Date", date)) if text is not None}
    error = failure(answer_with(body, endpoint, status, headers), NOW)
    assert_fit_to_show(error)
    assert error.status_code == status
    # Whatever is added to it, dates can represent it.
    assert NOW + 2 * timedelta(seconds=error.retry_after or 0) > NOW - timedelta(1)
    json.dumps(error.details, allow_nan=False).encode()


@examples(200)
@given(retry_afters)
def test_any_retry_after_and_any_date_can_be_used_in_arithmetic(text):
    seconds = parse_retry_after(text, NOW)
    assert seconds is None or 0 <= seconds <= 10**9
    moment = parse_http_date(text)
    if moment is not None:
        assert moment - timedelta(366) < moment + timedelta(366)


LATEST, EARLIEST = "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT"


@pytest.mark.parametrize("date", [LATEST, EARLIEST, "Fri, 31 Dec 9999 23:59:59 -2359", "Sun, 06 Nov 94"])
def test_the_first_and_the_last_date_of_python_can_be_the_clock_of_batch(ask, date):
    # ``ask`` reads Batch's clock after each call.
    error = ask("update", answer_of(b"429 Slow", b"", b"Date: " + date.encode(), b"Retry-After: " + LATEST.encode()))
    assert error.retry_after is not None


@pytest.mark.parametrize("number", [b"NaN", b"-Infinity", b"1e999", b"-1e999", b"9" * 5000], ids=range(5))
def test_a_number_that_is_not_json_makes_a_body_unreadable(ask, number):
    assert isinstance(ask("view", answer_of(b"200 OK", b'{"live": true, "name": ' + number + b"}")), BatchResponseError)


@pytest.mark.parametrize("levels", [99, 100, 101, 700, 100_000])
def test_a_body_is_read_to_a_hundred_levels(levels):
    body = b"[" * levels + b"]" * levels
    assert (read_json(body) is None) is (levels > 101)


@pytest.mark.parametrize("token", ["", "\ud800", "a/../b", "list", "x" * 300, "é", 5, None, ["a"]], ids=range(9))
def test_a_created_campaign_with_a_token_that_no_request_can_use_is_refused(ask, token):
    error = ask("create", answer_of(b"200 OK", json.dumps({"campaign_token": token}).encode()))
    assert isinstance(error, BatchResponseError)
    assert error.may_have_been_applied
    assert "campaign_token" in str(error)


# ------------------------------------------------------------------------------------------- in bounded time and memory


def bomb(megabytes):
    return gzip.compress(b" " * (megabytes * 1_000_000), 9)


TWICE = gzip.compress(bomb(400), 9)
FLOODS = {
    "a compressed body": answer_of(b"500 X", bomb(10), b"Content-Encoding: gzip"),
    "a deflated body": answer_of(b"500 X", zlib.compress(b" " * 10_000_000), b"Content-Encoding: deflate"),
    "a body compressed twice": answer_of(b"500 X", TWICE, b"Content-Encoding: gzip, gzip"),
    "a body of 10 MB": answer_of(b"500 X", b"x" * 10_000_000),
    "a chunk size of 12 MB": b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 12_000_000,
    "a chunk of size -1": b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n" + b"x" * 12_000_000,
    "trailers of 12 MB": b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    + (b"a: " + b"b" * 60_000 + b"\r\n") * 200,
    "interim answers of 12 MB": (b"HTTP/1.1 100 Continue\r\na: " + b"b" * 60_000 + b"\r\n\r\n") * 200,
    "headers of 12 MB": b"HTTP/1.1 200 OK\r\n" + (b"a: " + b"b" * 60_000 + b"\r\n") * 200,
    "a header of 12 MB": b"HTTP/1.1 200 OK\r\na: " + b"b" * 12_000_000,
    "a status line of 12 MB": b"HTTP/1.1 200 " + b"b" * 12_000_000,
}


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("status", [b"500 X", b"200 X"])
def test_an_answer_of_unlimited_size_does_not_fill_the_memory(ask, flood, status):
    answer = FLOODS[flood].replace(b"500 X", status)
    with memory_below(80):
        assert isinstance(ask("update", answer), BatchApiError)


SIZE = 300_000


def filled(pattern):
    return b"[" + b",".join([pattern] * (SIZE // (len(pattern) + 1))) + b"]"


@pytest.mark.parametrize(
    "body",
    [filled(b'"\\ud83d"'), filled(b"[]"), filled(b"0"), b"\xff" * SIZE, b"a " * (SIZE // 2), b" " * SIZE],
    ids=["text", "lists", "numbers", "no text", "words", "spaces"],
)
@pytest.mark.parametrize("status", [200, 500])
def test_a_body_takes_at_most_thirty_times_its_size_in_memory(body, status):
    with memory_below(30 * SIZE / 1e6):
        if status == 200:
            read(expect_page, answer_with(body, batch.LIST))
        else:
            assert_fit_to_show(failure(answer_with(body, batch.UPDATE, 500), NOW))


# -------------------------------------------------------------------------------------- the code that uses the results

both = st.tuples(campaigns, campaigns)


@examples(200)
@given(both)
def test_any_two_campaigns_can_be_compared_merged_and_sent(pair):
    desired, seen = (read_json(json.dumps(campaign).encode()) or {} for campaign in pair)
    differences(desired, seen)
    lost_parameters(seen, desired, {})
    difference_rows(desired, seen)
    json.dumps(overlaid(request_form(seen), desired), allow_nan=False).encode()


def test_a_campaign_as_deep_as_a_body_may_be_can_be_compared_merged_and_sent():
    deep = read_json(b'{"a":' * 100 + b"1" + b"}" * 100)
    assert differences(deep, {"a": 1}) == ["a"]
    assert (lost_parameters(deep, deep, {}), difference_rows(deep, deep)) == ([], [])
    json.dumps(overlaid(deep, deep), allow_nan=False)


def assert_storable(value):
    """Fail where Airflow could not send a value from the worker to its database."""
    text = msgspec.msgpack.encode(value) and json.dumps(value, allow_nan=False, ensure_ascii=False)
    assert "\\u0000" not in text
    text.encode()


@examples(200)
@given(seen=campaigns, row=rows)
def test_the_summary_of_any_campaign_can_be_stored_in_xcom(seen, row):
    assert_storable(campaign_summary(TOKEN, None, seen, NOW))
    assert_storable(with_open_rate(row))
    assert_storable(text_or_none(seen.get("name")))


def test_statistics_that_xcom_cannot_store_are_stored_as_similar_values():
    row = {"sent": 2**63, "date": "\ud800 a\0b \U0001f600", "\udfff": [float("inf"), -(2**63) + 1, True, 0.5]}
    assert with_open_rate(row) == {
        "sent": str(2**63),
        "date": "\ufffd a\ufffdb \U0001f600",
        "\ufffd": [None, -(2**63) + 1, True, 0.5],
        "open_rate": None,
    }


KINDS = [name for name in vars(exceptions) if name.startswith("Batch")]
events = st.one_of(
    json_values,
    st.fixed_dictionaries(
        {"status": st.sampled_from(["success", "timeout", "error"]) | json_values},
        optional={
            "class": st.sampled_from([*KINDS, "ERRORS", "Any", "__doc__"]) | json_values,
            "message": json_values,
            "result": json_values,
            "about": json_values,
            "details": json_values
            | st.dictionaries(
                st.sampled_from([*BatchApiError("").details, "of a later version"]) | st.integers(), json_values
            ),
        },
    ),
)


@examples(200)
@given(events)
@example({"status": "error", "class": "BatchRateLimitError", "details": None})
@example({"status": "error", "class": "BatchRateLimitError", "details": {"of a later version": 1}})
@example({"status": "error", "class": "BatchRateLimitError", "details": {"retry_after": float("nan")}})
@example({"status": "error", "class": "BatchRateLimitError", "details": {"retry_after": 10**400}})
def test_any_event_of_a_trigger_is_a_result_or_a_batch_error(event):
    error = None
    try:
        outcome(event)
    except AirflowSensorTimeout:
        assert event["status"] == "timeout"
    except BatchError as raised:
        error = raised
    if error is not None:
        # The sensor uses it in this way.
        assert 0 <= delay_floor(error) <= 10**9
        assert isinstance(error.explained("Check it."), type(error))
