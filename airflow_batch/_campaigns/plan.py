"""What to do next about one campaign: the decisions, pure. Nothing here sends, waits or reads a clock.

``plan_change`` is asked anew after every request and every wait, with what Batch showed, what this task instance has
sent so far, and both clocks. The rules it goes through are those of docs/rules.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from airflow_batch._campaigns import rules
from airflow_batch._campaigns.approval import approved_stop, check_approved
from airflow_batch._campaigns.diff import Campaign, differences, overlaid, read_moment, request_form
from airflow_batch._campaigns.history import History, Write
from airflow_batch._campaigns.payload import MIN_NAME
from airflow_batch._campaigns.protocol import Schedule
from airflow_batch._campaigns.request import ChangeRequest
from airflow_batch._campaigns.rules import MAX_CLOCK_GAP, SETTLE_TIME, Clocks
from airflow_batch.exceptions import (
    BatchChangeRefusedError,
    BatchClockError,
    BatchError,
    BatchParametersLostError,
    BatchRepeatRefusedError,
)

READS_AFTER = tuple(timedelta(seconds=seconds) for seconds in (0, 5, 15, 45, 120))
"""When a campaign is read again after an unconfirmed write, counted from the write (rule 7)."""
STOP_AGAIN_AFTER = timedelta(seconds=5)
"""When an unconfirmed stop that does not show yet is sent again; it may be repeated."""
MAX_STOPS = 4
NOW_SHOWS_WITHIN = timedelta(minutes=10)
"""How long after a request with ``push_time: "now"`` the push time that view shows may be (UNKNOWN, rule 7)."""


@dataclass(frozen=True)
class Refuse:
    """Send nothing; the task ends with the error."""

    error: BatchError


@dataclass(frozen=True)
class TooLate:
    """Send nothing; the task is skipped."""

    message: str


@dataclass(frozen=True)
class Done:
    """Nothing is left to send.

    :param changed: As in the outcome.
    :param warning: Something that the log should say.
    :param error: As for :class:`Send`.
    :param desired: As for :class:`Send`.
    """

    changed: bool | None
    warning: str | None = None
    error: BatchError | None = None
    desired: Campaign = field(default_factory=dict)


@dataclass(frozen=True)
class Wait:
    """Nothing can be decided yet: plan again after so long."""

    time: timedelta
    why: str


@dataclass(frozen=True)
class StillUnconfirmed:
    """What the last write did stays unknown: the attempt ends with its error, for Airflow to retry."""


@dataclass(frozen=True)
class AskBatch:
    """Make any request first: without Batch's ``Date`` nothing is switched on (rule 3)."""


@dataclass(frozen=True)
class Send:
    """Send the first payload; where it is refused for its content, the next.

    :param payloads: Best first. Only a stop has more than one (rule 4).
    :param desired: The parameters that were asked for.
    :param at_once: Whether it sends a push that must not be sent twice (rule 5).
    :param push_at: When its push goes out, as far as that can be known.
    :param error: Error that the task ends with after the write (the clocks disagree, or part of it is not approved).
    """

    payloads: tuple[Campaign, ...]
    desired: Campaign
    at_once: bool = False
    push_at: datetime | None = None
    warnings: tuple[str, ...] = ()
    error: BatchError | None = None
    is_new: bool = False

    @property
    def stops(self) -> bool:
        """Whether it stops the campaign."""
        return self.payloads[-1].get("live") is False


Plan = Refuse | TooLate | Done | Wait | StillUnconfirmed | AskBatch | Send


@dataclass(frozen=True, kw_only=True)
class Situation:
    """All that a plan depends on.

    :param seen: What view shows; None where the campaign cannot be read.
    :param read_failed: Whether reading failed this time, after a write: ``seen`` is what view showed before.
    :param asked: What view showed where it was asked for Batch's ``Date`` alone: checked against, but never sent.
    :param has_answered: Whether Batch has answered anything in this attempt.
    :param stops_sent: How many stops this attempt has sent.
    :param is_brief: Whether there is no time to wait for (a callback).
    """

    request: ChangeRequest
    seen: Campaign | None
    history: History
    clocks: Clocks
    run_after: datetime | None = None
    read_failed: bool = False
    asked: Campaign | None = None
    has_answered: bool = True
    stops_sent: int = 0
    is_brief: bool = False


