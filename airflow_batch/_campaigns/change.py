"""Change one campaign: read, plan, send, verify. Acts; what is decided is in ``plan.py``.

Operators and notifier call :func:`change_campaign`; a sync of many campaigns makes each of
its changes with :class:`Change`. When a failed attempt is repeated is decided by Airflow.
"""

from __future__ import annotations

import logging
import zlib
from dataclasses import InitVar, dataclass, field, replace
from datetime import timedelta

from airflow_batch._campaigns import plan as planning
from airflow_batch._campaigns.diff import Campaign
from airflow_batch._campaigns.dry_run import apply_dry_run, log_unsent
from airflow_batch._campaigns.history import History, Journal, Write, run_attempt
from airflow_batch._campaigns.payload import payload_digest
from airflow_batch._campaigns.plan import AskBatch, Done, Plan, Refuse, Send, Situation, TooLate, Wait
from airflow_batch._campaigns.protocol import Attempt, CampaignApi, Clock, Log
from airflow_batch._campaigns.request import ChangeRequest, Outcome, TooLateError
from airflow_batch._campaigns.rules import Clocks, check_lost, describe, not_visible, title_of
from airflow_batch._campaigns.verify import Sent, check_sent
from airflow_batch._campaigns.waiting import AGAIN_AFTER, MAX_IN_SLOT, STOP_READ_LIMIT, WRITE_RESERVE, Waiting
from airflow_batch.exceptions import (
    BatchApiError,
    BatchApiMisuseError,
    BatchConnectionError,
    BatchError,
    BatchNotFoundError,
    BatchPayloadError,
    BatchVerificationError,
)

