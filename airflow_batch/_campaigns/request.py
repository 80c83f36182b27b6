"""What a task asks for and what came of it: the values that pass between the core and operators, notifier and sync.

Everything here is checked already and holds no clock, no hook and no Airflow object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from airflow_batch._campaigns.approval import Approval
from airflow_batch._campaigns.diff import Campaign
from airflow_batch._campaigns.protocol import Schedule


class TooLateError(Exception):
    """The run is later than ``max_lateness`` allows: the task is to be skipped. This attempt sent nothing."""


@dataclass(frozen=True, kw_only=True)
class ChangeRequest:
    """A change of one campaign.

    :param live: What ``live`` should be; a schedule is evaluated anew for each plan. None where it does not change.
    :param parameters: The other parameters to set, checked.
    :param definition: The payload that created the campaign, checked; used only where the campaign cannot be read.
    :param read: Whether the campaign may be read before the write. False: ``read="never"``.
    :param verify: Whether a confirmed write is compared with what view shows then: ``auto``, but for a stop of all that
        was read and while Batch throttles the task; ``always``; ``never``.
    :param expect_name: Name that the campaign must have. Empty: one was asked for, but its template rendered to
        nothing, so it cannot be compared.
    :param latest_on: Moment after which nothing that leaves the campaign live is sent any more; None for no limit.
    :param latest_off: Moment after which nothing that stops the campaign is sent any more; None for no limit.
    :param dry_run: Plan and compare, but send nothing.
    :param read_only_reason: Why it is a dry run, where that is the connection.
    :param is_new: ``parameters`` is the whole of a draft that this task instance has created (rule 8): it is sent as it
        is, and view only shows whether it is live.
    :param approval: What a person has approved: nothing but that goes live or is sent. None where nobody was asked.
    """

    token: str
    live: bool | Schedule | None = None
    parameters: Campaign = field(default_factory=dict)
    definition: Campaign | None = None
    read: bool = True
    verify: Literal["auto", "always", "never"] = "auto"
    expect_name: str | None = None
    latest_on: datetime | None = None
    latest_off: datetime | None = None
    dry_run: bool = False
    read_only_reason: str = ""
    is_new: bool = False
    approval: Approval | None = None


@dataclass(frozen=True, kw_only=True)
class CreateRequest:
    """A campaign to create.

    :param payload: The whole payload, checked, with ``name``, ``live`` and ``messages``.
    :param latest_on: As for :class:`ChangeRequest`; given where the payload has ``push_time: "now"``.
    """

    payload: Campaign
    latest_on: datetime | None = None
    dry_run: bool = False
    read_only_reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a campaign.

    :param changed: True when Batch confirmed a write of this task instance, False when none was needed, None when an
        unconfirmed one may have been applied.
    :param sent: The payload that was sent, or would have been.
    :param http_status: Status of the confirmation, None where nothing was sent in this attempt.
    :param would_change: For a dry run, whether something would be sent; else None.
    """

    token: str
    requested_at: datetime
    completed_at: datetime
    changed: bool | None
    sent: Campaign
    live: bool | None
    name: Any
    http_status: int | None = None
    before: Campaign | None = None
    would_change: bool | None = None
