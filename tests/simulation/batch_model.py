"""Batch as a model: campaigns, writes that are applied now, late or never, views that lag, and the pushes that go out.

Time is a float: seconds of true time since ``BASE``. What Batch does not document is a field of the world's ``Nature``
with each of its answers. Nothing here imports a rule of the package.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_batch.exceptions import (
    BatchAmbiguousError,
    BatchApiError,
    BatchApiMisuseError,
    BatchAuthenticationError,
    BatchConnectionError,
    BatchMaintenanceError,
    BatchMalformedParameterError,
    BatchMissingParameterError,
    BatchNotFoundError,
    BatchRateLimitError,
    BatchResponseError,
    BatchServerError,
)

if TYPE_CHECKING:
    from simulation.airflow_model import TaskInstance
    from simulation.worlds import World

BASE = datetime(2026, 6, 1, 12, tzinfo=UTC)
FIRST_ZONE_SECONDS = 14 * 3600
READ_ONLY = ("campaign_token", "from_api", "dev_only", "created_date", "trigger")
PUSH_TIMES = ("push_time", "local_push_time")
PAGE = 100
OTHERS = [
    {"campaign_token": f"other{index}", "from_api": True, "dev_only": False, "name": "Theirs", "live": index % 2 == 0}
    for index in range(3 * PAGE)
]
DEV_APP = "dev"
"""The app of which the connection has a Dev key, whatever that of the others is."""
MAX_CALLS = 250
BATCH_FLOOR_SECONDS = 5.0
"""Seconds that Batch asks to wait after a 429."""
"""Requests of one attempt after which it counts as endless."""


class Crash(BaseException):
    """The worker process is killed here."""


class Endless(BaseException):
    """An attempt that does not end."""


def moment(seconds: float) -> datetime:
    """Return true time as a datetime."""
    return BASE + timedelta(seconds=seconds)


def as_text(seconds: float) -> str:
    """Return true time as Batch writes it."""
    return f"{moment(seconds):%Y-%m-%dT%H:%M:%S}"


_read: dict[str, float | None] = {}


def seconds_of(text: Any) -> float | None:
    """Return a time that was written as text as true time, None where it is none."""
    if not isinstance(text, str):
        return None
    if text not in _read:
        if len(_read) > 100_000:
            _read.clear()
        try:
            value = datetime.fromisoformat(text)
            value = value if value.tzinfo else value.replace(tzinfo=UTC)
            _read[text] = (value - BASE).total_seconds()
        except ValueError:
            _read[text] = None
    return _read[text]


def is_one_time(campaign: Mapping[str, Any]) -> bool:
    """Return whether a campaign sends once, at its push time."""
    return not campaign.get("recurrence") and not isinstance(campaign.get("trigger"), dict | list)


@dataclass(frozen=True)
class Nature:
    """What Batch is like in one world. The defaults are the mild ones."""

    merge: bool = True
    strict: bool = False
    """400 for an update without name or messages."""
    passed_sends: bool = False
    """A push time that has passed sends at once on going live; else it is refused (400)."""
    again: str = "nothing"
    """``live: true`` on a campaign whose push went out: "sends", "refused" or "nothing"."""
    now_again_sends: bool = True
    draft_now_stays: bool = False
    view_lag: float = 0.0
    lag_varies: bool = False
    dev_key: bool = False
    dev_can_list: bool = False
    date_offset: float | None = 0.0
    """How far Batch's Date is ahead of true time; None where there is no Date."""
    trims_names: bool = False
    dates_with_z: bool = False
    null_fields: bool = False
    unknown_keys: bool = False
    numbers_as_text: bool = False
    refuses_view_form: bool = False
    refuses_names: bool = False
    """Whether an update may hold no name: Batch refuses the one that the campaign has."""
    """400 for a key that only view shows."""
    dashboard_refused: bool = True
    others: int = 0
    """Campaigns of others in the list."""
    others_at: int = 0
    """How many campaigns of the world the list shows before them."""
    list_shifts: int = 0
    """How far the list shifts while it is paged: -1 for a campaign that is created, 1 for one that is deleted."""
    drops: bool = False
    """An update loses the targeting."""


