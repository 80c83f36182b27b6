"""What a person has approved, and whether a campaign still is that. Pure functions.

The fingerprints are taken from what was shown, when the question is asked. They travel in the result of the approval,
and the plan of a change compares them with what it reads. The text that is shown is in ``approval_text.py``.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict

from airflow_batch._campaigns.diff import MOMENTS, Campaign, is_empty, overlaid, read_moment, request_form
from airflow_batch._values import as_datetime, aware_utc, iso_utc
from airflow_batch.exceptions import BatchChangeRefusedError

AGAIN = "Start a new DAG run to have it approved as it is now"
STOP_IT = "It is live: stop it, if it must not go out like this."


class ApprovalRecord(TypedDict):
    """What an approval leaves in XCom.

    ``answered_by`` is null where the time was over and a default counts. ``digest`` is the SHA-256 of ``parameters``,
    which has one for each top-level parameter that was shown. ``params_input`` are the values of a form.
    """

    approved: bool
    campaign_token: str
    app: str | None
    shown_at: str
    answered_at: str
    answered_by: str | None
    with_payload: bool
    digest: str
    parameters: dict[str, str]
    params_input: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Approval:
    """An approval as a later task reads it.

    :param answered_at: None where that cannot be read.
    :param parameters: The fingerprint of each parameter.
    :param with_payload: Whether the payload of an update was shown, too.
    :param refusal: Why nothing is switched on or updated with it; empty if it is valid.
    """

    answered_at: datetime | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    with_payload: bool = False
    refusal: str = ""


def fingerprints(seen: Campaign, payload: Campaign | None = None) -> dict[str, str]:
    """Return the SHA-256 of each parameter of a campaign as it would be with a payload.

    All count but ``live`` of the campaign, what only Batch sets, and the forms of "none". ``live`` of a payload counts.
    """
    base = {name: value for name, value in request_form(seen).items() if name != "live"}
    if seen.get("trigger") is not None:  # view alone shows it, but it says when a push goes out
        base["trigger"] = seen["trigger"]
    whole = overlaid(base, payload or {})
    forms = {name: _parameter(name, value) for name, value in whole.items()}
    return {name: _sha256(form) for name, form in forms.items() if form is not None}


def digest_of(parameters: Mapping[str, str]) -> str:
    """Return one digest of the fingerprints of all parameters."""
    return _sha256(dict(parameters))


def shown_now(token: str, app: str | None, seen: Campaign, payload: Campaign | None, at: datetime) -> dict[str, Any]:
    """Return what is kept of a campaign when the question is asked: JSON values, which go through the wait."""
    return {
        "campaign_token": token,
        "app": app,
        "shown_at": iso_utc(at),
        "with_payload": payload is not None,
        "parameters": fingerprints(seen, payload),
    }


def record_of(
    shown: Mapping[str, Any],
    *,
    approved: bool,
    at: datetime,
    by: str | None,
    params_input: Mapping[str, Any] | None = None,
) -> ApprovalRecord:
    """Return the record of an answer to what was shown."""
    return {
        "approved": approved,
        "campaign_token": shown["campaign_token"],
        "app": shown["app"],
        "shown_at": shown["shown_at"],
        "answered_at": iso_utc(at),
        "answered_by": by,
        "with_payload": shown["with_payload"],
        "digest": digest_of(shown["parameters"]),
        "parameters": dict(shown["parameters"]),
        "params_input": dict(params_input or {}),
    }


def read_approval(campaign: Any, app: str | None) -> Approval | None:
    """Return the approval in what was passed as ``campaign=``, or that it is itself; None for one that holds none.

    One that cannot be read, or is no approval of this campaign, has a ``refusal``: it never blocks a stop (rule 4).

    :param app: The app that the task acts for.
    """
    if not isinstance(campaign, Mapping) or not ("approval" in campaign or {"digest", "parameters"} <= set(campaign)):
        return None
    record = campaign.get("approval", campaign)
    try:
        parameters = {str(name): str(value) for name, value in record["parameters"].items()}
        answered_at = aware_utc(as_datetime(record["answered_at"]))
        is_whole = record["digest"] == digest_of(parameters) and answered_at is not None
        approved, token, with_payload = record["approved"], record["campaign_token"], record["with_payload"] is True
        of_app = record["app"]
    except (AttributeError, KeyError, TypeError, ValueError):
        is_whole = False
    if not is_whole:
        return Approval(refusal="the approval in the given result cannot be read")
    refusal = ""
    if approved is not True:
        refusal = "no person has approved it"
    elif token != campaign.get("campaign_token"):
        refusal = f"the approval is of campaign {token!r}"
    elif of_app != app:
        refusal = f"the approval is of app {of_app!r}, and this task acts for app {app!r}"
    return Approval(answered_at=answered_at, parameters=parameters, with_payload=with_payload, refusal=refusal)


def check_approved(approval: Approval, token: str, seen: Campaign | None, payload: Campaign) -> None:
    """Refuse to go live with, or to send, anything but what was approved (rule 12).

    :param seen: What view shows now; None where the campaign cannot be read.
    :param payload: The parameters of an update; empty for a switch.
    :raises BatchChangeRefusedError: where the approval is none, or the campaign or the payload is another one.
    """
    if why := _why_not(approval, seen, payload):
        advice = AGAIN if approval.refusal or seen is not None else "Use a Live API key and read='auto'"
        is_live = seen is not None and seen.get("live") is True
        raise BatchChangeRefusedError(
            f"Campaign {token!r} is neither switched on nor updated: {why}. Nothing was sent. {advice}."
            f"{f' {STOP_IT}' if is_live else ''}"
        )


def unapproved_after(approval: Approval, token: str, seen: Campaign, payload: Campaign) -> str:
    """Return what is not as approved after a write, and what to do; empty for nothing.

    Somebody may have changed the campaign between the read and the write.
    """
    names = ", ".join(not_as_approved(approval, seen, payload))
    is_live = seen.get("live") is True
    return names and (
        f"Campaign {token!r} was {'switched on' if is_live else 'updated'}, but it is not as approved: {names} changed "
        f"at the same time. {STOP_IT if is_live else f'{AGAIN}.'}"
    )


def approved_stop(
    approval: Approval, token: str, seen: Campaign | None, desired: dict[str, Any]
) -> tuple[dict[str, Any], BatchChangeRefusedError | None]:
    """Return what to set with a stop, and the error to end with: what is not as approved is left out (rules 4, 12)."""
    others = {name: desired[name] for name in desired if name != "live"}
    why = _why_not(approval, seen, others, any_live=True) if others else ""
    if not why:
        return desired, None
    return {"live": False}, BatchChangeRefusedError(
        f"Campaign {token!r} is stopped, but this task does not set {', '.join(others)}: {why}. {AGAIN}."
    )


def not_as_approved(approval: Approval, seen: Campaign, payload: Campaign, *, any_live: bool = False) -> list[str]:
    """Return the names of the parameters that are not as approved.

    :param any_live: Whether ``live`` is left out. That of the campaign always is.
    """
    now = fingerprints(seen, payload)
    names = sorted({*approval.parameters, *now})
    if any_live or not (payload and approval.with_payload):
        names = [name for name in names if name != "live"]
    return [name for name in names if approval.parameters.get(name) != now.get(name)]


def _why_not(approval: Approval, seen: Campaign | None, payload: Campaign, *, any_live: bool = False) -> str:
    """Return why a campaign with a payload is not what was approved; empty where it is."""
    if approval.refusal:
        return approval.refusal
    if seen is None:
        return "it cannot be read, so it is not known whether it is as approved"
    names = ", ".join(not_as_approved(approval, seen, payload, any_live=any_live))
    if not names:
        return ""
    return f"not as approved: {names}" if payload else f"{names} changed since the approval"


def _parameter(name: str, value: Any) -> Any:
    """Return a parameter in a form that is the same for what counts as the same; None for "none"."""
    if name == "trigger":  # An empty one is a trigger, too (rule 3).
        return _comparable(value or {}, name, name) if isinstance(value, Mapping | list) else None
    if name == "custom_payload":  # It belongs to the author's app: nothing in it is known to be the same.
        form = value
    elif name == "time_to_live":
        form = _number(value)
    else:
        form = _comparable(value, name, name)
    return None if is_empty(form) or (form is False and name != "live") else form


def _number(value: Any) -> Any:
    """Return a number, or the one that a text shows, as a float; anything else as it is."""
    try:
        return value if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return value


def _comparable(value: Any, name: str, parameter: str) -> Any:
    """Return a value, at any level of a parameter, in a form that is the same for what counts as the same.

    A number may be shown as text, a moment with ``Z``, text trimmed, and "none" in several forms (docs/assumptions.md);
    but within a condition of the targeting each is a value. Order has no meaning among labels, among messages of
    several languages, and among texts and objects of the targeting; numbers there may be coordinates.
    """
    if isinstance(value, Mapping):
        forms = {key: _comparable(item, key, parameter) for key, item in value.items()}
        is_condition = parameter == "targeting" and name != "targeting"
        return forms if is_condition else {key: form for key, form in forms.items() if not is_empty(form)}
    if isinstance(value, list):
        items = [_comparable(item, "", parameter) for item in value]
        if parameter == "messages" and all(isinstance(item, Mapping) for item in value):
            return sorted(items, key=lambda item: _text(item.get("language")))
        is_set = parameter in ("labels", "targeting") and all(isinstance(item, str | Mapping) for item in value)
        return sorted(items, key=_text) if is_set else items
    if isinstance(value, str):
        moment = read_moment(value) if name in MOMENTS else None
        return unicodedata.normalize("NFC", value).strip() if moment is None else moment.isoformat()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _sha256(value: Any) -> str:
    return hashlib.sha256(_text(value).encode()).hexdigest()
