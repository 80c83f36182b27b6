"""A world: created from a seed and run. A world with a violation can be printed and shrunk.

``run_world(spec_of(seed))`` is deterministic. ``story(seed)`` prints a world attempt by attempt, ``shrink(seed)``
removes what the violation does not need.
"""

from __future__ import annotations

import heapq
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any

from simulation import invariants, subject
from simulation.airflow_model import Clear, Plan, TaskInstance, ask, begin
from simulation.authors import EDITED_TEXT, SYNC_SHARE, Asked, CampaignSpec, Task
from simulation.batch_model import DEV_APP, Batch, Crash, FakeApi, Nature, Refused, Write

DAY = 86400.0
SYNC_SEEDS = 1 << 64
"""A separate seed decides which worlds have a sync, so that the others stay the same for their seeds."""
READ_ONLY_SHARE = 0.03
"""Share of worlds with a connection that never writes."""
MILD = ("500", "reset", "429", "crash")
STALL_SECONDS = 30 * DAY
OVERSLEPT_SECONDS = 5.0


@dataclass(frozen=True)
class Spec:
    """Everything that makes a world."""

    seed: int
    nature: Nature = field(default_factory=Nature)
    campaigns: tuple[tuple[str, CampaignSpec], ...] = ()
    tasks: tuple[tuple[Task, Plan], ...] = ()
    faults: tuple[tuple[str, int, str], ...] = ()
    """(r or w, number of the request of that side, fault)"""
    periods: tuple[tuple[float, float, str, str], ...] = ()
    """(from, until, r or w or both, fault)"""
    crash_points: tuple[int, ...] = ()
    mild: str | None = None


@dataclass
class Result:
    """The result of a world."""

    spec: Spec
    violations: list[tuple[str, str]] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    ends: list[tuple[str, str, str]] = field(default_factory=list)
    """(kind of task, end, error)"""
    lines: list[str] = field(default_factory=list)

    @property
    def failing(self) -> list[tuple[str, str]]:
        """The violations that count."""
        return [violation for violation in self.violations if not violation[0].startswith("unavoidable:")]


