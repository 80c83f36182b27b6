"""Change one campaign: read, plan, send, verify. Acts; what is decided is in ``plan.py``.

Operators and notifier call :func:`change_campaign`; a sync of many campaigns uses the same plan and
:func:`send_payloads`. When a failed attempt is repeated is Airflow's business.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from airflow_batch._campaigns import plan as planning
from airflow_batch._campaigns.diff import Campaign, differences, lost_parameters
from airflow_batch._campaigns.history import History, Journal, Write, digest_of
from airflow_batch._campaigns.plan import AskBatch, Done, Plan, Refuse, Send, Situation, TooLate, Wait
from airflow_batch._campaigns.protocol import Attempt, CampaignApi, Clock, Log
from airflow_batch._campaigns.request import ChangeRequest, Outcome, TooLateError
from airflow_batch._campaigns.rules import Clocks
from airflow_batch.exceptions import (
    BatchApiError,
    BatchApiMisuseError,
    BatchConnectionError,
    BatchError,
    BatchNotFoundError,
    BatchNotVisibleError,
    BatchPayloadError,
    BatchVerificationError,
)

log = logging.getLogger(__name__)

AGAIN_AFTER = (5.0, 15.0)
"""Seconds before a request is repeated of which nothing was sent, and a read before a stop (rules 4 and 7)."""
MAX_IN_SLOT = timedelta(minutes=5)
"""How long an attempt waits in its worker slot in all (rule 7)."""
THROTTLE_FLOOR = 5.0
"""Seconds that Batch asks to wait after a 429 (https://doc.batch.com/developer/api/mep/campaigns/update, Failure)."""
STOP_READ_LIMIT, WRITE_RESERVE = 5.0, 5.0
"""In a callback: seconds that the read before a stop gets at most, and that are left for the write (rule 11)."""


def change_campaign(
    api: CampaignApi,
    clock: Clock,
    attempt: Attempt,
    request: ChangeRequest,
    *,
    log: Log = log,
    budget: timedelta | None = None,
) -> Outcome:
    """Make a change, or find that it is not needed.

    :param budget: How long the whole may take, for a callback that Airflow ends. None: the limits of a task.
    :raises TooLateError: where the run is too late; nothing was sent in this attempt.
    :raises BatchChangeRefusedError: before anything is sent, for what the campaign is.
    :raises BatchRepeatRefusedError: where a push may have gone out already.
    :raises BatchParametersLostError: when the campaign lacks after the write what it had before.
    :raises BatchVerificationError: when it is not as written.
    :raises BatchApiError: one of its other subclasses, for each failed request.
    """
    journal = Journal(attempt, clock, request.token, api.app, log)
    history = History(began=clock.now()) if request.dry_run else journal.load()
    change = Change(api, clock, attempt, request, journal, log, history=history, budget=budget)
    try:
        outcome = change.make()
    except Exception as error:
        if isinstance(error, BatchApiError):
            error.may_be_rescheduled = journal.is_saved
        journal.note_end(change.history)
        raise
    journal.note_end(change.history)
    return outcome


def note_nothing_sent(attempt: Attempt, clock: Clock, token: str | None, app: str | None, log: Log) -> None:
    """Leave the record of an attempt that fails before it can send anything, so that the next one knows it (rule 7)."""
    journal = Journal(attempt, clock, token, app, log)
    journal.note_end(journal.load())


@dataclass
class Change:
    """One attempt at a change."""

    api: CampaignApi
    clock: Clock
    attempt: Attempt
    request: ChangeRequest
    journal: Journal
    log: Log
    history: History
    budget: timedelta | None = None
    waits: bool = True
    """Whether it may wait in the worker slot; a sync plans again later instead."""
    verifies: bool = True
    """Whether a confirmed write is checked by another read."""
    stops_sent: int = 0
    reconnects: int = 0
    waited: timedelta = timedelta(0)
    unanswered: BatchApiError | None = None
    """The error of the write that is in doubt."""
    shown: Campaign | None = None
    """What view has shown already in this attempt."""
    sent: Sent | None = None
    """The write that Batch confirmed in this attempt."""

    def __post_init__(self) -> None:
        self.started = self.clock.now()
        self._situation: Situation | None = None
        self._planned: Campaign | None = None
        self._last_seen = self.shown
        self._asked: Campaign | None = None
        self._before: Campaign | None = None

    def make(self) -> Outcome:
        """Read, plan, send, and begin again until nothing is left to do. The last read is the check."""
        while True:
            seen, failure = self._read()
            if failure is None:
                self._last_seen = seen
            self._situation = Situation(
                request=self.request,
                seen=self._last_seen,
                history=self.history,
                clocks=Clocks(self.clock.now(), self.api.batch_now()),
                run_after=self.attempt.run_after,
                look_failed=failure is not None,
                asked=self._asked,
                has_answered=self.api.has_answered,
                stops_sent=self.stops_sent,
                is_brief=self.budget is not None,
            )
            step = planning.plan_change(self._situation)
            if isinstance(step, Done):
                return self._finish(step, seen, failure)
            if isinstance(step, Send):
                self._planned = step.desired
                if self.request.dry_run:
                    return self._outcome(step.desired, seen, sent=step.payloads[0], changed=False, would_change=True)
                self._send(step, self._last_seen)
                if self.sent is not None and not self.verifies and not self._goes_on(step):
                    return self._finish(Done(True), None, None)
            else:
                self._wait_or_raise(step)

    def _goes_on(self, step: Send) -> bool:
        """Return whether more is to be done after a confirmed write (rules 4 and 7)."""
        off = self.history.off
        return step.stops and (self.history.on is not None or not self.history.is_known or bool(off and off.partial))

    def still_sends(self) -> bool:
        """Return whether what was planned is still to be sent, for a hook whose requests wait for their turn."""
        if self._situation is None:
            return True
        clocks = Clocks(self.clock.now(), self.api.batch_now())
        step = planning.plan_change(replace(self._situation, clocks=clocks))
        return isinstance(step, Send) and step.desired == self._planned

    def _read(self) -> tuple[Campaign | None, BatchApiError | None]:
        """Return what view shows, and the error where reading failed; neither where the campaign cannot be read."""
        if not self.request.read:
            return None, None
        has_sent = self.history.is_in_doubt or self.sent is not None
        stops = self._is_to_stop()
        patient = stops and not has_sent and self.waits and self.budget is None
        pauses: Iterator[float] = iter((0.0, *AGAIN_AFTER) if patient else ())
        while True:
            try:
                if self.budget:
                    self.api.time_limit = STOP_READ_LIMIT if stops else max(0.5, self._left() - WRITE_RESERVE)
                return self.api.get_campaign(self.request.token), None
            except BatchApiMisuseError as error:
                if self._last_seen is not None:
                    return (None, error) if has_sent else (self._last_seen, None)
                self.log.info("The campaign cannot be read, so it is neither compared nor checked: %s", error)
                return None, None
            except BatchApiError as error:
                if error.throttled and self.history.is_in_doubt and self._wait_for_batch(error):
                    continue
                if has_sent:
                    return None, error
                if error.throttled:
                    if self.budget and self._wait_for_batch(error):
                        continue
                    raise
                stops = self._is_to_stop()
                missing = isinstance(error, BatchNotFoundError)
                if missing and self.request.is_new:
                    return None, None
                if not stops:
                    raise _not_visible(error) if missing else error from None
                pause = next(pauses, None) if missing or error.transient else None
                if pause is None:
                    if error.transient and not self.attempt.is_last and not self.budget:
                        raise
                    self.log.warning("Reading the campaign failed; it is stopped without. %s", error)
                    return None, None
                self.clock.sleep(pause)

    def _is_to_stop(self) -> bool:
        clocks = Clocks(self.clock.now(), self.api.batch_now())
        try:
            return planning.desired_now(self.request, clocks, self.attempt.run_after)[0].get("live") is False
        except BatchError:
            return False

    def _send(self, step: Send, seen: Campaign | None) -> None:
        """Record and send a write; what came of it is in ``history``, ``sent`` and ``unanswered``."""
        for warning in step.warnings:
            self.log.warning(warning)
        self.stops_sent += step.stops
        # A write that is repeated, or in doubt, is compared with what was there before the first one.
        self._before = self._before or seen
        for index, payload in enumerate(step.payloads):
            if self.budget:
                self.api.time_limit = self._left()
            write = Write(
                at=self.clock.now(),
                digest=digest_of(step.desired),
                push_at=step.push_at,
                batch_at=self.api.batch_now(),
                before=_remembered(seen, whole=index > 0),
                partial=index > 0 and seen is not None,
            )
            history = self.history.with_write(write, stops=step.stops)
            self._record(step, history)
            # The store may have taken long.
            if not self.still_sends():
                self.journal.save(self.history)
                return
            try:
                status = self.api.update_campaign(self.request.token, payload, checked=True)
            except BatchError as error:
                if index < len(step.payloads) - 1 and _is_for_content(error):
                    self.log.warning("A stop must not fail for its content, so less of it is sent next. %s", error)
                    continue
                self._note_failure(error, history, seen)
                return
            self.history = history.confirmed(stops=step.stops)
            self.journal.save(self.history)
            self.sent = Sent(step=step, payload=payload, before=self._before, status=status, at=write.at)
            return

    def _record(self, step: Send, history: History) -> None:
        if step.at_once or self.request.is_new:
            self.journal.save_before_push(history)
        elif not self.journal.save(history) and self.attempt.store is not None:
            self.log.warning("The request is sent without a record, for it may be repeated.")

    def _note_failure(self, error: BatchError, history: History, seen: Campaign | None) -> None:
        """Take note of a write that failed; wait where it is to be planned again, else raise."""
        if isinstance(error, BatchApiError) and error.may_have_been_applied:
            self.history, self.unanswered = history, error
            self.log.warning("%s", error)
            if error.retry_after:
                self._pause(error.retry_after, "Batch asks for it (Retry-After)")
            return
        # The answer proves that nothing was applied: the record of the request goes.
        self.journal.save(self.history)
        if isinstance(error, BatchConnectionError) and self.reconnects < len(AGAIN_AFTER):
            self.reconnects += 1
            if self._pause(AGAIN_AFTER[self.reconnects - 1], str(error)):
                return
        has_sent = self.history.is_in_doubt or self.sent is not None
        is_only_chance = self.budget is not None or (self.request.is_new and not self.journal.is_saved)
        is_throttled = isinstance(error, BatchApiError) and error.throttled
        if is_throttled and (has_sent or is_only_chance) and self._wait_for_batch(error):
            return
        if self.unanswered is None and _is_for_content(error) and seen is not None and not self._is_to_stop():
            raise error.explained(
                "What was sent is the campaign as Batch's view shows it, with the change. If that form is what Batch "
                "refuses, pass definition=, what the campaign was created from, and read='never'."
            ) from None
        raise error

    def _wait_or_raise(self, step: Plan) -> None:
        if isinstance(step, TooLate):
            raise TooLateError(step.message)
        if isinstance(step, Refuse):
            raise step.error
        if isinstance(step, AskBatch):
            try:
                self._asked = self.api.get_campaign(self.request.token)
            except BatchApiError as error:
                if error.transient or not self.api.has_answered:
                    raise
        elif not isinstance(step, Wait) or not self._pause(step.time.total_seconds(), step.why):
            raise self.unanswered or BatchVerificationError(
                f"What an earlier request did to campaign {self.request.token!r} is not known yet."
            )

    def _wait_for_batch(self, error: Any) -> bool:
        """Wait in the worker slot for as long as Batch asks; return False where that is too long."""
        return self._pause(max(THROTTLE_FLOOR, error.retry_after or 0.0), str(error), may_be_cut=False)

    def _pause(self, seconds: float, why: str, *, may_be_cut: bool = True) -> bool:
        """Wait in the worker slot, no further than the next change of the window; return False where it is too long."""
        if not self.waits:
            return False
        now = self.clock.now()
        changes = getattr(self.request.live, "changes", None)
        change = next(iter(changes(now)), None) if changes else None
        until_change = seconds if change is None else (change[0] - now).total_seconds() + 0.1
        if until_change < seconds and not may_be_cut:
            return False
        seconds = min(seconds, until_change)
        reserve = timedelta(seconds=WRITE_RESERVE)
        left = MAX_IN_SLOT - self.waited if self.budget is None else self._left_time() - reserve
        if timedelta(seconds=seconds) > left:
            return False
        self.log.info("Waiting %.0f s: %s.", seconds, why.rstrip("."))
        self.waited += timedelta(seconds=seconds)
        self.clock.sleep(seconds)
        return True

    def _left_time(self) -> timedelta:
        return self.started + (self.budget or MAX_IN_SLOT) - self.clock.now()

    def _left(self) -> float:
        return max(0.5, self._left_time().total_seconds())

    def _finish(self, step: Done, seen: Campaign | None, failure: BatchApiError | None) -> Outcome:
        """Check what was written, say what was done, and return it."""
        if step.warning:
            self.log.warning(step.warning)
        clocks = Clocks(self.clock.now(), self.api.batch_now())
        desired = planning.desired_now(self.request, clocks, self.attempt.run_after)[0]
        if self.sent is not None:
            desired = dict(self.sent.step.desired)
        would_change = False if self.request.dry_run else None
        outcome = self._outcome(desired, seen, changed=step.changed, would_change=would_change)
        state = describe({"live": True} if self.request.is_new else desired)
        title = title_of(self.request.token, outcome.name, self.api.app)
        if self.sent is None:
            may_have_written = self.unanswered is not None or self.history.last is not None or not self.history.is_known
            if seen is not None and may_have_written and not self.request.is_new:
                check_lost(self.request.token, self._before, seen, desired)
            how = {False: "already", True: "by an earlier request of this task", None: "now"}[step.changed]
            self.log.info("%s is %s %s. Nothing is sent.", title, state, how)
        else:
            checked = check_written(self.sent, self.request.token, seen, failure, self.log)
            status = self.sent.status
            self.log.info("%s is now %s: Batch confirmed with %s%s.", title, state, status, checked)
        if step.error is not None:
            raise step.error
        return outcome

    def _outcome(
        self,
        desired: Campaign,
        seen: Campaign | None,
        *,
        changed: bool | None,
        sent: Campaign | None = None,
        would_change: bool | None = None,
    ) -> Outcome:
        shown = seen or (self.sent.before if self.sent else None) or {}
        payload = (self.sent.payload if self.sent else None) or sent or desired
        live = shown.get("live") if would_change else desired.get("live", shown.get("live"))
        return Outcome(
            token=self.request.token,
            requested_at=self.sent.at if self.sent else self.started,
            completed_at=self.clock.now(),
            changed=changed,
            sent=payload,
            live=live if isinstance(live, bool) else None,
            name=payload.get("name", shown.get("name")),
            http_status=self.sent.status if self.sent else None,
            before=seen,
            would_change=would_change,
        )


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A write that Batch confirmed.

    :param before: What view showed before it; None where the campaign cannot be read.
    """

    step: Send
    payload: Campaign
    before: Campaign | None
    status: int
    at: datetime


def check_written(sent: Sent, token: str, seen: Campaign | None, failure: BatchApiError | None, log: Log) -> str:
    """Compare what view shows after a write with what was sent; return what the log says of it.

    :raises BatchParametersLostError: for a campaign that lacks what it had, and for a stopped one without messages.
    :raises BatchVerificationError: for one that is not as written. A push that went out at once is a warning.
    """
    desired = sent.step.desired
    state = describe(desired)
    if seen is None:
        if failure is not None:
            log.warning("The write is confirmed, but reading the campaign afterwards failed: %s", failure)
            return ", unchecked"
        return "; the campaign cannot be read, so this is not checked"
    if not sent.step.is_new:
        check_lost(token, sent.before, seen, desired)
    other = differences(desired, seen)
    if not other:
        return " and shows it so, with nothing lost"
    unchanged = sent.before is not None and other == differences(desired, sent.before)
    if not sent.step.at_once and ("live" in other or unchanged):
        raise BatchVerificationError(
            f"Batch confirmed the update of campaign {token!r}, but does not show it {state}: "
            f"{', '.join(f'{name} is {seen.get(name)!r}' for name in other)[:300]}."
        )
    log.warning("Batch confirmed the write, but shows another %s than was sent.", ", ".join(other))
    return ""


def check_lost(token: str, before: Campaign | None, seen: Campaign, desired: Campaign) -> None:
    """Compare a campaign with what it was before a write. Each campaign has a name and messages.

    :raises BatchParametersLostError: for one that lacks what it had.
    """
    lost = [] if before is None else lost_parameters(before, seen, desired)
    lost += [name for name in ("name", "messages") if not seen.get(name) and name not in lost]
    if lost:
        raise planning.lost_error(token, describe(desired), lost)


def title_of(token: str, name: Any, app: str | None) -> str:
    """Return how a log line names a campaign."""
    about = [repr(name)] if isinstance(name, str) else []
    about += [f"app {app!r}"] if app else []
    return f"Campaign {token!r}" + (f" ({', '.join(about)})" if about else "")


def describe(desired: Campaign) -> str:
    """Return in words what a change makes of a campaign."""
    others = [name for name in desired if name != "live"]
    live = ["live" if desired["live"] else "not live"] if "live" in desired else []
    return ", ".join(live + ([f"updated in {', '.join(others)}"] if others else []))


def _remembered(seen: Campaign | None, *, whole: bool) -> Campaign | None:
    return None if seen is None else dict(seen) if whole else {"push_time": seen.get("push_time")}


def _not_visible(error: BatchApiError) -> BatchNotVisibleError:
    return BatchNotVisibleError(f"{error.message} A new campaign may take a while to show.", **error.details)


def _is_for_content(error: BatchError) -> bool:
    """Return whether a payload was refused for what it holds, by Batch or before it was sent."""
    return isinstance(error, BatchPayloadError) or (
        isinstance(error, BatchApiError) and error.status_code in (400, 403)
    )
