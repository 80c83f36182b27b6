"""One HTTP exchange: the session, its time limits, and the proof of what was sent. Loaded when a hook first needs it.

requests raises the same ConnectionError for a refused connection and for a reset after the request has arrived. To know
whether a write may have been applied, the connections here note when the first byte of a request is sent. They also
limit the whole exchange, because the read timeout of requests starts again with every byte.
"""

from __future__ import annotations

import http.client
import logging
import socket
import ssl
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.util.connection
from airflow import __version__ as airflow_version

from airflow_batch import __version__
from airflow_batch._http.endpoints import Endpoint
from airflow_batch._http.responses import MAX_BODY, Answer, no_answer
from airflow_batch._http.settings import TOTAL_TIMEOUT, BatchSettings, redact, show_name
from airflow_batch.exceptions import BatchConfigurationError, BatchReadOnlyError

MAX_RECEIVED = 2 * MAX_BODY
"""Bytes of one answer that are read from the socket. http.client and urllib3 do not limit the lines between chunks."""

NO_PYSOCKS = (
    "The environment names a SOCKS proxy (such as ALL_PROXY), for which PySocks is not installed: "
    "run pip install 'requests[socks]', or add Batch's host to NO_PROXY."
)

HOW_TO_WRITE = "To write, set dry_run to false in the connection's extra, or remove it."

_secrets: set[str] = set()
"""The keys of all sessions of this process, for urllib3's log."""


def _hide_keys(record: logging.LogRecord) -> bool:
    """Take the keys out of urllib3's own log lines, which show whole URLs and so the app API key."""
    text = record.getMessage()
    redacted = redact(text, tuple(_secrets))
    if redacted != text:
        record.msg, record.args, record.exc_info = redacted, None, None
    return True


