"""DAG authors as a model: the campaigns they have and the tasks they write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_batch._campaigns.approval import Approval
from airflow_batch._campaigns.request import ChangeRequest, CreateRequest
from airflow_batch._sync.desired import DesiredCampaign
from simulation.batch_model import FIRST_ZONE_SECONDS, Batch, Campaign, as_text, moment

if TYPE_CHECKING:
    from simulation.airflow_model import Plan

MAX_LATENESS_SECONDS = 3600.0
KINDS = ("toggle on", "toggle off", "window", "update", "create", "delete", "notifier", "sync")
CAMPAIGNS = ("one-time", "recurring", "trigger", "A/B", "local")
SYNC_SHARE = 0.12
"""Share of worlds with a sync of many campaigns: such a world takes several times as long as one of the others."""

TEXT = [{"language": "en", "title": "Sale", "body": "Hello"}, {"language": "de", "body": "Hallo"}]
EDITED_TEXT = [{"language": "en", "title": "Sale", "body": "Edited after the question"}]
NEW_TEXT = [{"language": "en", "title": "Autumn", "body": "New"}]
STALE_TEXT = [{"language": "en", "title": "Everything -50%", "body": "Old"}, {"language": "fr", "body": "Bonjour"}]


@dataclass(frozen=True)
class Window:
    """A schedule: live between two moments of true time."""

    opens: float
    closes: float

    def is_live_at(self, now: datetime) -> bool:
        """Return whether the campaign should be live."""
        # Both sides as datetimes: a float of its own would differ from run_after by less than a microsecond.
        return moment(self.opens) <= now < moment(self.closes)

    def changes(self, after: datetime) -> Iterator[tuple[datetime, bool]]:
        """Yield the changes after a moment."""
        for seconds, live in ((self.opens, True), (self.closes, False)):
            if moment(seconds) > after:
                yield moment(seconds), live


@dataclass(frozen=True)
class CampaignSpec:
    """A campaign that is there when the world begins."""

    kind: str = "one-time"
    live: bool = False
    push: float | str | None = 86400.0
    """Push time: seconds after the world's beginning, or "now" (a draft that keeps it)."""
    from_api: bool = True
    messages_absent: bool = False
    app: str | None = None

    def params(self) -> dict[str, Any]:
        """Return its parameters."""
        params: dict[str, Any] = {
            "name": "Summer sale",
            "live": self.live,
            "messages": {"a": TEXT, "b": NEW_TEXT} if self.kind == "A/B" else TEXT,
            "targeting": {"segments": ["DORMANT"]},
            "time_to_live": 3600,
            "gcm_collapse_key": {"enabled": True, "key": "default"},
        }
        if self.kind == "recurring":
            params["recurrence"] = {"repeat_unit": "DAILY", "repeat_frequency": 1}
        if self.kind == "local":
            params["local_push_time"] = as_text(float(self.push if isinstance(self.push, float) else 0.0) + 50400.0)
        elif self.push is not None:
            params["push_time"] = self.push if isinstance(self.push, str) else as_text(self.push)
        if self.messages_absent:
            del params["messages"]
        return params

    def put(self, batch: Batch, token: str) -> None:
        """Put it into Batch."""
        batch.add(Campaign(token, self.params(), self.from_api, self.app, trigger=self.kind == "trigger"))


@dataclass(frozen=True)
class Asked:
    """A person is asked before the task begins, and somebody may edit the campaign after that."""

    approves: bool = True
    edit_at: float | None = None
    """When somebody gives the campaign another text: seconds after the beginning, when the question is put."""
    again: bool = False
    """Whether the approval is cleared, too, when the task is cleared: the question is put anew."""
    other_payload: bool = False
    """Whether the approver of an update is shown another payload than the task has."""