def desired_now(
    request: ChangeRequest, clocks: Clocks, run_after: datetime | None
) -> tuple[dict[str, Any], BatchClockError | None]:
    """Return the parameters to set at this moment, and the error of clocks that disagree about a window's end.

    :raises BatchClockError: where they disagree about its opening.
    """
    if request.live is None:
        return dict(request.parameters), None
    live, error = rules.live_now(request.live, clocks, run_after, request.token)
    return {**request.parameters, "live": live}, error


def plan_change(situation: Situation) -> Plan:
    """Return what to do next. See the module's docstring."""
    request, seen = situation.request, situation.seen
    try:
        desired, clock_error = desired_now(request, situation.clocks, situation.run_after)
        unset = None
        if request.approval is not None and desired.get("live") is False:
            desired, unset = approved_stop(request.approval, request.token, seen, desired)
        own = situation.history.find(desired)
        may_be_own = own is not None or not situation.history.is_known
        renamed_to = desired.get("name") if may_be_own else None
        if not situation.read_failed and rules.names_agree(seen, request.expect_name, renamed_to) is False:
            raise rules.other_name_error(request.token, seen or {}, request.expect_name)
        if desired.get("live") is False:
            plan = _plan_stop(situation, desired, own, clock_error or unset)
        else:
            plan = _plan_other(situation, desired, own)
    except (BatchChangeRefusedError, BatchClockError, BatchParametersLostError) as error:
        return Refuse(error)
    return replace(plan, desired=desired) if isinstance(plan, Done) else plan


def _plan_stop(situation: Situation, desired: Campaign, own: Write | None, error: BatchError | None) -> Plan:
    """Plan a stop: it always gets through (rule 4), and after an own "on" a read alone does not end it (rule 7)."""
    history, now = situation.history, situation.clocks.ours
    on_at = None if history.on is None else history.on.at
    if on_at is None and not history.is_known and isinstance(situation.request.live, Schedule):
        on_at = history.began
    shows = situation.seen is not None and not situation.read_failed and not differences(desired, situation.seen)
    off = history.off
    if off is None or not off.is_own:
        if off is not None and off.partial and shows and off is own and history.last is off:
            return _check_partial(situation, off, error)
        if shows and on_at is None:
            return Done(_changed_before(history, own), error=error)
        late = None if on_at else _late(situation, situation.request.latest_off, "off")
        return late or _stop(situation, desired, error)
    settled = off.at if on_at is None else on_at + SETTLE_TIME
    if off.confirmed and off.at >= settled:
        return _check_partial(situation, off, error)
    if shows and on_at is None:
        return _check_partial(situation, off, error)
    again = settled if off.confirmed or shows else off.at + STOP_AGAIN_AFTER
    if now < again:
        return Wait(again - now, "an earlier request may still set it live" if on_at else "the stop was not answered")
    return StillUnconfirmed() if situation.stops_sent >= MAX_STOPS else _stop(situation, desired, error)


def _stop(situation: Situation, desired: Campaign, error: BatchError | None) -> Send:
    """Return what to send for a stop, best first: the whole, name and live, live alone (rule 4)."""
    request, seen = situation.request, situation.seen
    base = request.definition if seen is None else request_form(seen)
    warnings = []
    if request.expect_name is not None and rules.names_agree(seen, request.expect_name) is None:
        warnings.append(f"Campaign {request.token!r} is stopped without comparing its name (expect_name).")
    choices = [overlaid(base, desired)] if base else []
    name = (base or {}).get("name")
    if isinstance(name, str) and len(name.strip()) >= MIN_NAME:
        choices.append({"name": name, **desired})
    choices.append(dict(desired))
    payloads = tuple(choice for index, choice in enumerate(choices) if choice not in choices[:index])
    return Send(payloads, desired, warnings=tuple(warnings), error=error)


