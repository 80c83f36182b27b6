"""How a task names a campaign, and what it says the campaign is: token, expected name, definition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from airflow_batch._campaigns.payload import check_payload
from airflow_batch._campaigns.protocol import Log
from airflow_batch._values import check_token, short_repr, type_name
from airflow_batch.exceptions import BatchPayloadError


def read_reference(campaign: Any) -> tuple[str, str | None]:
    """Return (token, app) of what was passed as ``campaign=``: a token, or the result dict of another task.

    :raises BatchPayloadError: when it is neither.
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
