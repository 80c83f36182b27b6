"""What goes wrong, and what must happen then: one row for each fault. Data only; driver.py runs it.

The fault affects the update that switches a campaign on. Reads work, unless the row is about a server that cannot be
reached.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_batch.sandbox import Fault

from .servers import after, http_date

START = datetime(2027, 3, 1, 9, 0, tzinfo=UTC)
"""The simulated clock's first moment, so that a row can name a date."""
BATCH_RULE = 5.0
"""Seconds that Batch asks to wait after a 429 in any case."""
MAINTENANCE = {"code": 2, "type": "MAINTENANCE_ERROR", "message": "Maintenance"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault, and how a task that meets it must end.

    :param faults: What the sandbox does.
    :param place: Instead of the sandbox alone: a behaviour of ``servers.Front``, or ``dns``, ``refused``, ``tls``,
        ``redirect_other``, ``redirect_http``.
    :param times: How many updates the place disturbs.
    :param until: Seconds after the start when the fault ends by itself.
    :param earliest: Seconds after a refusal before which no request is allowed.
    :param not_before: Seconds after the start before which no request but the first ones is allowed.
    :param state: What the task must be at the end.
    :param live: What the campaign must be at the end.
    :param updates: Fewest and most update requests.
    :param wait: Least and most seconds from the first update to the second.
    :param tries: Most attempts, those after a reschedule included.
    :param slot_seconds: Most seconds that one attempt waits in its worker slot.
    :param error: Class of our error at the end, and words of its text.
    :param best: The best possible end of the task: if ``success``, a failure is needless.
    :param repeatable: Whether a refused request may be sent again unchanged.
    :param verdict: What the benchmark says of us.
    """

    name: str
    faults: Sequence[Fault] = ()
    place: str = ""
    times: int | None = 1
    until: float | None = None
    earliest: float = 0.0
    not_before: float = 0.0
    state: str = "success"
    live: bool = True
    updates: tuple[int, int] = (1, 1)
    wait: tuple[float, float] | None = None
    tries: int = 2
    slot_seconds: float = 0.0
    error: tuple[str, str] | None = None
    best: str = "success"
    repeatable: bool = True
    verdict: str = "ok"

    def __str__(self) -> str:
        return self.name


def _answer(status: int, times: int | None = 1, **more: Any) -> Fault:
    return Fault("answer", "update", status=status, times=times, **more)


def _throttled(hint: str | None, times: int | None = 1) -> Fault:
    return _answer(429, times, headers={} if hint is None else {"Retry-After": hint})


SHORT = (10.0, 20.0)
"""Our delay after a first failure: 10 s, and up to 10 s of jitter."""
IN_SLOT = (5.0, 7.0)
"""Our wait after a first 429 that asks for no more than 8 s: it is waited out in the worker slot."""
SETTLE_TIME = 120.0
"""Seconds for which an attempt polls whether a write without an answer takes effect."""


def _throttle_row(name: str, *faults: Fault, **more: Any) -> Row:
    given: dict[str, Any] = {
        "earliest": BATCH_RULE,
        "updates": (len(faults) + 1,) * 2,
        "tries": len(faults) + 1,
        "wait": SHORT,
        **more,
    }
    return Row(name=name, faults=faults, **given)


def _short_throttle_row(name: str, *faults: Fault, **more: Any) -> Row:
    """Return the row of a short throttle: the first 429 is waited out in the slot, and the next one frees it."""
    return _throttle_row(name, *faults, **{"tries": len(faults), "wait": IN_SLOT, "slot_seconds": IN_SLOT[1], **more})


def _again(name: str, fault: Fault, **more: Any) -> Row:
    """Return the row of a fault after which a second attempt sends the update again."""
    return Row(name=name, faults=(fault,), **{"updates": (2, 2), "wait": SHORT, **more})


def _settled(name: str, *faults: Fault, **more: Any) -> Row:
    """Return the row of an ambiguous write that was not applied: a second attempt repeats it after the settle time."""
    wait = (SETTLE_TIME + SHORT[0], SETTLE_TIME + SHORT[1])
    return Row(name=name, faults=faults, **{"updates": (2, 2), "wait": wait, "slot_seconds": SETTLE_TIME, **more})


def _found(name: str, *faults: Fault, **more: Any) -> Row:
    """Return the row of an ambiguous write that was applied: the same attempt finds it at once."""
    return Row(name=name, faults=faults, **{"tries": 1, **more})


def _refusals() -> list[Row]:
    rows = []
    classes = {
        400: ("BatchMissingParameterError", "BatchRequestError"),
        401: ("BatchAuthenticationError",) * 2,
        403: ("BatchApiMisuseError",) * 2,
        404: ("BatchNotFoundError",) * 2,
    }
    html = "<html><body>Something went wrong</body></html>"
    for status, (with_code, without) in classes.items():
        for about, fault, kind in (
            ("JSON", _answer(status, None), with_code),
            ("HTML", _answer(status, None, body=html, headers={"Content-Type": "text/html"}), without),
            ("empty", _answer(status, None, body=""), without),
        ):
            rows.append(_stop(f"{status}, {about}", fault, (kind, f"refused the update of campaign .*: {status}")))
    return rows


def _stop(name: str, fault: Fault | None, error: tuple[str, str], **more: Any) -> Row:
    """Return the row of an answer that will not change: one request, and the task fails."""
    given = {"state": "failed", "live": False, "tries": 1, "best": "failed", "repeatable": False, **more}
    return Row(name=name, faults=() if fault is None else (fault,), error=error, **given)


def _unconfirmed(name: str, *faults: Fault, error: tuple[str, str], **more: Any) -> Row:
    """Return the row of writes that are never confirmed and never take effect: the task fails when its retries do."""
    given: dict[str, Any] = {
        "state": "failed",
        "live": False,
        "tries": 7,
        "best": "failed",
        "slot_seconds": SETTLE_TIME,
    }
    return Row(name=name, faults=faults, updates=(7, 7), error=error, **given, **more)


NO_CHANGE = json.dumps({"code": 31, "type": "MALFORMED_PARAMETER", "message": "No."})
TEN_MEGABYTES = '{"x": "' + "x" * 10_000_000 + '"}'
DOWN: dict[str, Any] = {"state": "failed", "live": False, "updates": (0, 0), "tries": 7, "best": "failed"}
RETRIES = 6

ROWS: tuple[Row, ...] = (
    _throttle_row("429, Retry-After 30", _throttled("30"), earliest=30, wait=(30, 40)),
    _throttle_row(
        "429, Retry-After a date 40 s ahead",
        _throttled(http_date(after(START, 40))),
        not_before=40,
        wait=(30, 50),
    ),
    _short_throttle_row("429, Retry-After 0", _throttled("0")),
    _short_throttle_row("429, Retry-After -3", _throttled("-3")),
    _throttle_row(
        "429, Retry-After 10000",
        _throttled("10000"),
        earliest=10_000,
        state="failed",
        live=False,
        updates=(1, 1),
        tries=1,
        wait=None,
        best="failed",
        error=("BatchWaitExceededError", "asks to wait 10000 s, but this task waits at most 30 min"),
    ),
    _short_throttle_row("429, Retry-After garbage", _throttled("soon, 7 apples")),
    _short_throttle_row("429, no Retry-After", _throttled(None)),
    _short_throttle_row("429 twice", _throttled("6"), _throttled(None), wait=(6, 8), slot_seconds=8),
    _short_throttle_row(
        "429 for ever",
        _throttled(None, None),
        state="failed",
        live=False,
        updates=(7, 240),
        tries=120,
        best="failed",
        error=("BatchRateLimitError", "429 TOO_MANY_REQUESTS"),
    ),
    _settled("500, JSON", _answer(500)),
    _settled("500, empty", _answer(500, body="")),
    _found("500, JSON, yet applied", _answer(500, applied=True)),
    _settled("502, HTML", Fault("html", "update", status=502)),
    _settled("502, empty", _answer(502, body="")),
    _again("503, maintenance (code 2)", _answer(503, body=MAINTENANCE), wait=(60, 70)),
    _settled("503, Retry-After 90", _answer(503, body="", headers={"Retry-After": "90"}), earliest=90, wait=(210, 221)),
    _settled("503, empty", _answer(503, body="")),
    _again(
        "503, maintenance for 10 min",
        _answer(503, None, body=MAINTENANCE),
        until=600,
        updates=(3, 12),
        wait=(60, 70),
        tries=12,
    ),
    _settled("503, empty for 10 min", _answer(503, None, body=""), until=600, updates=(3, 7), tries=7),
    *_refusals(),
    Row(name="200, empty", faults=(_answer(200, body="", applied=True),), tries=1),
    Row(name="200, {}", faults=(_answer(200, body="{}", applied=True),), tries=1),
    Row(
        name="200, {}, yet not applied",
        faults=(_answer(200, None, body="{}"),),
        state="failed",
        live=False,
        updates=(1, 7),
        tries=7,
        best="failed",
        error=("BatchVerificationError", "Batch confirmed the update .* but does not show it live"),
    ),
    _unconfirmed(
        "200, an error body", _answer(200, None, body=NO_CHANGE), error=("BatchResponseError", "before you repeat")
    ),
    Row(
        name="200, truncated JSON, applied",
        faults=(_answer(200, None, body='{"campaign_tok', applied=True),),
        tries=1,
    ),
    Row(
        name="200, {} as text/html, applied",
        faults=(_answer(200, body="{}", headers={"Content-Type": "text/html"}, applied=True),),
        tries=1,
    ),
    _unconfirmed(
        "200, a proxy's page",
        Fault("html", "update", status=200, times=None),
        error=("BatchResponseError", "not with"),
    ),
    Row(
        name="200, 10 MB of body, applied",
        faults=(_answer(200, None, body=TEN_MEGABYTES, applied=True),),
        tries=1,
    ),
    _settled("reset before the request is read", place="reset_unread"),
    _settled("reset before the change is applied", Fault("reset_before", "update")),
    _found("reset after the change is applied", Fault("reset_after", "update")),
    _found("reset in the middle of the answer", place="reset_mid"),
    _found("answer broken off", Fault("truncate", "update")),
    _settled("silence", Fault("silence", "update", seconds=4)),
    _found("silence, applied late", Fault("late", "update", seconds=4), slot_seconds=SETTLE_TIME),
    _found("one byte at a time", Fault("drip", "update", interval=0.05)),
    Row(name="DNS failure", place="dns", error=("BatchConnectionError", "host name could not be resolved"), **DOWN),
    Row(name="connection refused", place="refused", error=("BatchConnectionError", "connection refused"), **DOWN),
    Row(name="TLS, self-signed", place="tls", error=("BatchConnectionError", "certificate is not trusted"), **DOWN),
    _unconfirmed(
        "redirect 302 to the same host",
        Fault("redirect", "update", times=None),
        error=("BatchResponseError", "302.*Redirects are not followed"),
    ),
    _settled("redirect 307 to the same host", Fault("redirect", "update", status=307)),
    _unconfirmed(
        "redirect 307 to another host", place="redirect_other", times=None, error=("BatchResponseError", "307")
    ),
    _unconfirmed(
        "redirect 307 from https to http", place="redirect_http", times=None, error=("BatchResponseError", "307")
    ),
    Row(name="HTTP/1.0, closed after each answer", place="http10", tries=1),
    Row(name="keep-alive promised, then closed", place="promise", tries=1),
    _settled("kept connection closed under the update", place="close"),
    _stop("401 that echoes our keys", Fault("echo", "update", times=None), ("BatchAuthenticationError", "401")),
    _settled("500 that echoes our keys", Fault("echo", "update", status=500)),
)
