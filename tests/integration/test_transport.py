"""Whether a request without an answer was sent, and how long it may take: against servers that misbehave on TCP.

Each peer is a real server on loopback that does with each connection exactly what a test says.
"""

from __future__ import annotations

import gzip
import json
import logging
import socket
import ssl
import struct
import threading
import time
from contextlib import contextmanager, suppress

import pytest
import requests
import urllib3
from faults.servers import certificate

from airflow_batch._http import transport
from airflow_batch.exceptions import (
    BatchAmbiguousError,
    BatchApiError,
    BatchConfigurationError,
    BatchConnectionError,
    BatchRateLimitError,
    BatchRequestError,
    BatchResponseError,
    BatchServerError,
)
from airflow_batch.hooks.batch import BatchHook

REST = "rQx7v9Wz3Lk2pRestKey"
APP = "aZp4t8Rm6Yc1dAppKey0"
TOKEN = "d9d5e5a52ca08110d4893af3254ec21b"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n" + b'{"live": true}'


class Peer:
    """A TCP server on loopback. ``behave(peer, connection, number)`` is called for each connection, in a thread."""

    def __init__(self, behave):
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = []
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self.requests = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection, number):
        with suppress(OSError), connection:
            self._behave(self, connection, number)

    def read(self, connection):
        """Read one whole request and record it; None if the client has closed the connection."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := connection.recv(65536)):
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        while len(body) < length:
            body += connection.recv(65536)
        self.requests.append(head)
        return head

    def close(self):
        for end in (self._listener, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def peer(behave):
    server = Peer(behave)
    try:
        yield server
    finally:
        server.close()


def answers(*chunks, pause=0.0, then=None):
    """Return a behaviour: read each request of a connection and send ``chunks``; ``then`` ends it after one request."""

    def behave(server, connection, number):
        while server.read(connection) is not None:
            for chunk in chunks:
                connection.sendall(chunk)
                time.sleep(pause)
            if then is not None:
                return then(connection)

    return behave


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def close(connection):
    connection.shutdown(socket.SHUT_RDWR)


def wait_until_the_client_closes(connection):
    with suppress(OSError):
        while connection.recv(65536):
            pass


@pytest.fixture
def hook(connect):
    """Return a function that makes a hook for a port, a base URL or a peer."""

    def make(place, *, scheme="http", timeout=(5, 5), **fields):
        port = getattr(place, "port", place)
        url = place if isinstance(place, str) else f"{scheme}://127.0.0.1:{port}"
        extra = {"timeout": list(timeout)}
        connect({"conn_type": "batch", "host": url, "password": REST, "login": APP, "extra": extra, **fields})
        return BatchHook()

    return make


def update(hook):
    return hook.update_campaign(TOKEN, {"live": False})


def view(hook):
    return hook.get_campaign(TOKEN)


def failure_of(call, hook, kind=BatchApiError):
    with pytest.raises(kind) as caught:
        call(hook)
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    shown = f"{error!s} {error!r} {vars(error)!r}"
    assert not [piece for key in (REST, APP) for piece in (key[i : i + 6] for i in range(15)) if piece in shown]
    return error


BOTH = pytest.mark.parametrize(("call", "writes"), [(update, True), (view, False)], ids=["update", "view"])


def assert_nothing_was_sent(error):
    assert type(error) is BatchConnectionError
    assert str(error).startswith("Nothing was sent for the ")
    assert not error.may_have_been_applied
    assert error.status_code is None


def assert_is_ambiguous(error, writes):
    assert type(error) is BatchAmbiguousError
    assert error.may_have_been_applied is writes
    assert ("It may have been applied." in str(error)) is writes
    assert error.status_code is None


# ----------------------------------------------------------------------------------------------------- nothing was sent


@pytest.fixture
def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@BOTH
def test_a_refused_connection_means_that_nothing_was_sent(hook, closed_port, call, writes):
    error = failure_of(call, hook(closed_port))
    assert_nothing_was_sent(error)
    assert "connection refused" in str(error)


@BOTH
def test_a_host_name_that_does_not_resolve_means_that_nothing_was_sent(hook, call, writes):
    error = failure_of(call, hook("https://no-such-host.invalid"))
    assert_nothing_was_sent(error)
    assert "the host name could not be resolved" in str(error)


def test_a_connection_that_times_out_means_that_nothing_was_sent(hook):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, suppress(BlockingIOError):
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                with suppress(BlockingIOError):
                    filler.connect(server.getsockname())
            error = failure_of(update, hook(server.getsockname()[1], timeout=(0.3, 5)))
        finally:
            for filler in fillers:
                filler.close()
    assert_nothing_was_sent(error)
    assert "timed out" in str(error)


@pytest.fixture(scope="module", name="certificate")
def self_signed():
    """A self-signed certificate for 127.0.0.1 and its key, as one PEM file."""
    return certificate()


def over_tls(certificate, behave):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def secured(server, connection, number):
        with context.wrap_socket(connection, server_side=True) as secure:
            behave(server, secure, number)

    return secured


@BOTH
def test_a_certificate_that_is_not_trusted_means_that_nothing_was_sent(hook, certificate, call, writes):
    with peer(over_tls(certificate, answers(OK))) as server:
        error = failure_of(call, hook(server, scheme="https"))
    assert_nothing_was_sent(error)
    assert "certificate is not trusted" in str(error)
    assert server.requests == []


HANDSHAKES = {
    "plain_http": lambda server, connection, number: connection.recv(65536) and connection.sendall(OK),
    "garbage": lambda server, connection, number: connection.recv(65536) and connection.sendall(b"\x00" * 100),
    "close": lambda server, connection, number: connection.recv(65536) and close(connection),
    "reset": lambda server, connection, number: connection.recv(65536) and reset(connection),
    "silence": lambda server, connection, number: wait_until_the_client_closes(connection),
}


@pytest.mark.parametrize("behave", HANDSHAKES.values(), ids=HANDSHAKES)
def test_a_failed_tls_handshake_means_that_nothing_was_sent(hook, behave):
    with peer(behave) as server:
        assert_nothing_was_sent(failure_of(update, hook(server, scheme="https", timeout=(0.3, 5))))
        assert server.connections == 1


def test_the_error_for_a_server_without_tls_says_that_it_seems_to_speak_http(hook):
    with peer(HANDSHAKES["plain_http"]) as server:
        error = failure_of(view, hook(server, scheme="https"))
    assert "the server seems to speak http://, which is allowed on loopback only" in str(error)


@pytest.fixture
def proxied(monkeypatch):
    """Send what is not loopback through a proxy on loopback."""

    def use(server):
        for name in ("NO_PROXY", "no_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")

    return use


@pytest.fixture
def all_proxy(monkeypatch):
    for name in ("NO_PROXY", "no_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", "socks5h://127.0.0.1:1080")


@pytest.fixture
def socks(monkeypatch, all_proxy):
    """Replace urllib3's SOCKS manager, which requests to other hosts use, by one that leads to a peer on loopback."""

    class Connection(urllib3.connection.HTTPConnection):
        """As urllib3's own: it sends the proxy the host's name, and has the additional options."""

        def __init__(self, *arguments, _socks_options, **named):
            super().__init__(*arguments, **named)
            self._socks_options = _socks_options

        def _new_conn(self):
            assert self.host == "api.batch.invalid"
            try:
                return socket.create_connection(("127.0.0.1", self._socks_options["port"]), self.timeout)
            except OSError as error:
                raise urllib3.exceptions.NewConnectionError(self, "failed") from error

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Connection

    def use(port):
        class Manager(urllib3.PoolManager):
            def __init__(self, *_, **__):
                pass

            def connection_from_host(self, *_, **__):
                return Pool("api.batch.invalid", 80, _socks_options={"port": port})

        monkeypatch.setattr(requests.adapters, "SOCKSProxyManager", Manager)

    return use


