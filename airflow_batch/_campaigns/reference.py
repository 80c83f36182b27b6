"""How a task names a campaign, and what it says the campaign is: token, expected name, definition."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from airflow_batch._campaigns.protocol import Log
from airflow_batch.exceptions import BatchPayloadError
from airflow_batch.payloads import check_payload, kind_of, shown

RESERVED_TOKENS = frozenset({"list", "create", "update", "delete", "stats"})
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{1,200}")


def check_token(token: Any) -> str:
    """Return a campaign token that is safe in a URL's path.

    :raises BatchPayloadError: when it is empty or the text ``None``, holds anything but letters, digits and ``._~-``,
        or is a word of the API's own routes.
    """
    if not isinstance(token, str):
        raise BatchPayloadError(f"A campaign token must be text, not {kind_of(token)}.")
    hint = "Pass the token that Batch returned when the campaign was created"
    if token.strip() in ("", "None"):
        raise BatchPayloadError(
            f"The campaign token is {token.strip() or 'empty'}: a template may have rendered to nothing. {hint}."
        )
    if not _TOKEN.fullmatch(token) or ".." in token or token == ".":
        also = ", or the operator's .output instead of a template of it" if "{" in token else ""
        raise BatchPayloadError(
            f"{shown(token)} is not a campaign token: letters, digits and ._~- are allowed. {hint}{also}."
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