class World:
    """A world that runs."""

    def __init__(self, spec: Spec, client: str, *, is_logging: bool = False, strict: bool = False) -> None:
        self.spec = spec
        self.client = client
        self.is_logging = is_logging
        self.strict = strict
        self.result = Result(spec)
        self.rng = random.Random(spec.seed * 7919 + 1)
        self.batch = Batch(spec.nature, self.note, self.log)
        self.agenda: list[tuple[float, int, Callable[[], None]]] = []
        self.serial = 0
        self.counts = {"r": 0, "w": 0}
        self.points = 0
        self.depth = 0
        self.overslept = False
        self.faults = {(side, number): fault for side, number, fault in spec.faults}
        self.instances: list[TaskInstance] = []

    def note(self, what: str) -> None:
        """Count a rare situation."""
        self.result.notes[what] += 1

    def log(self, line: str) -> None:
        """Add a line to the log of the world."""
        if self.is_logging:
            self.result.lines.append(f"{self.batch.time:10.1f}  {line}")

    def violation(self, kind: str, text: str) -> None:
        """Record a violation."""
        if self.overslept and kind in ("green, but not live", "green, but not stopped", "red, and no stop was tried"):
            kind = f"unavoidable: a worker was suspended: {kind}"
        self.log(f"!!! {kind}: {text}")
        self.result.violations.append((kind, text))

    def duration(self) -> float:
        """Return how long a request takes."""
        return 0.1 + 1.9 * self.rng.random() ** 3

    def fault(self, side: str) -> str:
        """Return what happens to the next request."""
        self.counts[side] += 1
        fault = self.faults.get((side, self.counts[side]))
        if fault is None and self.spec.periods:
            now = self.batch.time
            for since, until, of, kind in self.spec.periods:
                if since <= now < until and side in of:
                    fault = kind
        if fault is None:
            return ""
        self.note(f"fault {fault.split(':')[0]} of a {'read' if side == 'r' else 'write'}")
        return fault

    def point(self, where: str, instance: TaskInstance) -> None:
        """Crash here, where the world says so."""
        if instance.dead:
            raise Crash("dead already")
        self.points += 1
        if self.points in self.spec.crash_points:
            self.note(f"crash {where}")
            instance.dead = True
            raise Crash(where)

    def sent(self, write: Write, api: FakeApi) -> None:
        """Check a request that is being sent."""
        invariants.check_sent(self, write, api)

    def ended(self, instance: TaskInstance) -> None:
        """Check the end of a task later, when nothing of it can take effect any more."""
        end, error, now, began = instance.end or "", instance.error, self.batch.time, instance.round_began
        self.result.ends.append((instance.task.kind, end, error))
        for task in instance.task.parts:
            for edge, what in zip(task.window or (), ("opened", "closed"), strict=False):
                if began < edge <= now:
                    self.note(f"a window {what} during a task")
            if isinstance(task.push, float) and began < task.push <= now:
                self.note("a push time passed during a task")
        ended = invariants.Ended(
            end, error, instance.outcome, instance.report, began, now, is_read_only=instance.is_read_only
        )
        self.batch.at(now + invariants.LATEST_EFFECT_SECONDS, lambda: invariants.check_end(self, instance, ended))

    def human_stop(self, instance: TaskInstance) -> None:
        """Somebody stops the campaigns that a task has created or changed."""
        for campaign in list(self.batch.campaigns.values()):
            if campaign.writes and not campaign.deleted and any(w.sender is instance for w in campaign.writes):
                if campaign.params["live"]:
                    self.note("somebody stopped the campaign before the task was cleared")
                    instance.human_stopped_at = self.batch.time
                    self.log(f"    somebody stops {campaign.token}")
                write = Write("update", campaign.token, {**campaign.params, "live": False}, self.batch.time, None)
                self.batch.apply(write)

    def edit(self, instance: TaskInstance, asked: Asked) -> None:
        """Let somebody give the campaign of a task another text after the approver has seen it."""
        campaign = self.batch.campaigns.get(instance.task.token)
        if asked.edit_at is None or campaign is None:
            return
        token = campaign.token

        def edited() -> None:
            if not campaign.deleted:
                self.note("somebody edited the campaign after the question")
                self.log(f"    somebody edits {token}")
                payload = {**campaign.params, "messages": EDITED_TEXT}
                with suppress(Refused):
                    self.batch.apply(Write("update", token, payload, self.batch.time, None))

        self.batch.at(asked.edit_at, edited)

    def later(self, time: float, action: Callable[[], None]) -> None:
        """Run something at a later moment."""
        self.serial += 1
        heapq.heappush(self.agenda, (time, self.serial, action))

    def sleep(self, seconds: float) -> None:
        """Let time pass for one worker, while the others work."""
        until = self.batch.time + max(0.0, seconds)
        self.depth += 1
        while self.agenda and self.agenda[0][0] <= until and self.depth < 3:
            time, _, action = heapq.heappop(self.agenda)
            self.batch.advance(time)
            self.note("another task ran during a sleep")
            action()
        self.depth -= 1
        # The other's whole attempt, its waits included, ran within this sleep: as if this worker had been suspended.
        self.overslept |= self.batch.time > until + OVERSLEPT_SECONDS
        self.batch.advance(until)

    def run(self) -> Result:
        """Run the world to its end."""
        for token, campaign in self.spec.campaigns:
            campaign.put(self.batch, token)
        for index, (task, plan) in enumerate(self.spec.tasks):
            instance = TaskInstance(f"task{index}", task, plan)
            self.instances.append(instance)
            if task.asked_first is not None:
                ask(self, instance)
                self.edit(instance, task.asked_first)
            begin(self, instance)
        while self.agenda:
            time, _, action = heapq.heappop(self.agenda)
            self.batch.advance(time)
            self.depth = 0
            action()
        self.batch.advance(self.batch.time + STALL_SECONDS)
        invariants.check_pushes(self, self.instances)
        for instance in self.instances:
            if instance.end is None:
                self.violation("endless", f"{instance.name} has no end")
        self._note_shape()
        return self.result

    def _note_shape(self) -> None:
        spec, nature = self.spec, self.spec.nature
        if nature.date_offset is None:
            self.note("no Date")
        elif abs(nature.date_offset) > 300:
            self.note("Batch's Date was wrong")
        if any(not campaign.from_api for _, campaign in spec.campaigns):
            self.note("a dashboard campaign")
        for name in ("trims_names", "null_fields", "unknown_keys", "refuses_view_form", "dev_key", "strict"):
            if getattr(nature, name):
                self.note(f"Batch: {name}")
        self.note("Batch: merges" if nature.merge else "Batch: replaces")
        for task, plan in spec.tasks:
            self.note(f"task: {task.kind}")
            self.note(f"store: {plan.store}")
            if task.dry_run:
                self.note("a dry run")
            for part in task.parts:
                self.note(f"campaign: {part.campaign}")
                self.note(f"definition: {part.definition}")
                if part.expect_name is not None:
                    named = {"Summer sale": "right", "": "empty"}.get(part.expect_name, "wrong")
                    self.note(f"expect_name: {named}")
            if plan.lateness > 600:
                self.note("a late run or a backfill")
        if len(spec.tasks) > 1:
            same = spec.tasks[0][0].token == spec.tasks[1][0].token
            self.note("two runs on one campaign" if same else "mapped tasks")
        sent = [push for push in self.batch.pushes if push.write is not None and push.write.sender is not None]
        self.note(f"pushes by tasks: {min(len(sent), 3)}")