def test_a_request_goes_through_a_socks_proxy(hook, socks):
    with peer(answers(OK)) as server:
        socks(server.port)
        assert view(hook("https://api.batch.invalid")) == {"live": True}


@BOTH
@pytest.mark.parametrize("behave", [answers(then=close), answers(then=reset), lambda *_: None])
def test_a_failed_update_behind_a_socks_proxy_may_have_been_applied(hook, socks, behave, call, writes):
    with peer(behave) as server:
        socks(server.port)
        assert_is_ambiguous(failure_of(call, hook("https://api.batch.invalid", timeout=(0.3, 0.3))), writes)


def test_a_socks_proxy_that_cannot_be_reached_means_that_nothing_was_sent(hook, socks, closed_port):
    socks(closed_port)
    assert_nothing_was_sent(failure_of(update, hook("https://api.batch.invalid")))


def test_the_total_timeout_applies_behind_a_socks_proxy(hook, socks, short_total):
    with peer(DRIPS["body"]) as server, within(1.2):
        socks(server.port)
        assert_is_ambiguous(failure_of(update, hook("https://api.batch.invalid")), writes=True)


def test_a_socks_proxy_without_pysocks_is_a_configuration_error_that_names_the_package(hook, all_proxy):
    with pytest.raises(BatchConfigurationError, match="PySocks is not installed") as caught:
        update(hook("https://api.batch.invalid"))
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    traced = caught.value.__traceback__
    while traced is not None:
        assert APP not in repr(traced.tb_frame.f_locals)
        traced = traced.tb_next


