"""Which definitions and updates the server accepts. Pure functions: no clock, no state, no HTTP.

Belongs here: the checks of a payload and the three rules of an update.
Does not belong here: where campaigns are kept (state.py), which error a choice names (contract.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow_batch.sandbox.contract import Contract, UpdateMode
from airflow_batch.sandbox.errors import LABELS_MAX, NAME_MIN_LENGTH, TIME_TO_LIVE_MAX, ErrorName

Definition = dict[str, Any]
TIMES = ("push_time", "local_push_time")
SERVER_FIELDS = ("campaign_token", "from_api", "dev_only", "created_date", "trigger")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)


class Refused(Exception):
    """The server says no: `error` is one of the nine documented, `message` and `headers` are what it sends."""

    def __init__(self, error: ErrorName, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.error = error
        self.message = message
        self.headers = headers


def parse_time(text: str) -> datetime | None:
    """Return yyyy-MM-ddTHH:mm:ss as an aware UTC datetime, or None where the text is anything else."""
    if not _TIME.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


def format_time(moment: datetime) -> str:
    """Return a moment the way Batch writes it: UTC, whole seconds, no zone (the sample on the view page)."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def parse_body(body: bytes) -> Definition:
    """Return the JSON object in `body`. Raises Refused (400/32) where it is not one."""
    try:
        # NaN and Infinity are not JSON, though Python's reader takes them.
        payload = json.loads(body.decode("utf-8"), parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        raise Refused("MALFORMED_JSON_BODY", "The body is not valid JSON in UTF-8.") from error
    if not isinstance(payload, dict):
        raise Refused("MALFORMED_JSON_BODY", "The body is JSON but not an object: send {...} with the parameters.")
    return payload


def _not_json(constant: str) -> Any:
    raise ValueError(constant)


def is_recurring(definition: Mapping[str, Any]) -> bool:
    """Return whether a campaign repeats: it has a `recurrence`."""
    return definition.get("recurrence") is not None


def without_nulls(definition: Mapping[str, Any]) -> Definition:
    """Return the parameters that have a value: a null counts as absent."""
    return {name: value for name, value in definition.items() if value is not None}


def parameters(payload: Mapping[str, Any]) -> Definition:
    """Return the payload without the fields that are the server's: what view adds is not taken back."""
    return {name: value for name, value in payload.items() if name not in SERVER_FIELDS}


def check_create(payload: Mapping[str, Any], contract: Contract) -> None:
    """Check a payload for create. Raises Refused: what is missing (400/30) before what is malformed (400/31)."""
    given = without_nulls(payload)
    for name in ("name", "live", "messages"):
        if name not in given:
            raise Refused("MISSING_PARAMETER", f"Parameter '{name}' is missing.")
    if not any(name in given for name in contract.timing_parameters):
        raise Refused("MISSING_PARAMETER", f"Give one of {', '.join(contract.timing_parameters)}.")
    check_values(given, contract)


def check_values(payload: Mapping[str, Any], contract: Contract) -> None:
    """Check the parameters that have a value. Raises Refused (400/31)."""
    given = without_nulls(payload)
    for name, check in _CHECKS.items():
        if name in given:
            problem = check(given[name])
            if problem:
                raise Refused("MALFORMED_PARAMETER", f"Parameter '{name}' {problem}.")
    if contract.collapse_key_text and isinstance(given.get("gcm_collapse_key"), str):
        raise Refused(
            contract.collapse_key_text, "Parameter 'gcm_collapse_key' must be an object with 'enabled' and 'key'."
        )
    _check_one_time(given)


def _name(value: Any) -> str:
    if not isinstance(value, str):
        return "must be text"
    return "" if len(value) >= NAME_MIN_LENGTH else f"must have at least {NAME_MIN_LENGTH} characters"


def _live(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def _labels(value: Any) -> str:
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        return "must be an array of label codes"
    return "" if len(value) <= LABELS_MAX else f"must have at most {LABELS_MAX} labels"


def _push_time(value: Any) -> str:
    return "" if value == "now" else _local_push_time(value)


def _local_push_time(value: Any) -> str:
    known = isinstance(value, str) and parse_time(value) is not None
    return "" if known else "must be a time such as 2030-01-31T09:00:00, without a zone"


def _messages(value: Any) -> str:
    if isinstance(value, dict) and value:
        return next(filter(None, map(_messages, value.values())), "")
    if not isinstance(value, list) or not value:
        return "must be an array with at least one message, or an object of such arrays, one for each A/B version"
    for message in value:
        if not isinstance(message, dict):
            return "must hold objects"
        for key in ("language", "body"):
            if not isinstance(message.get(key), str) or not message[key]:
                return f"must give each message a '{key}'"
    return ""


def _recurrence(value: Any) -> str:
    return "" if isinstance(value, dict) else "must be an object"


def _time_to_live(value: Any) -> str:
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TIME_TO_LIVE_MAX
    return "" if known else f"must be a number of seconds, at most {TIME_TO_LIVE_MAX} (28 days)"


_CHECKS = {
    "name": _name,
    "live": _live,
    "labels": _labels,
    "push_time": _push_time,
    "local_push_time": _local_push_time,
    "messages": _messages,
    "recurrence": _recurrence,
    "time_to_live": _time_to_live,
}


def updated(
    definition: Definition, payload: Mapping[str, Any], *, complete: bool, mode: UpdateMode, contract: Contract
) -> Definition:
    """Return the definition after an update; neither argument is changed.

    The rules are those of https://doc.batch.com/developer/api/mep/campaigns/update: a complete campaign cannot go live
    again, a parameter once added cannot be removed, a recurring campaign cannot become one-time.
    Raises Refused.
    """
    check_values({name: value for name, value in payload.items() if definition.get(name) != value}, contract)
    given = dict(payload) if contract.null_asks_removal else without_nulls(payload)
    kept = definition if mode != "replace" else {}
    if contract.timing_is_one_slot and any(given.get(name) is not None for name in TIMES):
        definition, kept = _without_times(definition), _without_times(kept)
    after = without_nulls({**kept, **given})
    if complete and given.get("live") is True:
        raise Refused(contract.complete_to_live, "A complete campaign cannot be set live again. Create a new one.")
    if is_recurring(definition) and not is_recurring(after):
        raise Refused(contract.recurring_to_one_time, "A recurring campaign cannot become a one-time campaign.")
    removed = sorted(definition.keys() - after.keys())
    if removed:
        raise Refused(contract.removed_parameter, f"Parameters cannot be removed once added: {', '.join(removed)}.")
    missing = sorted(definition.keys() - given.keys())
    if mode == "strict" and missing:
        raise Refused(
            contract.too_few_parameters, f"Give every parameter the campaign has; missing: {', '.join(missing)}."
        )
    _check_one_time(after)
    return after


def _without_times(definition: Definition) -> Definition:
    return {name: value for name, value in definition.items() if name not in TIMES}


def _check_one_time(definition: Mapping[str, Any]) -> None:
    if all(name in definition for name in TIMES):
        raise Refused("MALFORMED_PARAMETER", "Give either 'push_time' or 'local_push_time', not both.")