def _check_partial(situation: Situation, off: Write, error: BatchError | None) -> Plan:
    """End a stop; one that sent less than the whole is confirmed by a read two minutes later (rule 4)."""
    changed = True if off.confirmed else None
    if not off.partial:
        return Done(changed, error=error)
    left = off.at + SETTLE_TIME - situation.clocks.ours
    if left > timedelta(0) and not situation.is_brief:
        return Wait(left, "less than the whole campaign was sent, so it is checked for what it lost")
    if situation.read_failed and not situation.is_brief:
        return StillUnconfirmed()
    if situation.seen is None or off.before is None:
        return Done(changed, "The campaign cannot be read, so it is not known whether it lost anything.", error)
    rules.check_lost(situation.request.token, off.before, situation.seen, {"live": False})
    return Done(changed, error=error)


def _plan_other(situation: Situation, desired: Campaign, own: Write | None) -> Plan:
    """Plan an "on" or an update."""
    request, seen, history = situation.request, situation.seen, situation.history
    now, last = situation.clocks.ours, history.last
    if own is not None:
        sends = own.push_at is not None and own.push_at <= situation.clocks.later + SETTLE_TIME
        if not own.confirmed and (own.is_own or sends):
            return _resolve_unconfirmed(situation, desired, own, sends=sends)
        if own.confirmed and own.is_own:
            return Done(True)
        if own.confirmed and desired.get("push_time") == "now":
            return Done(
                True, "An earlier attempt has sent this push, and Batch confirmed it. A new run sends it again."
            )
    if situation.read_failed:
        return Wait(READS_AFTER[1], "the campaign could not be read")
    if request.expect_name is not None and rules.names_agree(seen, request.expect_name) is None:
        why = "its name cannot be read" if request.expect_name else "it rendered to nothing"
        raise BatchChangeRefusedError(
            f"expect_name was given for campaign {request.token!r}, but {why}, so it cannot be compared. Nothing "
            "was sent. Use a Live API key, correct expect_name, or leave it out."
        )
    if request.approval is not None:
        check_approved(request.approval, request.token, seen, request.parameters)
    conflicting = last is not None and last is not own
    may_conflict = conflicting or (not history.is_known and isinstance(request.live, Schedule))
    since = last.at if conflicting and last is not None else history.began
    if may_conflict and now < since + SETTLE_TIME:
        return Wait(since + SETTLE_TIME - now, "an earlier request of this task may still take effect")
    may_be_own = own is not None or not history.is_known
    if not conflicting and seen is not None and may_be_own and _shows(situation, desired, own):
        return Done(_changed_before(history, own))
    return _check_and_send(situation, desired, force=conflicting)


def _check_and_send(situation: Situation, desired: Campaign, *, force: bool) -> Plan:
    """Check what would be sent, and return it, or why not (rules 1, 2, 3, 5 and 8)."""
    request, seen, clocks = situation.request, situation.seen, situation.clocks
    if request.is_new:
        known: Campaign = {}
        base: Campaign = {}
    elif seen is not None:
        rules.check_change(request.token, seen, desired)
        known, base = seen, request_form(seen)
    else:
        base = request.definition or {}
        known = overlaid(situation.asked or {}, base)
    whole, payload = overlaid(known, desired), overlaid(base, desired)
    unchanged = not request.is_new and (
        seen is not None and not differences(desired, seen) and desired.get("push_time") != "now"
    )
    warnings = [warning] if (warning := rules.finished_warning(request.token, whole, clocks.later)) else []
    # What was only asked for is not sent, so a payload without it is checked alone as well.
    checked = (whole,) if seen is not None else (whole, payload)
    passed = next((one for one in checked if rules.push_has_passed(one, clocks.later)), None)
    if passed is not None:
        complete = seen is not None and seen.get("live") is True and rules.push_has_passed(seen, clocks.later)
        error = rules.passed_error(request.token, passed, complete=complete)
        if unchanged and not force and isinstance(request.live, Schedule):
            return Done(False, f"{error} It is left as it is.")
        return Refuse(error)
    if unchanged and not force:
        return Done(False, " ".join(warnings) or None)
    leaves_live = whole.get("live") is not False
    if leaves_live and (late := _late(situation, request.latest_on, "on")):
        return late
    push_at = next((moment for one in checked if (moment := rules.push_moment(one, clocks.later))), None)
    at_once = push_at is not None and (push_at <= clocks.later + SETTLE_TIME)
    is_unknown = seen is None and not (request.definition or situation.asked or request.is_new)
    if refusal := _refuse_second_push(situation, at_once=at_once, push_at=push_at, is_unknown=is_unknown):
        return refusal
    if leaves_live and not situation.has_answered:
        return AskBatch()
    if seen is None and not request.definition and not request.is_new:
        warnings.append(
            f"Campaign {request.token!r} was not read and there is no definition, so only {', '.join(payload)} is sent."
        )
    return Send((payload,), desired, at_once=at_once, push_at=push_at, warnings=tuple(warnings), is_new=request.is_new)