TUNNELS = {
    "refused": answers(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
    "no_tls_behind": answers(
        b"HTTP/1.1 200 Connection established\r\n\r\n", b"nonsense", then=wait_until_the_client_closes
    ),
    "closed": answers(then=close),
    "silent": answers(then=wait_until_the_client_closes),
}


@pytest.mark.parametrize("behave", TUNNELS.values(), ids=TUNNELS)
def test_a_proxy_that_opens_no_tunnel_means_that_nothing_was_sent(hook, proxied, behave):
    with peer(behave) as proxy:
        proxied(proxy)
        error = failure_of(update, hook("https://api.batch.invalid", timeout=(0.3, 0.3)))
    assert_nothing_was_sent(error)
    assert len(proxy.requests) == 1
    assert proxy.requests[0].startswith(b"CONNECT api.batch.invalid:443 ")


def test_a_proxy_receives_no_key(hook, proxied):
    with peer(TUNNELS["refused"]) as proxy:
        proxied(proxy)
        failure_of(update, hook("https://api.batch.invalid"))
    assert not [key for key in (REST, APP) if key.encode() in proxy.requests[0]]


# ---------------------------------------------------------------------------------------- something was sent, no answer

SILENCES = {
    "closed": answers(then=close),
    "reset": answers(then=reset),
    "silent": answers(then=wait_until_the_client_closes),
    "half_a_status_line": answers(b"HTTP/1.1 20", then=close),
    "half_of_the_headers": answers(b"HTTP/1.1 200 OK\r\nContent-Ty", then=wait_until_the_client_closes),
    "not_http": answers(b"SSH-2.0-OpenSSH_9.6\r\n", then=close),
    "binary": answers(b"\x00\x01\x02\r\n\r\n", then=close),
    "a_thousand_headers": answers(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n", then=close),
    "an_endless_header": answers(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000, then=close),
    "half_of_the_body": answers(OK[:-5], then=close),
    "half_of_the_body_then_reset": answers(OK[:-5], pause=0.05, then=reset),
    "half_of_the_body_then_silence": answers(OK[:-5], then=wait_until_the_client_closes),
    "half_of_the_chunks": answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}   \r\n", then=close),
    "an_interim_answer_only": answers(b"HTTP/1.1 100 Continue\r\n\r\n", then=close),
}


@BOTH
@pytest.mark.parametrize("behave", SILENCES.values(), ids=SILENCES)
def test_an_update_without_a_complete_answer_may_have_been_applied(hook, behave, call, writes):
    with peer(behave) as server:
        error = failure_of(call, hook(server, timeout=(0.3, 0.3)))
        assert_is_ambiguous(error, writes)
        assert len(server.requests) == 1


# The interim statuses of RFC 9110 and RFC 8297 say nothing about the outcome.
@pytest.mark.parametrize("status", [102, 103])
def test_an_interim_response_is_not_the_outcome_of_a_request(hook, status):
    with peer(answers(b"HTTP/1.1 %d Interim\r\n\r\n" % status, then=wait_until_the_client_closes)) as server:
        error = failure_of(update, hook(server, timeout=(0.3, 0.3)))
        assert error.transient
        assert error.may_have_been_applied


@BOTH
def test_an_update_over_tls_without_an_answer_may_have_been_applied(hook, certificate, call, writes):
    with peer(over_tls(certificate, answers(then=close))) as server:
        made = hook(server, scheme="https")
        made.get_conn().verify = str(certificate)
        assert_is_ambiguous(failure_of(call, made), writes)
        assert len(server.requests) == 1


def test_a_request_is_sent_to_a_server_with_a_trusted_certificate(hook, certificate):
    with peer(over_tls(certificate, answers(OK))) as server:
        made = hook(server, scheme="https")
        made.get_conn().verify = str(certificate)
        assert view(made) == {"live": True}


@BOTH
def test_an_update_on_a_reused_connection_that_is_closed_under_it_may_have_been_applied(hook, call, writes):
    def behave(server, connection, number):
        server.read(connection)
        connection.sendall(OK)
        server.read(connection)
        close(connection)

    with peer(behave) as server:
        made = hook(server)
        assert view(made) == {"live": True}
        assert_is_ambiguous(failure_of(call, made), writes)
        assert (server.connections, len(server.requests)) == (1, 2)


def test_a_reused_connection_that_was_closed_before_the_request_is_opened_again(hook):
    closed = threading.Event()

    def behave(server, connection, number):
        server.read(connection)
        connection.sendall(OK)
        close(connection)
        closed.set()

    with peer(behave) as server:
        made = hook(server)
        update(made)
        assert closed.wait(1)
        assert update(made) == 200
        assert (server.connections, len(server.requests)) == (2, 2)


def test_a_refused_connection_after_an_ambiguous_request_means_that_nothing_was_sent(hook, closed_port):
    with peer(answers(then=close)) as server:
        made = hook(server)
        assert_is_ambiguous(failure_of(update, made), writes=True)
    assert_nothing_was_sent(failure_of(update, made))


def test_an_update_whose_body_the_server_does_not_read_in_time_may_have_been_applied(hook):
    with peer(lambda server, connection, number: time.sleep(1)) as server:
        made = hook(server, timeout=(0.3, 0.3))
        error = failure_of(lambda hook: hook.update_campaign(TOKEN, {"custom": "x" * 30_000_000}), made)
    assert_is_ambiguous(error, writes=True)


# ---------------------------------------------------------------------------------------------------- how long it takes


@pytest.fixture
def short_total(monkeypatch):
    monkeypatch.setattr(transport, "TOTAL_TIMEOUT", 0.4)


@contextmanager
def within(seconds):
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def test_the_read_timeout_of_the_connection_ends_a_request_without_an_answer(hook):
    with peer(answers(then=wait_until_the_client_closes)) as server, within(1.2):
        assert "timed out" in str(failure_of(update, hook(server, timeout=(5, 0.2))))


DRIPS = {
    "status_line": answers(*[OK[i : i + 1] for i in range(len(OK))], pause=0.1),
    "headers": answers(b"HTTP/1.1 200 OK\r\n", *[b"A: b\r\n"] * 50, pause=0.1),
    "body": answers(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n", *[b" "] * 50, pause=0.1),
    "chunks": answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"1\r\n \r\n"] * 50, pause=0.1),
    "chunk_sizes": answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"0"] * 50, pause=0.1),
    "body_without_a_length": answers(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", *[b" "] * 50, pause=0.1),
}


