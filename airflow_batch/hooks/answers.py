"""Read a response of Batch: its JSON, or the exception for it. Pure: takes status, headers and body.

Whatever a server sends, these functions raise only exceptions of this provider.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from airflow_batch._campaigns.reference import check_token
from airflow_batch.exceptions import (
    ERRORS,
    BatchAmbiguousError,
    BatchApiError,
    BatchPayloadError,
    BatchResponseError,
    BatchServerError,
    error_class,
)
from airflow_batch.payloads import FIRST_DATE, LAST_DATE

MAX_BODY = 4 * 1024 * 1024
"""Bytes of a body that are read; a page of 100 campaigns is far below."""
MAX_SERVER_TEXT = 500
"""Characters of a server's text that a message shows."""
MAX_LEVELS = 100
"""Levels of a body's lists and objects within each other; those of a campaign are few."""
MAX_RETRY_AFTER = 10.0**9
"""Seconds (some 30 years) to which a Retry-After is cut, so that it stays a number that dates can hold."""

MAYBE_CHANGED = " The campaign may have been changed: look at it before you repeat the task."

_SECONDS = re.compile(r"([+-]?\d+(\.\d+)?)( ?s)?", re.ASCII)
_NAMES = {key: name for key, (name, _) in ERRORS.items()}


@dataclass(frozen=True)
class Endpoint:
    """One route of the API: its name in messages, its method, its path below ``campaigns/``, and whether it writes."""

    name: str
    method: str
    path: str
    writes: bool


@dataclass(frozen=True)
class Answer:
    """A response. ``body`` is None when it could not be read to its end within the limits.

    A server may echo a key, so the repr shows the status only.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks to wait, None when it is absent or not readable.

    Both forms of RFC 9110 section 10.2.3 are read: seconds, and an HTTP date (compared with ``now``, the moment of the
    response). Zero, a negative number and a date in the past are 0. Headers that were sent twice arrive joined by
    commas: the largest value counts. A date is still readable without the weekday before its comma.
    """
    parts = re.split("[,;]", (value or "")[:1000])
    waits = [wait for part in parts if (wait := _read_wait(part.strip(), now)) is not None]
    return min(max(waits), MAX_RETRY_AFTER) if waits else None


def _read_wait(text: str, now: datetime) -> float | None:
    if seconds := _SECONDS.fullmatch(text):
        return max(float(seconds[1]), 0.0)
    moment = parse_http_date(text)
    return None if moment is None else max((moment - now).total_seconds(), 0.0)


def parse_http_date(value: str | None) -> datetime | None:
    """Return an HTTP date as an aware UTC datetime from 1900 to 9000, None when it is absent or not one."""
    try:
        moment = parsedate_to_datetime((value or "")[:100])
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        return min(max(moment, FIRST_DATE), LAST_DATE)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def read_json(body: bytes | None) -> Any:
    """Return the body's JSON value, or None when the body is not readable as JSON.

    Python would also read NaN, Infinity and numbers too large for a float, which are not JSON, and any depth. Here they
    count as unreadable, and so does more than ``MAX_LEVELS`` levels: later functions recurse once for each level.
    """
    try:
        value = json.loads(body, parse_float=_finite, parse_constant=_finite) if body else None
    except (ValueError, RecursionError):
        return None
    return value if _is_flat(value) else None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _is_flat(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_LEVELS + 1):
        inner = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list))
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
        if not level:
            return True
    return False


def failure(
    answer: Answer, endpoint: Endpoint, subject: str, scrub: Callable[[str], str], now: datetime
) -> BatchApiError:
    """Return the exception for a response that is not a 2xx.

    :param subject: What the request was about, such as ``update of campaign 'abc' (app 'ios')``.
    :param scrub: Takes the keys out of a server's text.
    :param now: The present moment, used for a Retry-After date when the response has no Date of its own.
    """
    content = read_json(answer.body)
    content = content if isinstance(content, dict) else {}
    code = _error_code(content.get("code"))
    name = _NAMES.get((answer.status, -1 if code is None else code)) or _server_name(content.get("type"), scrub)
    retry_after = parse_retry_after(
        answer.headers.get("Retry-After"), parse_http_date(answer.headers.get("Date")) or now
    )
    kind = error_class(answer.status, code)
    refusal = " ".join(x for x in (str(answer.status), name, None if code is None else f"(code {code})") if x)
    if kind.throttled or retry_after is not None:
        refusal += ", no Retry-After" if retry_after is None else f", Retry-After {retry_after:.15g} s"
    return kind(
        f"Batch refused the {subject}: {refusal}{_quoted(answer, content, scrub)}{_advice(answer, endpoint)}",
        status_code=answer.status,
        error_code=code,
        error_name=name,
        retry_after=retry_after,
        endpoint=endpoint.name,
        may_have_been_applied=endpoint.writes
        and issubclass(kind, BatchServerError | BatchAmbiguousError | BatchResponseError),
    )


def confirm_write(answer: Answer, endpoint: Endpoint, subject: str, scrub: Callable[[str], str]) -> int:
    """Return the status of a successful update or deletion. Its body is empty, or a JSON object that is not an error.

    Batch documents the status 200 and no body; see docs/assumptions.md.

    :raises BatchResponseError: for any other body, such as the page of a proxy.
    """
    if answer.body is None or answer.body.strip():
        content = read_json(answer.body)
        if not isinstance(content, dict) or ("code" in content and "message" in content):
            raise _unexpected(answer, endpoint, subject, "an empty body or a JSON object", scrub)
    return answer.status


