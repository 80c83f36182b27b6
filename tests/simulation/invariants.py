"""What must be true in every world, checked only against the state of the models.

Nothing here imports a rule of the package. A violation is a kind (short, counted) and a text. The kinds that begin with
"unavoidable:" are those that no rule can prevent; they are counted, and do not fail.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_batch._campaigns.request import Outcome
from simulation.authors import EDITED_TEXT
from simulation.batch_model import DEV_APP, PUSH_TIMES, READ_ONLY, FakeApi, Push, Write, is_one_time, seconds_of

if TYPE_CHECKING:
    from simulation.airflow_model import Report, TaskInstance
    from simulation.authors import Task
    from simulation.worlds import World

RIGHT_CLOCK_SECONDS = 300.0
DATE_SECONDS = 1.2
"""A Date header counts whole seconds, and saving the record takes a moment."""
LAST_READ_SECONDS = 3.0
LATEST_EFFECT_SECONDS = 105.0
"""Longer than a request, or an older view, can come late in the model."""


@dataclass(frozen=True)
class Ended:
    """How a round of a task instance has ended."""

    end: str
    error: str
    outcome: Outcome | None
    report: Report | None
    began: float
    now: float
    is_read_only: bool = False


def normal(name: str, value: Any) -> Any:
    """Return a value in one form, whichever of its forms view or a request has."""
    if name == "gcm_collapse_key" and isinstance(value, dict):
        return value.get("key")
    if name == "name" and isinstance(value, str):
        return value.strip()
    if name in PUSH_TIMES and isinstance(value, str):
        return value.removesuffix("Z")
    if name == "time_to_live":
        return str(value)
    return value


def _within(payload: Mapping[str, Any], source: Mapping[str, Any], skip: set[str]) -> bool:
    return all(
        name in skip or (name in source and normal(name, value) == normal(name, source[name]))
        for name, value in payload.items()
    )


def _clock_slack(world: World, api: FakeApi) -> tuple[bool, float, float]:
    """Return whether a clock is right, and by how much a request may then be late, or early for an opening."""
    worker, date = api.worker_offset, world.batch.nature.date_offset
    clocks = [worker] if date is None else [worker, date]
    right = any(abs(clock) <= RIGHT_CLOCK_SECONDS for clock in clocks)
    return right, max(0.0, -max(clocks)) + DATE_SECONDS, max(0.0, min(clocks)) + DATE_SECONDS


def check_sent(world: World, write: Write, api: FakeApi) -> None:
    """Check a request at the moment when it is sent."""
    instance, batch = api.instance, world.batch
    task = instance.task.of(write.token)
    if task is None or task.app != api.app:
        world.violation("another campaign", f"{instance.name} writes {write.token}, which it does not name")
        return
    if task.dry_run:
        world.violation("a dry run sent something", f"{instance.name}: {write}")
    if instance.is_read_only:
        world.violation("written through a read-only connection", f"{instance.name}: {write}")
    campaign = batch.campaigns.get(write.token or "")
    if write.kind == "create":
        if task.kind != "create":
            world.violation("another campaign", f"{instance.name} creates one")
    elif task.kind == "create":
        if campaign is None or not campaign.writes or campaign.writes[0].sender is not instance:
            world.violation("another campaign", f"{instance.name} writes {write.token}")
    elif write.token != task.token:
        world.violation("another campaign", f"{instance.name} writes {write.token}, not {task.token}")
    if write.kind == "delete":
        return
    live = write.payload.get("live")
    leaves_live = live is True or (live is None and (campaign is None or bool(campaign.params["live"])))
    if leaves_live:
        _check_time(world, write, task, api)
        if task.kind == "create":
            _check_again(world, write, instance)
        if instance.task.items:
            _check_order(world, write, task, api)
        _check_approved(world, write.payload, instance, f"{instance.name} sends {write}")
    _check_name(world, write, task, api)
    if write.kind == "update":
        _check_content(world, write, task, api)


def _check_approved(world: World, content: Mapping[str, Any], instance: TaskInstance, what: str) -> None:
    """Check that what goes live is what an approver was shown; ``content`` is all that is known of it."""
    if instance.task.asked_first is None or instance.shown is None:
        return
    if not instance.task.asked_first.approves:
        world.violation("unapproved: rejected", what)
        return
    different = [
        name
        for name, value in content.items()
        if name not in ("live", "view_only")
        and value is not None
        and not (name == "push_time" and instance.shown.get(name) == "now")
        and normal(name, value) != normal(name, instance.shown.get(name))
    ]
    if different:
        world.violation("unapproved: not what was shown", f"{what}: {different}, shown: {instance.shown}")


def _check_order(world: World, write: Write, task: Task, api: FakeApi) -> None:
    """Check that a sync has tried its stops before an "on", and that none follows a loss that it saw."""
    if task.app in api.seen.lost:
        world.violation("on sent after a lost parameter", f"{api.instance.name}: {write}")
    since = api.instance.attempt_began - LATEST_EFFECT_SECONDS
    for other in api.instance.task.items:
        campaign = world.batch.campaigns.get(other.token)
        if other.live is not False or campaign is None or other.token in api.seen.tried or campaign.app != other.app:
            continue
        states = [campaign.state_at(since), *(state for time, state in campaign.history if time > since)]
        shows_live = all(state is not None and state["live"] for state in states)
        has_name = other.expect_name is None or (campaign.params.get("name") or "").strip() == other.expect_name.strip()
        if shows_live and has_name:
            world.violation("on sent before a stop", f"{api.instance.name}: {write}, before {other.token} was stopped")
            return


def _check_time(world: World, write: Write, task: Task, api: FakeApi) -> None:
    instance, now = api.instance, write.sent_at
    right, late, early = _clock_slack(world, api)
    prefix = "" if right else "unavoidable: no right clock: "
    trigger = {"trigger": {}} if task.campaign == "trigger" else {}
    # With read="never" the view of the campaign is not used, so its parameters are not known.
    known = {**(api.seen.views.get(write.token or "", {}) if task.read else {}), **write.payload, **trigger}
    if write.payload.get("local_push_time") is not None:
        known.pop("push_time", None)
    due = seconds_of(known.get("push_time"))
    if is_one_time(known) and due is not None and now > due + late:
        world.violation(f"{prefix}on sent after its push time", f"{instance.name}: {now - due:.0f} s late: {write}")
    if task.window is not None:
        if now >= task.window[1] + late:
            world.violation(f"{prefix}on sent after its window", f"{now - task.window[1]:.0f} s late: {write}")
        if now < task.window[0] - early:
            world.violation(f"{prefix}on sent before its window", f"{task.window[0] - now:.0f} s early: {write}")
    latest = task.latest_on(instance.plan, instance.lateness_since, instance.corrected)
    if latest is not None and now > latest + late:
        world.violation(f"{prefix}on sent later than its lateness", f"{now - latest:.0f} s late: {write}")


def _check_again(world: World, write: Write, instance: TaskInstance) -> None:
    stopped = instance.human_stopped_at
    if stopped is None or write.token is None:
        return
    for other in world.batch.writes:
        may = other.applied_at is not None or other.may_apply
        own = other.sender is instance and other.token == write.token and other is not write
        if own and may and other.payload.get("live") is True and other.sent_at < stopped < write.sent_at:
            world.violation("switched on again after somebody stopped it", f"{instance.name}: {write}")
            return


def _check_name(world: World, write: Write, task: Task, api: FakeApi) -> None:
    expected = task.expect_name
    if expected is None:
        return
    name = api.seen.names.get(write.token or "")
    if name and expected and name.strip() != expected.strip():
        world.violation("wrong name", f"{api.instance.name}: {name!r} is not {expected!r}: {write}")
    if write.payload.get("live") is not False and (name is None or not expected):
        world.violation("name not checked", f"{task.kind}: {write}")


def _check_content(world: World, write: Write, task: Task, api: FakeApi) -> None:
    """Check that a payload comes from one source: a state of the campaign or the definition, with what was asked."""
    instance = api.instance
    asked = task.asked(instance.corrected)
    desired = {name: value for name, value in asked.items() if name in write.payload}
    if not _within({name: write.payload[name] for name in desired}, asked, set()):
        replaced = {name: write.payload[name] for name in desired}
        if write.payload.get("live") is not False:
            world.violation("not what was asked", f"{instance.name}: {replaced} instead of {desired}")
    skip = set(desired)
    if task.kind == "create" or task.live is not None or task.window is not None:
        skip.add("live")
    campaign = world.batch.campaigns.get(write.token or "")
    if write.kind == "update" and task.kind == "create":
        if not _within(write.payload, asked, {"live"}):
            world.violation("mixed", f"{instance.name}: not the payload of the creation: {write}")
        return
    _check_whole(world, write, task, api)
    if campaign is not None:
        for _, state in campaign.history:
            if state is not None and _within(write.payload, _shown(world, campaign, state), skip):
                return
    definition = task.defined()
    if definition is not None and _within(write.payload, definition, {*skip, "live"}):
        if write.token not in api.seen.views or not task.read or write.payload.get("live") is False:
            return
        world.violation("definition used though it was read", f"{instance.name}: {write}")
        return
    if all(name in skip for name in write.payload):
        return
    world.violation("mixed", f"{instance.name}: {write}")


def _check_whole(world: World, write: Write, task: Task, api: FakeApi) -> None:
    """Check that what this attempt has read is sent whole, where Batch has not refused the whole in this attempt."""
    view = api.seen.views.get(write.token or "", {})
    if not task.read or not view.get("messages") or write.payload.get("messages"):
        return
    refused = any(
        other.token == write.token
        and other.sender is api.instance
        and other.attempt == write.attempt
        and other.answer in ("400", "403")
        for other in world.batch.writes
    )
    if not refused:
        world.violation("less than the whole was sent", f"{api.instance.name}: {write}")


def _shown(world: World, campaign: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    view = world.batch.view(campaign, state)
    return {name: value for name, value in view.items() if name not in READ_ONLY and value is not None}


def check_end(world: World, instance: TaskInstance, ended: Ended) -> None:
    """Check the end of a round of a task instance, after all late effects of its requests."""
    if instance.last_api is None:
        return
    if not instance.task.items:
        _check_part(world, instance, instance.task, ended, ended.outcome)
        return
    report = ended.report
    for task in instance.task.items:
        end, outcome = ended.end, None if report is None else report.outcomes.get(task.token)
        if report is not None and task.token in report.failed:
            end = "failed"
        elif report is not None and task.token in report.skipped:
            end = "skipped"
            _check_skip(world, instance, task, ended)
        elif end == "success" and outcome is None:
            world.violation("not reported", f"{instance.name}: {task.token}")
        _check_part(world, instance, task, replace(ended, end=end), outcome)


def _check_skip(world: World, instance: TaskInstance, task: Task, ended: Ended) -> None:
    api, date = instance.last_api, world.batch.nature.date_offset
    ahead = max(0.0, api.worker_offset if api else 0.0, date or 0.0) + DATE_SECONDS
    latest = task.latest_on(instance.plan, instance.lateness_since, instance.corrected)
    is_late = latest is not None and ended.now + ahead > latest
    if task.live is not True or not (is_late or instance.was_throttled):
        world.violation("skipped, but not late", f"{instance.name}: {task.token}")


def _check_part(world: World, instance: TaskInstance, task: Task, ended: Ended, outcome: Outcome | None) -> None:
    """Check what became of one campaign."""
    batch, api, end, began, now = world.batch, instance.last_api, ended.end, ended.began, ended.now
    if api is None or task.dry_run or ended.is_read_only:
        if outcome is not None and outcome.would_change is None:
            world.violation("a dry run is not reported as one", instance.name)
        if outcome is not None and outcome.changed is not False:
            world.violation("changed is not false", f"{instance.name}: {outcome.changed} in a dry run")
        return
    own = [write for write in batch.writes if write.sender is instance and instance.task.of(write.token) is task]
    token = outcome.token if outcome is not None else task.token
    campaign = batch.campaigns.get(token)
    # What another run wrote since the task's first request stays. Who stops a campaign before the clear is overruled.
    # Who edits it is not, where the task's update was a push that is not sent again.
    stays = "now" in (task.push, task.corrected_push)
    disturbed = campaign is not None and any(
        write.sender is not instance
        and (write.applied_at or 0)
        > (instance.plan.start if write.sender or (stays and _is_edit(write)) else began) - LATEST_EFFECT_SECONDS
        for write in campaign.writes
    )
    its_own = campaign is not None and bool(campaign.writes) and campaign.writes[0].sender is instance
    if task.kind == "create" and outcome is not None and not its_own:
        world.violation("another campaign", f"{instance.name} ends with {token}, which it did not create")
        return
    desired, settled = task.desired_live(now), _is_settled(world, task, api, now)
    live_still = campaign is not None and not campaign.deleted and campaign.params["live"] and not disturbed
    if end == "failed" and desired is False and settled and live_still:
        _check_stop_was_tried(world, instance, task, ended.error)
        _check_stop_got_through(world, instance, task, ended.error)
    if outcome is None:
        return
    if outcome.changed is True and not any(write.applied_at is not None for write in own):
        world.violation("changed is not true", f"{instance.name}: True, but nothing was applied")
    applied = [write for write in own if write.applied_at is not None and write.sent_at >= began]
    if outcome.changed is False and applied:
        world.violation("changed is not false", f"{instance.name}: False, but applied: {applied[0]}")
    if end != "success":
        return
    if task.kind == "delete":
        # After an ambiguous deletion, or with missing_ok, a 404 counts as success, whatever its cause.
        made_up = task.missing_ok or "404" in world.faults.values()
        if campaign is not None and not campaign.deleted and not made_up:
            world.violation("green, not deleted", instance.name)
        elif campaign is None and not task.missing_ok:
            world.violation("green, not deleted", f"{instance.name}: there never was such a campaign")
        return
    if campaign is None or campaign.deleted:
        if not disturbed:
            world.violation("green, not as desired", f"{instance.name}: there is no such campaign")
        return
    live, cause = campaign.params["live"], campaign.live_write
    if settled and desired is False and live and (cause is None or cause.sender is instance):
        world.violation("green, but not stopped", instance.name)
    # Somebody stopped a campaign whose push had gone out, or that was created: it is not switched on again.
    pushed = any(
        push.write is not None and push.write.sender is instance and push.token == token for push in batch.pushes
    )
    human = instance.human_stopped_at is not None and (task.kind == "create" or task.push == "now" or pushed)
    if settled and desired is True and not live and not disturbed and not human:
        world.violation("green, but not live", instance.name)
    if not disturbed:
        _check_parameters(world, instance, task, campaign, api, applied)


def _is_edit(write: Write) -> bool:
    return write.payload.get("messages") == EDITED_TEXT


def _is_settled(world: World, task: Task, api: FakeApi, now: float) -> bool:
    """Return whether each clock, wrong by what it is wrong, gives the same desired state."""
    right, late, early = _clock_slack(world, api)
    clocks = (0.0, api.worker_offset, world.batch.nature.date_offset or 0.0, -late, early)
    # The last read was a moment before the end.
    run_after = api.instance.run_after
    moments = [max(now + clock - before, run_after) for clock in clocks for before in (0.0, LAST_READ_SECONDS)]
    desired = task.desired_live(now)
    return task.window is None or (right and all(task.desired_live(moment) is desired for moment in moments))


def _check_stop_was_tried(world: World, instance: TaskInstance, task: Task, error: str) -> None:
    api = instance.last_api
    named = (
        bool(task.expect_name) and api is not None and api.seen.names.get(task.token) not in (None, task.expect_name)
    )
    if task.token in instance.stops_tried or task.kind == "create" or named or instance.crashed or instance.throttled:
        return
    if task.text or task.push is not None:
        return
    # Without any right clock, and any answer of Batch, a task does not know that its window has closed.
    if task.window is not None and api is not None and not api.has_answered and not instance.right_clocks:
        return
    world.violation("red, and no stop was tried", f"{instance.name}: {task.token}: {error}")


def _check_stop_got_through(world: World, instance: TaskInstance, task: Task, error: str) -> None:
    """Check that a campaign is stopped where nothing fails, and Batch takes live alone if it takes nothing else."""
    spec, nature = world.spec, world.spec.nature
    failing = spec.faults or spec.periods or spec.crash_points or len(spec.tasks) > 1
    refusing = nature.strict or nature.view_lag or not nature.merge or task.expect_name or task.text
    refusing = refusing or not world.batch.campaigns[task.token].from_api
    if not failing and not refusing and task.kind in ("toggle off", "window", "notifier"):
        world.violation("red, and not stopped, though nothing failed", f"{instance.name}: {task.token}: {error}")


def _check_parameters(
    world: World, instance: TaskInstance, task: Task, campaign: Any, api: FakeApi, applied: list[Write]
) -> None:
    batch, fresh_view_at = world.batch, api.seen.fresh_at.get(campaign.token)
    asked = task.asked(instance.corrected)
    for name, value in asked.items():
        if name == "push_time" and value == "now":
            continue
        if normal(name, campaign.params.get(name)) != normal(name, value):
            world.violation("green, not as desired", f"{instance.name}: {name} is {campaign.params.get(name)!r}")
    if asked.get("push_time") == "now" and campaign.params["live"]:
        pushed = any(push.write is not None and push.write.sender is instance for push in batch.pushes)
        if not pushed and batch.nature.now_again_sends:
            world.violation("green, but no push", instance.name)
    if not applied or campaign.writes[0].kind == "create":
        return
    written = min(write.applied_at for write in applied if write.applied_at is not None)
    last = max(write.applied_at for write in applied if write.applied_at is not None)
    state = campaign.state_at(written - 0.001)
    if fresh_view_at is None or fresh_view_at < last or state is None or not task.read:
        return
    swapped = any(name in asked for name in PUSH_TIMES)
    for name, value in state.items():
        if name in asked or not value or (swapped and name in PUSH_TIMES) or name == "view_only":
            continue
        if not campaign.params.get(name) and name != "live":
            # What the whole was is not kept for the next attempt, unless less than it was sent.
            keeps = not batch.nature.drops and instance.plan.store == "kept"
            is_own = keeps or all(write.attempt == instance.runs for write in applied)
            prefix = "" if is_own else "unavoidable: by an earlier attempt: "
            if api.seen.first_at.get(campaign.token, math.inf) > written:
                prefix = "unavoidable: never read before it was written: "
            world.violation(f"{prefix}green, but lost", f"{instance.name}: {name}")


def check_pushes(world: World, instances: list[TaskInstance]) -> None:
    """Check the pushes when the world has ended."""
    for instance in instances:
        for task in instance.task.parts:
            _check_pushes(world, instance, task)


def _check_pushed(world: World, push: Push, instance: TaskInstance) -> None:
    """Check what went out against what the approver was shown, as it was when the task's write took effect."""
    write = push.write
    if write is None or write.applied_at is None or instance.approved_at > write.applied_at:
        return
    state = world.batch.campaigns[push.token].state_at(write.applied_at)
    _check_approved(world, state or {}, instance, f"{instance.name} sent a push")


