"""The shapes handed to XCom, made of what was sent and seen. Pure functions.

Small, with fixed keys, JSON values only; never a response's body.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NotRequired, TypedDict

from airflow_batch._airflow.task_context import storable, text_or_none
from airflow_batch._campaigns.approval import ApprovalRecord
from airflow_batch._campaigns.diff import ParameterDifference
from airflow_batch._values import iso_utc

MAX_COUNT = 10**15
About = tuple[str | None, str] | None
"""App, and name or token, of the campaign that Airflow's pages show; None for many."""
_COUNT = re.compile(r"[0-9]{1,15}")


class CampaignResult(TypedDict):
    """What a writing operator leaves in XCom.

    ``live``, ``name``, ``changed`` and ``http_status`` are null where they cannot be known. ``attempt`` is the number
    of Airflow's try; waiting out a throttle does not raise it. ``requested_at`` and ``completed_at`` are the moments of
    the last request, ISO 8601 in UTC with offset. ``payload_digest`` is the SHA-256 of the payload that was sent, or
    of what was asked for where nothing was. ``differences`` is there after a dry run alone; the token that a dry run of
    a creation returns begins with ``dry-run-``.
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
    differences: NotRequired[list[ParameterDifference]]


class CampaignSummary(TypedDict):
    """What a sensor leaves in XCom: the campaign as it was seen."""

    campaign_token: str
    app: str | None
    live: bool
    name: str | None
    push_time: str | None
    created_date: str | None
    checked_at: str


class ApprovedCampaign(CampaignSummary):
    """What an approval leaves in XCom: the campaign as it was shown, and what a person answered.

    Pass it as ``campaign=`` to the tasks that follow: they refuse what is not as approved. The key ``approval`` is an
    :class:`~airflow_batch._campaigns.approval.ApprovalRecord`; what it holds may change in any release, but for
    ``approved``, ``answered_by``, ``answered_at``, ``digest`` and ``params_input``.
    """

    approval: ApprovalRecord


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
    """Return a row of statistics with its ``open_rate``, and that of each A/B version, as XCom can hold it.

    (direct_open + influenced_open) / sent, None where nothing was sent or a counter is missing. Batch documents no such
    key; another value that it shows there is kept as ``open_rate_shown``.
    Source: https://doc.batch.com/developer/api/mep/campaigns/get
    """
    rated: dict[str, Any] = storable(row)
    versions = rated.get("versions")
    for item in (rated, *(versions.values() if isinstance(versions, dict) else ())):
        if isinstance(item, dict):
            shown, item["open_rate"] = item.get("open_rate"), _open_rate(item)
            if shown is not None and shown != item["open_rate"]:
                item["open_rate_shown"] = shown
    return rated


def _open_rate(row: Mapping[str, Any]) -> float | None:
    sent, direct, influenced = (read_count(row.get(name)) for name in ("sent", "direct_open", "influenced_open"))
    return None if not sent or direct is None or influenced is None else (direct + influenced) / sent


def read_count(value: Any) -> int | None:
    """Return a number of pushes, given as a number or as its text; None for anything else."""
    if isinstance(value, str):
        return int(value) if _COUNT.fullmatch(value.strip()) else None
    return value if type(value) is int and 0 <= value <= MAX_COUNT else None
