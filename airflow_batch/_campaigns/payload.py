"""What users give: how a task names a campaign, and payloads, with the checks that Batch documents. Pure functions."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any

from airflow_batch._campaigns.protocol import Log
from airflow_batch._values import DRY_RUN_PREFIX, as_boolean, check_token, short_repr, type_name
from airflow_batch.exceptions import BatchConfigurationError, BatchPayloadError

MIN_NAME = 3
MAX_LABELS = 3
MAX_DEPTH = 50
MAX_SIZE = 100_000_000
"""Of a payload, each character of its texts and keys counted as 1, each value as 100. What stands in many places of it
at once, as YAML's aliases do, can be a few lines and more than a memory holds."""
MAX_NUMBER = 10**308
"""Beyond it JSON readers that hold numbers as doubles read infinity, and Python refuses to write very long ones."""

_MAX_PLACE = 200
"""Characters of a place in a payload that a message shows."""
_PARAMETERS = frozenset((
    "name", "live", "labels", "priority", "push_type", "time_to_live", "gcm_collapse_key", "push_time",
    "local_push_time", "recurrence", "messages", "targeting", "deeplink", "custom_payload", "media", "landing",
    "skip_media_check", "wp_template", "trigger", "campaign_token", "from_api", "dev_only", "created_date",
))  # fmt: skip
"""The parameters that are known, of a request and of a view. Batch's list is longer."""
_MAX_SPELLING_CHECKS, _LONGEST_PARAMETER = 20, 40
_log = logging.getLogger(__name__)


def read_live(value: Any) -> bool:
    """Return ``live`` as a boolean. Of texts, ``true`` and ``false`` are understood, in any case (``"True"``).

    :raises BatchPayloadError: for anything else.
    """
    live = as_boolean(value)
    if live is None:
        raise BatchPayloadError(
            f"live must be true or false, not {short_repr(value)}. Does its template render as intended?"
        )
    return live


def check_live_argument(value: Any) -> None:
    """Check the ``live`` of an operator when the DAG is parsed, as far as it is known then.

    :raises BatchConfigurationError: for a literal that can never become a boolean.
    """
    # Airflow's XComArg, the output of another task, has "resolve".
    known = not isinstance(value, type) and (hasattr(value, "is_live_at") or hasattr(value, "resolve"))
    if isinstance(value, str):
        known = "{{" in value or "{%" in value or as_boolean(value) is not None
    if not known and not isinstance(value, bool):
        raise BatchConfigurationError(
            f"live is {short_repr(value)}. Allowed are True, False, their text, a CampaignWindow, a template and the "
            "output of another task."
        )


def check_payload(payload: Any, source: str = "payload") -> dict[str, Any]:
    """Return the user's payload of an update as Batch takes it, checked as far as Batch's documentation goes.

    Aware datetimes become ``yyyy-MM-ddTHH:mm:ss`` in UTC, and so do the strings of ``push_time`` and of
    ``recurrence.end_date``: one without an offset is UTC already, as Batch documents it. Parameters that are not known
    here pass through, for Batch's list is longer; one that is spelt almost as a known one is logged as a warning.
    Sources: https://doc.batch.com/developer/api/mep/campaigns/parameters (name, live, labels, push_time).

    :param source: What messages call it.
    :raises BatchPayloadError: for what is no JSON object, a naive datetime (but in ``local_push_time``, a local time),
        a number that is not finite, a name below 3 characters or ``None``, more than 3 labels, a ``live`` that is no
        boolean, a ``push_time`` that is neither ``now`` nor a moment, and for more than ``MAX_DEPTH`` levels or
        ``MAX_SIZE``.
    """
    if not isinstance(payload, Mapping):
        raise BatchPayloadError(f"{source} must be an object such as {{'live': True}}, not {type_name(payload)}.")
    if not payload:
        raise BatchPayloadError(f"{source} is empty: there is nothing to send.")
    checked: dict[str, Any] = _Values(source).read(payload, ())
    _warn_of_misspelt(checked, source)
    name, labels = checked.get("name"), checked.get("labels")
    if "name" in checked and not (isinstance(name, str) and len(name) >= MIN_NAME and name.strip() not in ("", "None")):
        raise BatchPayloadError(
            f"name must be text of at least {MIN_NAME} characters, not {short_repr(name)}. Has its template rendered "
            "to nothing?"
        )
    if "live" in checked:
        checked["live"] = read_live(checked["live"])
    if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise BatchPayloadError(f"labels must be a list of label codes, not {short_repr(labels)}.")
    if labels is not None and len(labels) > MAX_LABELS:
        raise BatchPayloadError(f"labels holds {len(labels)} entries; Batch takes at most {MAX_LABELS}.")
    if checked.get("push_time") not in (None, "now"):
        checked["push_time"] = _time(checked["push_time"], "push_time", "'now' or a UTC time")
    recurrence = checked.get("recurrence")
    if isinstance(recurrence, dict) and recurrence.get("end_date") is not None:
        recurrence["end_date"] = _time(recurrence["end_date"], "recurrence.end_date")
    return checked