for _name in ("urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_hide_keys)


@dataclass
class _Exchange:
    """What is known about the current request of this thread."""

    deadline: float
    sent: bool = False
    received: int = 0

    def limit(self, seconds: float | None) -> float:
        """Return a timeout, cut to the time that is left."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no complete answer in time")
        return left if seconds is None else min(seconds, left)


_current: ContextVar[_Exchange | None] = ContextVar("batch_exchange", default=None)


class _FinalResponse(http.client.HTTPResponse):
    """http.client's response, which takes any interim answer but 100 for the final one and leaves that for the next."""

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not 101 < found[1] < 200:
                return found
            http.client.parse_headers(self.fp)


class _BoundedConnection(urllib3.connection.HTTPConnection):
    """Notes the first byte of a request, and keeps connecting, sending and reading within the limits of the exchange.

    The base of every kind of connection, see :class:`_Adapter`. A user's own request through the session has no limits.
    """

    def _new_conn(self) -> socket.socket:
        """Connect as urllib3 does, but within the time left: urllib3 gives the full timeout to each address."""
        watch = _current.get()
        if watch is None:
            return super()._new_conn()
        host, timeout, addresses = self._dns_host, self.timeout, [self._dns_host]
        if not hasattr(self, "_socks_options"):  # A SOCKS proxy gets the name.
            family = urllib3.util.connection.allowed_gai_family()
            found = socket.getaddrinfo(host.strip("[]"), self.port, family, socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        try:
            while True:
                self._dns_host, self.timeout = addresses.pop(0), watch.limit(timeout)
                try:
                    sock = super()._new_conn()
                except urllib3.exceptions.HTTPError:
                    if not addresses:
                        raise
                else:
                    sock.settimeout(watch.limit(timeout))
                    return sock
        finally:
            self._dns_host, self.timeout = host, timeout

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request. Connecting, a proxy's tunnel and the TLS handshake come before it."""
        if self.sock is None:
            self.connect()
        watch = _current.get()
        if watch is not None:
            # urllib3 hands it to the socket, whose limit holds for the whole of a sendall.
            self.timeout = watch.limit(self.timeout)
            watch.sent = True
        super().request(*args, **kwargs)

    def response_class(self, sock: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        """Return http.client's response, which reads from the socket within the limits, however slowly bytes come."""
        response = _FinalResponse(sock, *args, **kwargs)
        watch = _current.get()
        if watch is not None:
            raw: Any = response.fp.raw
            pause = sock.gettimeout()

            def readinto(buffer: Any) -> int:
                sock.settimeout(watch.limit(pause))
                count = sock.recv_into(buffer)
                watch.received += count
                if watch.received > MAX_RECEIVED:
                    raise http.client.HTTPException(f"an answer of more than {MAX_RECEIVED} bytes")
                return count

            raw.readinto = readinto
        return response


class _Adapter(requests.adapters.HTTPAdapter):
    """requests' own adapter, without a retry of its own, with the connections above, and with the key of one origin."""

    rest_key: str | None = None

    def add_headers(self, request: requests.PreparedRequest, **kwargs: Any) -> None:
        """Add the REST key, where the session uses this adapter for the connection's own scheme, host and port."""
        if self.rest_key is not None:
            request.headers["X-Authorization"] = self.rest_key

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool for a request, proxies included. Its connections are bounded ones."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if not issubclass(pool.ConnectionCls, _BoundedConnection):
            pool.ConnectionCls = type("_Bounded", (_BoundedConnection, pool.ConnectionCls), {})
        return pool


class BatchSession(requests.Session):
    """A ``requests.Session`` that sends the REST key to the connection's origin alone and follows no redirect.

    Proxies and CA come from the environment, but not for loopback, which no proxy may see. For one thread at a time.
    """

    def __init__(self, settings: BatchSettings) -> None:
        super().__init__()
        self.settings = settings
        self.trust_env = not settings.is_loopback
        self.auth = lambda request: request  # Without an auth, requests would search ~/.netrc for one.
        self.headers.update({
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Cache-Control": "no-cache",
            "User-Agent": f"airflow-provider-batch/{__version__} apache-airflow/{airflow_version}",
        })  # fmt: skip
        _secrets.update(settings.secrets)
        self._adapter = _Adapter()
        self._adapter.rest_key = settings.rest_key
        self.mount("/".join([*settings.base_url.split("/")[:3], ""]), self._adapter)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request of the user's own, but no write where the connection allows none, to whichever host.

        :raises BatchReadOnlyError: for a write, where the connection allows none.
        """
        self._refuse_write(request.method)
        return super().send(request, **kwargs)

    def _refuse_write(self, method: str | None) -> None:
        if (reason := self.settings.read_only_reason) and method not in ("GET", "HEAD", "OPTIONS"):
            raise BatchReadOnlyError(f"Nothing was sent, because {reason}. {HOW_TO_WRITE}")

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Name no target: requests would send the headers to the new host."""
        return None

    def exchange(
        self, endpoint: Endpoint, token: str, app: str | None, body: bytes | None, query: Any, time_limit: float | None
    ) -> Answer:
        """Send one request and return its answer. Never repeats it, sleeps or follows a redirect.

        :param time_limit: Seconds for the whole exchange, where that is less than TOTAL_TIMEOUT.
        :raises BatchConfigurationError: for an unknown app, and for a SOCKS proxy without PySocks.
        :raises BatchReadOnlyError: for a write, where the connection allows none.
        :raises BatchConnectionError: when nothing was sent.
        :raises BatchAmbiguousError: when something was sent, and no answer could be read.
        """
        settings = self.settings
        settings.api_key(app)
        self._refuse_write(endpoint.method)
        subject = endpoint.name + (f" of campaign {token!r}" if token else "")
        subject += f" (app {show_name(app)})" if app else ""
        problem: BaseException
        secret: dict[str, Any] = {}
        watch = _Exchange(time.monotonic() + min(TOTAL_TIMEOUT, TOTAL_TIMEOUT if time_limit is None else time_limit))
        current = _current.set(watch)
        try:
            path = endpoint.path.format(token=quote(token, safe=""))
            # Less than Session.request does, in a quarter of its time: there are no settings to merge.
            secret["request"] = requests.Request(
                endpoint.method,
                f"{settings.base_url}/1.1/{quote(settings.api_key(app), safe='')}/campaigns/{path}",
                self.headers,
                data=body,
                params=query,
            ).prepare()
            secret.update(self.merge_environment_settings(secret["request"].url, {}, True, None, None))
            timeout = watch.limit(settings.timeout[0]), watch.limit(settings.timeout[1])
            with self._adapter.send(timeout=timeout, **secret) as response:
                status, headers, content = response.status_code, response.headers, _read(response)
                return Answer(status, headers, content, endpoint, subject, settings.redact)
        except requests.exceptions.InvalidSchema:  # What requests makes of a missing PySocks
            problem = BatchConfigurationError(NO_PYSOCKS)
        except Exception as error:
            problem = no_answer(endpoint, subject, settings.base_url, _reason(error), sent=watch.sent)
            for cause in _causes(error):  # Else the libraries' frames and the session would hold each other.
                cause.__traceback__ = None
        except BaseException as error:  # Such as Airflow's timeout of a task
            error.__context__ = error.__cause__ = None  # An error of the libraries that it came in the middle of
            problem = error
        finally:
            _current.reset(current)
            secret.clear()  # The frame of what is raised keeps its variables: keys, and a proxy's password.
        # Raised outside of the handler: not even the context may be the libraries' exception, which holds the key.
        try:
            raise problem.with_traceback(None)
        finally:
            del problem  # As above


def _read(response: requests.Response) -> bytes | None:
    """Return a body. One that breaks off does not undo a status that was read, unless it is a 2xx; it is left out."""
    content = bytearray()
    try:
        for chunk in response.iter_content(65536):
            content += chunk
            if len(content) > MAX_BODY:
                return None
    except Exception:
        if 200 <= response.status_code < 300:
            raise
        return None
    return bytes(content)


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
