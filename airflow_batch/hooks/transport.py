"""One HTTP exchange: the session, its time limits, and the proof of what was sent. Loaded when a hook first needs it.

requests raises the same ConnectionError for a refused connection and for a reset after the request has arrived. To know
whether a write may have been applied, the connections here note when the first byte of a request is sent. They also
limit the whole exchange, because the read timeout of requests starts again with every byte.
"""

from __future__ import annotations

import http.client
import importlib.util
import io
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http.cookiejar import DefaultCookiePolicy
from itertools import takewhile
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.adapters
import requests.auth
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.util.connection

from airflow_batch.exceptions import BatchConfigurationError
from airflow_batch.hooks.answers import MAX_BODY, Answer
from airflow_batch.hooks.settings import TOTAL_TIMEOUT

REDACTED = "***"
LEAST_PREFIX = 12
"""Characters from the start of a key that are taken out of a text even where the rest of the key is missing."""
MAX_RECEIVED = 2 * MAX_BODY
"""Bytes of one answer that are read from the socket. http.client and urllib3 do not limit the lines between chunks."""


class ExchangeError(Exception):
    """No response was read. ``reason`` is safe to show; ``sent``: a byte of the request was or may have been sent."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


class _Exchange:
    """What is known about the current request of this thread."""

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.sent = False
        self.over_socks = False
        self.received = 0

    def note_received(self, count: int) -> None:
        self.received += count
        if self.received > MAX_RECEIVED:
            raise http.client.HTTPException(f"an answer of more than {MAX_RECEIVED} bytes")

    def time_left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no complete answer in time")
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

    def _new_conn(self) -> socket.socket:
        """Connect as urllib3 does, but within the time left: urllib3 gives the full timeout to each address."""
        watch = _current.get()
        if watch is None:
            return super()._new_conn()
        host, timeout = self._dns_host, self.timeout
        family = urllib3.util.connection.allowed_gai_family()
        found = socket.getaddrinfo(host.strip("[]"), self.port, family, socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        try:
            while True:
                self._dns_host, self.timeout = addresses.pop(0), min(timeout or TOTAL_TIMEOUT, watch.time_left())
                try:
                    sock = super()._new_conn()
                except urllib3.exceptions.HTTPError:
                    if not addresses:
                        raise
                else:
                    sock.settimeout(min(timeout or TOTAL_TIMEOUT, watch.time_left()))
                    return sock
        finally:
            self._dns_host, self.timeout = host, timeout

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
        if not proxy.lower().startswith("socks"):
            manager = super().proxy_manager_for(proxy, **kwargs)
            manager.pool_classes_by_scheme = _POOLS
            return manager
        if importlib.util.find_spec("socks") is None:
            raise BatchConfigurationError(
                "The environment names a SOCKS proxy (such as ALL_PROXY), for which PySocks is not installed: "
                "run pip install 'requests[socks]', or add Batch's host to NO_PROXY."
            )
        # urllib3's SOCKS connections are classes of their own, which note nothing.
        watch = _current.get()
        if watch is not None:
            watch.over_socks = True
        return super().proxy_manager_for(proxy, **kwargs)


class BatchSession(requests.Session):
    """A ``requests.Session`` that follows no redirect, because requests would send the auth header to the new host."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


class _KeyFilter(logging.Filter):
    """Takes the keys out of urllib3's own log lines, which show whole URLs and so the app API key."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def add(self, secrets: Iterable[str]) -> None:
        with self._lock:
            self.secrets |= frozenset(secrets)

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        redacted = redact(text, self.secrets)
        if redacted != text:
            record.msg, record.args, record.exc_info = redacted, None, None
        return True


_key_filter = _KeyFilter()
for _name in ("urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_key_filter)


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` without the secrets, in upper or lower case, and without their starts of LEAST_PREFIX characters.

    At each place the longest part of any secret is taken out, so that nothing of a similar one is left.
    """
    secrets = {secret.lower() for secret in secrets}
    if not secrets:
        return text
    starts = sorted({secret[:LEAST_PREFIX] for secret in secrets}, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, starts)), re.IGNORECASE | re.ASCII)
    parts, place = [], 0
    while match := pattern.search(text, place):
        parts += [text[place : match.start()], REDACTED]
        place = match.start()
        place += max(_equal_start(text[place : place + len(secret)].lower(), secret) for secret in secrets)
    return "".join([*parts, text[place:]])