@BOTH
@pytest.mark.parametrize("behave", DRIPS.values(), ids=DRIPS)
def test_the_total_timeout_ends_an_answer_that_comes_byte_by_byte(hook, short_total, behave, call, writes):
    with peer(behave) as server, within(1.2):
        assert_is_ambiguous(failure_of(call, hook(server)), writes)


def test_the_total_timeout_applies_on_a_reused_connection(hook, short_total):
    def behave(server, connection, number):
        server.read(connection)
        connection.sendall(OK)
        server.read(connection)
        wait_until_the_client_closes(connection)

    with peer(behave) as server, within(1.2):
        made = hook(server, timeout=(5, 5))
        view(made)
        assert_is_ambiguous(failure_of(update, made), writes=True)
        assert server.connections == 1


def test_each_request_on_a_reused_connection_has_the_total_timeout_for_itself(hook, monkeypatch):
    monkeypatch.setattr(transport, "TOTAL_TIMEOUT", 0.5)
    with peer(answers(b"", OK, pause=0.1)) as server:
        made = hook(server)
        assert [update(made) for _ in range(4)] == [200] * 4
        assert server.connections == 1


def test_the_total_timeout_applies_while_several_addresses_of_a_host_are_tried(hook, monkeypatch):
    monkeypatch.setattr(transport, "TOTAL_TIMEOUT", 0.5)
    tried = []

    def silent(self):
        tried.append((self._dns_host, self.timeout))
        time.sleep(self.timeout)
        raise urllib3.exceptions.ConnectTimeoutError(self, "timed out")

    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", 443)) for n in range(1, 9)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    monkeypatch.setattr(urllib3.connection.HTTPConnection, "_new_conn", silent)
    with within(1.0):
        error = failure_of(update, hook("https://many.invalid", timeout=(0.3, 5)))
    assert_nothing_was_sent(error)
    assert "timed out" in str(error)
    assert [address for address, _ in tried] == ["127.0.0.1", "127.0.0.2"]
    assert tried[1][1] < 0.3


