"""Read and check an Airflow connection of type ``batch``. Pure: uses no network and no database.

Messages name the connection, the field, the allowed values and what to do, and never show a key. pydantic's messages
show what was given: only the place and the type of its errors are used.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from itertools import takewhile
from string import ascii_lowercase, ascii_uppercase
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_batch._values import as_boolean, short_list, short_repr, type_name
from airflow_batch.exceptions import BatchConfigurationError

if TYPE_CHECKING:
    from airflow.sdk import Connection

DEFAULT_HOST = "https://api.batch.com"
DEFAULT_TIMEOUT = (10.0, 30.0)
TOTAL_TIMEOUT = 60.0
"""Seconds after which a whole request is given up, slow headers and bodies included."""
SANDBOX_PREFIX = "sandbox-"
MAX_BURST = 1_000
LEAST_RATE = 0.001
"""Requests a second: one in a quarter of an hour. What is far below cannot be reckoned with."""
MAX_SHOWN = 10
"""Names that one message shows."""
EXTRA_KEYS = ("api_keys", "timeout", "requests_per_second", "burst", "dry_run")
REDACTED = "***"
LEAST_PREFIX = 12
"""Characters from the start of a key that are taken out of a text even where the rest of the key is missing."""

_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
_REST_KEY = "the company REST API key (Batch dashboard > Settings > General)"
_APP_KEY = "the app's Live, Dev or SDK API key (Batch dashboard > Settings > General)"
_ALLOWED = {
    "api_keys": 'an object such as {"ios": "...", "android": "..."}',
    "timeout": f"seconds above 0 and up to {TOTAL_TIMEOUT:.0f}, one number or [connect, read]",
    "requests_per_second": f"a number above 0, of at least {LEAST_RATE}",
    "burst": f"a whole number from 1 to {MAX_BURST}",
}
# What a header and a part of a path can hold: printable ASCII, and not dots alone.
_Key = Annotated[str, Field(min_length=1, pattern=r"^[!-~]*[!-\-/-~][!-~]*$")]
_App = Annotated[str, Field(pattern=r"\S")]
_Seconds = Annotated[float, Field(gt=0, le=TOTAL_TIMEOUT, strict=True, allow_inf_nan=False)]
_Burst = Annotated[int, Field(ge=1, le=MAX_BURST, strict=True)]
_Rate = Annotated[float, Field(ge=LEAST_RATE, strict=True, allow_inf_nan=False)]


class BatchSettings(BaseModel):
    """A connection's fields in the form the hook uses.

    :param base_url: Scheme, host, port and path, without a trailing slash.
    :param is_loopback: Whether requests stay on this machine.
    :param is_sandbox: Whether any key is one of the sandbox's.
    :param rest_key: Company REST API key.
    :param api_keys: App API key for each app name; the single key of ``login`` stands under None.
    :param timeout: Seconds to connect and seconds between two reads.
    :param requests_per_second: Ceiling for many calls in a row, None when unknown.
    :param burst: How many requests Batch accepts at once before that ceiling holds.
    :param dry_run: Whether nothing is written through this connection.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    conn_id: str
    base_url: str
    is_loopback: bool
    is_sandbox: bool
    rest_key: _Key = Field(repr=False)
    api_keys: Annotated[dict[_App | None, _Key], Field(min_length=1)] = Field(repr=False)
    timeout: tuple[_Seconds, _Seconds] = DEFAULT_TIMEOUT
    requests_per_second: _Rate | None = None
    burst: _Burst = 1
    dry_run: bool = False

    @cached_property
    def secrets(self) -> frozenset[str]:
        """Every key, in each form that a URL or a JSON text may give it."""
        keys = {self.rest_key, *self.api_keys.values()}
        in_json = {json.dumps(key)[1:-1] for key in keys}
        in_urls = {quote(key, safe=safe) for key in keys for safe in ("", "/")}
        return frozenset(keys | in_urls | in_json | {text.replace("/", "\\/") for text in in_json})

    @property
    def read_only_reason(self) -> str:
        """Why nothing may be written, for a log line; empty where writes are allowed."""
        return f"connection {self.conn_id!r} has dry_run" if self.dry_run else ""

    def api_key(self, app: str | None) -> str:
        """Return the app API key for ``app``. The single key of ``login`` serves any app: the name is a label then.

        :raises BatchConfigurationError: for an unknown app, or for None when the connection has ``api_keys``.
        """
        for name in (app, None):
            if name in self.api_keys:
                return self.api_keys[name]
        known = short_list([name for name in self.api_keys if name is not None], MAX_SHOWN, show=show_name)
        asked = "No app was named" if app is None else f"Unknown app {show_name(app)}"
        raise BatchConfigurationError(f"{asked}: connection {self.conn_id!r} knows the apps {known}. Pass app=...")

    def redact(self, text: str) -> str:
        """Return ``text`` without the connection's keys."""
        return redact(text, self.secrets)