def run_world(spec: Spec, client: str = "core", *, is_logging: bool = False, strict: bool = False) -> Result:
    """Run a world."""
    return World(spec, client, is_logging=is_logging, strict=strict).run()


# How worlds are made.


def spec_of(seed: int) -> Spec:
    """Return the world of a seed. In some the connection never writes, or does not from a later attempt on."""
    spec, apart = _writable(seed), random.Random(seed + 5 * SYNC_SEEDS)
    if spec.mild is not None or apart.random() >= READ_ONLY_SHARE:
        return spec
    since = apart.choice((1, 1, 2, 3))
    return replace(spec, tasks=tuple((task, replace(plan, read_only_since=since)) for task, plan in spec.tasks))


def _writable(seed: int) -> Spec:
    """Return the world of a seed, with a connection that writes."""
    rng = random.Random(seed)
    apart = random.Random(seed + SYNC_SEEDS)
    if apart.random() < SYNC_SHARE:
        return _sync_world(seed, rng)
    mild = rng.choice(MILD) if rng.random() < 0.15 else None
    nature = Nature(dev_key=rng.random() < 0.4, merge=rng.random() < 0.5) if mild else _nature(rng)
    first = _task(rng, "A", mild is not None)
    plan = _plan(rng, first, mild is not None)
    if first.kind == "window":
        first = replace(first, window=_window(rng, -plan.lateness))
    if apart.random() < 0.02 and first.kind not in ("delete", "notifier"):
        first = replace(first, dry_run=True)
    tasks = [(first, plan)]
    campaigns = [("A", _campaign(rng, first, mild is not None))] if first.kind != "create" else []
    if mild is None and rng.random() < 0.15:
        token = "A" if rng.random() < 0.6 else "B"
        second = _task(rng, token, False)
        second = replace(second, campaign=first.campaign)
        start = rng.choice((0.5, 5.0, 40.0, 100.0, 130.0, 400.0))
        other = replace(_plan(rng, second, False), start=start)
        if second.kind == "window":
            second = replace(second, window=_window(rng, start - other.lateness))
        tasks.append((second, other))
        if second.kind != "create" and token not in dict(campaigns):
            campaigns.append((token, _campaign(rng, second, False)))
    faults, periods, points = _faults(rng, mild)
    rare = random.Random(seed + 2 * SYNC_SEEDS)
    if mild is None and rare.random() < 0.02:
        nature, faults, periods, points = replace(nature, refuses_names=True, strict=False), (), (), ()
    if first.kind == "notifier" and mild is None and rare.random() < 0.1:
        # Batch answers nothing for as long as the callback lasts.
        faults = tuple((side, number, "timeout" + ":lost" * (side == "w")) for number in (1, 2, 3, 4) for side in "rw")
    if first.kind == "window" and mild is None and rare.random() < 0.05:
        # A worker whose clock is a day ahead stops the campaign, and that takes effect late.
        plan = replace(plan, store="kept", retries=4, worker_offsets=(DAY, 0.0, 0.0, 0.0, 0.0))
        tasks[0], faults = (first, plan), (("w", 1, f"reset:{rare.choice((20, 45, 70))}"),)
    if first.kind == "create" and plan.clears and rare.random() < 0.2:
        # It goes live, the answer is lost, somebody stops it, and the task is cleared.
        plan, faults = replace(plan, store="kept"), (("w", 2, "reset:now"),)
        clears = tuple(replace(clear, human_stop=True) for clear in plan.clears)
        tasks[0] = (first, replace(plan, clears=clears))
    elif first.kind == "create" and plan.clears and rare.random() < 0.5:
        clears = tuple(replace(clear, human_stop=True) for clear in plan.clears)
        tasks[0] = (first, replace(plan, clears=clears))
    approving = random.Random(seed + 3 * SYNC_SEEDS)
    if mild is None and first.kind in ("toggle on", "window", "update") and _some(approving, 0.2):
        tasks[0] = (replace(tasks[0][0], asked_first=_asked(approving)), tasks[0][1])
    return Spec(seed, nature, tuple(campaigns), tuple(tasks), faults, periods, points, mild)