def test_the_next_address_of_a_host_is_tried_where_the_first_refuses(hook, monkeypatch):
    with peer(answers(OK)) as server:
        resolved = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, server.port)) for host in ("127.0.0.9", "127.0.0.1")
        ]
        made = hook(server)
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda host, *_, **__: [x for x in resolved if host in ("127.0.0.1", x[4][0])]
        )
        assert view(made) == {"live": True}
        assert header_of(server.requests[0], b"host") == [b"127.0.0.1:%d" % server.port]


@pytest.mark.parametrize("call", [update, view])
def test_the_time_limit_of_the_hook_shortens_each_request(hook, call):
    with peer(answers(then=wait_until_the_client_closes)) as server, within(1.2):
        made = hook(server)
        made.time_limit = 0.2
        assert_is_ambiguous(failure_of(call, made), writes=call is update)


def test_the_time_limit_of_the_hook_ends_an_answer_that_comes_byte_by_byte(hook):
    with peer(DRIPS["body"]) as server, within(1.2):
        made = hook(server)
        made.time_limit = 0.3
        assert_is_ambiguous(failure_of(view, made), writes=False)


@pytest.mark.parametrize("seconds", [0, -1])
def test_nothing_is_sent_when_the_time_limit_of_the_hook_is_used_up(hook, seconds):
    with peer(answers(OK)) as server:
        made = hook(server)
        made.time_limit = seconds
        assert_nothing_was_sent(failure_of(update, made))
        assert server.connections == 0


def test_the_time_limit_of_the_hook_does_not_extend_the_timeouts_of_the_connection(hook):
    with peer(answers(then=wait_until_the_client_closes)) as server, within(1.2):
        made = hook(server, timeout=(5, 0.2))
        made.time_limit = 30.0
        failure_of(update, made)


def test_the_total_timeout_ends_a_proxys_answer_that_comes_byte_by_byte(hook, proxied, short_total):
    with peer(answers(*[b"H"] * 50, pause=0.1)) as proxy, within(1.2):
        proxied(proxy)
        assert_nothing_was_sent(failure_of(update, hook("https://api.batch.invalid")))


# --------------------------------------------------------------------------------------- an answer that is hard to read


def answer_with(status, body, *headers):
    lines = [b"HTTP/1.1 %d Status" % status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("status", "kind"), [(400, BatchRequestError), (429, BatchRateLimitError), (500, BatchServerError)]
)
@pytest.mark.parametrize("then", [close, reset, wait_until_the_client_closes])
def test_an_error_status_counts_although_its_body_breaks_off(hook, status, kind, then):
    half = answer_with(status, b'{"code": 60, "type": "TOO', b"Retry-After: 9")[:-10]
    with peer(answers(half, pause=0.05, then=then)) as server:
        error = failure_of(update, hook(server, timeout=(0.3, 0.3)))
        assert type(error) is kind
        assert (error.status_code, error.retry_after) == (status, 9.0)
        assert "could not be read" in str(error)


