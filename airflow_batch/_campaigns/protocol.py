"""What the core needs from outside: Batch's API, a clock, the task instance and its saved state.

``BatchHook`` is a :class:`CampaignApi`. The simulator in ``tests/simulation`` stands in for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable


class CampaignApi(Protocol):
    """The calls that the core makes. One call is one request; each failure is a ``BatchApiError``."""

    app: str | None
    time_limit: float | None
    """Seconds that each further request may take; None for the connection's own limits."""

    @property
    def has_answered(self) -> bool:
        """Whether Batch has answered any request made through this object, a refusal included."""

    @property
    def read_only_reason(self) -> str:
        """Why nothing may be written; empty where writes are allowed. Reads the connection, if that is not done yet."""

    def batch_now(self) -> datetime:
        """Return the present moment by the ``Date`` of Batch's last answer; by the local clock where there is none."""

    def get_campaign(self, campaign_token: str) -> dict[str, Any]:
        """View a campaign."""

    def list_campaigns(self) -> Iterator[dict[str, Any]]:
        """List the campaigns, newest first."""

    def create_campaign(self, payload: Mapping[str, Any], *, checked: bool = False) -> str:
        """Create a campaign and return its token. ``checked``: the payload was checked already."""

    def update_campaign(self, campaign_token: str, payload: Mapping[str, Any], *, checked: bool = False) -> int:
        """Update a campaign and return the HTTP status. ``checked``: the payload was checked already."""

    def delete_campaign(self, campaign_token: str) -> int:
        """Delete a campaign and return the HTTP status."""

    @property
    def last_status(self) -> int | None:
        """HTTP status of the last answer."""


class Log(Protocol):
    """Where the core says what it does: a logger of the standard library, or a task's."""

    def info(self, msg: str, /, *args: Any) -> Any:
        """Log what happened."""

    def warning(self, msg: str, /, *args: Any) -> Any:
        """Log what a person should check."""


class Clock(Protocol):
    """The worker's clock."""

    def now(self) -> datetime:
        """Return the present moment in UTC."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present moment in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class StateStore(Protocol):
    """Where a task instance keeps one small JSON object between its attempts. Each call may raise any exception."""

    def load(self) -> dict[str, Any] | None:
        """Return what was saved, None where nothing was."""

    def save(self, record: Mapping[str, Any]) -> None:
        """Replace what was saved."""


@runtime_checkable
class Schedule(Protocol):
    """What says when a campaign should be live, such as a :class:`~airflow_batch.windows.CampaignWindow`."""

    def is_live_at(self, moment: datetime) -> bool:
        """Return whether the campaign should be live at a moment."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt of a task instance.

    :param number: 1 for the first. A reschedule keeps the number, a retry and a cleared task raise it.
    :param max_tries: The number of the last attempt less one; clearing the task raises it.
    :param is_rescheduled: Whether an earlier part of this attempt gave its slot back.
    :param is_mapped: Whether others of the same task may wait for a slot.
    :param run_after: Moment for which the run stands; clearing the task keeps it.
    :param store: None where Airflow keeps nothing between attempts (below 3.3).
    """

    number: int = 1
    max_tries: int = 0
    is_rescheduled: bool = False
    is_mapped: bool = False
    run_after: datetime | None = None
    store: StateStore | None = None

    @property
    def is_last(self) -> bool:
        """Whether no attempt follows a failure of this one."""
        return self.number > self.max_tries