log = logging.getLogger(__name__)
MAX_PLAN_AGE = timedelta(seconds=1)
"""How old a plan may be when its request is sent: no clock is right to less than that."""


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
    attempt, request, budget = apply_dry_run(api, clock, attempt, request, log, budget)
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
    budget: InitVar[timedelta | None] = None
    waits: InitVar[bool] = True
    """Whether it may wait in the worker slot; a sync plans again later instead."""
    unchecked: str = ""
    """Why a confirmed write is not checked by another read, where a sync knows a reason."""
    waiting: Waiting = field(init=False)
    stops_sent: int = 0
    reconnects: int = 0
    seen: Campaign | None = None
    """What view showed last."""
    before: Campaign | None = None
    """What it showed before the first write."""
    failure: BatchApiError | None = None
    """The error of the last read, where it failed."""
    asked: Campaign | None = None
    planned: Send | None = None
    """The write that was planned last."""
    unanswered: BatchApiError | None = None
    """The error of the unconfirmed write."""
    sent: Sent | None = None
    """The write that Batch confirmed in this attempt."""
    is_throttled: bool = field(init=False)
    """Whether Batch has throttled this task."""

    def __post_init__(self, budget: timedelta | None, waits: bool) -> None:
        spread = zlib.crc32(f"{self.request.token} {self.attempt.number}".encode()) / 2**32
        allowed = MAX_IN_SLOT if waits else timedelta(0)
        self.is_throttled = self.attempt.is_rescheduled
        may_wait_out = self.is_throttled or not self.attempt.is_mapped
        self.waiting = Waiting(self.clock, self.log, self.request.live, budget, allowed, spread, may_wait_out)

    def make(self) -> Outcome:
        """Read, plan, send, and begin again until nothing is left to do. The last read is the check."""
        self.waiting.started = self.clock.now()
        while True:
            seen, self.failure = self._read()
            if self.failure is None:
                self.seen = seen
            step = self._plan()
            will_write = isinstance(step, Send) and not self.request.dry_run
            if will_write and self.is_throttled and self.waiting.pause_before_write():
                step = self._plan()
            if isinstance(step, Done):
                return self._finish(step, seen)
            if not isinstance(step, Send):
                self._wait_or_raise(step)
            elif self.unanswered is not None and self.waiting.budget and self.waiting.left() < 1:
                raise self.unanswered
            elif self.request.dry_run:
                outcome = self._outcome(step.desired, seen, sent=step.payloads[0], changed=False, would_change=True)
                return log_unsent(outcome, step.desired, self.request, self.api.app, self.log)
            elif self.waiting.is_closed():
                self.waiting.until_allowed()
            else:
                self._send(step)
                is_done = self.sent is not None and self.sent.step is step and self._desired() == step.desired
                if is_done and not self._goes_on(step) and (why := self._why_unchecked(step)):
                    return self._finish(Done(True, desired=step.desired, error=step.error), None, unchecked=why)

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
            is_brief=self.waiting.budget is not None,
        )
        return planning.plan_change(situation)

    def still_sends(self) -> bool:
        """Return whether what was planned is still to be sent, for a hook whose requests wait for their turn."""
        if (last := self.planned) is None:
            return True
        step = self._plan()
        return isinstance(step, Send) and (step.desired, step.at_once) == (last.desired, last.at_once)

    def _goes_on(self, step: Send) -> bool:
        """Return whether more is to be done after a confirmed write (rules 4 and 7)."""
        off = self.history.off
        return step.stops and (self.history.on is not None or not self.history.is_known or bool(off and off.partial))

    def _why_unchecked(self, step: Send) -> str:
        """Return why a confirmed write is not compared with what view shows then; empty where it is.

        The check finds what a write has lost, before a push goes out without its targeting. A stop sends nothing to
        anybody, and Batch has confirmed it: where it had all that was read, ``verify="auto"`` leaves the check out.
        """
        if self.unchecked or self.request.verify == "never":
            return self.unchecked or "verify='never'"
        if self.is_throttled and self.request.verify == "auto":
            return "Batch throttles this task"
        before = self.sent.before if self.sent is not None and self.sent.payload == step.payloads[0] else None
        is_whole = before is not None and bool(before.get("name") and before.get("messages"))
        is_toggle = step.desired == {"live": False}
        return "a stop of all that was read" if is_toggle and is_whole and self.request.verify == "auto" else ""

    def _read(self) -> tuple[Campaign | None, BatchApiError | None]:
        """Return what view shows, and the error where reading failed; neither where the campaign cannot be read."""
        if not self.request.read:
            return None, None
        has_sent = self.history.has_unconfirmed or self.sent is not None
        stops = self._is_to_stop()
        pauses = [0.0, *(AGAIN_AFTER if self.waiting.allowed else ())]
        pauses = pauses if stops and not has_sent and not self.waiting.budget else []
        # A single 403 may come from a proxy. An attempt that does not know what was sent reads once more (rule 6).
        refusals = 0 if self.history.is_known or stops else 1
        while True:
            self.waiting.until_allowed()
            try:
                if self.waiting.budget:
                    left = self.waiting.left()
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
                self._note_throttle(error)
                is_needed = self.history.has_unconfirmed or (self.waiting.budget is not None and not has_sent)
                wait = self.waiting.for_throttle if is_needed else self.waiting.for_short_throttle
                if error.throttled and (is_needed or not has_sent) and wait():
                    stops = self._is_to_stop()
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
                    raise not_visible(error) if missing else error from None
                if pauses and (missing or error.transient):
                    self.clock.sleep(pauses.pop(0))
                    continue
                if error.transient and not self.attempt.is_last and not self.waiting.budget:
                    raise
                self.log.warning("Reading the campaign failed; it is stopped without. %s", error)
                return self.seen, None

    def _note_throttle(self, error: BatchApiError) -> None:
        """Note a throttle; the requests of a sync wait in its rate limiter."""
        self.is_throttled |= error.throttled
        if error.throttled and self.waiting.allowed:
            self.waiting.note_throttle(error)

    def _desired(self) -> Campaign | None:
        """Return what should be set now; None where the clocks disagree about it."""
        clocks = Clocks(self.clock.now(), self.api.batch_now())
        try:
            return planning.desired_now(self.request, clocks, self.attempt.run_after)[0]
        except BatchError:
            return None

    def _is_to_stop(self) -> bool:
        return (self._desired() or {}).get("live") is False

    def _send(self, step: Send) -> None:
        """Record and send a write; what came of it is in ``history``, ``sent`` and ``unanswered``."""
        for warning in step.warnings:
            self.log.warning(warning)
        self.planned, seen = step, self.seen
        # A write that is repeated, or unconfirmed, is compared with what was there before the first one.
        self.before = self.before or seen
        for index, payload in enumerate(step.payloads):
            if self.waiting.budget:
                self.api.time_limit = self.waiting.left()
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
            if self.clock.now() - write.at > MAX_PLAN_AGE and not self.still_sends():
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
                self.waiting.pause(error.retry_after, "Batch asks for it (Retry-After)")
            return
        # The answer proves that nothing was applied: the record of the request goes.
        self.journal.save(self.history)
        if isinstance(error, BatchConnectionError) and self.reconnects < len(AGAIN_AFTER):
            self.reconnects += 1
            if self.waiting.pause(AGAIN_AFTER[self.reconnects - 1], str(error)):
                return
        has_sent = self.history.has_unconfirmed or self.sent is not None
        is_only_chance = self.waiting.budget is not None or (self.request.is_new and not self.journal.is_saved)
        if isinstance(error, BatchApiError) and error.throttled:
            self._note_throttle(error)
            must_wait = has_sent or is_only_chance
            if self.waiting.for_throttle() if must_wait else self.waiting.for_short_throttle():
                return
        if self.unanswered is None and _is_for_content(error) and self.seen is not None and not self._is_to_stop():
            raise error.explained(
                "What was sent is the campaign as Batch's view shows it, with the change. If that form is what Batch "
                "refuses, pass definition=, the payload that created the campaign, and read='never'."
            ) from None
        raise error

    def _wait_or_raise(self, step: Plan) -> None:
        if isinstance(step, TooLate):
            raise TooLateError(step.message)
        if isinstance(step, Refuse):
            raise step.error
        if isinstance(step, AskBatch):
            if self.waiting.budget:
                self.api.time_limit = max(0.5, self.waiting.left() - WRITE_RESERVE)
            self.waiting.until_allowed()
            try:
                self.asked = self.api.get_campaign(self.request.token)
            except BatchApiError as error:
                self._note_throttle(error)
                if error.throttled and self.waiting.for_short_throttle():
                    return
                # The window may have closed meanwhile; a stop needs no answer.
                if (error.transient or not self.api.has_answered) and not self._is_to_stop():
                    raise
        elif not isinstance(step, Wait) or not self.waiting.pause(step.time.total_seconds(), step.why):
            if self.failure is not None and self.failure.throttled:
                raise self.failure
            raise self.unanswered or BatchVerificationError(
                f"What an earlier request did to campaign {self.request.token!r} is not known yet."
            )

    def _finish(self, step: Done, seen: Campaign | None, *, unchecked: str = "") -> Outcome:
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
            unchecked = "reading failed" if self.failure is not None else unchecked
            if self.failure is not None or (unchecked and self.is_throttled and not self.sent.step.stops):
                self.log.warning("The write is confirmed, but not compared: %s.", self.failure or unchecked)
            checked = check_sent(self.request, self.sent, seen, unchecked, self.log)
            self.log.info("%s is now %s: Batch confirmed with %s%s.", title, state, self.sent.status, checked)
        # What a write left out stays left out, whatever the plan after it finds.
        if (error := step.error or (self.sent.step.error if self.sent else None)) is not None:
            raise error
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
            requested_at=self.sent.at if self.sent else self.waiting.started,
            completed_at=self.clock.now(),
            changed=changed,
            sent=payload,
            live=live if isinstance(live, bool) else None,
            name=payload.get("name", shown.get("name")),
            http_status=self.sent.status if self.sent else None,
            before=seen,
            would_change=would_change,
        )


def _is_for_content(error: BatchError) -> bool:
    """Return whether a payload was refused for what it holds, by Batch or before it was sent."""
    return isinstance(error, BatchPayloadError) or (
        isinstance(error, BatchApiError) and error.status_code in (400, 403)
    )