@pytest.mark.parametrize(("status", "kind"), [(200, BatchResponseError), (500, BatchServerError)])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_response_of_50_megabytes_is_not_read_to_its_end(hook, status, kind, encoding):
    body = b'{"x": "' + b"x" * 50_000_000 + b'"}'
    body = gzip.compress(body, 1) if encoding == "gzip" else body
    with peer(answers(answer_with(status, body, b"Content-Encoding: " + encoding.encode()))) as server, within(1.5):
        error = failure_of(view, hook(server))
    assert type(error) is kind
    assert "could not be read (too long, or broken off)" in str(error)


def test_a_compressed_response_is_read(hook):
    with peer(answers(answer_with(200, gzip.compress(b'{"live": true}'), b"Content-Encoding: gzip"))) as server:
        assert view(hook(server)) == {"live": True}


def test_a_response_with_a_wrong_content_encoding_is_an_error_of_this_provider(hook):
    with peer(answers(answer_with(200, b'{"live": true}', b"Content-Encoding: gzip"))) as server:
        assert failure_of(update, hook(server)).may_have_been_applied


@pytest.mark.parametrize(("first", "second"), [(5, 900), (900, 5), (900, 900)])
def test_the_larger_one_of_two_retry_after_headers_counts(hook, first, second):
    with peer(answers(answer_with(429, b"", b"Retry-After: %d" % first, b"Retry-After: %d" % second))) as server:
        assert failure_of(update, hook(server)).retry_after == 900.0


# ------------------------------------------------------------------------------------------ the session and its headers


def header_of(request, name):
    return [line.split(b":", 1)[1].strip() for line in request.split(b"\r\n") if line.lower().startswith(name + b":")]


def test_requests_in_a_row_share_one_connection(hook):
    with peer(answers(OK)) as server:
        made = hook(server)
        for call in (update, view, update):
            call(made)
        assert (server.connections, len(server.requests)) == (1, 3)


def test_a_connection_is_reused_after_a_429(hook):
    with peer(answers(answer_with(429, b'{"code": 60}'))) as server:
        made = hook(server)
        for _ in range(3):
            failure_of(update, made, BatchRateLimitError)
        assert (server.connections, len(server.requests)) == (1, 3)


def test_a_request_has_the_rest_key_only_in_its_own_header(hook):
    with peer(answers(OK)) as server:
        view(hook(server))
    (request,) = server.requests
    assert header_of(request, b"x-authorization") == [REST.encode()]
    assert request.count(REST.encode()) == 1
    assert request.startswith(f"GET /1.1/{APP}/campaigns/{TOKEN} HTTP/1.1\r\n".encode())


def test_an_app_key_with_special_characters_stays_one_part_of_the_path(hook):
    with peer(answers(OK)) as server:
        view(hook(server, login="a/b?c#d%e"))
    assert server.requests[0].startswith(f"GET /1.1/a%2Fb%3Fc%23d%25e/campaigns/{TOKEN} ".encode())


@pytest.mark.parametrize("call", [view, update])
def test_a_request_asks_caches_for_a_fresh_answer(hook, call):
    with peer(answers(OK)) as server:
        call(hook(server))
    assert header_of(server.requests[0], b"cache-control") == [b"no-cache"]


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("{}/other", True),
        ("{}/eu?a=b", True),
        ("{}0/other", False),
        ("{}.example/", False),
        ("{}@batch.invalid/", False),
        ("http://localhost:{port}/eu", False),
        ("https://127.0.0.1:{port}/eu", False),
    ],
)
def test_the_rest_key_goes_to_the_scheme_host_and_port_of_the_connection_only(hook, url, sent):
    session = hook("http://127.0.0.1:8765/eu").get_conn()
    adapter = session.get_adapter(url.format("http://127.0.0.1:8765", port=8765))
    assert (getattr(adapter, "rest_key", None) == REST) is sent