def _refuse_second_push(
    situation: Situation, *, at_once: bool, push_at: datetime | None, is_unknown: bool
) -> Refuse | None:
    """Refuse a push that this task instance may have sent already (rule 5).

    :param is_unknown: Whether nothing is known of the campaign, so that it may have a push time.
    """
    history, token = situation.history, situation.request.token
    if push_at is None and not is_unknown:
        return None
    # Both clocks may be behind by what counts as right.
    latest = situation.clocks.later + MAX_CLOCK_GAP
    sent_before = history.push_at is not None and history.push_at <= latest
    if sent_before or (at_once and history.on is not None):
        return Refuse(repeat_refused(token, "An earlier request of this task has sent the push, or may have sent it"))
    if push_at is not None and push_at <= latest and not history.may_push:
        return Refuse(repeat_refused(token, "An earlier attempt of this task may have sent the push"))
    return None


def repeat_refused(token: str, why: str) -> BatchRepeatRefusedError:
    """Return the error for a push that is not sent again (rule 5)."""
    return BatchRepeatRefusedError(
        f"{why} of campaign {token!r}, so it is not sent again. Check the campaign in Batch's dashboard. A new DAG "
        "run sends it again; clearing the task does not.",
        endpoint="update",
        may_have_been_applied=True,
    )


def _resolve_unconfirmed(situation: Situation, desired: Campaign, own: Write, *, sends: bool) -> Plan:
    """Find out whether an unconfirmed write has taken effect, over the settle time (rule 7).

    :param sends: Whether it may have sent a push, which is not sent again (rule 5).
    """
    now, can_read = situation.clocks.ours, situation.seen is not None or situation.read_failed
    if situation.seen is not None and not situation.read_failed and _shows(situation, desired, own):
        return Done(None)
    following = [own.at + after for after in READS_AFTER if own.at + after > now]
    if can_read and following:
        return Wait(following[0] - now, "the answer to the request was lost, and its effect does not show yet")
    if not sends:
        return StillUnconfirmed()
    how = "its effect does not show" if can_read else "this API key cannot read the campaign"
    return Refuse(repeat_refused(situation.request.token, f"The answer was lost, and {how}: it may be the push"))


def _shows(situation: Situation, desired: Campaign, own: Write | None) -> bool:
    """Return whether view shows the desired state; for ``push_time: "now"``, what it did (rule 7)."""
    seen = situation.seen or {}
    if situation.request.is_new:
        # Nobody but this task instance knows the token, and it was a draft.
        return seen.get("live") is True
    if differences(desired, seen):
        return False
    if desired.get("push_time") != "now":
        return True
    if own is None or own.batch_at is None or (own.push_at is not None and seen.get("live") is not True):
        return False
    if own.before is None:  # Any push time may be the one that the campaign had.
        return False
    shown, before = read_moment(seen.get("push_time")), own.before.get("push_time")
    return (
        shown is not None
        and shown != read_moment(before)
        and own.batch_at - timedelta(seconds=2) <= shown <= own.batch_at + NOW_SHOWS_WITHIN
    )


def _changed_before(history: History, own: Write | None) -> bool | None:
    """Return ``changed`` where the campaign is as desired: True after a confirmed write of this task instance."""
    if own is not None and own.confirmed:
        return True
    return None if own is not None or not history.is_known else False


def _late(situation: Situation, latest: datetime | None, what: str) -> TooLate | None:
    if latest is None or situation.clocks.later <= latest or situation.request.dry_run:
        return None
    return TooLate(
        f"Not switched {what}: the run is later than max_lateness allows, which ended at {latest:%Y-%m-%d %H:%M:%S} "
        "UTC. This attempt sent nothing."
    )
