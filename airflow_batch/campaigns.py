"""What a campaign is: its token, its definition's checks and form, what differs, and the shapes handed to XCom.

Pure functions: no Airflow, no HTTP, no clock of their own. What the client assumes about Batch without a page that
says so stands in ``ASSUMPTIONS`` and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple, TypedDict, TypeGuard

from airflow_batch.exceptions import BatchPayloadError


class Assumption(NamedTuple):
    """What the client takes for granted although Batch does not document it."""

    label: str
    """OBSERVED (in public clients), INFERRED (from several facts) or UNKNOWN (a choice)."""
    what: str
    replaced_by: str


ASSUMPTIONS: dict[str, Assumption] = {
    "write_body": Assumption(
        "INFERRED",
        "A successful update or deletion has an empty body or a JSON object without code and message.",
        "the body of a real update and a real deletion",
    ),
    "create_body": Assumption(
        "OBSERVED", 'A successful creation answers {"campaign_token": TOKEN}.', "the body of a real creation"
    ),
    "error_body": Assumption(
        "OBSERVED",
        'An error body is {"code": int, "type": NAME, "message": text}; each key may be missing.',
        "a real error body",
    ),
    "reading_refused": Assumption(
        "UNKNOWN",
        "A key that may not read is answered 403 by view and list; a 404 of view does not prove that a campaign is "
        "missing.",
        "a view and a list with a Dev key",
    ),
    "wrong_app_key": Assumption(
        "UNKNOWN",
        "An unknown app API key is answered 401 or 404; messages name both keys.",
        "a request with a wrong app key",
    ),
    "live_in_view": Assumption(
        "INFERRED",
        "live is true for a running and for a completed campaign, false for a draft and a stopped one, as in the "
        "filter of the list; an update with live false stops a running campaign.",
        "a view before, during and after a campaign",
    ),
    "list_body": Assumption(
        "OBSERVED",
        "The list is a bare JSON array of objects with a campaign_token; a page shorter than asked is the last.",
        "a real list",
    ),
    "push_time_form": Assumption(
        "INFERRED",
        "Moments are written yyyy-MM-ddTHH:mm:ss in UTC without a zone, as in the samples; recurrence.end_date too.",
        "the parameters page below gcm_collapse_key",
    ),
    "local_time": Assumption(
        "OBSERVED", "local_push_time is a wall time without a zone.", "the parameters page below gcm_collapse_key"
    ),
    "not_comparable": Assumption(
        "OBSERVED",
        "View gives gcm_collapse_key as text and push_time 'now' as a moment: they cannot be compared with a request. "
        "It may leave out language in messages.",
        "a view of a campaign just written",
    ),
}

RESERVED_TOKENS = frozenset({"list", "create", "update", "delete", "stats"})
MIN_NAME = 3
MAX_LABELS = 3
MAX_DEPTH = 50
MAX_COUNT = 10**15
MAX_NUMBER = 10**308
"""Beyond it JSON readers that hold numbers as doubles read infinity, and Python refuses to write very long ones."""

_TOKEN = re.compile(r"[A-Za-z0-9._~-]{1,200}")
_NOT_COMPARABLE = frozenset({"gcm_collapse_key"})
_TRUE, _FALSE = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})


class CampaignResult(TypedDict):
    """What a writing operator leaves in XCom.

    ``live``, ``name``, ``changed`` and ``http_status`` are null where they cannot be known. ``attempt`` is the number
    of Airflow's try; waiting out a throttle does not raise it. ``requested_at`` and ``completed_at`` are the moments of
    the last request, ISO 8601 in UTC with offset. ``payload_digest`` is the SHA-256 of the payload as it was checked.
    """

    campaign_token: str
    app: str | None
    action: str
    live: bool | None
    name: str | None
    changed: bool | None
    http_status: int | None
    attempt: int
    requested_at: str
    completed_at: str
    payload_digest: str


class CampaignSummary(TypedDict):
    """What a sensor leaves in XCom: the campaign as it was seen."""

    campaign_token: str
    app: str | None
    live: bool
    name: str | None
    push_time: str | None
    created_date: str | None
    checked_at: str


def check_token(token: Any) -> str:
    """Return a campaign token that is safe in a URL's path.

    :raises BatchPayloadError: when it is empty, holds a slash, a space, ``..`` or anything else that is not a letter,
        a digit or one of ``._~-``, or is a word of the API's own routes.
    """
    if not isinstance(token, str):
        raise BatchPayloadError(f"A campaign token must be text, not {_kind(token)}.")
    hint = "Pass the token that Batch returned when the campaign was created"
    if not token:
        raise BatchPayloadError(f"The campaign token is empty. {hint}; a template that renders to nothing?")
    if not _TOKEN.fullmatch(token) or ".." in token or token == ".":
        also = ", or the operator's .output instead of a template of it" if "{" in token else ""
        raise BatchPayloadError(
            f"{_shown(token)} is no campaign token: letters, digits and ._~- are allowed. {hint}{also}."
        )
    if token.lower() in RESERVED_TOKENS:
        raise BatchPayloadError(f"{token!r} is a route of Batch's API, not a campaign token. {hint}.")
    return token


def read_reference(campaign: Any) -> tuple[str, str | None]:
    """Return (token, app) of what was passed as ``campaign=``: a token, or the result dict of another task.

    :raises BatchPayloadError: when it is neither.
    """
    if isinstance(campaign, Mapping):
        if "campaign_token" not in campaign:
            raise BatchPayloadError(
                "campaign must be a token or the result of a Batch operator; the given object has no campaign_token, "
                f"but {', '.join(map(repr, list(campaign)[:10])) or 'nothing'}."
            )
        app = campaign.get("app")
        if app is not None and not isinstance(app, str):
            raise BatchPayloadError(f"The app of the given result must be text or null, not {_kind(app)}.")
        return check_token(campaign["campaign_token"]), app or None
    return check_token(campaign), None


def read_live(value: Any) -> bool:
    """Return ``live`` as a boolean; the text that a template renders (``"True"``, ``"false"``) is understood.

    :raises BatchPayloadError: for anything else.
    """
    if isinstance(value, bool):
        return value
    text = value.strip().lower() if isinstance(value, str) else ""
    if text in _TRUE | _FALSE:
        return text in _TRUE
    raise BatchPayloadError(f"live must be true or false, not {_shown(value)}. Does its template render as intended?")


def check_payload(payload: Any) -> dict[str, Any]:
    """Return the payload of an update as Batch takes it, checked as far as Batch's documentation goes.

    Aware datetimes become ``yyyy-MM-ddTHH:mm:ss`` in UTC, and so do the strings of ``push_time`` and of
    ``recurrence.end_date``. Parameters that are not known here pass through: Batch's list is longer.
    Sources: https://doc.batch.com/developer/api/mep/campaigns/parameters (name, live, labels, push_time).

    :raises BatchPayloadError: for what is no JSON object, a naive datetime (but in ``local_push_time``, which is a wall
        time), a number that is not finite, a name below 3 characters, more than 3 labels, a ``live`` that is no
        boolean, a ``push_time`` that is neither ``now`` nor a moment.
    """
    if not isinstance(payload, Mapping):
        raise BatchPayloadError(f"payload must be an object such as {{'live': True}}, not {_kind(payload)}.")
    if not payload:
        raise BatchPayloadError("payload is empty: there is nothing to update.")
    checked: dict[str, Any] = {
        name: _local_time(value) if name == "local_push_time" else _json_value(value, name)
        for name, value in _items(payload, "payload")
    }
    if "name" in checked:
        _check_name(checked["name"])
    if "live" in checked:
        checked["live"] = read_live(checked["live"])
    if checked.get("labels") is not None:
        _check_labels(checked["labels"])
    if checked.get("push_time") is not None:
        checked["push_time"] = _utc_time(checked["push_time"], "push_time", allow_now=True)
    recurrence = checked.get("recurrence")
    if isinstance(recurrence, dict) and recurrence.get("end_date") is not None:
        recurrence["end_date"] = _utc_time(recurrence["end_date"], "recurrence.end_date")
    return checked


def payload_digest(payload: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a checked payload, the same for equal payloads in any order of keys."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True, allow_nan=False).encode()).hexdigest()


def sends_at_once(payload: Mapping[str, Any]) -> bool:
    """Tell whether the write sends a push the moment it is applied, so that it must not be repeated blindly."""
    return payload.get("live") is True and payload.get("push_time") == "now"


def stops(payload: Mapping[str, Any]) -> bool:
    """Tell whether the write stops the campaign."""
    return payload.get("live") is False


def differences(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    """Return the names of the parameters that a campaign as seen does not have as wanted.

    A parameter that cannot be compared (``ASSUMPTIONS["not_comparable"]``) counts as different, but ``push_time:
    "now"``: what it did shows in ``live``.
    """
    return [
        name
        for name, value in wanted.items()
        if not (name == "push_time" and value == "now")
        and (name in _NOT_COMPARABLE or not _agrees(value, seen.get(name)))
    ]


def campaign_summary(token: str, app: str | None, seen: Mapping[str, Any], at: datetime) -> CampaignSummary:
    """Return the few facts of a viewed campaign that a downstream task needs."""
    return {
        "campaign_token": token,
        "app": app,
        "live": seen.get("live") is True,
        "name": text_or_none(seen.get("name")),
        "push_time": text_or_none(seen.get("push_time")),
        "created_date": text_or_none(seen.get("created_date")),
        "checked_at": iso_utc(at),
    }


def with_open_rate(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of statistics with its ``open_rate``, and that of each A/B version.

    (direct_open + influenced_open) / sent, None where nothing was sent or a counter is missing.
    Source: https://doc.batch.com/developer/api/mep/campaigns/get
    """
    rated = {**row, "open_rate": _open_rate(row)}
    versions = row.get("versions")
    if isinstance(versions, Mapping):
        rated["versions"] = {
            name: {**version, "open_rate": _open_rate(version)} if isinstance(version, Mapping) else version
            for name, version in versions.items()
        }
    return rated


