"""Which operation a request asks for, and what of its path may be written down. Pure.

Belongs here: the paths under /1.1/KEY, and their masking. Does not belong here: what an operation does (service.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from airflow_batch.sandbox.errors import Operation

VERSION = "1.1"
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
# Words that name a route are never tokens: view shares its shape with them.
_WORDS = frozenset({"campaigns", "create", "update", "delete", "list", "stats"})
_QUERY = re.compile(r"(?:(?:from|limit)=\d{1,9}|(?:live|from_api)=(?:true|false))", re.ASCII)


@dataclass(frozen=True)
class Route:
    """What a path and a method ask for. `wrong_method`: the path exists, but with another method only."""

    operation: Operation
    app_key: str | None = None
    token: str | None = None
    wrong_method: bool = False


@dataclass(frozen=True)
class _Pattern:
    operation: Operation
    method: str
    word: str | None
    takes_token: bool


_PATTERNS = (
    _Pattern("create", "POST", "create", takes_token=False),
    _Pattern("list", "GET", "list", takes_token=False),
    _Pattern("update", "POST", "update", takes_token=True),
    _Pattern("delete", "POST", "delete", takes_token=True),
    _Pattern("stats", "GET", "stats", takes_token=True),
    _Pattern("view", "GET", None, takes_token=True),
)


def _segments(raw_path: str) -> list[str]:
    return [unquote(part) for part in raw_path.split("/")[1:]]


def resolve(method: str, raw_path: str) -> Route:
    """Return the route of a request. `raw_path` is the path as sent, percent-encoded, without the query."""
    version, *rest = _segments(raw_path)
    if version != VERSION or not rest:
        return Route("unknown")
    app_key, tail = rest[0], rest[1:]
    for pattern in _PATTERNS:
        head = ["campaigns"] if pattern.word is None else ["campaigns", pattern.word]
        if tail[: len(head)] != head or len(tail) != len(head) + pattern.takes_token:
            continue
        token = tail[-1] if pattern.takes_token else None
        if token is not None and (not token or token in _WORDS):
            continue
        if method == pattern.method:
            return Route(pattern.operation, app_key, token)
        return Route("unknown", app_key, wrong_method=True)
    return Route("unknown", app_key)


def mask_path(raw_path: str, knows_token: Callable[[str], bool]) -> str:
    """Return the path fit for a log: APP_KEY for the key, UNKNOWN for whatever could be one."""
    parts = _segments(raw_path)
    shown = [part if part in _WORDS or part == "" or knows_token(part) else "UNKNOWN" for part in parts]
    if parts[0] == VERSION:
        shown[0] = VERSION
        shown[1:2] = ["APP_KEY"] if parts[1:2] else []
    return "/" + "/".join(shown)


def mask_query(query: str) -> str:
    """Return the list's parameters that are well-formed; anything else could hold a key."""
    pairs = (f"{name}={value}" for name, value in parse_qsl(query, keep_blank_values=True))
    return "&".join(pair for pair in pairs if _QUERY.fullmatch(pair))