def _check_pushes(world: World, instance: TaskInstance, task: Task) -> None:
    own = [push for push in world.batch.pushes if push.write is not None and push.write.sender is instance]
    for push in own:
        _check_pushed(world, push, instance)
    pushes = [push for push in own if instance.task.of(push.token) is task]
    # A cleared task with another push time may send another push.
    moved = instance.corrected and isinstance(task.corrected_push, float) and task.corrected_push != task.push
    if len(pushes) <= 1 + moved:
        return
    blind = all(
        push.write is not None and not any(name in push.write.payload for name in PUSH_TIMES) for push in pushes
    )
    has_dev_key = world.batch.nature.dev_key or task.app == DEV_APP
    prefix = "unavoidable: push time unknown to the sender: " if blind and has_dev_key else ""
    # Without saved state, a campaign to which somebody has given another push time is not recognised.
    moved_by_others = any(
        write.sender is not instance and any(name in write.payload for name in PUSH_TIMES)
        for write in world.batch.campaigns[pushes[0].token].writes
    )
    if (instance.store is None or instance.plan.store != "kept") and moved_by_others:
        prefix = "unavoidable: nothing saved, and another push time by others: "
    if instance.last_api is not None:
        right, late, _ = _clock_slack(world, instance.last_api)
        if not right and late > RIGHT_CLOCK_SECONDS:
            prefix = "unavoidable: no right clock: "
    where = ", ".join(f"{push.token} at {push.at:.0f} s" for push in pushes)
    world.violation(f"{prefix}two pushes", f"{instance.name}: {where}")