def _open_rate(row: Mapping[str, Any]) -> float | None:
    sent, direct, influenced = (row.get(name) for name in ("sent", "direct_open", "influenced_open"))
    if not (_is_count(sent) and _is_count(direct) and _is_count(influenced)) or sent == 0:
        return None
    return (direct + influenced) / sent


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


def text_or_none(value: Any, limit: int = 500) -> str | None:
    """Return a server's text, cut, for XCom; None for anything that is not text."""
    return value[:limit] if isinstance(value, str) else None


def iso_utc(moment: datetime) -> str:
    """Return an aware moment as ISO 8601 in UTC with offset, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _agrees(wanted: Any, seen: Any) -> bool:
    """Compare a wanted value with the seen one; of objects, only the keys that were wanted."""
    if isinstance(wanted, Mapping) and isinstance(seen, Mapping):
        return all(key in seen and _agrees(value, seen[key]) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(seen, list):
        return len(wanted) == len(seen) and all(map(_agrees, wanted, seen))
    return type(wanted) is type(seen) and bool(wanted == seen)


def _items(mapping: Mapping[Any, Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if not isinstance(key, str):
            raise BatchPayloadError(f"{path} has the key {_shown(key)}: JSON keys are text.")
        yield key, value


def _json_value(value: Any, path: str, depth: int = 0) -> Any:
    """Return a value as JSON has it, or refuse it by its place in the payload."""
    if depth > MAX_DEPTH:
        raise BatchPayloadError(f"{path[:100]}... is nested deeper than {MAX_DEPTH} levels, or holds itself.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        if abs(value) > MAX_NUMBER:
            raise BatchPayloadError(f"{path} is a number of more digits than JSON's readers hold. Send it as text.")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BatchPayloadError(f"{path} is {value!r}, which JSON cannot hold. Give a finite number or null.")
        return float(value)
    if isinstance(value, datetime):
        return _moment(value, path)
    if isinstance(value, Mapping):
        return {key: _json_value(item, f"{path}.{key}", depth + 1) for key, item in _items(value, path)}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_json_value(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    kind = "a date without a time" if isinstance(value, date) else _kind(value)
    raise BatchPayloadError(
        f"{path} is {kind}, which JSON cannot hold. Give text, a number, a boolean, null, a list, an object, or a "
        "datetime with a time zone."
    )


def _moment(value: datetime, path: str) -> str:
    if value.utcoffset() is None:
        raise BatchPayloadError(
            f"{path} is the datetime {value.isoformat()} without a time zone, so the moment it means is unknown. Give "
            "it one (pendulum.datetime(..., tz='Europe/Paris')); it is then sent in UTC."
        )
    try:
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    except OverflowError:
        raise BatchPayloadError(f"{path} is {value.isoformat()}, which is no moment in UTC.") from None


def _utc_time(value: Any, path: str, *, allow_now: bool = False) -> str:
    """Read a moment written as text: without an offset it is UTC, as Batch documents, with one it becomes UTC."""
    if allow_now and value == "now":
        return "now"
    try:
        moment = datetime.fromisoformat(value.strip())
    except (ValueError, AttributeError):
        allowed = "'now' or a UTC time" if allow_now else "a UTC time"
        raise BatchPayloadError(
            f"{path} must be {allowed} such as '2026-01-31T09:00:00', not {_shown(value)}."
        ) from None
    return _moment(moment if moment.tzinfo else moment.replace(tzinfo=UTC), path)


def _local_time(value: Any) -> Any:
    """Read the wall time of ``local_push_time``: it must not have a zone, for it means each device's own."""
    if value is None:
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value.strip())
    except (ValueError, AttributeError, TypeError):
        raise BatchPayloadError(
            f"local_push_time must be a time such as '2026-01-31T09:00:00', not {_shown(value)}."
        ) from None
    if moment.tzinfo is not None:
        raise BatchPayloadError(
            f"local_push_time is {moment.isoformat()}, but it means the wall time of each device: give it without a "
            "time zone, or use push_time for one moment everywhere."
        )
    return moment.isoformat(timespec="seconds")


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or len(name) < MIN_NAME:
        raise BatchPayloadError(f"name must be text of at least {MIN_NAME} characters, not {_shown(name)}.")


def _check_labels(labels: Any) -> None:
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise BatchPayloadError(f"labels must be a list of label codes, not {_shown(labels)}.")
    if len(labels) > MAX_LABELS:
        raise BatchPayloadError(f"labels holds {len(labels)} entries; Batch takes at most {MAX_LABELS}.")


def _kind(value: Any) -> str:
    return "null" if value is None else f"a value of type {type(value).__name__}"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        return _kind(value)
    return text if len(text) <= 80 else text[:77] + "..."
