"""Which campaigns are exported, and which have statistics that may have changed. Pure functions.

What a campaign does not show counts as recent: one too many is read, and none is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow_batch._campaigns.diff import read_moment
from airflow_batch._campaigns.rules import is_one_time

LOCAL_TIMES = timedelta(hours=38)
"""How long after its ``local_push_time`` or ``end_date``, read as UTC, a campaign may be sent: the last time zone is 12
hours behind UTC, and Batch documents that such a campaign runs for some 24 hours, and up to 2 more do no harm."""


def may_have_been_sent_since(campaign: Mapping[str, Any], moment: datetime) -> bool:
    """Return whether a campaign, as view shows it, may have been live or pushed at ``moment`` or later.

    A recurring campaign and a trigger automation count until their end, also if they are stopped: Batch does not show
    since when. Of another type than Batch documents, ``recurrence`` and ``trigger`` count as well.
    """
    if is_one_time(campaign) and not campaign.get("recurrence") and campaign.get("trigger") is None:
        local = read_moment(campaign.get("local_push_time"))
        ends = [read_moment(campaign.get("push_time")), None if local is None else local + LOCAL_TIMES]
        known = [end for end in ends if end is not None]
        return not known or max(known) >= moment
    recurrence = campaign.get("recurrence")
    end = read_moment(recurrence.get("end_date")) if isinstance(recurrence, Mapping) else None
    return end is None or end + LOCAL_TIMES >= moment


def is_created_since(campaign: Mapping[str, Any], moment: datetime) -> bool:
    """Return whether a campaign was created at ``moment`` or later, or does not show when."""
    created = read_moment(campaign.get("created_date"))
    return created is None or created >= moment