def read_settings(connection: Connection) -> BatchSettings:
    """Check an Airflow connection and return what it says. Empty form fields count as absent.

    :raises BatchConfigurationError: when a field is missing, unknown or not allowed.
    """
    conn_id, login = connection.conn_id, connection.login
    extra = _read_extra(conn_id, connection.extra)
    named, timeout = extra.pop("api_keys", None), extra.pop("timeout", DEFAULT_TIMEOUT)
    if named is None and not login:
        raise BatchConfigurationError(
            f"Connection {conn_id!r} has no login and no extra api_keys: login must hold {_APP_KEY}, or "
            'api_keys one key for each app, such as {"ios": "...", "android": "..."}.'
        )
    api_keys = {None: login} if named is None else named
    if isinstance(api_keys, dict):
        api_keys = {app: key or "" for app, key in api_keys.items()}
    keys = [connection.password, *(api_keys.values() if isinstance(api_keys, dict) else ())]
    base_url, loopback = _read_base_url(connection)
    values = {
        "conn_id": conn_id,
        "base_url": base_url,
        "is_loopback": loopback,
        "is_sandbox": any(str(key).startswith(SANDBOX_PREFIX) for key in keys),
        "rest_key": connection.password or "",
        "api_keys": api_keys,
        "timeout": timeout if isinstance(timeout, list | tuple) else (timeout, timeout),
        **extra,
    }
    try:
        settings = BatchSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        problem = _explain(conn_id, first["loc"], first["type"], by_login=named is None)
    else:
        if settings.rest_key in settings.api_keys.values():
            problem = (
                f"Connection {conn_id!r} has one key in two places: password must hold the company REST API key, login "
                "(or extra api_keys) the app's own API key. Both are in Batch's dashboard > Settings > General."
            )
        elif settings.is_sandbox and not loopback:
            problem = (
                f"Connection {conn_id!r} holds keys of the sandbox ({SANDBOX_PREFIX}...) for the host "
                f"{short_repr(base_url)}. Sandbox keys are only sent to this machine: put the sandbox's address into "
                "host, or Batch's keys into password and login."
            )
        else:
            return settings
    # Outside of the handler, because pydantic's error holds the keys.
    raise BatchConfigurationError(problem)


def _explain(conn_id: str, place: tuple[int | str, ...], kind: str, *, by_login: bool) -> str:
    """Return the message for an error of pydantic, which is known by its place and its type alone."""
    field, *within = map(str, place)
    if field == "rest_key":
        name, meaning = "password", _REST_KEY
    elif field == "api_keys" and by_login:
        name, meaning = "login", _APP_KEY
    elif field == "api_keys" and within and within[-1] != "[key]":
        name, meaning = f"extra api_keys[{show_name(within[0])}]", _APP_KEY
    else:
        return f"Connection {conn_id!r}: extra {field} must be {_ALLOWED[field]}; it is something else."
    if kind == "string_too_short":
        return f"Connection {conn_id!r} has no {name}: it must hold {meaning}."
    allowed = f"printable ASCII without spaces: {meaning}"
    return f"Connection {conn_id!r}: {name} must be {allowed}; it holds something else (a space or a line end?)."


