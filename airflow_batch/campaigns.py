"""What a campaign is, as Batch gives it back: its token, its definition, what differs from what is wanted.

Pure functions: no Airflow, no HTTP, no clock of their own. What the client assumes about Batch without a page that
says so stands in ``ASSUMPTIONS`` and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

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
                f"but {', '.join(map(repr, list(campaign)[:10])) or 'nothing'}."
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
