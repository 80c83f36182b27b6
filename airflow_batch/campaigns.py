"""What a campaign is, as Batch gives it back: its token, its definition, how that is sent again, what differs.

Pure functions: no Airflow, no HTTP, no clock of their own. What the client assumes about Batch without a page that
says so stands in ``ASSUMPTIONS``, and how view's form becomes update's in ``TRANSLATIONS``; nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, NamedTuple, TypedDict

from airflow_batch.exceptions import BatchPayloadError
from airflow_batch.payloads import kind_of, shown


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
    "finished_by_push_time": Assumption(
        "INFERRED",
        "A one-time campaign that is live is complete once its push_time has passed; a local_push_time has passed "
        "everywhere 12 hours after it in UTC; a recurrence ends at its end_date. Only the first is taken for certain.",
        "a state of the campaign, or the answer to setting a sent one live",
    ),
    "half_a_definition": Assumption(
        "UNKNOWN",
        "An update replaces what it names and may drop what it leaves out: where the campaign can be read, all of it "
        "is sent back.",
        'an update of {"live": false}, then a view',
    ),
    "read_only": Assumption(
        "INFERRED",
        "campaign_token, from_api, dev_only, created_date and trigger, which view adds to the creation format, are not "
        "taken back by update.",
        "an update that carries them",
    ),
    "dashboard_campaign": Assumption(
        "INFERRED",
        "A campaign whose view has from_api false cannot be updated.",
        "the answer to such an update",
    ),
    "settle_time": Assumption(
        "UNKNOWN",
        "A creation that Batch has received shows in the list within 2 minutes, twice the time a request may take; "
        "where two were sent, within 4 minutes of the second.",
        "how long the list lags behind a creation",
    ),
    "dev_only": Assumption(
        "INFERRED",
        "A campaign whose view has dev_only true was created with a Dev key, which cannot view: not by the task that "
        "views it.",
        "a view with a Dev key",
    ),
    "created_date": Assumption(
        "INFERRED",
        "created_date is a moment in UTC; the list begins with the newest (documented), by that date.",
        "a list right after a creation",
    ),
    "not_comparable": Assumption(
        "OBSERVED",
        "View gives gcm_collapse_key as text and push_time 'now' as a moment: they cannot be compared with a request. "
        "It may leave out language in messages.",
        "a view of a campaign just written",
    ),
}

RESERVED_TOKENS = frozenset({"list", "create", "update", "delete", "stats"})
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{1,200}")
_NOT_COMPARABLE = frozenset({"gcm_collapse_key"})
PUSH_TIMES = frozenset({"push_time", "local_push_time"})
READ_ONLY = frozenset({"campaign_token", "from_api", "dev_only", "created_date", "trigger"})
"""What view adds to the creation format (https://doc.batch.com/developer/api/mep/campaigns/get-campaign)."""


class Translation(NamedTuple):
    """How a parameter that view gives in another form than update takes is sent back."""

    seen: str
    sent: str
    source: str
    convert: Callable[[Any], Any]


def _collapse_key(seen: Any) -> Any:
    return {"enabled": True, "key": seen} if isinstance(seen, str) else seen


TRANSLATIONS: dict[str, Translation] = {
    "gcm_collapse_key": Translation(
        "text",
        'an object {"enabled": true, "key": text}',
        "view's sample (DOCUMENTED) shows the text; clients send the object (OBSERVED)",
        _collapse_key,
    ),
}
"""The known differences between what view gives and what update takes.

A message without its language is filled from the definition; there is nothing to translate it from.
"""


class ParameterDifference(TypedDict):
    """One parameter of a campaign as it is and as it would be. ``now`` is null where the campaign cannot be read."""

    parameter: str
    now: Any
    wanted: Any


def check_token(token: Any) -> str:
    """Return a campaign token that is safe in a URL's path.

    :raises BatchPayloadError: when it is empty, holds a slash, a space, ``..`` or anything else that is not a letter,
        a digit or one of ``._~-``, or is a word of the API's own routes.
    """
    if not isinstance(token, str):
        raise BatchPayloadError(f"A campaign token must be text, not {kind_of(token)}.")
    hint = "Pass the token that Batch returned when the campaign was created"
    if not token:
        raise BatchPayloadError(f"The campaign token is empty. {hint}; a template that renders to nothing?")
    if not _TOKEN.fullmatch(token) or ".." in token or token == ".":
        also = ", or the operator's .output instead of a template of it" if "{" in token else ""
        raise BatchPayloadError(
            f"{shown(token)} is no campaign token: letters, digits and ._~- are allowed. {hint}{also}."
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
                f"but {', '.join(shown(key) for key in islice(campaign, 10)) or 'nothing'}."
            )
        app = campaign.get("app")
        if app is not None and not isinstance(app, str):
            raise BatchPayloadError(f"The app of the given result must be text or null, not {kind_of(app)}.")
        return check_token(campaign["campaign_token"]), app or None
    return check_token(campaign), None


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


def _agrees(wanted: Any, seen: Any) -> bool:
    """Compare a wanted value with the seen one; of objects, only the keys that were wanted."""
    if isinstance(wanted, Mapping) and isinstance(seen, Mapping):
        return all(key in seen and _agrees(value, seen[key]) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(seen, list):
        return len(wanted) == len(seen) and all(map(_agrees, wanted, seen))
    return type(wanted) is type(seen) and bool(wanted == seen)


def contradictions(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    """Return the parameters that tell a campaign as seen from one created with what is wanted.

    Only what both have is compared, for view may leave something out; and not ``live`` and ``push_time: "now"``, which
    change, nor what is seen in another form.
    """
    return [
        name
        for name, value in wanted.items()
        if name in seen
        and name != "live"
        and name not in _NOT_COMPARABLE
        and not (name == "push_time" and value == "now")
        and _contradicts(value, seen[name])
    ]


def difference_rows(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> list[ParameterDifference]:
    """Return field by field how a campaign in request form would change. A ``push_time`` of ``now`` always does."""
    return [
        {"parameter": name, "now": seen.get(name), "wanted": value}
        for name, value in wanted.items()
        if not _agrees(value, seen.get(name))
    ]


def request_form(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return a viewed campaign as update takes it: translated, without what only the server sets and without nulls."""
    return {
        name: TRANSLATIONS[name].convert(value) if name in TRANSLATIONS else value
        for name, value in seen.items()
        if name not in READ_ONLY and value is not None
    }


def overlaid(definition: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition with the wanted parameters in place; one push time takes the other's."""
    replaced = PUSH_TIMES if any(wanted.get(name) is not None for name in PUSH_TIMES) else frozenset()
    return {**{name: value for name, value in definition.items() if name not in replaced}, **wanted}


def completed(seen: Mapping[str, Any], definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return a campaign in request form with what it lacks filled from its definition; where they differ, it wins.

    Not filled are ``live`` and a ``push_time`` of ``now``, which would send the push again.
    """
    has_time = not PUSH_TIMES.isdisjoint(seen)
    fills = {
        name: value
        for name, value in definition.items()
        if value is not None
        and name not in READ_ONLY | {"live"}
        and not (name in PUSH_TIMES and (has_time or value == "now"))
    }
    return {**seen, **{name: _filled(seen[name], value) if name in seen else value for name, value in fills.items()}}


def kept_against(seen: Mapping[str, Any], definition: Mapping[str, Any]) -> list[str]:
    """Return the names of the parameters in which a campaign in request form differs from its definition."""
    comparable = (set(seen) if PUSH_TIMES.isdisjoint(seen) else set(seen) | PUSH_TIMES) - {"live"}
    told = {name: value for name, value in definition.items() if name in comparable and value is not None}
    return [name for name in differences(told, completed(seen, told)) if name not in _NOT_COMPARABLE]


def lost_parameters(before: Mapping[str, Any], after: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return the places of what a campaign had before a write and has no more, but what the write itself replaced."""
    replaced = set(wanted) | (PUSH_TIMES if not PUSH_TIMES.isdisjoint(wanted) else frozenset())
    return _lost({name: value for name, value in before.items() if name not in replaced}, after, "")


def _contradicts(wanted: Any, seen: Any) -> bool:
    if isinstance(wanted, Mapping) and isinstance(seen, Mapping):
        return any(key in seen and _contradicts(value, seen[key]) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(seen, list):
        return len(wanted) != len(seen) or any(map(_contradicts, wanted, seen))
    return wanted is not None and seen is not None and not _agrees(wanted, seen)


def _filled(seen: Any, given: Any) -> Any:
    if isinstance(seen, Mapping) and isinstance(given, Mapping):
        return {**given, **{key: _filled(value, given[key]) if key in given else value for key, value in seen.items()}}
    if isinstance(seen, list) and isinstance(given, list) and len(seen) == len(given):
        return [_filled(item, given[partner]) for item, partner in zip(seen, _partners(seen, given), strict=True)]
    return seen


def _partners(seen: list[Any], given: list[Any]) -> list[int]:
    """Return for each item which of the given ones it is, though the order may have changed and an item been edited."""
    free = list(range(len(given)))
    partners: dict[int, int] = {}
    for index, item in enumerate(seen):
        alike = [other for other in free if not _contradicts(given[other], item)]
        if alike:
            partners[index] = index if index in alike else alike[0]
            free.remove(partners[index])
    edited = iter(free)
    return [partners[index] if index in partners else next(edited) for index in range(len(seen))]


def _lost(before: Any, after: Any, place: str) -> list[str]:
    if before is None:
        return []
    if after is None:
        return [place]
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return [
            gone
            for key, value in before.items()
            for gone in _lost(value, after.get(key), f"{place}.{key}" if place else str(key))
        ]
    if isinstance(before, list) and isinstance(after, list):
        rest = [None] * (len(before) - len(after))
        return [
            gone
            for index, (old, new) in enumerate(zip(before, [*after, *rest], strict=False))
            for gone in _lost(old, new, f"{place}[{index}]")
        ]
    return []