@dataclass(eq=False)
class Write:
    """One request that writes."""

    kind: str
    token: str | None
    payload: dict[str, Any]
    sent_at: float
    sender: TaskInstance | None
    round: int = 0
    attempt: int = 0
    number: int = 0
    applied_at: float | None = None
    answer: str = ""
    may_apply: bool = True
    app: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.token or ''} {self.payload}"


@dataclass(eq=False)
class Push:
    """One push that went out."""

    token: str
    at: float
    write: Write | None


@dataclass(eq=False)
class Campaign:
    """A campaign as Batch holds it, with its past."""

    token: str
    params: dict[str, Any]
    from_api: bool = True
    app: str | None = None
    created: float = 0.0
    trigger: bool = False
    deleted: bool = False
    sent_for: set[str] = field(default_factory=set)
    live_write: Write | None = None
    history: list[tuple[float, dict[str, Any] | None]] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)

    def state_at(self, time: float) -> dict[str, Any] | None:
        """Return the parameters as they were at a moment."""
        for since, state in reversed(self.history):
            if since <= time:
                return state
        return None


class Refused(Exception):
    """A definite refusal."""

    def __init__(self, status: int, error: type[BatchApiError], text: str) -> None:
        super().__init__(text)
        self.status = status
        self.error = error


class Batch:
    """The service of one world."""

    def __init__(self, nature: Nature, note: Callable[[str], None], log: Callable[[str], None]) -> None:
        self.nature = nature
        self.note = note
        self.log = log
        self.time = 0.0
        self.campaigns: dict[str, Campaign] = {}
        self.pushes: list[Push] = []
        self.writes: list[Write] = []
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.serial = 0

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Do something at a later moment."""
        self.serial += 1
        heapq.heappush(self.events, (time, self.serial, action))

    def advance(self, until: float) -> None:
        """Let time pass."""
        while self.events and self.events[0][0] <= until:
            time, _, action = heapq.heappop(self.events)
            self.time = max(self.time, time)
            action()
        self.time = max(self.time, until)

    def add(self, campaign: Campaign) -> None:
        """Put a campaign there, as somebody else made it."""
        self.campaigns[campaign.token] = campaign
        campaign.history.append((-1e9, dict(campaign.params)))
        due = self._due(campaign.params, campaign.trigger)
        if due is not None and campaign.params["live"]:
            if due > self.time:
                self._schedule(campaign, due)
            else:
                campaign.sent_for.add(self._key(campaign.params))

    def apply(self, write: Write) -> str | None:
        """Apply a write and return the token.

        :raises Refused: where Batch refuses it.
        """
        if write.kind == "create":
            return self._create(write)
        campaign = self.campaigns.get(write.token or "")
        if campaign is None or campaign.deleted or (write.sender is not None and campaign.app != write.app):
            raise Refused(404, BatchNotFoundError, "no such campaign")
        if write.kind == "delete":
            campaign.deleted = True
            campaign.history.append((self.time, None))
            self._applied(campaign, write)
            return campaign.token
        payload, nature = write.payload, self.nature
        if not campaign.from_api and nature.dashboard_refused and write.sender is not None:
            raise Refused(403, BatchApiMisuseError, "made in the dashboard")
        if nature.strict and not ("name" in payload and "messages" in payload and "live" in payload):
            raise Refused(400, BatchMissingParameterError, "name, live or messages is missing")
        if nature.refuses_names and "name" in payload and write.sender is not None:
            raise Refused(400, BatchMalformedParameterError, "this name is not allowed")
        if nature.refuses_view_form and "view_only" in payload:
            raise Refused(400, BatchMalformedParameterError, "view_only is not a parameter")
        old = campaign.params
        new = {**old, **payload} if nature.merge else {**payload, "live": payload.get("live", old["live"])}
        if nature.merge:
            for name, other in (PUSH_TIMES, PUSH_TIMES[::-1]):
                if payload.get(name) is not None and payload.get(other) is None:
                    new.pop(other, None)
        if nature.drops and write.sender is not None:
            new.pop("targeting", None)
        self._put(campaign, new, write)
        return campaign.token

    def _create(self, write: Write) -> str:
        if not all(name in write.payload for name in ("name", "live", "messages")):
            raise Refused(400, BatchMissingParameterError, "name, live or messages is missing")
        campaign = Campaign(f"new{len(self.campaigns)}", {}, created=self.time)
        write.token = campaign.token
        self._put(campaign, dict(write.payload), write)
        self.campaigns[campaign.token] = campaign
        return campaign.token

    def _put(self, campaign: Campaign, new: dict[str, Any], write: Write) -> None:
        new = {name: value for name, value in new.items() if value is not None and name not in READ_ONLY}
        if self.nature.trims_names and isinstance(new.get("name"), str):
            new["name"] = new["name"].strip()
        if new["live"]:
            self._go_live(campaign, new, write)
        elif new.get("push_time") == "now" and not self.nature.draft_now_stays:
            new["push_time"] = as_text(self.time)
            self.note("the now of a draft became a moment")
        campaign.params = new
        campaign.history.append((self.time, new))
        if new["live"]:
            campaign.live_write = write
        self._applied(campaign, write)
        due = self._due(new, campaign.trigger)
        if new["live"] and due is not None and due > self.time:
            self._schedule(campaign, due)

    def _go_live(self, campaign: Campaign, new: dict[str, Any], write: Write) -> None:
        if new.get("push_time") == "now":
            new["push_time"] = as_text(self.time)
            if campaign.sent_for and not self.nature.now_again_sends:
                self.note("now again on a sent campaign sent nothing")
            else:
                if campaign.sent_for:
                    self.note("now again on a sent campaign sent again")
                self._push(campaign, write)
            campaign.sent_for.add(new["push_time"])
            return
        due = self._due(new, campaign.trigger)
        if due is None or due > self.time:
            return
        key = self._key(new)
        if key in campaign.sent_for:
            if write.payload.get("live") is not True:
                return
            self.note(f"live again on a sent campaign: {self.nature.again}")
            if self.nature.again == "refused":
                raise Refused(400, BatchMalformedParameterError, "the campaign is complete")
            if self.nature.again == "sends":
                self._push(campaign, write)
            return
        if not self.nature.passed_sends:
            self.note("a passed push time was refused")
            raise Refused(400, BatchMalformedParameterError, "the push time has passed")
        self.note("a passed push time sent at once")
        self._push(campaign, write)
        campaign.sent_for.add(key)

    def _applied(self, campaign: Campaign, write: Write) -> None:
        write.applied_at = self.time
        campaign.writes.append(write)

    def _schedule(self, campaign: Campaign, due: float) -> None:
        key = self._key(campaign.params)

        def reached() -> None:
            live = not campaign.deleted and campaign.params["live"]
            if live and self._key(campaign.params) == key and key not in campaign.sent_for:
                campaign.sent_for.add(key)
                self._push(campaign, campaign.live_write)

        self.at(due, reached)

    def _push(self, campaign: Campaign, write: Write | None) -> None:
        self.pushes.append(Push(campaign.token, self.time, write))
        self.log(f"    *** PUSH of {campaign.token}, by {write.sender.name if write and write.sender else 'others'}")

    @staticmethod
    def _key(params: Mapping[str, Any]) -> str:
        text = params.get("push_time") or params.get("local_push_time") or ""
        return str(text).removesuffix("Z")

    @staticmethod
    def _due(params: Mapping[str, Any], trigger: bool) -> float | None:
        if trigger or params.get("recurrence"):
            return None
        due = seconds_of(params.get("push_time"))
        if due is None:
            local = seconds_of(params.get("local_push_time"))
            due = None if local is None else local - FIRST_ZONE_SECONDS
        return due

    def view(self, campaign: Campaign, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return a campaign as view shows it."""
        nature = self.nature
        view = {"campaign_token": campaign.token, "from_api": campaign.from_api, "dev_only": False, **state}
        view["created_date"] = as_text(campaign.created)
        if campaign.trigger:
            view["trigger"] = {}
        collapse = view.get("gcm_collapse_key")
        if isinstance(collapse, dict):
            view["gcm_collapse_key"] = collapse["key"]
        if not view.get("labels"):
            view.pop("labels", None)
        if nature.numbers_as_text and "time_to_live" in view:
            view["time_to_live"] = str(view["time_to_live"])
        if nature.dates_with_z:
            for name in PUSH_TIMES[:1]:
                if seconds_of(view.get(name)) is not None and not view[name].endswith("Z"):
                    view[name] += "Z"
        if nature.null_fields:
            view = {"recurrence": None, "targeting": None, "local_push_time": None, **view}
            if not campaign.trigger:
                view["trigger"] = None
        if nature.unknown_keys:
            view["view_only"] = 7
        return view


