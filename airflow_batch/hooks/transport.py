"""One HTTP exchange: the session, its time limits, and the proof of what was sent. Loaded when a hook first needs it.

requests raises the same ConnectionError for a refused connection and for one that was reset after the bytes had
arrived. Whether a write may have been applied must not be guessed, so the connections here note the moment the first
byte of a request goes out. They also bound a whole exchange: the read timeout of requests starts anew with every byte.
"""

from __future__ import annotations

import http.client
import io
import logging
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.connectionpool

from airflow_batch.hooks.answers import MAX_BODY, Answer
from airflow_batch.hooks.settings import TOTAL_TIMEOUT

REDACTED = "***"
MAX_RECEIVED = 2 * MAX_BODY
"""Bytes of one answer that are taken from the socket, whatever they are. The lines between the chunks of a body have no
limit of their own in http.client and urllib3."""


class ExchangeError(Exception):
    """No response was read. ``reason`` is safe to show; ``sent`` tells whether any byte of the request went out."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


class _Exchange:
    """What is known of the request now under way in this thread."""

    def __init__(self) -> None:
        self.deadline = time.monotonic() + TOTAL_TIMEOUT
        self.sent = False
        self.received = 0

    def note_received(self, count: int) -> None:
        self.received += count
        if self.received > MAX_RECEIVED:
            raise http.client.HTTPException(f"an answer of more than {MAX_RECEIVED} bytes")

    def time_left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no complete answer within {TOTAL_TIMEOUT:.0f} s")
        return left


_current: ContextVar[_Exchange | None] = ContextVar("batch_exchange", default=None)


class _BoundedReader(io.RawIOBase):
    """Reads a socket, never past the exchange's deadline, however slowly the bytes come."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, watch: _Exchange) -> None:
        self._sock = sock
        self._raw = raw
        self._watch = watch
        self._pause = sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._watch.time_left()
        self._sock.settimeout(left if self._pause is None else min(self._pause, left))
        count = self._raw.readinto(buffer)
        self._watch.note_received(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        watch = _current.get()
        if watch is not None:
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_BoundedReader(sock, raw, watch))


class _ProvingConnection(urllib3.connection.HTTPConnection):
    """Notes the first byte of a request. Connecting, a proxy's tunnel and the TLS handshake come before it."""

    response_class = _BoundedResponse
    _connecting = False

    def connect(self) -> None:
        self._connecting = True
        try:
            super().connect()
        finally:
            self._connecting = False

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        watch = _current.get()
        if watch is not None and not self._connecting:
            # The limit of a socket holds for the whole of a sendall.
            self.sock.settimeout(min(self.sock.gettimeout() or TOTAL_TIMEOUT, watch.time_left()))
            watch.sent = True
        super().send(data)


class _ProvingTlsConnection(_ProvingConnection, urllib3.connection.HTTPSConnection):
    """The same over TLS."""


class _Pool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = _ProvingConnection


class _TlsPool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _ProvingTlsConnection


_POOLS = {"http": _Pool, "https": _TlsPool}


class _Adapter(requests.adapters.HTTPAdapter):
    """requests' own adapter, with the connections above and no retry of its own."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class BatchSession(requests.Session):
    """A ``requests.Session`` that follows no redirect: requests would carry the auth header to the new place."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


class _KeyFilter(logging.Filter):
    """Takes the keys out of urllib3's own log lines, which show whole URLs and so the app API key."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: frozenset[str] = frozenset()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if any(secret in text for secret in self.secrets):
            record.msg, record.args, record.exc_info = redact(text, self.secrets), None, None
        return True


_key_filter = _KeyFilter()
for _name in ("urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_key_filter)


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` with every secret replaced, longest first, so that one inside another leaves no rest."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    return text


def open_session(headers: dict[str, str], secrets: Iterable[str], *, from_environment: bool) -> BatchSession:
    """Return a session that sends ``headers`` with every request.

    :param from_environment: Take proxies and CA from the environment. Off for loopback, which no proxy may see.
    """
    session = BatchSession()
    session.headers.update(headers)
    session.trust_env = from_environment
    # Without an auth of its own, requests would look into ~/.netrc and add an Authorization header.
    session.auth = _leave_as_it_is
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    _key_filter.secrets |= frozenset(secrets)
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Adapter())
    return session


def _leave_as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def exchange(
    session: requests.Session, method: str, url: str, *, body: bytes | None, query: Any, timeout: tuple[float, float]
) -> Answer:
    """Send one request and read its answer. Never repeats, sleeps or follows.

    A body that breaks off does not undo a status that was read: for a status other than 2xx it is left out.

    :raises ExchangeError: when there is no answer to read. No other exception of the libraries passes, for their texts
        hold the URL, and the URL holds the app API key.
    """
    problem: ExchangeError | None = None
    with _watched() as watch:
        try:
            with _send(session, method, url, body, query, timeout) as response:
                return _read(response)
        except Exception as error:
            problem = ExchangeError(_reason(error), sent=watch.sent)
    # Raised outside of the handler, so that the library's exception is not even its context.
    raise problem


def _send(
    session: requests.Session, method: str, url: str, body: bytes | None, query: Any, timeout: tuple[float, float]
) -> requests.Response:
    """Do what ``session.request`` does, without merging settings of which there are none: a quarter of its time."""
    request = requests.PreparedRequest()
    request.prepare(method, url, headers=session.headers, data=body, params=query, auth=session.auth)
    settings = session.merge_environment_settings(request.url, {}, True, None, None)
    return session.send(request, timeout=timeout, allow_redirects=False, **settings)


@contextmanager
def _watched() -> Iterator[_Exchange]:
    watch = _Exchange()
    token = _current.set(watch)
    try:
        yield watch
    finally:
        _current.reset(token)


def _read(response: requests.Response) -> Answer:
    chunks: list[bytes] = []
    size = 0
    try:
        for chunk in response.iter_content(65536):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_BODY:
                return Answer(response.status_code, response.headers, None)
    except Exception:
        if response.ok and response.status_code < 300:
            raise
        return Answer(response.status_code, response.headers, None)
    return Answer(response.status_code, response.headers, b"".join(chunks))


def _reason(error: BaseException) -> str:
    """Say what went wrong in words that hold no URL: of the innermost error only its kind and system text."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's TLS certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({cause.reason or type(cause).__name__})"
        if isinstance(cause, socket.gaierror):
            return f"the host name could not be resolved ({cause.strerror})"
        if isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError | requests.Timeout):
            return "timed out"
        if isinstance(cause, OSError) and cause.strerror and cause.errno:
            return cause.strerror.lower()
        if isinstance(cause, http.client.RemoteDisconnected):
            return "the server closed the connection without an answer"
        if isinstance(cause, http.client.IncompleteRead):
            return "the answer broke off"
    return type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors below ``error``, innermost first, however the libraries have wrapped them."""
    seen: list[BaseException] = []
    pending: list[Any] = [error]
    while pending:
        item = pending.pop()
        if isinstance(item, BaseException) and item not in seen:
            seen.append(item)
            pending += [*item.args, getattr(item, "reason", None), item.__context__, item.__cause__]
    yield from reversed(seen)