@dataclass(frozen=True)
class Task:
    """What an author wrote."""

    kind: str = "toggle on"
    token: str = "A"
    campaign: str = "one-time"
    """Kind of the campaign that it names, or creates."""
    live: bool | None = True
    window: tuple[float, float] | None = None
    text: bool = False
    push: str | float | None = None
    """The push time that is asked for: "now", or seconds of true time."""
    corrected_push: str | float | None = None
    definition: str = "absent"
    read: bool = True
    expect_name: str | None = None
    latest_off: float | None = None
    missing_ok: bool = False
    answers_201: bool = False
    dry_run: bool = False
    app: str | None = None
    asked_first: Asked | None = None
    items: tuple[Task, ...] = ()
    """The campaigns of a sync, each as the toggle of its own that it stands for."""

    def __str__(self) -> str:
        mild = Task(kind=self.kind, items=self.items)
        shown = [
            f"{item.name}={value!r}"
            for item in fields(self)
            if (value := getattr(self, item.name)) != getattr(mild, item.name)
        ]
        return f"{self.kind}({', '.join([*shown, *map(str, self.items)])})"

    @property
    def action(self) -> str:
        """The entry point: change, create, delete or sync."""
        return self.kind if self.kind in ("create", "delete", "sync") else "change"

    @property
    def parts(self) -> tuple[Task, ...]:
        """What it asks for, campaign by campaign."""
        return self.items if self.kind == "sync" else (self,)

    def of(self, token: str | None) -> Task | None:
        """Return what it asks for of a campaign; None for one that a sync does not name."""
        if self.kind != "sync":
            return self
        return next((item for item in self.items if item.token == token), None)

    def may_stop(self, now: float) -> bool:
        """Return whether it waits for as long as a stop waits."""
        if self.kind == "sync":
            return any(item.live is not True or item.window is not None for item in self.items)
        return self.desired_live(now) is False

    def desired_live(self, now: float) -> bool | None:
        """Return what ``live`` should be at a moment of true time."""
        if self.action == "delete":
            return None
        return self.live if self.window is None else self.window[0] <= now < self.window[1]

    def asked(self, corrected: bool) -> dict[str, Any]:
        """Return the parameters that are asked for, without ``live``."""
        asked: dict[str, Any] = {}
        if self.kind == "create":
            asked = {"name": "Summer sale ", "messages": TEXT, "targeting": {"segments": ["NEW"]}}
        if self.text or (corrected and self.kind in ("update", "create")):
            asked["messages"] = NEW_TEXT if not corrected else [{**NEW_TEXT[0], "body": "Corrected"}]
        push = self.corrected_push if corrected and self.corrected_push is not None else self.push
        if push is not None:
            text = push if isinstance(push, str) else as_text(push)
            if self.campaign == "local" and not isinstance(push, str):
                asked["local_push_time"] = as_text(push + FIRST_ZONE_SECONDS)
            else:
                asked["push_time"] = text
        if self.kind == "create" and self.campaign == "recurring":
            asked["recurrence"] = {"repeat_unit": "DAILY", "repeat_frequency": 1}
        return asked

    def defined(self) -> dict[str, Any] | None:
        """Return the definition."""
        if self.definition == "absent":
            return None
        params = CampaignSpec(kind=self.campaign).params()
        del params["live"]
        if self.campaign != "local":
            params.pop("push_time", None)
            params["push_time"] = as_text(86400.0)
        if self.definition == "stale":
            params["messages"] = STALE_TEXT
            params["labels"] = ["OLD"]
            params["time_to_live"] = 60
        return params

    def latest_on(self, plan: Plan, since: float, corrected: bool) -> float | None:
        """Return the moment after which it is too late to switch on.

        :param since: When the run was due, or when a person has approved.
        """
        immediate = self.asked(corrected).get("push_time") == "now" or (self.kind == "toggle on" and self.live is True)
        return since + MAX_LATENESS_SECONDS if plan.timed and immediate else None

    def payload(self, corrected: bool) -> dict[str, Any] | None:
        """Return the payload of the update that an approver is shown; None for a switch."""
        asked = self.asked(corrected)
        return {**asked, **({} if self.live is None else {"live": self.live})} if self.kind == "update" else None

    def request(
        self, plan: Plan, run_after: float, *, corrected: bool, since: float, approval: Approval | None
    ) -> ChangeRequest | CreateRequest:
        """Return the request that the operator hands to the core."""
        asked = self.asked(corrected)
        latest = self.latest_on(plan, since, corrected)
        latest_on = None if latest is None else moment(latest)
        if self.kind == "create":
            return CreateRequest(payload={**asked, "live": bool(self.live)}, latest_on=latest_on, dry_run=self.dry_run)
        return ChangeRequest(
            token=self.token,
            live=Window(*self.window) if self.window is not None else self.live,
            parameters=asked,
            definition=self.defined(),
            read=self.read,
            expect_name=self.expect_name,
            latest_on=latest_on,
            latest_off=None if self.latest_off is None else moment(run_after) + timedelta(seconds=self.latest_off),
            dry_run=self.dry_run,
            approval=approval,
        )

    def wanted(self) -> DesiredCampaign:
        """Return one campaign of a sync as the operator reads it."""
        return DesiredCampaign(
            token=self.token,
            app=self.app,
            live=Window(*self.window) if self.window is not None else bool(self.live),
            expect_name=self.expect_name,
            definition=self.defined(),
        )