def _equal_start(text: str, other: str) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, other, strict=False)))


class _KeyAuth(requests.auth.AuthBase):
    """Adds the REST key to requests to the connection's own scheme, host and port, and to no other.

    A session without an auth of its own would also look into ~/.netrc and add an Authorization header.
    """

    def __init__(self, base_url: str, rest_key: str) -> None:
        prepared = requests.PreparedRequest()
        prepared.prepare_url(base_url, None)
        self._origin = _origin(prepared.url)
        self._rest_key = rest_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if _origin(request.url) == self._origin:
            request.headers["X-Authorization"] = self._rest_key
        return request


def _origin(url: str | None) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url or "")
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def open_session(
    base_url: str, rest_key: str, headers: dict[str, str], secrets: Iterable[str], *, from_environment: bool
) -> BatchSession:
    """Return a session that sends ``headers`` with every request, and the REST key with those to ``base_url``'s host.

    :param from_environment: Take proxies and CA from the environment. Off for loopback, which no proxy may see.
    """
    session = BatchSession()
    session.headers.update(headers)
    session.trust_env = from_environment
    session.auth = _KeyAuth(base_url, rest_key)
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    _key_filter.add(secrets)
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Adapter())
    return session


def exchange(
    session: requests.Session,
    method: str,
    url: str,
    *,
    body: bytes | None,
    query: Any,
    timeout: tuple[float, float],
    time_limit: float | None = None,
) -> Answer:
    """Send one request and read its answer. Never repeats it, sleeps or follows a redirect.

    A body that breaks off does not undo a status that was read: for a status other than 2xx it is left out.

    :param time_limit: Seconds for the whole exchange, where that is less than TOTAL_TIMEOUT.
    :raises ExchangeError: when there is no answer to read. No exception of the libraries passes, because their texts
        and their frames hold the URL, and the URL holds the app API key.
    :raises BatchConfigurationError: for a SOCKS proxy without PySocks.
    """
    problem: BaseException
    with _watched(TOTAL_TIMEOUT if time_limit is None else min(time_limit, TOTAL_TIMEOUT)) as watch:
        try:
            left = watch.time_left()
            with _send(session, method, url, body, query, (min(timeout[0], left), min(timeout[1], left))) as response:
                return _read(response)
        except Exception as error:
            known = isinstance(error, BatchConfigurationError)
            problem = error if known else ExchangeError(_reason(error), sent=_may_be_sent(watch, error))
        except BaseException as error:  # Such as Airflow's timeout of a task
            problem = error
    # Raised outside of the handler, so that the library's exception is not even its context.
    del url
    raise problem.with_traceback(None)


def _may_be_sent(watch: _Exchange, error: BaseException) -> bool:
    """Through a SOCKS proxy nothing proves that no byte was sent, except a failure to connect."""
    return watch.sent or (watch.over_socks and not any(isinstance(cause, _NOT_CONNECTED) for cause in _causes(error)))


_NOT_CONNECTED = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    ssl.SSLCertVerificationError,
)


def _send(
    session: requests.Session, method: str, url: str, body: bytes | None, query: Any, timeout: tuple[float, float]
) -> requests.Response:
    """Do what ``session.request`` does without merging settings, of which there are none: a quarter of its time."""
    request = requests.PreparedRequest()
    request.prepare(method, url, headers=session.headers, data=body, params=query, auth=session.auth)
    settings = session.merge_environment_settings(request.url, {}, True, None, None)
    return session.send(request, timeout=timeout, allow_redirects=False, **settings)


@contextmanager
def _watched(seconds: float) -> Iterator[_Exchange]:
    watch = _Exchange(seconds)
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
    """Describe the innermost error without a URL: only its type and the system's text."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's TLS certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            plain = cause.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
            hint = ": the server seems to speak http://, which is allowed on loopback only" if plain else ""
            return f"TLS failed ({cause.reason or type(cause).__name__}){hint}"
        if isinstance(cause, socket.gaierror):
            return f"the host name could not be resolved ({cause.strerror})"
        if isinstance(cause, urllib3.exceptions.NewConnectionError):  # A kind of timeout, for urllib3
            return "no connection could be made"
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