def test_the_path_of_the_connections_host_is_kept(hook):
    with peer(answers(OK)) as server:
        view(hook(f"http://127.0.0.1:{server.port}/gateway/"))
    assert server.requests[0].startswith(f"GET /gateway/1.1/{APP}/".encode())


@pytest.fixture
def netrc(monkeypatch, tmp_path):
    path = tmp_path / ".netrc"
    path.write_text("machine 127.0.0.1 login someone password else\ndefault login someone password else\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    monkeypatch.setenv("HOME", str(tmp_path))


def test_netrc_adds_no_authorization_where_proxies_come_from_the_environment(netrc, hook):
    with peer(answers(OK)) as server:
        made = hook(server)
        made.get_conn().trust_env = True
        view(made)
        made.get_conn().get(f"http://127.0.0.1:{server.port}/")
    for request in server.requests:
        assert header_of(request, b"authorization") == []
        assert header_of(request, b"x-authorization") == [REST.encode()]


def test_a_hook_does_not_read_netrc(netrc, hook):
    with peer(answers(OK)) as server:
        view(hook(server))
    assert header_of(server.requests[0], b"authorization") == []


def test_requests_to_this_machine_use_no_proxy(hook, monkeypatch, closed_port):
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with peer(answers(OK)) as server:
        assert view(hook(server)) == {"live": True}


# ------------------------------------------------------------------------------------------------------------ redirects


@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize("call", [update, view])
def test_a_redirect_to_another_host_is_not_followed(hook, call, status):
    with peer(answers(OK)) as other:
        location = b"Location: http://localhost:%d/1.1/x/campaigns/y" % other.port
        with peer(answers(answer_with(status, b"", location))) as server:
            error = failure_of(call, hook(server), BatchResponseError)
            assert error.status_code == status
            assert len(server.requests) == 1
        assert other.connections == 0


# ------------------------------------------------------------------------------------------------------ logs of urllib3

LOGGED = {
    "answered": answers(OK),
    "refused": answers(answer_with(401, b"{}")),
    "closed": answers(then=close),
    "broken_headers": answers(b"HTTP/1.1 200 OK\r\nno colon here\r\nContent-Length: 2\r\n\r\n{}", then=close),
    "redirect": answers(answer_with(302, b"", b"Location: /elsewhere")),
}


@pytest.mark.parametrize("behave", LOGGED.values(), ids=LOGGED)
def test_the_log_of_urllib3_shows_no_key(hook, caplog, behave):
    with caplog.at_level(logging.DEBUG), peer(behave) as server:
        with suppress(BatchApiError):
            update(hook(server))
        with suppress(BatchApiError):
            view(hook(server))
    assert any(record.name.startswith("urllib3") for record in caplog.records)
    shown = caplog.text + "".join(f"{record.msg}{record.args}{record.exc_text}" for record in caplog.records)
    assert not [key for key in (REST, APP) if key in shown]


def test_the_log_of_urllib3_has_the_path_without_the_app_key(hook, caplog):
    with caplog.at_level(logging.DEBUG, "urllib3"), peer(answers(OK)) as server:
        view(hook(server))
    assert f"/1.1/***/campaigns/{TOKEN}" in caplog.text


def test_the_body_of_an_update_is_json_in_utf_8(hook):
    bodies = []

    def behave(server, connection, number):
        data = b""
        while b"}" not in data:
            data += connection.recv(65536)
        bodies.append(data.partition(b"\r\n\r\n")[2])
        connection.sendall(OK)

    with peer(behave) as server:
        hook(server).update_campaign(TOKEN, {"name": "Été 🎉", "live": "true"})
    assert json.loads(bodies[0]) == {"name": "Été 🎉", "live": True}


def test_interim_responses_are_skipped_before_a_late_final_response(hook):
    """Otherwise each answer would be read as that of the next request, and a refusal as a success."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
    with peer(answers(hints, hints, OK, pause=0.1)) as server:
        place = hook(server)
        assert place.get_campaign(TOKEN)["live"] is True
        assert view(place)["live"] is True
        assert len(server.requests) == 2