def expect_json(answer: Answer, endpoint: Endpoint, subject: str, kind: type[Any], scrub: Callable[[str], str]) -> Any:
    """Return the JSON of a successful read when it is an object (``dict``) or an array (``list``), as asked.

    :raises BatchResponseError: for any other body.
    """
    content = read_json(answer.body)
    if not isinstance(content, kind):
        asked = "a JSON object" if kind is dict else "a JSON array"
        raise _unexpected(answer, endpoint, subject, asked, scrub)
    return content


def expect_campaign(
    answer: Answer, endpoint: Endpoint, subject: str, scrub: Callable[[str], str], token: str
) -> dict[str, Any]:
    """Return the viewed campaign. It must have a readable ``live`` and, if it names a token, the one asked for.

    :raises BatchResponseError: for any other body. An empty object must not pass for a campaign that is not live.
    """
    content: dict[str, Any] = expect_json(answer, endpoint, subject, dict, scrub)
    if not isinstance(content.get("live"), bool):
        raise _unexpected(answer, endpoint, subject, "a campaign", scrub)
    if content.get("campaign_token") not in (None, token):
        raise _unexpected(answer, endpoint, subject, "this campaign: the body names another token", scrub)
    return content


def expect_token(answer: Answer, endpoint: Endpoint, subject: str, scrub: Callable[[str], str]) -> str:
    """Return the token of a campaign that was created.

    :raises BatchResponseError: when the body holds none that a later request could name; the campaign may have been
        created all the same.
    """
    token = expect_json(answer, endpoint, subject, dict, scrub).get("campaign_token")
    try:
        return check_token(token)
    except BatchPayloadError:
        problem = _unexpected(answer, endpoint, subject, "a campaign_token", scrub)
    raise problem


def expect_stats(answer: Answer, endpoint: Endpoint, subject: str, scrub: Callable[[str], str]) -> dict[str, Any]:
    """Return a campaign's statistics: an object whose ``detail`` is an array of objects.

    :raises BatchResponseError: for any other body. A missing ``detail`` must not pass for nothing sent.
    """
    content: dict[str, Any] = expect_json(answer, endpoint, subject, dict, scrub)
    rows = content.get("detail")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _unexpected(answer, endpoint, subject, "statistics", scrub)
    return content


def expect_page(answer: Answer, endpoint: Endpoint, subject: str, scrub: Callable[[str], str]) -> list[dict[str, Any]]:
    """Return one page of the list: an array of objects that each have a ``campaign_token``.

    :raises BatchResponseError: for any other body.
    """
    page: list[dict[str, Any]] = expect_json(answer, endpoint, subject, list, scrub)
    if not all(isinstance(item, dict) and isinstance(item.get("campaign_token"), str) for item in page):
        raise _unexpected(answer, endpoint, subject, "a list of campaigns", scrub)
    return page


def _unexpected(
    answer: Answer, endpoint: Endpoint, subject: str, asked: str, scrub: Callable[[str], str]
) -> BatchResponseError:
    return BatchResponseError(
        f"Batch answered the {subject} with {answer.status}, but not with {asked}{_quoted(answer, {}, scrub)}"
        + (MAYBE_CHANGED if endpoint.writes else ""),
        status_code=answer.status,
        endpoint=endpoint.name,
        may_have_been_applied=endpoint.writes,
    )


def _error_code(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**6:
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,5}", value, re.ASCII) else None


def _server_name(value: Any, scrub: Callable[[str], str]) -> str | None:
    name = scrub(value) if isinstance(value, str) else ""
    return name if re.fullmatch(r"[A-Z_]{1,60}", name) else None


def _quoted(answer: Answer, content: Mapping[str, Any], scrub: Callable[[str], str]) -> str:
    if answer.body is None:
        return ", with a body that could not be read (too long, or broken off)."
    message = content.get("message")
    text = message if isinstance(message, str) else answer.body.decode("utf-8", "replace")
    return f", saying {shorten(text, scrub)!r}." if text.strip() else ", with no explanation."


def shorten(text: str, scrub: Callable[[str], str]) -> str:
    """Return a server's text as one printable line without keys, of at most MAX_SERVER_TEXT characters.

    It is scrubbed before it is cut, because half a key may not be recognised. Then it is cut before each character is
    checked, because there may be millions.
    """
    start = scrub(text).lstrip()[: 20 * MAX_SERVER_TEXT]
    line = " ".join("".join(c if c.isprintable() else " " for c in start).split())
    return line if len(line) <= MAX_SERVER_TEXT else line[: MAX_SERVER_TEXT - 1] + "…"


def _advice(answer: Answer, endpoint: Endpoint) -> str:
    if 300 <= answer.status < 400:
        return " Redirects are not followed, to keep the keys from other servers: correct the connection's host." + (
            MAYBE_CHANGED if endpoint.writes else ""
        )
    return {
        401: " Check the connection's password (company REST API key) and the app API key (login, or extra api_keys): "
        "is one in the place of the other?",
        403: " The keys are accepted, but this call is not allowed with them.",
        404: " Check the campaign's token, that it belongs to the app whose API key is used, and that no REST API key "
        "stands in its place.",
    }.get(answer.status, "")