def _asked(rng: random.Random) -> Asked:
    edit_at = rng.choice((0.0, 0.0, 1.0, 3.0, 20.0, 150.0, 700.0, 4000.0)) if _some(rng, 0.6) else None
    return Asked(approves=not _some(rng, 0.15), edit_at=edit_at, again=_some(rng, 0.5), other_payload=_some(rng, 0.1))


def _sync_world(seed: int, rng: random.Random) -> Spec:
    mild = rng.choice(MILD) if rng.random() < 0.15 else None
    nature = Nature(dev_key=rng.random() < 0.4, merge=rng.random() < 0.5) if mild else _nature(rng)
    nature = replace(
        nature,
        others=rng.choice((0, 0, 0, 0, 97, 99, 150)),
        others_at=rng.randint(0, 3),
        list_shifts=0 if mild or _some(rng, 0.7) else rng.choice((-1, 1)),
        drops=mild is None and _some(rng, 0.05),
    )
    sync = Task(kind="sync", dry_run=_some(rng, 0.05))
    plan = _plan(rng, sync, mild is not None)
    items, campaigns = [], list[tuple[str, CampaignSpec]]()
    for token in "ABCDEF"[: rng.randint(2, 6)]:
        kind = rng.choices(("toggle on", "toggle off", "window"), (4, 3, 3))[0]
        item = _task(rng, token, mild is not None, kind)
        item = replace(
            item, read=True, latest_off=None, app=DEV_APP if _some(rng, 0.15) else None, dry_run=sync.dry_run
        )
        if kind == "window":
            item = replace(item, window=_window(rng, -plan.lateness))
        items.append(item)
        there = replace(_campaign(rng, item, mild is not None), app=item.app)
        if mild is not None or not _some(rng, 0.05):
            campaigns.append((token, there))
    tasks = [(replace(sync, items=tuple(items)), plan)]
    if mild is None and _some(rng, 0.1):
        # Another run switches one of its campaigns meanwhile.
        kind = rng.choice(("toggle on", "toggle off", "update"))
        other = replace(_task(rng, "A", False, kind), campaign=items[0].campaign, app=items[0].app)
        start = rng.choice((0.5, 5.0, 40.0, 100.0, 130.0, 400.0))
        tasks.append((other, replace(_plan(rng, other, False), start=start)))
    faults, periods, points = _faults(rng, mild, many=True)
    return Spec(seed, nature, tuple(campaigns), tuple(tasks), faults, periods, points, mild)


def _some(rng: random.Random, share: float) -> bool:
    return rng.random() < share


def _nature(rng: random.Random) -> Nature:
    date: float | None = rng.uniform(-2, 2)
    if _some(rng, 0.2):
        date = rng.choice((None, -30.0, 30.0, 240.0, -240.0, 400.0, -400.0, 3600.0, -3600.0, DAY, -DAY))
    return Nature(
        merge=_some(rng, 0.5),
        strict=_some(rng, 0.3),
        passed_sends=_some(rng, 0.5),
        again=rng.choice(("sends", "refused", "nothing")),
        now_again_sends=_some(rng, 0.7),
        draft_now_stays=_some(rng, 0.5),
        view_lag=rng.choice((5.0, 20.0, 60.0, 100.0)) if _some(rng, 0.25) else 0.0,
        lag_varies=_some(rng, 0.5),
        dev_key=_some(rng, 0.25),
        dev_can_list=_some(rng, 0.5),
        date_offset=date,
        trims_names=_some(rng, 0.5),
        dates_with_z=_some(rng, 0.2),
        null_fields=_some(rng, 0.2),
        unknown_keys=_some(rng, 0.2),
        numbers_as_text=_some(rng, 0.1),
        refuses_view_form=_some(rng, 0.1),
        dashboard_refused=_some(rng, 0.7),
    )