WRITE_REFUSALS: dict[str, tuple[int, type[BatchApiError]]] = {
    "400": (400, BatchMalformedParameterError),
    "401": (401, BatchAuthenticationError),
    "403": (403, BatchApiMisuseError),
    "404": (404, BatchNotFoundError),
}


@dataclass
class Seen:
    """What an attempt has read and tried so far, by campaign."""

    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    fresh_at: dict[str, float] = field(default_factory=dict)
    """When view last showed the newest state."""
    first_at: dict[str, float] = field(default_factory=dict)
    """When view first showed the campaign."""
    names: dict[str, str] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)
    """Campaigns with a write, or with a view that failed."""
    lost: set[str | None] = field(default_factory=set)
    """Apps of which a view showed that a write has lost something."""
    calls: int = 0
    not_before: float = 0.0
    """When Batch allows the next request after a throttle."""


class FakeApi:
    """``CampaignApi`` for one attempt, or for one thread of it and one app."""

    def __init__(self, world: World, instance: TaskInstance, worker_offset: float, app: str | None = None) -> None:
        self.app = app
        self.dev_key = world.batch.nature.dev_key or app == DEV_APP
        self.world = world
        self.instance = instance
        self.worker_offset = worker_offset
        self.has_answered = False
        self.last_status: int | None = None
        self.date_gap: float | None = None
        self.last_took = 0.0
        self.time_limit: float | None = None
        self.seen = Seen()

    @property
    def read_only_reason(self) -> str:
        """Why nothing may be written; empty where writes are allowed."""
        if not self.instance.is_read_only:
            return ""
        since = "" if self.instance.plan.read_only_since == 1 else ", from a later attempt on"
        self.world.note(f"a connection that never writes{since}")
        return "connection 'batch' has dry_run"

    def batch_now(self) -> datetime:
        """Return the present moment by Batch's Date, by the worker's clock where there is none."""
        return moment(self.world.batch.time + self.worker_offset + (self.date_gap or 0.0))

    # Reads.

    def get_campaign(self, campaign_token: str) -> dict[str, Any]:
        """View a campaign."""
        world = self.world
        fault = self._begin("r", f"view {campaign_token}")
        is_tried = campaign_token in self.seen.tried
        self.seen.tried.add(campaign_token)
        self._read_fault(fault, "view")
        if self.dev_key:
            raise self._refused(403, BatchApiMisuseError, "view")
        campaign = world.batch.campaigns.get(campaign_token)
        lag = self._lag()
        state = None if campaign is None else campaign.state_at(world.batch.time - lag)
        if campaign is not None and campaign.app != self.app:
            campaign = state = None
        if campaign is None or state is None:
            if campaign is not None and not campaign.deleted:
                world.note("a view did not know a new campaign yet")
            raise self._refused(404, BatchNotFoundError, "view")
        if state is not campaign.history[-1][1]:
            world.note("a view showed an older state")
        else:
            self.seen.fresh_at[campaign_token] = world.batch.time
        self.seen.first_at.setdefault(campaign_token, world.batch.time)
        view = world.batch.view(campaign, state)
        self.seen.views[campaign_token], self.seen.names[campaign_token] = view, str(view.get("name", ""))
        if not is_tried:
            self.seen.tried.discard(campaign_token)
        self._answered(200, f"live={view['live']} push_time={view.get('push_time')}")
        self._end(fault)
        return dict(view)

    def list_campaigns(self) -> Iterator[dict[str, Any]]:
        """List the campaigns, page by page, each once."""
        listed: set[str] = set()
        shift = 0
        for start in range(0, 10 * PAGE, PAGE):
            page = self._page(start, start + shift)
            new = [item for item in page if item["campaign_token"] not in listed]
            listed.update(item["campaign_token"] for item in new)
            yield from new
            if len(page) < PAGE or not new:
                return
            shift += self.world.batch.nature.list_shifts
            if shift:
                self.world.note("the list shifted while it was read")

    def _page(self, start: int, first: int) -> list[dict[str, Any]]:
        world, nature = self.world, self.world.batch.nature
        fault = self._begin("r", f"list from {start}" if start else "list")
        self._read_fault(fault, "list")
        if self.dev_key and not nature.dev_can_list:
            raise self._refused(403, BatchApiMisuseError, "list")
        then = world.batch.time - self._lag()
        items = []
        for campaign in reversed(world.batch.campaigns.values()):
            state = campaign.state_at(then)
            if state is not None and campaign.app == self.app:
                view = world.batch.view(campaign, state)
                names = ("campaign_token", "from_api", "dev_only", "created_date", "name", "live")
                items.append({name: view[name] for name in names if name in view})
        items[nature.others_at : nature.others_at] = OTHERS[: nature.others]
        items = items[first : first + PAGE]
        self.seen.names.update({item["campaign_token"]: str(item.get("name", "")) for item in items})
        self._answered(200, f"{len(items)} campaigns")
        if start:
            world.note("a second page of the list")
        self._end(fault)
        return items

    # Writes.

    def create_campaign(self, payload: Mapping[str, Any], *, checked: bool = False) -> str:
        """Create a campaign."""
        _, token = self._write("create", None, payload)
        return token

    def update_campaign(self, campaign_token: str, payload: Mapping[str, Any], *, checked: bool = False) -> int:
        """Update a campaign."""
        return self._write("update", campaign_token, payload)[0]

    def delete_campaign(self, campaign_token: str) -> int:
        """Delete a campaign."""
        return self._write("delete", campaign_token, {})[0]

    def _write(self, kind: str, token: str | None, payload: Mapping[str, Any]) -> tuple[int, str]:
        world, batch, instance = self.world, self.world.batch, self.instance
        write = Write(
            kind, token, dict(payload), batch.time, instance, instance.round, instance.runs, len(batch.writes)
        )
        write.app = self.app
        if token is not None:
            self.seen.tried.add(token)
            if write.payload.get("live") is False:
                instance.stops_tried.add(token)
        fault = self._begin("w", str(write) if world.is_logging else "")
        name = fault.split(":")[0]
        if kind == "delete" and name == "404":
            # A 404 that Batch answers to a deletion is always true.
            fault = name = ""
        if name == "conn":
            raise self._unreachable(kind)
        batch.writes.append(write)
        world.sent(write, self)
        if name in ("429", "503") or name in WRITE_REFUSALS:
            self.instance.crashed |= name == "401" and instance.sync is not None
            write.answer, write.may_apply = name, False
            if name in WRITE_REFUSALS:
                raise self._refused(*WRITE_REFUSALS[name], kind)
            raise self._throttled(fault, kind)
        if name in ("timeout", "reset", "500", "garbage"):
            self._take_effect(write, fault.split(":")[1])
            write.answer = "ambiguous"
            raise self._ambiguous(name, kind)
        if name == "crash_late":
            self._take_effect(write, fault.split(":")[1])
            self._crash("after a request that is applied late")
        batch.advance(batch.time + self.last_took / 2)
        try:
            new = batch.apply(write)
        except Refused as refusal:
            write.answer, write.may_apply = str(refusal.status), False
            raise self._refused(refusal.status, refusal.error, kind, str(refusal)) from None
        if name == "crash_applied":
            self._crash("after a request was applied, before its answer")
        batch.advance(batch.time + self.last_took / 2)
        write.answer = "confirmed"
        status = 201 if kind == "create" or instance.task.answers_201 else 200
        self._answered(status, new or "")
        self._end(fault)
        return status, new or ""

    def _take_effect(self, write: Write, effect: str) -> None:
        world, batch = self.world, self.world.batch

        def apply() -> None:
            try:
                batch.apply(write)
                world.log(f"    ... {write.kind} {write.token} takes effect now, after an ambiguous answer")
            except Refused as refusal:
                world.note("an ambiguous write was refused when it arrived")
                world.log(f"    ... {write.kind} is refused when it arrives, after an ambiguous answer: {refusal}")

        if effect == "lost":
            world.note("ambiguous write: lost")
        elif effect == "now":
            world.note("ambiguous write: applied at once")
            apply()
        else:
            world.note("ambiguous write: applied late")
            batch.at(write.sent_at + float(effect), apply)

    # What every request does.

    def _begin(self, side: str, what: str) -> str:
        world = self.world
        if self.instance.dead:
            raise Crash("dead already")
        self.seen.calls += 1
        if self.seen.calls > MAX_CALLS * (4 if self.instance.task.kind == "sync" else 1):
            raise Endless
        fault = world.fault(side)
        world.log(f"  {what}" + (f"   [{fault}]" if fault else ""))
        if self.instance.sync is None and world.batch.time < self.seen.not_before - 0.01:
            early = self.seen.not_before - world.batch.time
            world.violation("sent before Batch allows it", f"{self.instance.name}: {early:.1f} s early: {what}")
        if fault == "crash_before":
            self._crash("before a request")
        if fault == "killed" and self.instance.sync is not None:
            world.note("a sync was stopped by Airflow")
            self.instance.sync.stop()
            self.instance.crashed = True
            fault = ""
        longest = 60.0 if self.time_limit is None else self.time_limit
        self.last_took = longest if fault.startswith("timeout") else min(longest, world.duration())
        if side == "r":
            world.batch.advance(world.batch.time + self.last_took)
        return fault

    def _end(self, fault: str) -> None:
        if fault == "crash_after":
            self._crash("after an answer")

    def _crash(self, where: str) -> None:
        self.world.note(f"crash {where}")
        self.instance.dead = True
        raise Crash(where)

    def _pass_write_time(self, endpoint: str) -> None:
        if endpoint in ("create", "update", "delete"):
            self.world.batch.advance(self.world.batch.time + self.last_took)

    def _answered(self, status: int, text: str = "") -> None:
        world = self.world
        self.last_status, self.has_answered = status, True
        offset = world.batch.nature.date_offset
        if offset is not None:
            self.date_gap = float(int(world.batch.time + offset)) - (world.batch.time + self.worker_offset)
        world.log(f"    -> {status} {text}")

    def _refused(self, status: int, error: type[BatchApiError], endpoint: str, text: str = "") -> BatchApiError:
        self._pass_write_time(endpoint)
        self._answered(status, text)
        return error(f"{endpoint}: {status} {text}", status_code=status, endpoint=endpoint)

    def _throttled(self, fault: str, endpoint: str) -> BatchApiError:
        self._pass_write_time(endpoint)
        status = int(fault[:3])
        self._answered(status)
        after = float(fault.split(":")[1]) if ":" in fault else None
        self.seen.not_before = self.world.batch.time + max(BATCH_FLOOR_SECONDS, after or 0.0)
        error = BatchRateLimitError if status == 429 else BatchMaintenanceError
        return error(f"{endpoint}: {status}", status_code=status, retry_after=after, endpoint=endpoint)

    def _unreachable(self, endpoint: str) -> BatchApiError:
        self.world.note("not connected")
        self._pass_write_time(endpoint)
        self.world.log("    -> not connected")
        return BatchConnectionError(f"{endpoint}: not connected", endpoint=endpoint)

    def _ambiguous(self, name: str, endpoint: str) -> BatchApiError:
        writes = endpoint in ("create", "update", "delete")
        self._pass_write_time(endpoint)
        if name in ("timeout", "reset"):
            self.world.log(f"    -> {name}")
            return BatchAmbiguousError(f"{endpoint}: {name}", endpoint=endpoint, may_have_been_applied=writes)
        self._answered(500 if name == "500" else 200, name)
        error = BatchServerError if name == "500" else BatchResponseError
        status = 500 if name == "500" else 200
        return error(f"{endpoint}: {name}", status_code=status, endpoint=endpoint, may_have_been_applied=writes)

    def _read_fault(self, fault: str, endpoint: str) -> None:
        name = fault.split(":")[0]
        if name == "401" and self.instance.sync is not None:
            # Keys that are refused twice end a sync: nothing gets through with them.
            self.instance.crashed = True
        if not name or name.startswith("crash"):
            if name == "crash_applied":
                self._crash("after a read, before its answer")
            return
        if name == "conn":
            raise self._unreachable(endpoint)
        if name in ("429", "503"):
            raise self._throttled(fault, endpoint)
        if name in WRITE_REFUSALS:
            raise self._refused(*WRITE_REFUSALS[name], endpoint)
        if name == "other":
            self.world.note("a view was about another campaign")
        raise self._ambiguous("garbage" if name == "other" else name, endpoint)

    def _lag(self) -> float:
        nature = self.world.batch.nature
        return nature.view_lag * self.world.rng.random() if nature.lag_varies else nature.view_lag
