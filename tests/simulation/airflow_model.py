"""Airflow as a model: attempts, retries, reschedules, crashes, cleared tasks, the task state store, worker clocks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_batch._airflow.compat import AirflowFailException
from airflow_batch._campaigns.approval import read_approval, record_of, shown_now
from airflow_batch._campaigns.protocol import Attempt
from airflow_batch._campaigns.request import Outcome, TooLateError
from airflow_batch.exceptions import BatchError
from simulation import subject
from simulation.batch_model import PUSH_TIMES, Crash, Endless, FakeApi, moment
from simulation.sync_model import run_sync

if TYPE_CHECKING:
    from simulation.authors import Task
    from simulation.worlds import World

NOTIFIER_BUDGET = timedelta(seconds=15)
CALLBACK_SECONDS = 17.0
"""Of the 20 that Airflow gives it; the record and the last answer take a moment."""
MAX_WAIT_SECONDS = 30 * 60
MAX_WAIT_FOR_STOPS_SECONDS = 6 * 3600
MAX_RUNS = 400
"""Runs of one task instance, reschedules included, after which it counts as endless."""


class StoreError(Exception):
    """The task state store cannot be used."""


@dataclass(frozen=True)
class Clear:
    """A task is cleared some time after it has ended."""

    after: float
    corrected: bool = False
    human_stop: bool = False
    """Somebody stops the task's campaigns before the clear."""


@dataclass(frozen=True)
class Plan:
    """What Airflow does with one task instance. The defaults are the mild ones."""

    start: float = 0.0
    store: str = "kept"
    """kept (3.3), emptied when the task is cleared (3.4), missing, or failing: load, save, both, flaky."""
    retries: int = 4
    lateness: float = 1.0
    timed: bool = True
    worker_offsets: tuple[float, ...] = (0.0,)
    clears: tuple[Clear, ...] = ()
    read_only_since: int | None = None
    """The run of the task instance, from 1, before which its connection gets ``dry_run``. None: it never does."""


class ModelStore:
    """A store of one task instance."""

    def __init__(self, world: World, instance: TaskInstance, mode: str) -> None:
        self.world = world
        self.instance = instance
        self.mode = mode
        self.text: str | None = None

    def _fails(self, side: str) -> bool:
        fails = self.mode in (side, "both") or (self.mode == "flaky" and self.world.rng.random() < 0.4)
        if fails:
            self.world.note(f"the store failed to {side}")
            self.world.log(f"  store: {side} fails")
        return fails

    def load(self) -> dict[str, Any] | None:
        """Return what was saved."""
        self.world.point("before a load", self.instance)
        if self._fails("load"):
            raise StoreError("load")
        return None if self.text is None else json.loads(self.text)

    def save(self, record: Mapping[str, Any]) -> None:
        """Replace what was saved."""
        world = self.world
        world.point("before a save", self.instance)
        world.batch.advance(world.batch.time + 0.02 + 0.1 * world.rng.random())
        text = json.dumps(record)
        if self._fails("save"):
            if self.mode == "flaky" and world.rng.random() < 0.5:
                self.text = text
            raise StoreError("save")
        self.text = text
        if world.is_logging:
            world.log(f"  save {text}")
        world.point("after a save", self.instance)


class WorkerClock:
    """The clock of the worker that runs an attempt."""

    def __init__(self, world: World, instance: TaskInstance, offset: float) -> None:
        self.world = world
        self.instance = instance
        self.offset = offset

    def now(self) -> datetime:
        """Return what the worker believes to be the present moment."""
        return moment(self.world.batch.time + self.offset)

    def sleep(self, seconds: float) -> None:
        """Wait, while others go on."""
        self.world.log(f"  sleep {seconds:.1f} s")
        self.world.point("before a sleep", self.instance)
        self.world.sleep(seconds)


@dataclass(frozen=True)
class Report:
    """What a sync leaves in XCom, also where it fails, by token."""

    outcomes: dict[str, Outcome]
    failed: dict[str, str]
    skipped: dict[str, str]

    def __str__(self) -> str:
        done = {token: f"live={one.live} changed={one.changed}" for token, one in self.outcomes.items()}
        return f"{done} failed={self.failed} skipped={list(self.skipped)}"

    @classmethod
    def of(cls, sync: Any) -> Report:
        """Return the report of a sync that has ended."""
        progress, tokens = sync.progress, [campaign.token for campaign in sync.desired]
        failed = {tokens[index]: type(error).__name__ for index, error in progress.failed.items()}
        skipped = {tokens[index]: why for index, why in progress.skipped.items()}
        named = {tokens[index]: outcome for index, outcome in progress.outcomes.items()}
        return cls({token: named[token] for token in named if token not in {**failed, **skipped}}, failed, skipped)