def _campaign(rng: random.Random, task: Task, mild: bool) -> CampaignSpec:
    if mild:
        return CampaignSpec(kind=task.campaign, live=task.kind in ("toggle off", "notifier"))
    push: float | str = DAY
    if _some(rng, 0.45):
        push = rng.choice((-DAY, -1800.0, 20.0, 70.0, 130.0, 200.0, 600.0, "now"))
    live = _some(rng, 0.7 if task.live is False else 0.3)
    if push == "now" and live:
        push = -1800.0
    kind = task.campaign
    if kind == "local" and push == "now":
        push = 600.0
    return CampaignSpec(
        kind=kind, live=live, push=push, from_api=not _some(rng, 0.06), messages_absent=_some(rng, 0.02)
    )


def _window(rng: random.Random, run_after: float) -> tuple[float, float]:
    choice = rng.random()
    if choice < 0.5:
        return run_after, run_after + rng.choice((15.0, 40.0, 70.0, 100.0, 150.0, 300.0, 900.0, 4 * 3600.0))
    if choice < 0.75:
        return run_after - 3600.0, run_after
    if choice < 0.85:
        # A run before the opening: retries and waits may reach it.
        return run_after + (opens := rng.choice((15.0, 60.0, 125.0))), run_after + opens + 900.0
    return run_after - 3600.0, run_after + rng.choice((30.0, 100.0, 3600.0))


def _task(rng: random.Random, token: str, mild: bool, kind: str | None = None) -> Task:
    if kind is None:
        kinds = ("toggle on", "toggle off", "window", "update", "create", "delete", "notifier")
        kind = rng.choices(kinds, (22, 16, 20, 20, 16, 6, 6))[0]
    one_time = kind in ("update", "create") or _some(rng, 0.6)
    campaign = "one-time" if one_time and _some(rng, 0.8) else rng.choice(("recurring", "trigger", "A/B", "local"))
    if kind == "create" and campaign == "trigger":
        campaign = "one-time"
    live: bool | None = True
    push: str | float | None = None
    corrected: str | float | None = None
    if kind in ("toggle off", "notifier"):
        live = kind == "notifier" and _some(rng, 0.2)
    if kind in ("update", "create"):
        live = rng.choices((True, None, False), (6, 3, 1))[0] if kind == "update" else _some(rng, 0.85)
        push = rng.choices((None, "now", 45.0, 100.0, 160.0, 300.0, DAY, -1800.0), (3, 8, 1, 1, 1, 1, 3, 1))[0]
        if kind == "create" and push is None:
            push = DAY
        if campaign == "local" and push == "now":
            push = DAY
        if _some(rng, 0.3):
            corrected = rng.choice(("now", 2 * DAY)) if campaign != "local" else 2 * DAY
    definition = rng.choices(("absent", "right", "stale"), (5, 3, 2))[0] if kind != "create" else "absent"
    name: str | None = None
    if kind not in ("create", "delete") and _some(rng, 0.25):
        name = rng.choices(("Summer sale", "Other", ""), (6, 3, 1))[0]
    if mild:
        name, push = None, (push if push in ("now", DAY) else (DAY if kind == "create" else None))
        definition = "right"
    return Task(
        kind=kind,
        token=token,
        campaign=campaign,
        live=live,
        window=(0.0, 1.0) if kind == "window" else None,
        text=kind == "update" and (push is None or _some(rng, 0.5)),
        push=push,
        corrected_push=corrected,
        definition=definition,
        read=mild or kind in ("create", "delete") or not _some(rng, 0.05),
        expect_name=name,
        latest_off=6 * 3600.0 if kind == "toggle off" and _some(rng, 0.1) else None,
        missing_ok=_some(rng, 0.3),
        answers_201=_some(rng, 0.2),
    )