def check_new(payload: dict[str, Any]) -> dict[str, Any]:
    """Return the checked payload of a creation: it must have a name, live, and messages with language and body.

    ``messages`` is a list, or an object of such lists, one for each A/B version.
    Source: https://doc.batch.com/api/campaigns/create (the smallest payload). Which time it needs is left to Batch.

    :raises BatchPayloadError: when one is missing; the message has its place.
    """
    missing = [name for name in ("name", "live", "messages") if payload.get(name) is None]
    if missing:
        raise BatchPayloadError(
            f"payload lacks {', '.join(missing)}: a new campaign needs name, live, messages and a push_time."
        )
    messages = payload["messages"]
    for version, items in messages.items() if isinstance(messages, dict) else [(None, messages)]:
        place = _place("messages") if version is None else _place("messages", version)
        if not isinstance(items, list) or not items:
            raise BatchPayloadError(
                f"{place} must be a list of messages, not {short_repr(items)}. An A/B test has an object of such "
                "lists: {'a': [...], 'b': [...]}."
            )
        for index, message in enumerate(items):
            for key in ("language", "body"):
                if not isinstance(message, dict) or not isinstance(message.get(key), str) or not message[key]:
                    raise BatchPayloadError(
                        f"{place}[{index}] has no {key}. Each message of a new campaign needs language and body, "
                        "such as {'language': 'en', 'body': 'Hello'}."
                    )
    return payload


def payload_digest(payload: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a checked payload, the same for equal payloads in any order of keys."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True, allow_nan=False).encode()).hexdigest()


def dry_run_token(payload: Mapping[str, Any], app: str | None) -> str:
    """Return the token that stands for a campaign that a dry run does not create: the same for the same payload."""
    return f"{DRY_RUN_PREFIX}{payload_digest({'app': app, 'payload': payload})[:32]}"


class _Values:
    """Reads the values of one payload as JSON has them, or refuses them by their place."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.left = MAX_SIZE

    def read(self, value: Any, path: tuple[str | int, ...]) -> Any:
        """Return a value as JSON has it."""
        self.left -= 100 + (len(value) if isinstance(value, str) else 0)
        if self.left < 0:
            raise BatchPayloadError(
                f"{self.source} is too large: at most {MAX_SIZE:,} are allowed, where a character counts as 1 and a "
                "value as 100. Does it hold one list or object in many places?"
            )
        if len(path) > MAX_DEPTH + 1:
            raise self._refusal(path, f"nested deeper than {MAX_DEPTH} levels, or holds itself.")
        if path == ("local_push_time",) and value is not None:
            return _time(value, "local_push_time", "a time", is_local=True)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int | float):
            if not abs(value) <= MAX_NUMBER:  # NaN is not, either
                found = repr(value) if isinstance(value, float) else "a number of more digits than JSON's readers hold"
                raise self._refusal(path, f"{found}. Give a smaller finite number, text or null.")
            return int(value) if isinstance(value, int) else float(value)
        if isinstance(value, datetime):
            return _time(value, _place(*path))
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    place = _place(*path) or self.source
                    raise BatchPayloadError(f"{place} has the key {short_repr(key)}: JSON keys are text.")
            self.left -= sum(map(len, value))
            return {key: self.read(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
            return [self.read(item, (*path, index)) for index, item in enumerate(value)]
        kind = "a date without a time" if isinstance(value, date) else type_name(value)
        raise self._refusal(
            path,
            f"{kind}, which JSON cannot hold. Give text, a number, a boolean, null, a list, an object, or a datetime "
            "with a time zone.",
        )

    def _refusal(self, path: tuple[str | int, ...], found: str) -> BatchPayloadError:
        return BatchPayloadError(f"{_place(*path) or self.source} is {found}")


def _place(*path: str | int) -> str:
    """Return how a message names a place in a payload."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part[:_MAX_PLACE]}" for part in path)
    place = "".join(parts)[1:]
    place = place if len(place) <= _MAX_PLACE else f"{place[:_MAX_PLACE]}..."
    return place if place.isprintable() else repr(place)