@dataclass(eq=False)
class TaskInstance:
    """One task instance with all its attempts, reschedules and clears."""

    name: str
    task: Task
    plan: Plan
    store: ModelStore | None = None
    round: int = 0
    number: int = 1
    max_tries: int = 0
    runs: int = 0
    refused_since: float | None = None
    refusals: int = 0
    """Reschedules since then."""
    end: str | None = None
    error: str = ""
    outcome: Outcome | None = None
    sync: Any = None
    """The sync of the attempt that runs, or ran."""
    report: Report | None = None
    ended_at: float = 0.0
    round_began: float = 0.0
    running: bool = False
    created: set[str] = field(default_factory=set)
    stops_tried: set[str] = field(default_factory=set)
    last_api: FakeApi | None = None
    attempt_began: float = 0.0
    dead: bool = False
    """The attempt's worker was killed, so nothing that it does afterwards takes effect."""
    crashed: bool = False
    corrected: bool = False
    throttled: bool = False
    was_throttled: bool = False
    right_clocks: bool = True
    human_stopped_at: float | None = None
    approval: dict[str, Any] | None = None
    """The result of the approval, as the task gets it."""
    shown: dict[str, Any] | None = None
    """The campaign as the approver saw it, with the payload in place."""
    approved_at: float = 0.0
    ends: list[str] = field(default_factory=list)

    @property
    def is_read_only(self) -> bool:
        """Whether the connection of the present run allows no write."""
        return self.plan.read_only_since is not None and self.runs >= self.plan.read_only_since

    @property
    def run_after(self) -> float:
        """The moment for which the run stands."""
        return self.plan.start - self.plan.lateness

    @property
    def lateness_since(self) -> float:
        """The moment from which lateness counts."""
        return self.run_after if self.approval is None else self.approved_at


def begin(world: World, instance: TaskInstance) -> None:
    """Schedule the first attempt."""
    if instance.plan.store != "missing" and instance.task.kind != "notifier":
        instance.store = ModelStore(world, instance, instance.plan.store)
    instance.max_tries = 0 if instance.task.kind == "notifier" else instance.plan.retries
    instance.round_began = instance.plan.start
    world.later(instance.plan.start, lambda: run(world, instance))


def ask(world: World, instance: TaskInstance) -> None:
    """Put the question about a campaign to a person, who answers at once."""
    asked, task = instance.task.asked_first, instance.task
    campaign = world.batch.campaigns.get(task.token)
    if asked is None or campaign is None:
        return
    view, now = world.batch.view(campaign, campaign.params), world.batch.time
    corrected = instance.corrected or (asked.other_payload and task.kind == "update")
    payload = task.payload(corrected)
    instance.shown = {**campaign.params, **task.asked(corrected)}
    for name, other in (PUSH_TIMES, PUSH_TIMES[::-1]):
        if name in task.asked(corrected):
            instance.shown.pop(other, None)
    instance.approved_at = now
    shown = shown_now(task.token, task.app, view, payload, moment(now))
    record = record_of(shown, approved=asked.approves, at=moment(now), by="somebody")
    instance.approval = json.loads(json.dumps({"campaign_token": task.token, "app": task.app, "approval": record}))
    world.note("somebody approved" if asked.approves else "somebody rejected")
    world.log(f"{instance.name}: a person {'approves' if asked.approves else 'rejects'} {instance.shown}")


def run(world: World, instance: TaskInstance) -> None:
    """Run one attempt and decide what follows."""
    instance.runs += 1
    if instance.runs > MAX_RUNS:
        world.violation("endless", f"{instance.name} ran {instance.runs} times")
        return _ended(world, instance, "failed", "endless")
    offsets = instance.plan.worker_offsets
    offset = offsets[min(instance.runs - 1, len(offsets) - 1)]
    api = FakeApi(world, instance, offset, instance.task.app)
    instance.last_api, instance.crashed, instance.running = api, False, True
    instance.dead, instance.sync, instance.report = False, None, None
    date = world.batch.nature.date_offset
    if abs(offset) > 300:
        world.note("a worker's clock was wrong")
        if date is None or abs(date) > 300:
            world.note("no clock was right")
            instance.right_clocks = False
    if world.is_logging:
        world.log(
            f"{instance.name}: attempt {instance.number} of {instance.max_tries + 1} (round {instance.round}, worker "
            f"{offset:+.0f} s) {instance.task}"
        )
    began = instance.attempt_began = world.batch.time
    try:
        outcome = _call(world, instance, api, WorkerClock(world, instance, offset))
    except Crash as crash:
        instance.crashed = True
        world.log(f"  CRASH {crash}")
        _retry(world, instance, world.rng.uniform(5, 300), "crash")
    except Endless:
        world.violation("endless", f"{instance.name}: an attempt does not end")
        _ended(world, instance, "failed", "endless")
    except TooLateError as error:
        world.note("skipped: too late")
        _ended(world, instance, "skipped", str(error))
    except BatchError as error:
        world.log(f"  {type(error).__name__}: {error}")
        _failed(world, instance, error)
    except NotImplementedError:
        raise
    except Exception as error:
        if world.strict:
            raise
        world.violation("unexpected error", f"{instance.name}: {type(error).__name__}: {error}")
        _ended(world, instance, "failed", type(error).__name__)
    else:
        instance.outcome = outcome
        _ended(world, instance, "success", "")
    if world.batch.time - began > 3600 and not instance.stops_tried:
        world.violation("endless", f"{instance.name}: an attempt took {world.batch.time - began:.0f} s")
    took = world.batch.time - began
    if instance.task.kind == "notifier" and took > CALLBACK_SECONDS and not world.overslept and not instance.crashed:
        world.violation("a callback took too long", f"{instance.name}: {took:.1f} s")
    instance.running = False