def _plan(rng: random.Random, task: Task, mild: bool) -> Plan:
    store = rng.choices(
        ("kept", "emptied", "missing", "load", "save", "both", "flaky"),
        (8, 5, 6, 1, 1, 1, 2) if not mild else (2, 0, 2, 0, 0, 0, 0),
    )[0]
    if mild:
        return Plan(store=store, retries=4)
    offsets = [rng.uniform(-2, 2) for _ in range(5)]
    if _some(rng, 0.12):
        wrong = rng.choice((20.0, -20.0, 240.0, -240.0, 400.0, -400.0, 7200.0, -7200.0, DAY, -DAY))
        if _some(rng, 0.4):
            offsets = [wrong] * 5
        else:
            offsets[rng.choice((0, 0, 1, 2))] = wrong
    lateness = rng.uniform(0.5, 5)
    if _some(rng, 0.15):
        lateness = rng.choice((60.0, 1800.0, 3500.0, 3590.0, 3700.0, 6 * 3600.0, 30 * DAY))
    clears: list[Clear] = []
    while _some(rng, 0.3 if not clears else 0.15):
        after = rng.choice((120.0, 180.0, 600.0, 3600.0, DAY, 3 * DAY))
        clears.append(Clear(after, corrected=_some(rng, 0.3), human_stop=_some(rng, 0.2)))
    return Plan(
        store=store,
        retries=rng.choice((0, 1, 3, 4, 6)),
        lateness=lateness,
        timed=_some(rng, 0.7),
        worker_offsets=tuple(offsets),
        clears=tuple(clears),
    )


READ_FAULTS = ("conn", "500", "timeout", "reset", "429", "429:40", "503", "404", "403", "garbage", "other", "401")
WRITE_FAULTS = ("conn", "429", "429:30", "429:700", "503", "400", "403", "404", "401")
EFFECTS = ("lost", "now", "late")


def _ambiguous(rng: random.Random) -> str:
    effect = rng.choice(EFFECTS)
    if effect == "late":
        effect = rng.choice(("8", "20", "45", "70", "99"))
    return f"{rng.choices(('timeout', 'reset', '500', 'garbage'), (3, 3, 3, 1))[0]}:{effect}"


def _fault(rng: random.Random, side: str) -> str:
    choice = rng.random()
    if choice < 0.12:
        return rng.choice(("crash_before", "crash_applied", "crash_after", "crash_late:60"))
    if side == "w":
        return _ambiguous(rng) if choice < 0.75 else rng.choices(WRITE_FAULTS, (4, 4, 3, 1, 3, 1, 1, 1, 0.3))[0]
    return rng.choices(READ_FAULTS, (3, 3, 2, 2, 2, 2, 2, 1, 1, 2, 1, 0.3))[0]


def _faults(
    rng: random.Random, mild: str | None, *, many: bool = False
) -> tuple[tuple[tuple[str, int, str], ...], tuple[tuple[float, float, str, str], ...], tuple[int, ...]]:
    if mild is not None:
        side, number = rng.choice((("r", 1), ("w", 1), ("w", 1), ("w", 2), ("r", 2)))
        number += rng.randint(0, 4) if many else 0
        if mild == "crash":
            if _some(rng, 0.3):
                return (), (), (rng.randint(1, 4),)
            return ((side, number, rng.choice(("crash_before", "crash_applied", "crash_after"))),), (), ()
        kind = mild if mild == "429" else (f"{mild}:lost" if side == "w" else mild)
        return ((side, number, kind),), (), ()
    how_many = rng.choices((0, 1, 2, 3, 12), (12, 38, 32, 12, 6))[0]
    faults = []
    for _ in range(how_many):
        side = "w" if _some(rng, 0.6) else "r"
        number = rng.choice((1, 1, 1, 2, 2, 3, 4)) if how_many < 12 else rng.randint(1, 25)
        if many and _some(rng, 0.6):
            number = rng.randint(1, 15)
        faults.append((side, number, "killed" if many and _some(rng, 0.03) else _fault(rng, side)))
    periods = []
    if _some(rng, 0.06):
        since = rng.choice((0.0, 1.0, 30.0))
        until = since + rng.choice((60.0, 300.0, 2000.0, 3600.0, 8 * 3600.0))
        side = rng.choice(("r", "w", "rw"))
        kind = rng.choice(("429", "429:600", "503", "conn", "reset:lost", "500:lost"))
        periods.append((since, until, side, kind))
    points = (rng.randint(1, 12),) if _some(rng, 0.12) else ()
    return tuple(dict.fromkeys(faults)), tuple(periods), points


# How a world is printed.


class _LogHandler(logging.Handler):
    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def emit(self, record: logging.LogRecord) -> None:
        self.world.log(f"  log: {record.getMessage()}")


