"""Read a response of Batch: its JSON, or the exception for it. Pure: takes status, headers and body.

Whatever a server sends, these functions raise only exceptions of this provider. Those that read a success raise
``BatchResponseError`` for any other body, such as the page of a proxy.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from airflow_batch._http.endpoints import Endpoint
from airflow_batch._values import FIRST_DATE, LAST_DATE, check_token
from airflow_batch.exceptions import (
    ERRORS,
    BatchAmbiguousError,
    BatchApiError,
    BatchConnectionError,
    BatchNotCreatedError,
    BatchPayloadError,
    BatchResponseError,
    BatchServerError,
    error_class,
)

MAX_BODY = 4 * 1024 * 1024
"""Bytes of a body that are read; a page of 100 campaigns is far below."""
MAX_SERVER_TEXT = 500
"""Characters of a server's text that a message shows."""
MAX_LEVELS = 100
"""Levels of a body's lists and objects within each other; those of a campaign are few."""
MAX_RETRY_AFTER = 10.0**9
"""Seconds (some 30 years) to which a Retry-After is cut, so that it stays a number that dates can hold."""

MAYBE_CHANGED = " The campaign may have been changed: check it before you repeat the task."

_SECONDS = re.compile(r"([+-]?\d+(\.\d+)?)( ?s)?", re.ASCII)
_ADVICE = {
    401: " Check the connection's password (company REST API key) and the app API key (login, or extra api_keys): "
    "are the two swapped?",
    403: " The keys are accepted, but this call is not allowed with them.",
    404: " Check the campaign's token, that it belongs to the app whose API key is used, and that no REST API key "
    "stands in its place.",
}


@dataclass(frozen=True)
class Answer:
    """A response. ``body`` is None when it could not be read to its end within the limits.

    A server may echo a key, so the repr shows the status only.

    :param subject: What the request was about, such as ``update of campaign 'abc' (app 'ios')``.
    :param redact: Takes the keys out of a server's text.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    endpoint: Endpoint = field(repr=False)
    subject: str = field(repr=False)
    redact: Callable[[str], str] = field(repr=False)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks to wait, None when it is absent or not readable.

    Both forms of RFC 9110 section 10.2.3 are read: seconds, and an HTTP date (compared with ``now``, the moment of the
    response). Zero, a negative number and a date in the past are 0. Headers that were sent twice arrive joined by
    commas: the largest value counts. A date is still readable without the weekday before its comma.
    """
    waits = []
    for part in re.split("[,;]", (value or "")[:1000]):
        if seconds := _SECONDS.fullmatch(part.strip()):
            waits.append(float(seconds[1]))
        elif moment := parse_http_date(part):
            waits.append((moment - now).total_seconds())
    return min(max(0.0, *waits), MAX_RETRY_AFTER) if waits else None


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
    level = [value]
    for _ in range(MAX_LEVELS + 1):
        inner = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list))
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
        if not level:
            return value
    return None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def failure(answer: Answer, now: datetime) -> BatchApiError:
    """Return the exception for a response that is not a 2xx.

    :param now: The present moment, used for a Retry-After date when the response has no Date of its own.
    """
    content = read_json(answer.body)
    content = content if isinstance(content, dict) else {}
    code, name = _error_code(content.get("code")), content.get("type")
    name = answer.redact(name) if isinstance(name, str) else ""
    name = name if re.fullmatch(r"[A-Z_]{1,60}", name) else None
    if code is not None and (answer.status, code) in ERRORS:
        name = ERRORS[answer.status, code][0]
    date = parse_http_date(answer.headers.get("Date")) or now
    retry_after = parse_retry_after(answer.headers.get("Retry-After"), date)
    kind = error_class(answer.status, code)
    refusal = " ".join(x for x in (str(answer.status), name, None if code is None else f"(code {code})") if x)
    if kind.throttled or retry_after is not None:
        refusal += ", no Retry-After" if retry_after is None else f", Retry-After {retry_after:.15g} s"
    advice = _ADVICE.get(answer.status, "")
    if 300 <= answer.status < 400:
        advice = " Redirects are not followed, to keep the keys from other servers: correct the connection's host."
        advice += MAYBE_CHANGED if answer.endpoint.writes else ""
    return kind(
        f"Batch refused the {answer.subject}: {refusal}{_quoted(answer, content.get('message'))}{advice}",
        status_code=answer.status,
        error_code=code,
        error_name=name,
        retry_after=retry_after,
        endpoint=answer.endpoint.name,
        may_have_been_applied=answer.endpoint.writes
        and issubclass(kind, BatchServerError | BatchAmbiguousError | BatchResponseError),
    )