def _time(value: Any, place: str, allowed: str = "a UTC time", *, is_local: bool = False) -> str:
    """Return a time as Batch takes it: in UTC, or the local time of each device, which has no zone.

    A text without an offset is UTC, as Batch documents it. A naive datetime may be anything.
    """
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value.strip())
        if moment.tzinfo is None and is_local:
            return moment.isoformat(timespec="seconds")
        if moment.tzinfo is None and moment is not value:
            moment = moment.replace(tzinfo=UTC)
        if moment.utcoffset() is not None and not is_local:
            return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    except OverflowError:
        raise BatchPayloadError(f"{place} is {value}, which is no moment in UTC.") from None
    except (ValueError, AttributeError, TypeError):
        raise BatchPayloadError(
            f"{place} must be {allowed} such as '2026-01-31T09:00:00', not {short_repr(value)}."
        ) from None
    if is_local:
        raise BatchPayloadError(
            f"{place} is {moment.isoformat()}, but it means the local time of each device: give it without a "
            "time zone, or use push_time for one moment everywhere."
        )
    raise BatchPayloadError(
        f"{place} is the datetime {moment.isoformat()} without a time zone, so the moment it means is unknown. Give "
        "it one (pendulum.datetime(..., tz='Europe/Paris')); it is then sent in UTC."
    )


def _warn_of_misspelt(payload: Mapping[str, Any], source: str) -> None:
    import difflib

    unknown = [name for name in payload if name not in _PARAMETERS and len(name) <= _LONGEST_PARAMETER]
    for name in unknown[:_MAX_SPELLING_CHECKS]:
        for near in difflib.get_close_matches(name.lower(), _PARAMETERS, n=1, cutoff=0.8):
            _log.warning("%s has the unknown parameter %r. It is sent as it is. Is %r meant?", source, name, near)


def read_reference(campaign: Any) -> tuple[str, str | None]:
    """Return (token, app) of what was passed as ``campaign=``: a token, or the result dict of another task.

    :raises BatchPayloadError: when it is neither.
    :raises BatchNotCreatedError: for the token that a dry run of a creation returned.
    """
    if isinstance(campaign, Mapping):
        if "campaign_token" not in campaign:
            raise BatchPayloadError(
                "campaign must be a token or the result of a Batch operator; the given object has no campaign_token, "
                f"but {', '.join(short_repr(key) for key in islice(campaign, 10)) or 'nothing'}."
            )
        app = campaign.get("app")
        if app is not None and not isinstance(app, str):
            raise BatchPayloadError(f"The app of the given result must be text or null, not {type_name(app)}.")
        return check_token(campaign["campaign_token"]), app or None
    return check_token(campaign), None


def read_expected_name(name: Any, *, given: bool) -> str | None:
    """Return ``expect_name``: None where none was given, empty where its template rendered to nothing (rule 2)."""
    if not given:
        return None
    return "" if str(name).strip() in ("", "None") else str(name)


def read_definition(
    value: Any, *, stops: bool, log: Log, parse: Callable[[], Any] | None = None
) -> dict[str, Any] | None:
    """Return ``definition``, checked; None where none was given. A wrong one never blocks a stop (rule 4).

    :param parse: Returns the value, parsed, where it may be text.
    :raises BatchPayloadError: for a wrong one, where the task may switch the campaign on.
    """
    if value in (None, "", "None"):  # what a template may have made of nothing
        return None
    try:
        return check_payload(parse() if parse else value, "definition")
    except BatchPayloadError as error:
        if not stops:
            raise
        log.warning("The campaign is stopped without the definition. %s", error)
        return None
