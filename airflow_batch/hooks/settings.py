"""Read and check an Airflow connection of type ``batch``. Pure: uses no network and no database.

Messages name the field, the allowed values and what to do, and never show a key.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_batch.exceptions import BatchConfigurationError
from airflow_batch.payloads import shown

if TYPE_CHECKING:
    from airflow.sdk import Connection

DEFAULT_HOST = "https://api.batch.com"
DEFAULT_TIMEOUT = (10.0, 30.0)
TOTAL_TIMEOUT = 60.0
"""Seconds after which a whole request is given up, slow headers and bodies included."""
SANDBOX_PREFIX = "sandbox-"
LEAST_RATE = 0.001
"""Requests a second: one in a quarter of an hour. What is far below cannot be reckoned with."""
MAX_SHOWN = 10
"""Names that one message shows."""
EXTRA_KEYS = ("api_keys", "timeout", "requests_per_second")


@dataclass(frozen=True)
class BatchSettings:
    """A connection's fields in the form the hook uses.

    :param base_url: Scheme, host, port and path, without a trailing slash.
    :param rest_key: Company REST API key.
    :param api_keys: App API key for each app name; the single key of ``login`` stands under None.
    :param timeout: Seconds to connect and seconds between two reads.
    :param requests_per_second: Ceiling for many calls in a row, None when unknown.
    """

    conn_id: str
    base_url: str
    rest_key: str = field(repr=False)
    api_keys: Mapping[str | None, str] = field(repr=False)
    timeout: tuple[float, float] = DEFAULT_TIMEOUT
    requests_per_second: float | None = None

    @property
    def apps(self) -> list[str]:
        """Names an ``app`` argument may have, in the connection's order."""
        return [app for app in self.api_keys if app is not None]

    @property
    def is_loopback(self) -> bool:
        """True when requests stay on this machine."""
        return is_loopback(urlsplit(self.base_url).hostname)

    @property
    def is_sandbox(self) -> bool:
        """True when any key is one of the sandbox's."""
        return any(key.startswith(SANDBOX_PREFIX) for key in self.secrets)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every key of the connection, for masking."""
        return (self.rest_key, *self.api_keys.values())

    def api_key(self, app: str | None) -> str:
        """Return the app API key for ``app``. The single key of ``login`` serves any app: the name is a label then.

        :raises BatchConfigurationError: for an unknown app, or for None when the connection has ``api_keys``.
        """
        for name in (app, None):
            if name in self.api_keys:
                return self.api_keys[name]
        known = _first_few(self.apps)
        asked = "No app was named" if app is None else f"Unknown app {show_name(app)}"
        raise BatchConfigurationError(f"{asked}: connection {self.conn_id!r} knows the apps {known}. Pass app=...")


def read_settings(connection: Connection) -> BatchSettings:
    """Check an Airflow connection and return what it says. Empty form fields count as absent.

    :raises BatchConfigurationError: when a field is missing, unknown or not allowed.
    """
    conn_id = connection.conn_id
    extra = _read_extra(conn_id, connection.extra)
    settings = BatchSettings(
        conn_id=conn_id,
        base_url=_read_base_url(connection),
        rest_key=_check_key(
            conn_id, "password", connection.password, "the company REST API key (Batch dashboard > Settings > General)"
        ),
        api_keys=_read_api_keys(conn_id, connection.login, extra.get("api_keys")),
        timeout=_read_timeout(conn_id, extra.get("timeout")),
        requests_per_second=_read_rate(conn_id, extra.get("requests_per_second")),
    )
    if settings.rest_key in settings.api_keys.values():
        raise BatchConfigurationError(
            f"Connection {conn_id!r} has one key in two places: password must hold the company REST API key, login (or "
            "extra api_keys) the app's own API key. Both are in Batch's dashboard > Settings > General."
        )
    if settings.is_sandbox and not settings.is_loopback:
        raise BatchConfigurationError(
            f"Connection {conn_id!r} holds keys of the sandbox ({SANDBOX_PREFIX}...) for the host "
            f"{shown(settings.base_url)}. Sandbox keys are only sent to this machine: put the sandbox's address into "
            "host, or Batch's keys into password and login."
        )
    return settings


def is_loopback(host: str | None) -> bool:
    """Tell whether a host name or address stays on this machine."""
    if not host:
        return False
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _read_base_url(connection: Connection) -> str:
    conn_id = connection.conn_id
    host = (connection.host or "").strip() or DEFAULT_HOST
    schema = (connection.schema or "").strip().lower()
    if "://" not in host:
        host = f"{schema or 'https'}://{_bracket_ipv6(host)}"
    if "@" in host:
        raise _bad(conn_id, "host", "scheme, host, port and path only", "it holds credentials")
    try:
        parts = urlsplit(host)
        port = parts.port
    except ValueError:
        raise _bad(conn_id, "host", "a base URL such as https://api.batch.com", "it is not a URL") from None
    if parts.scheme not in ("https", "http") or not parts.hostname or any(c.isspace() or ord(c) < 32 for c in host):
        raise _bad(conn_id, "host", "a base URL such as https://api.batch.com", f"it reads {shown(host)}")
    if parts.query or parts.fragment:
        raise _bad(conn_id, "host", "scheme, host, port and path only", "it holds a query or a fragment")
    if schema and schema != parts.scheme:
        raise _bad(conn_id, "schema", f"{parts.scheme!r}, as in host, or empty", f"it reads {shown(schema)}")
    if connection.port and port and connection.port != port:
        raise _bad(conn_id, "port", f"{port}, as in host, or empty", f"it reads {connection.port!r}")
    port = port or connection.port
    if port is not None and not 0 < port < 65536:
        raise _bad(conn_id, "port", "a number from 1 to 65535, or empty", f"it reads {shown(port)}")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise BatchConfigurationError(
            f"Connection {conn_id!r}: http:// would send the REST key unprotected to {shown(parts.hostname)}. "
            "Use https://; http:// is allowed on loopback only."
        )
    netloc = _bracket_ipv6(parts.hostname) + (f":{port}" if port else "")
    return f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}"


def _bracket_ipv6(host: str) -> str:
    return f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host


def _read_extra(conn_id: str, text: str | None) -> dict[str, Any]:
    try:
        extra = json.loads(text) if text and text.strip() else {}
    except (ValueError, RecursionError):
        raise _bad(conn_id, "extra", "a JSON object", "it is not JSON") from None
    if not isinstance(extra, dict):
        raise _bad(conn_id, "extra", "a JSON object", f"it is a {type(extra).__name__}")
    given = {name: _decoded(value) for name, value in extra.items() if value not in (None, "")}
    unknown = [name for name in given if name not in EXTRA_KEYS]
    if unknown:
        raise BatchConfigurationError(
            f"Connection {conn_id!r}: unknown extra {_first_few(unknown)}. Allowed are {', '.join(EXTRA_KEYS)}."
        )
    return given


def _decoded(value: Any) -> Any:
    """Read what a form field or a URI query could only carry as text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _read_api_keys(conn_id: str, login: str | None, api_keys: Any) -> dict[str | None, str]:
    where = "the app's Live, Dev or SDK API key (Batch dashboard > Settings > General)"
    if api_keys is None:
        if not login:
            raise BatchConfigurationError(
                f"Connection {conn_id!r} has no login and no extra api_keys: login must hold {where}, or "
                'api_keys one key for each app, such as {"ios": "...", "android": "..."}.'
            )
        return {None: _check_key(conn_id, "login", login, where)}
    if not isinstance(api_keys, dict) or not api_keys or not all(name.strip() for name in api_keys):
        raise _bad(conn_id, "extra api_keys", 'an object such as {"ios": "...", "android": "..."}', "it is not")
    return {
        name: _check_key(conn_id, f"extra api_keys[{show_name(name)}]", key, where) for name, key in api_keys.items()
    }