def no_answer(endpoint: Endpoint, subject: str, base_url: str, reason: str, *, sent: bool) -> BatchApiError:
    """Return the exception for a request without an answer.

    :param sent: Whether a byte of the request was or may have been sent.
    """
    if not sent:
        return BatchConnectionError(
            f"Nothing was sent for the {subject}: connecting to {base_url} failed: {reason}.", endpoint=endpoint.name
        )
    applied = " It may have been applied." if endpoint.writes else ""
    return BatchAmbiguousError(
        f"No answer to the {subject}: {reason}.{applied}",
        endpoint=endpoint.name,
        may_have_been_applied=endpoint.writes,
    )


def confirm_write(answer: Answer) -> int:
    """Return the status of a successful update or deletion. Its body is empty, or a JSON object that is not an error.

    Batch documents the status 200 and no body; see docs/assumptions.md.
    """
    if answer.body is None or answer.body.strip():
        content = read_json(answer.body)
        if not isinstance(content, dict) or ("code" in content and "message" in content):
            raise _unexpected(answer, "an empty body or a JSON object")
    return answer.status


def expect_campaign(answer: Answer, token: str) -> dict[str, Any]:
    """Return the viewed campaign. It must have a readable ``live`` and, if it names a token, the one asked for.

    An empty object must not pass for a campaign that is not live.
    """
    content = read_json(answer.body)
    if not isinstance(content, dict) or not isinstance(content.get("live"), bool):
        raise _unexpected(answer, "a campaign (a JSON object with live)")
    if content.get("campaign_token") not in (None, token):
        raise _unexpected(answer, "this campaign: the body names another token")
    return content


def expect_token(answer: Answer) -> str:
    """Return the token of a campaign that was created: one that a later request can name."""
    content = read_json(answer.body)
    with suppress(BatchPayloadError, BatchNotCreatedError):
        return check_token(content.get("campaign_token") if isinstance(content, dict) else None)
    raise _unexpected(answer, "a campaign_token (in a JSON object)")


def expect_stats(answer: Answer) -> dict[str, Any]:
    """Return a campaign's statistics: an object whose ``detail`` is an array of objects.

    A missing ``detail`` must not pass for nothing sent.
    """
    content = read_json(answer.body)
    content = content if isinstance(content, dict) else {}
    rows = content.get("detail")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _unexpected(answer, "statistics (a JSON object with detail)")
    return content


def expect_page(answer: Answer) -> list[dict[str, Any]]:
    """Return one page of the list: an array of objects that each have a ``campaign_token``."""
    page = read_json(answer.body)
    if not isinstance(page, list) or not all(
        isinstance(item, dict) and isinstance(item.get("campaign_token"), str) for item in page
    ):
        raise _unexpected(answer, "a list of campaigns (a JSON array)")
    return page


def _unexpected(answer: Answer, asked: str) -> BatchResponseError:
    return BatchResponseError(
        f"Batch answered the {answer.subject} with {answer.status}, but not with {asked}{_quoted(answer)}"
        + (MAYBE_CHANGED if answer.endpoint.writes else ""),
        status_code=answer.status,
        endpoint=answer.endpoint.name,
        may_have_been_applied=answer.endpoint.writes,
    )


def _error_code(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**6:
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,5}", value, re.ASCII) else None


def _quoted(answer: Answer, message: Any = None) -> str:
    if answer.body is None:
        return ", with a body that could not be read (too long, or broken off)."
    text = message if isinstance(message, str) else answer.body.decode("utf-8", "replace")
    return f", saying {shorten(text, answer.redact)!r}." if text.strip() else ", with no explanation."


def shorten(text: str, redact: Callable[[str], str]) -> str:
    """Return a server's text as one printable line without keys, of at most MAX_SERVER_TEXT characters.

    The keys are taken out before it is cut, because half a key may not be recognised. Then it is cut before each
    character is checked, because there may be millions.
    """
    start = redact(text).lstrip()[: 20 * MAX_SERVER_TEXT]
    line = " ".join("".join(c if c.isprintable() else " " for c in start).split())
    return line if len(line) <= MAX_SERVER_TEXT else line[: MAX_SERVER_TEXT - 1] + "…"