def _call(world: World, instance: TaskInstance, api: FakeApi, clock: WorkerClock) -> Outcome | None:
    task, plan = instance.task, instance.plan
    if task.kind == "notifier":
        attempt = Attempt()
    else:
        attempt = Attempt(
            number=instance.number,
            max_tries=instance.max_tries,
            is_rescheduled=instance.refusals > 0,
            is_mapped=world.spec.seed % 2 == 0,
            run_after=moment(instance.run_after),
            store=instance.store,
        )
    if task.kind == "sync":
        try:
            run_sync(world, instance, api, clock, attempt, throttled_for=MAX_WAIT_SECONDS)
        except Exception:
            instance.report = None if instance.sync is None else Report.of(instance.sync)
            raise
        instance.report = Report.of(instance.sync)
        return None
    client: Callable[..., Outcome] = subject.CLIENTS[world.client][task.action]
    if task.action == "delete":
        return client(
            api, clock, attempt, task.token, missing_ok=task.missing_ok, dry_run=task.dry_run, log=subject.LOG
        )
    request = task.request(
        plan,
        instance.run_after,
        corrected=instance.corrected,
        since=instance.lateness_since,
        approval=read_approval(instance.approval, task.app),
    )
    if task.kind == "notifier":
        return client(api, clock, attempt, request, log=subject.LOG, budget=NOTIFIER_BUDGET)
    return client(api, clock, attempt, request, log=subject.LOG)


def _failed(world: World, instance: TaskInstance, error: BatchError) -> None:
    name = type(error).__name__
    now = world.batch.time
    if getattr(error, "throttled", False):
        # A throttle that delays a stop stays possible; a callback that cannot wait fails loudly.
        instance.throttled = instance.was_throttled = True
        if instance.task.kind != "notifier" and getattr(error, "may_be_rescheduled", True):
            if instance.refused_since is None or (instance.sync is not None and instance.sync.has_written):
                instance.refused_since = now
            stops = instance.task.may_stop(now)
            instance.refusals += 1
            wait = max(
                min(10.0 * 2 ** min(instance.refusals - 1, 6), 600.0), getattr(error, "retry_after", None) or 0.0
            )
            limit = MAX_WAIT_FOR_STOPS_SECONDS if stops else MAX_WAIT_SECONDS
            if now + wait - instance.refused_since <= limit:
                world.note("rescheduled")
                world.later(now + wait, lambda: run(world, instance))
                return
            world.note("throttled for longer than max_wait")
            _ended(world, instance, "failed", f"{name} (max_wait)")
            return
    if isinstance(error, AirflowFailException):
        _ended(world, instance, "failed", name)
        return
    delay = min(600.0, 10.0 * 2 ** min(instance.number - 1, 8)) * world.rng.uniform(0.8, 1.2)
    _retry(world, instance, max(delay, getattr(error, "retry_after", None) or 0.0), name)


def _retry(world: World, instance: TaskInstance, delay: float, name: str) -> None:
    if instance.number > instance.max_tries:
        return _ended(world, instance, "failed", name)
    instance.number += 1
    instance.refused_since, instance.refusals = None, 0
    world.note("retried")
    world.later(world.batch.time + delay, lambda: run(world, instance))
    return None


def _ended(world: World, instance: TaskInstance, end: str, error: str) -> None:
    instance.end, instance.error, instance.ended_at = end, error, world.batch.time
    instance.ends.append(end)
    if end != "success":
        instance.outcome = None
    world.log(f"{instance.name}: {end.upper()} {error} {instance.outcome or instance.report or ''}")
    world.ended(instance)
    # A callback keeps no state: when its task is cleared, there is another callback.
    if instance.round < len(instance.plan.clears) and instance.task.kind != "notifier":
        clear = instance.plan.clears[instance.round]
        instance.round += 1
        world.later(world.batch.time + clear.after, lambda: _clear(world, instance, clear))
        if clear.human_stop:
            world.later(world.batch.time + clear.after / 2, lambda: world.human_stop(instance))


def _clear(world: World, instance: TaskInstance, clear: Clear) -> None:
    world.note("cleared")
    if instance.store is not None and instance.plan.store == "emptied":
        instance.store.text = None
        world.note("cleared, the store emptied")
    if clear.corrected:
        instance.corrected = True
        world.note("cleared with a corrected payload")
    if instance.task.asked_first is not None and instance.task.asked_first.again:
        world.note("cleared with its approval")
        ask(world, instance)
    instance.end, instance.outcome, instance.error = None, None, ""
    instance.max_tries = instance.number + instance.plan.retries
    instance.number += 1
    instance.refused_since, instance.refusals, instance.throttled = None, 0, False
    instance.stops_tried.clear()
    instance.round_began = world.batch.time
    run(world, instance)
