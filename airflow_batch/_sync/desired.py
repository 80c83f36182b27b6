"""What many campaigns should be, as a DAG author or an upstream task says it: read and checked. Pure functions.

Making them so is in ``_sync/run.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_batch._campaigns.approval import Approval, read_approval
from airflow_batch._campaigns.payload import read_definition, read_expected_name, read_live, read_reference
from airflow_batch._campaigns.protocol import Schedule
from airflow_batch._values import short_repr, type_name
from airflow_batch.exceptions import BatchError, BatchNotCreatedError, BatchPayloadError

log = logging.getLogger(__name__)

KEYS = ("campaign", "app", "live", "expect_name", "definition")
_EXAMPLE = "{'campaign': TOKEN, 'app': 'ios', 'live': True}"


@dataclass(frozen=True, kw_only=True)
class DesiredCampaign:
    """One campaign of many, and what it should be."""

    token: str
    app: str | None
    live: bool | Schedule
    expect_name: str | None = None
    definition: Mapping[str, Any] | None = None
    approval: Approval | None = None


def read_desired(items: Any, default_app: str | None = None) -> list[DesiredCampaign]:
    """Return the campaigns of a list of objects.

    Each has ``campaign`` (a token, or the result of another Batch task) and ``live`` (a boolean, text that renders to
    one, or a window), and may have ``app``, ``expect_name`` and ``definition`` (its original payload).

    Those whose creation was a dry run are left out, with a line in the log.

    :param default_app: For those that name no app.
    :raises BatchPayloadError: for anything else, and for a campaign that is there twice; the message has its place.
    """
    if not isinstance(items, Sequence) or isinstance(items, str | bytes | bytearray):
        raise BatchPayloadError(f"campaigns must be a list of objects such as {_EXAMPLE}, not {type_name(items)}.")
    # Sliced: Airflow's lazy sequence takes one request for a slice, but one for each item when it is iterated.
    campaigns: dict[int, DesiredCampaign] = {}
    for index, item in enumerate(items[:]):
        try:
            campaigns[index] = _read_one(item, f"campaigns[{index}]", default_app)
        except BatchNotCreatedError as missing:
            log.warning("campaigns[%d] is left out. %s", index, missing)
    places: dict[tuple[str | None, str], int] = {}
    for index, campaign in campaigns.items():
        first = places.setdefault((campaign.app, campaign.token), index)
        if first != index:
            raise BatchPayloadError(
                f"campaigns[{index}] is campaign {campaign.token!r} of campaigns[{first}] again. Name each once."
            )
    return list(campaigns.values())


def _read_one(item: Any, place: str, default_app: str | None) -> DesiredCampaign:
    if not isinstance(item, Mapping):
        raise BatchPayloadError(f"{place} must be an object such as {_EXAMPLE}, not {type_name(item)}.")
    unknown = [key for key in item if key not in KEYS]
    missing = [key for key in ("campaign", "live") if key not in item]
    if unknown or missing:
        found = f"has the unknown key {short_repr(unknown[0])}" if unknown else f"has no {missing[0]!r}"
        raise BatchPayloadError(f"{place} {found}. Allowed are {', '.join(KEYS)}; campaign and live are needed.")
    live = item["live"]
    try:
        token, app = read_reference(item["campaign"])
        # Most are no schedules, and to find that out takes long: the likely kinds come first.
        if isinstance(live, bool | str | type) or not isinstance(live, Schedule):
            live = read_live(live)
        definition = read_definition(item.get("definition"), stops=live is not True, log=log)
    except BatchNotCreatedError:
        raise
    except BatchError as error:
        raise BatchPayloadError(f"{place}: {error}") from None
    for key in ("app", "expect_name"):
        if not isinstance(item.get(key), str | None):
            raise BatchPayloadError(f"{place}: {key} must be text, not {type_name(item[key])}.")
    name = item.get("expect_name")
    name = read_expected_name(name, given=name is not None)
    app = item.get("app") or app or default_app
    approval = read_approval(item["campaign"], app)
    return DesiredCampaign(token=token, app=app, live=live, expect_name=name, definition=definition, approval=approval)