def _read_extra(conn_id: str, text: str | None) -> dict[str, Any]:
    """Return what extra says. A form field or a URI's query carries each value as text."""
    repeated: list[str] = []

    def as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated.extend(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        return dict(pairs)

    try:
        extra = json.loads(text, object_pairs_hook=as_object) if text and text.strip() else {}
    except (ValueError, RecursionError):
        raise _wrong(conn_id, "extra", "a JSON object", "it is not JSON") from None
    if not isinstance(extra, dict):
        raise _wrong(conn_id, "extra", "a JSON object", f"it is a {type(extra).__name__}")
    if repeated:
        raise BatchConfigurationError(
            f"Connection {conn_id!r}: extra has {show_name(repeated[0])} more than once. Nothing is sent until it is "
            "there once."
        )
    dry_run = _read_dry_run(conn_id, extra)
    given = {name: value for name, value in extra.items() if name != "dry_run" and value not in (None, "")}
    unknown = next((name for name in given if name not in EXTRA_KEYS), None)
    if unknown is not None:
        raise BatchConfigurationError(
            f"Connection {conn_id!r}: unknown extra {show_name(unknown)}. Allowed are {', '.join(EXTRA_KEYS)}."
        )
    for name, value in given.items():
        with suppress(ValueError, RecursionError):
            given[name] = json.loads(value) if isinstance(value, str) else value
    return {name: value for name, value in given.items() if value not in (None, "")} | {"dry_run": dry_run}


def _read_dry_run(conn_id: str, extra: dict[str, Any]) -> bool:
    """Return whether nothing may be written. Anything unclear is an error, because it may mean that nothing may."""
    given = extra.get("dry_run", False)
    dry_run = as_boolean(given)
    if dry_run is not None:
        return dry_run
    # A long text, a list or an object may hold a key.
    is_shown = isinstance(given, int | float) or (isinstance(given, str) and len(given) < LEAST_PREFIX)
    found = short_repr(given) if is_shown else "a longer text" if isinstance(given, str) else type_name(given)
    raise BatchConfigurationError(
        f"Connection {conn_id!r}: extra dry_run must be true or false, not {found}. Nothing is sent until it is."
    )


def _read_base_url(connection: Connection) -> tuple[str, bool]:
    """Return the base URL, and whether it stays on this machine."""
    conn_id, schema = connection.conn_id, (connection.schema or "").strip().lower()
    url = (connection.host or "").strip() or DEFAULT_HOST
    if "://" not in url:
        url = f"[{url}]" if url.count(":") > 1 and not url.startswith("[") else url
        url = f"{schema or 'https'}://{url}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    is_odd = not host or any(char.isspace() or ord(char) < 32 for char in url)
    if parts.scheme not in ("https", "http") or is_odd or "@" in url or parts.query or parts.fragment:
        allowed = "a base URL such as https://api.batch.com: scheme, host, port and path only"
        raise _wrong(conn_id, "host", allowed, "it is no URL, or it holds something else, such as credentials")
    if schema and schema != parts.scheme:
        raise _wrong(conn_id, "schema", f"{parts.scheme!r}, as in host, or empty", f"it reads {short_repr(schema)}")
    if connection.port and port and connection.port != port:
        raise _wrong(conn_id, "port", f"{port}, as in host, or empty", f"it reads {connection.port!r}")
    port = port or connection.port
    if port is not None and not 0 < port < 65536:
        raise _wrong(conn_id, "port", "a number from 1 to 65535, or empty", f"it reads {short_repr(port)}")
    try:
        is_loopback = host.rstrip(".") == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if parts.scheme == "http" and not is_loopback:
        raise BatchConfigurationError(
            f"Connection {conn_id!r}: http:// would send the REST key unprotected to {short_repr(host)}. "
            "Use https://; http:// is allowed on loopback only."
        )
    place = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}", is_loopback


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` without the secrets, in upper or lower case, and without their starts of LEAST_PREFIX characters.

    The time it takes grows with the text and with the number of secrets, not with their length.
    """
    lowered = text.translate(_LOWER)  # str.lower would move some characters
    spans = []
    for secret in {secret.translate(_LOWER) for secret in secrets}:
        start = lowered.find(secret[:LEAST_PREFIX])
        while start >= 0:
            pairs = zip(secret, lowered[start : start + len(secret)], strict=False)
            spans.append((start, start + sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))))
            start = lowered.find(secret[:LEAST_PREFIX], start + 1)
    parts, end = [], 0
    for first, last in sorted(spans):
        if first >= end:
            parts += [text[end:first], REDACTED]
        end = max(end, last)
    return "".join(parts) + text[end:]


def show_name(name: str) -> str:
    """Show the name of an app or a field, but not one that may be a key (16 or more letters and digits in a row)."""
    return "(a name with the form of a key)" if re.search("[A-Za-z0-9]{16}", name) else short_repr(name)


def _wrong(conn_id: str, place: str, allowed: str, found: str) -> BatchConfigurationError:
    return BatchConfigurationError(f"Connection {conn_id!r}: {place} must be {allowed}; {found}.")
