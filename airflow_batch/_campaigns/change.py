"""Change one campaign: read, plan, send, verify. Acts; what is decided is in ``plan.py``.

Operators and notifier call :func:`change_campaign`; a sync of many campaigns uses the same plan and
:func:`send_payloads`. When a failed attempt is repeated is Airflow's business.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from airflow_batch._campaigns import plan as planning
from airflow_batch._campaigns.attempt import note_nothing_sent, run_attempt
from airflow_batch._campaigns.diff import Campaign
from airflow_batch._campaigns.history import History, Journal, Write
from airflow_batch._campaigns.payload import payload_digest
from airflow_batch._campaigns.plan import AskBatch, Done, Plan, Refuse, Send, Situation, TooLate, Wait
from airflow_batch._campaigns.protocol import Attempt, CampaignApi, Clock, Log
from airflow_batch._campaigns.request import ChangeRequest, Outcome, TooLateError
from airflow_batch._campaigns.rules import Clocks, check_lost, check_written, describe, title_of
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
    if request.dry_run:
        note_nothing_sent(attempt, clock, request.token, api.app, log)
        attempt = replace(attempt, store=None)
    journal = Journal(attempt, clock, request.token, api.app, log)
    history = History(began=clock.now()) if request.dry_run else journal.load()
    change = Change(api, clock, attempt, request, journal, log, history=history, budget=budget)
    return run_attempt(change)


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
    started: datetime = field(init=False)
    seen: Campaign | None = None
    """What view showed last."""
    before: Campaign | None = None
    """What it showed before the first write."""
    failure: BatchApiError | None = None
    """The error of the last read, where it failed."""
    asked: Campaign | None = None
    planned: Campaign | None = None
    """The desired state of the write that was planned last."""
    unanswered: BatchApiError | None = None
    """The error of the unconfirmed write."""
    sent: Sent | None = None
    """The write that Batch confirmed in this attempt."""

    def make(self) -> Outcome:
        """Read, plan, send, and begin again until nothing is left to do. The last read is the check."""
        self.started = self.clock.now()
        while True:
            seen, self.failure = self._read()
            if self.failure is None:
                self.seen = seen
            step = self._plan()
            if isinstance(step, Done):
                return self._finish(step, seen)
            if not isinstance(step, Send):
                self._wait_or_raise(step)
            elif self.unanswered is not None and self.budget and self._left() < 1:
                raise self.unanswered
            elif self.request.dry_run:
                return self._outcome(step.desired, seen, sent=step.payloads[0], changed=False, would_change=True)
            else:
                self._send(step)
                if self.sent is not None and not self.verifies and not self._goes_on(step):
                    return self._finish(Done(True, desired=step.desired), None)

    def _plan(self) -> Plan:
        situation = Situation(
            request=self.request,
            seen=self.seen,
            history=self.history,
            clocks=Clocks(self.clock.now(), self.api.batch_now()),
            run_after=self.attempt.run_after,
            read_failed=self.failure is not None,
            asked=self.asked,
            has_answered=self.api.has_answered,
            stops_sent=self.stops_sent,
            is_brief=self.budget is not None,
        )
        return planning.plan_change(situation)

    def still_sends(self) -> bool:
        """Return whether what was planned is still to be sent, for a hook whose requests wait for their turn."""
        if self.planned is None:
            return True
        step = self._plan()
        return isinstance(step, Send) and step.desired == self.planned

    def _goes_on(self, step: Send) -> bool:
        """Return whether more is to be done after a confirmed write (rules 4 and 7)."""
        off = self.history.off
        return step.stops and (self.history.on is not None or not self.history.is_known or bool(off and off.partial))

    def _read(self) -> tuple[Campaign | None, BatchApiError | None]:
        """Return what view shows, and the error where reading failed; neither where the campaign cannot be read."""
        if not self.request.read:
            return None, None
        has_sent = self.history.has_unconfirmed or self.sent is not None
        stops = self._is_to_stop()
        pauses = [0.0, *(AGAIN_AFTER if self.waits else ())] if stops and not has_sent and not self.budget else []
        # A single 403 may come from a proxy. An attempt that does not know what was sent reads once more (rule 6).
        refusals = 0 if self.history.is_known or stops else 1
        while True:
            try:
                if self.budget:
                    left = self._left()
                    self.api.time_limit = min(left, STOP_READ_LIMIT) if stops else max(0.5, left - WRITE_RESERVE)
                return self.api.get_campaign(self.request.token), None
            except BatchApiMisuseError as error:
                if self.seen is not None:
                    return (None, error) if has_sent else (self.seen, None)
                if refusals:
                    refusals -= 1
                    continue
                self.log.info("The campaign cannot be read, so it is neither compared nor checked: %s", error)
                return None, None
            except BatchApiError as error:
                may_wait = self.history.has_unconfirmed or (self.budget is not None and not has_sent)
                if error.throttled and may_wait and self._wait_for_batch(error):
                    continue
                if has_sent:
                    return None, error
                if error.throttled:
                    raise
                stops = self._is_to_stop()
                missing = isinstance(error, BatchNotFoundError)
                if missing and self.request.is_new:
                    return None, None
                if not stops:
                    raise _not_visible(error) if missing else error from None
                if pauses and (missing or error.transient):
                    self.clock.sleep(pauses.pop(0))
                    continue
                if error.transient and not self.attempt.is_last and not self.budget:
                    raise
                self.log.warning("Reading the campaign failed; it is stopped without. %s", error)
                return self.seen, None

    def _is_to_stop(self) -> bool:
        clocks = Clocks(self.clock.now(), self.api.batch_now())
        try:
            return planning.desired_now(self.request, clocks, self.attempt.run_after)[0].get("live") is False
        except BatchError:
            return False

    def _send(self, step: Send) -> None:
        """Record and send a write; what came of it is in ``history``, ``sent`` and ``unanswered``."""
        for warning in step.warnings:
            self.log.warning(warning)
        self.planned, seen = step.desired, self.seen
        # A write that is repeated, or unconfirmed, is compared with what was there before the first one.
        self.before = self.before or seen
        for index, payload in enumerate(step.payloads):
            if self.budget:
                self.api.time_limit = self._left()
            write = Write(
                at=self.clock.now(),
                digest=payload_digest(step.desired),
                push_at=step.push_at,
                batch_at=self.api.batch_now(),
                before=None if seen is None else dict(seen) if index > 0 else {"push_time": seen.get("push_time")},
                partial=index > 0 and seen is not None,
            )
            history = self.history.with_write(write, stops=step.stops)
            if step.at_once or self.request.is_new:
                self.journal.save_before_push(history)
            elif not self.journal.save(history) and self.attempt.store is not None:
                self.log.warning("The request is sent without a record, for it may be repeated.")
            # The store may have taken long.
            if not self.still_sends():
                self.journal.save(self.history)
                break
            try:
                status = self.api.update_campaign(self.request.token, payload, checked=True)
            except BatchError as error:
                if index < len(step.payloads) - 1 and _is_for_content(error):
                    self.log.warning("A stop must not fail for its content, so less of it is sent next. %s", error)
                    continue
                self._note_failure(error, history)
                break
            self.history = history.with_write(replace(write, confirmed=True), stops=step.stops)
            self.journal.save(self.history)
            self.sent = Sent(step=step, payload=payload, before=self.before, status=status, at=write.at)
            self.failure = None
            break
        self.stops_sent += step.stops

    def _note_failure(self, error: BatchError, history: History) -> None:
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
        has_sent = self.history.has_unconfirmed or self.sent is not None
        is_only_chance = self.budget is not None or (self.request.is_new and not self.journal.is_saved)
        is_throttled = isinstance(error, BatchApiError) and error.throttled
        if is_throttled and (has_sent or is_only_chance) and self._wait_for_batch(error):
            return
        if self.unanswered is None and _is_for_content(error) and self.seen is not None and not self._is_to_stop():
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
            if self.budget:
                self.api.time_limit = max(0.5, self._left() - WRITE_RESERVE)
            try:
                self.asked = self.api.get_campaign(self.request.token)
            except BatchApiError as error:
                # The window may have closed meanwhile; a stop needs no answer.
                if (error.transient or not self.api.has_answered) and not self._is_to_stop():
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
        left = self._left() - WRITE_RESERVE if self.budget else (MAX_IN_SLOT - self.waited).total_seconds()
        if seconds > left:
            return False
        self.log.info("Waiting %.0f s: %s.", seconds, why.rstrip("."))
        self.waited += timedelta(seconds=seconds)
        self.clock.sleep(seconds)
        return True

    def _left(self) -> float:
        """Return how many seconds of a callback's time are left for a request, at least half a second."""
        left = self.started + (self.budget or timedelta(0)) - self.clock.now()
        return max(0.5, left.total_seconds())

    def _finish(self, step: Done, seen: Campaign | None) -> Outcome:
        """Check what was written, say what was done, and return it."""
        if step.warning:
            self.log.warning(step.warning)
        desired = step.desired if self.sent is None else self.sent.step.desired
        would_change = False if self.request.dry_run else None
        outcome = self._outcome(desired, seen, changed=step.changed, would_change=would_change)
        state = describe({"live": True} if self.request.is_new else desired)
        title = title_of(self.request.token, outcome.name, self.api.app)
        if self.sent is None:
            is_later = self.attempt.number > 1 or not self.history.is_known
            may_have_written = self.unanswered is not None or self.history.last is not None or is_later
            if seen is not None and may_have_written and not self.request.is_new:
                check_lost(self.request.token, self.before, seen, desired)
            how = {False: "already", True: "by an earlier request of this task", None: "now"}[step.changed]
            self.log.info("%s is %s %s. Nothing is sent.", title, state, how)
        else:
            checked = self._check(self.sent, seen)
            status = self.sent.status
            self.log.info("%s is now %s: Batch confirmed with %s%s.", title, state, status, checked)
        if step.error is not None:
            raise step.error
        return outcome

    def _check(self, sent: Sent, seen: Campaign | None) -> str:
        """Compare what view shows with what was sent; return what the log says of it."""
        if seen is None and self.failure is not None:
            self.log.warning("The write is confirmed, but reading the campaign afterwards failed: %s", self.failure)
            return ", unchecked"
        if seen is None:
            return "; the campaign cannot be read, so this is not checked"
        step = sent.step
        other = check_written(
            self.request.token, sent.before, seen, step.desired, at_once=step.at_once, is_new=step.is_new
        )
        if other:
            self.log.warning("Batch confirmed the write, but shows another %s than was sent.", ", ".join(other))
        return "" if other else " and shows it so, with nothing lost"

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


def _not_visible(error: BatchApiError) -> BatchNotVisibleError:
    return BatchNotVisibleError(f"{error.message} A new campaign may take a while to show.", **error.details)


def _is_for_content(error: BatchError) -> bool:
    """Return whether a payload was refused for what it holds, by Batch or before it was sent."""
    return isinstance(error, BatchPayloadError) or (
        isinstance(error, BatchApiError) and error.status_code in (400, 403)
    )