def _check_key(conn_id: str, place: str, key: Any, meaning: str) -> str:
    """Refuse what could not be sent as a header or a path, without showing it."""
    if not key:
        raise BatchConfigurationError(f"Connection {conn_id!r} has no {place}: it must hold {meaning}.")
    if not isinstance(key, str):
        raise _bad(conn_id, place, "text", f"it is a {type(key).__name__}")
    if not all("!" <= char <= "~" for char in key) or key in (".", ".."):
        raise _bad(conn_id, place, "printable ASCII without spaces", "it holds something else (a space or line end?)")
    return key


def _read_timeout(conn_id: str, value: Any) -> tuple[float, float]:
    if value is None:
        return DEFAULT_TIMEOUT
    pair = [value, value] if _is_number(value) else value
    if not isinstance(pair, list) or len(pair) != 2 or not all(_is_number(x) and 0 < x <= TOTAL_TIMEOUT for x in pair):
        raise _bad(
            conn_id,
            "extra timeout",
            f"seconds above 0 and up to {TOTAL_TIMEOUT:.0f}, one number or [connect, read]",
            f"it reads {_shown(value)}",
        )
    return float(pair[0]), float(pair[1])


def _read_rate(conn_id: str, value: Any) -> float | None:
    if value is None:
        return None
    if not _is_number(value) or value < LEAST_RATE:
        raise _bad(
            conn_id,
            "extra requests_per_second",
            f"a number above 0, of at least {LEAST_RATE}",
            f"it reads {_shown(value)}",
        )
    return float(value)


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _shown(value: Any) -> str:
    """Show numbers and lists of numbers. Of any other value show the type only, because it may be a key."""
    items = value if isinstance(value, list) else [value]
    plain = all(isinstance(item, int | float) for item in items)
    return repr(value)[:60] if plain else f"a {type(value).__name__}"


def _first_few(names: list[str]) -> str:
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(show_name(name) for name in names[:MAX_SHOWN]) + more


def show_name(name: str) -> str:
    """Show the name of an app or a field, but not one that may be a key (16 or more letters and digits in a row)."""
    return "(a name that looks like a key)" if re.search("[A-Za-z0-9]{16}", name) else shown(name)


def _bad(conn_id: str, place: str, allowed: str, found: str) -> BatchConfigurationError:
    return BatchConfigurationError(f"Connection {conn_id!r}: {place} must be {allowed}; {found}.")