def log_of(spec: Spec, client: str = "core") -> str:
    """Return the dimensions of a world that are not the mild ones, and its log."""
    world = World(spec, client, is_logging=True)
    handler, level = _LogHandler(world), subject.LOG.level
    subject.LOG.addHandler(handler)
    subject.LOG.setLevel(logging.INFO)
    try:
        result = world.run()
    finally:
        subject.LOG.removeHandler(handler)
        subject.LOG.setLevel(level)
    return "\n".join([*describe(spec), *result.lines])


def describe(spec: Spec) -> list[str]:
    """Return the dimensions of a world that are not the mild ones."""
    lines = [f"world {spec.seed}: {_unusual(spec.nature)}"]
    lines += [f"  campaign {token}: {_unusual(campaign)}" for token, campaign in spec.campaigns]
    lines += [f"  {task}, {_unusual(plan)}" for task, plan in spec.tasks]
    lines.append(f"  faults {spec.faults} periods {spec.periods} crash points {spec.crash_points}")
    return lines


def _unusual(value: Any) -> str:
    default = type(value)()
    shown = [
        f"{item.name}={getattr(value, item.name)!r}"
        for item in fields(value)
        if getattr(value, item.name) != getattr(default, item.name)
    ]
    return f"{type(value).__name__}({', '.join(shown)})"


def story(seed: int, client: str = "core") -> None:
    """Print the story of a seed."""
    print(log_of(spec_of(seed), client))


def shrink(seed: int, client: str = "core", kind: str | None = None) -> Spec:
    """Print the smallest world with the violation of a seed, and its story."""
    spec = shrunk(spec_of(seed), client, kind)
    print(log_of(spec, client))
    return spec


def shrunk(spec: Spec, client: str = "core", kind: str | None = None) -> Spec:
    """Return a world with as few dimensions as the violation needs."""
    if kind is None:
        found = run_world(spec, client)
        kind = (found.failing or found.violations)[0][0]

    def violates(candidate: Spec) -> bool:
        return any(name == kind for name, _ in run_world(candidate, client).violations)

    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(spec):
            if violates(candidate):
                spec, smaller = candidate, True
                break
    return spec


def _smaller(spec: Spec) -> Iterator[Spec]:
    for name in ("tasks", "faults", "periods", "crash_points"):
        items = getattr(spec, name)
        for index in range(len(items)):
            if name != "tasks" or len(items) > 1:
                yield replace(spec, **{name: items[:index] + items[index + 1 :]})
    named = {part.token for task, _ in spec.tasks for part in task.parts}
    if len(there := tuple(place for place in spec.campaigns if place[0] in named)) < len(spec.campaigns):
        yield replace(spec, campaigns=there)
    for nature in _milder(spec.nature):
        yield replace(spec, nature=nature)
    for index, (task, plan) in enumerate(spec.tasks):
        for other in _milder_tasks(task):
            yield replace(spec, tasks=(*spec.tasks[:index], (other, plan), *spec.tasks[index + 1 :]))
        for clear in range(len(plan.clears)):
            less = replace(plan, clears=plan.clears[:clear] + plan.clears[clear + 1 :])
            yield replace(spec, tasks=(*spec.tasks[:index], (task, less), *spec.tasks[index + 1 :]))
        windows = any(part.window is not None for part in task.parts)
        keep = ("clears", "start", "lateness") if windows else ("clears", "start")
        for milder in _milder(plan, keep=keep):
            yield replace(spec, tasks=(*spec.tasks[:index], (task, milder), *spec.tasks[index + 1 :]))
    for index, (token, campaign) in enumerate(spec.campaigns):
        for other in _milder(campaign):
            yield replace(spec, campaigns=(*spec.campaigns[:index], (token, other), *spec.campaigns[index + 1 :]))


def _milder_tasks(task: Task) -> Iterator[Task]:
    for place, item in enumerate(task.items):
        yield replace(task, items=task.items[:place] + task.items[place + 1 :])
        for other in _milder(item, keep=("kind", "token", "window", "live", "app", "dry_run")):
            yield replace(task, items=(*task.items[:place], other, *task.items[place + 1 :]))
    yield from _milder(task, keep=("kind", "token", "window", "items", "app", "dry_run"))


def _milder(value: Any, keep: tuple[str, ...] = ()) -> Iterator[Any]:
    default = type(value)()
    for item in fields(value):
        mild = getattr(default, item.name)
        if item.name not in keep and getattr(value, item.name) != mild:
            yield replace(value, **{item.name: mild})
