"""Give many campaigns their desired state: compare with the list, write the differences, each by the rules of one
campaign (``_campaigns/``), as fast as the API allows and no faster (rule 10).

How requests wait for their turn is in ``_sync/rate_limiter.py``; what a task does that is throttled for long, in
``operators/sync.py``.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from airflow_batch._campaigns import rules
from airflow_batch._campaigns.change import MAX_IN_SLOT, Change
from airflow_batch._campaigns.history import History, Journal
from airflow_batch._campaigns.plan import desired_now
from airflow_batch._campaigns.protocol import Attempt, Clock, SystemClock
from airflow_batch._campaigns.request import ChangeRequest, Outcome, TooLateError
from airflow_batch._campaigns.rules import SETTLE_TIME, Clocks
from airflow_batch._http.endpoints import MAX_PAGE
from airflow_batch._sync.desired import DesiredCampaign
from airflow_batch._sync.memory import Memory
from airflow_batch._sync.progress import Progress
from airflow_batch._sync.rate_limiter import TRIES, Outdated, RateLimiter, RateLimiterClosed
from airflow_batch.exceptions import (
    BatchApiError,
    BatchApiMisuseError,
    BatchAuthenticationError,
    BatchChangeRefusedError,
    BatchClockError,
    BatchError,
    BatchNotFoundError,
    BatchParametersLostError,
    BatchSyncIncompleteError,
    BatchVerificationError,
)
from airflow_batch.hooks._rate_limited import RateLimitedHook, ThreadHooks

log = logging.getLogger(__name__)
# One line for each of thousands of campaigns would hide those of the progress.
details_log = logging.getLogger(f"{__name__}.changes")
details_log.setLevel(logging.WARNING)

VIEW_INSTEAD_OF_LIST = 3
"""Up to so many campaigns of an app are viewed rather than listed, for a list costs at least one request as well; and
so many "on" of an app are sent one after the other until one is confirmed and checked."""
MAX_NAMED = 10
LOOK_AT_WINDOWS_SECONDS = 15.0

State = Mapping[str, Any]


@dataclass(kw_only=True)
class CampaignSync:
    """Many campaigns and their desired states.

    :param desired: The campaigns.
    :param connect: Returns hooks that have read the connection anew; called at the start and after a 401.
    :param at: The moment by which schedules are evaluated; None for that of each request.
    :param latest_on: Moment after which no fixed ``live: true`` is sent any more.
    :param throttled_until: The same, for a task that Batch has throttled for long.
    :param max_changes: With more differences than that nothing is written.
    :param max_failures: With more failures than that the sync fails as a whole.
    :param dry_run: Compare, but write nothing.
    :param max_in_flight: Requests at a time.
    """

    desired: Sequence[DesiredCampaign]
    connect: Callable[[RateLimiter | None], ThreadHooks]
    attempt: Attempt = field(default_factory=Attempt)
    clock: Clock = field(default_factory=SystemClock)
    at: datetime | None = None
    latest_on: datetime | None = None
    throttled_until: datetime | None = None
    max_changes: int | None = None
    max_failures: int = 0
    dry_run: bool = False
    max_in_flight: int = 4
    log: logging.Logger = log
    details: logging.Logger = details_log
    executor: Callable[[int], Executor] = lambda count: ThreadPoolExecutor(count, thread_name_prefix="batch-sync")

    def __post_init__(self) -> None:
        self.progress = Progress(len(self.desired))
        self.memory = Memory(self.attempt, self.clock, self.log)
        self.is_known = self.memory.was_known
        self.wrote_before = self.memory.wrote and not self.dry_run
        self._hooks = self.connect(None)
        self._is_renewed = self._is_noted = False
        self._requests = [self._request(campaign) for campaign in self.desired]
        self._changes: dict[int, Change] = {}
        """Changes that failed, to be continued in a later round."""
        self._histories: dict[int, History] = {}
        self._before_writes: dict[int, State] = {}
        """What view showed before the first write to a campaign in this attempt."""
        self._views: dict[int, State] = {}
        self._whole: set[tuple[str | None, str]] = set()
        """Apps and tokens of the campaigns that were viewed. The list shows only a part of a campaign."""
        self._wanted_on: dict[int, bool] = {}
        """The desired state of each window when its campaign was last read."""
        self._proven: set[str | None] = set()
        """Apps of which a write was confirmed and checked."""
        self._lost: dict[str | None, BatchParametersLostError] = {
            app: BatchParametersLostError("A campaign of this app lost parameters in an earlier attempt of this task.")
            for app in self.memory.lost_apps
        }
        self._again: dict[int, BatchError] = {}
        """Those that failed for a reason that may pass."""

    @property
    def gate(self) -> RateLimiter:
        """Where the requests wait for their turn."""
        return self._hooks.gate

    @property
    def has_written(self) -> bool:
        """Whether a write of this attempt was applied, or may have been."""
        writes = [write for h in self._histories.copy().values() for write in (h.on, h.off)]
        return any(write is not None and write.is_own for write in writes)

    @property
    def in_doubt(self) -> set[int]:
        """Those with a write in doubt of this attempt which no look has shown since."""
        shown = self.progress.outcomes.keys() - self.progress.failed.keys() - self._again.keys()
        return {index for index, history in self._histories.copy().items() if history.is_in_doubt} - shown

    def stop(self) -> None:
        """Send nothing more and let :meth:`run` end; for another thread, or the handler of a signal."""
        self.gate.close(BatchSyncIncompleteError("The task was stopped. The changes that were completed are kept."))

    def run(self) -> Progress:
        """Write the differences; return what became of each campaign.

        :raises BatchConfigurationError: before anything is sent, for an app that the connection does not know.
        :raises BatchChangeRefusedError: before anything is written, for more differences than ``max_changes``.
        :raises BatchParametersLostError: when a write lost parameters; no further "on" of its app was sent.
        :raises BatchAuthenticationError: for keys that are refused twice.
        :raises BatchSyncIncompleteError: when it was stopped, and where stops are left after a lost parameter.
        :raises BatchApiError: for a throttle that lasts long, and where the list cannot be read.
        :raises BatchSyncIncompleteError: when more than ``max_failures`` failed, and trying again may help.
        :raises BatchSyncError: when it does not help.
        """
        if not self.desired:
            self.log.warning("No campaign is declared: there is nothing to do.")
        try:
            for app in {campaign.app for campaign in self.desired}:
                self._hooks.own(app)
            state = self._state(range(len(self.desired)))
            self._views = {index: shown for index, shown in state.items() if self._key(index) in self._whole}
            pending = self._differing(state)
            self._check_count([index for index in pending if not self._shows_desired(index, state)])
            if self.dry_run:
                self.progress.would_change.update(pending)
                for index in pending:
                    live = self._is_to_be_live(index)
                    self.progress.outcomes[index] = self._unsent(index, state.get(index, {}), live, would_change=True)
            else:
                self._write_all(pending)
        except RateLimiterClosed as closed:
            if isinstance(closed.reason, BatchApiError):
                closed.reason.may_be_rescheduled = self.attempt.store is not None or not self.in_doubt
            raise closed.reason from None
        finally:
            self.progress.failed.update(self._again)
            if not self.dry_run:
                self._note(in_doubt=bool(self.in_doubt) or not self.is_known)
            self.progress.log(self.gate, last=True)
        for error in self._lost.values():
            if any(not self._wants_on(index) for index in self._again):
                raise BatchSyncIncompleteError(f"Some campaigns are still to be stopped. {error}")
            raise error
        self.progress.judge([campaign.token for campaign in self.desired], self.max_failures, self.log)
        return self.progress

    def _request(self, campaign: DesiredCampaign) -> ChangeRequest:
        live = campaign.live
        is_fixed = isinstance(live, bool)
        if not isinstance(live, bool) and self.at is not None:
            live = live.is_live_at(self.at)
        return ChangeRequest(
            token=campaign.token,
            live=live,
            definition=campaign.definition,
            expect_name=campaign.expect_name,
            latest_on=min(filter(None, (self.latest_on, self.throttled_until)), default=None) if is_fixed else None,
        )

    def _is_to_be_live(self, index: int) -> bool:
        """Return the desired state at this moment.

        :raises BatchClockError: where the clocks disagree about a window's opening.
        """
        hook = self._hooks.own(self.desired[index].app)
        clocks = Clocks(self.clock.now(), hook.batch_now())
        return desired_now(self._requests[index], clocks, self.attempt.run_after)[0]["live"] is True

    def _key(self, index: int) -> tuple[str | None, str]:
        return self.desired[index].app, self.desired[index].token

    def _note(self, *, in_doubt: bool) -> None:
        histories = [(self.desired[index], history) for index, history in self._histories.items()]
        self.memory.note(histories, self._lost, has_written=self.has_written, in_doubt=in_doubt)

    def _state(self, indexes: Iterable[int]) -> dict[int, State]:
        """Return what Batch shows of the campaigns; one that cannot be read or does not exist is left out."""
        by_app: dict[str | None, dict[str, int]] = {}
        for index in indexes:
            by_app.setdefault(self.desired[index].app, {})[self.desired[index].token] = index
        seen: dict[int, State] = {}
        for app, places in by_app.items():
            try:
                try:
                    found = self._read(app, set(places))
                except BatchAuthenticationError:
                    if not self._renew():
                        raise
                    found = self._read(app, set(places))
            except (BatchAuthenticationError, BatchNotFoundError) as error:
                # Most likely the app's key is wrong. Stops are sent all the same, and Batch decides (rule 4).
                if self._is_noted or self.dry_run or all(map(self._wants_on, range(len(self.desired)))):
                    raise
                self.progress.failed.update({index: error for index in places.values() if self._wants_on(index)})
                continue
            seen.update((places[token], campaign) for token, campaign in found.items())
        return seen

    def _read(self, app: str | None, tokens: set[str]) -> dict[str, State]:
        found = self._listed(app, tokens) if len(tokens) > VIEW_INSTEAD_OF_LIST else {}
        return {**found, **self._viewed(app, tokens - found.keys())}

    def _listed(self, app: str | None, tokens: set[str]) -> dict[str, State]:
        """Return what the list shows of these campaigns.

        It is read no further once pages without any of them have cost as many requests as it takes to view the rest.
        """
        found: dict[str, State] = {}
        last_hit = 0
        try:
            for count, item in enumerate(self._hooks.own(app).list_campaigns(), 1):
                pages = -(-count // MAX_PAGE)
                if item["campaign_token"] in tokens:
                    found[item["campaign_token"]] = item
                    last_hit = pages
                missing = len(tokens) - len(found)
                if not missing or (count % MAX_PAGE == 0 and pages - last_hit >= missing):
                    break
                self.progress.log(self.gate)
        except BatchApiError as error:
            is_unknown = isinstance(error, BatchNotFoundError) and not found
            keys_are_wrong = is_unknown or isinstance(error, BatchAuthenticationError)
            if keys_are_wrong or (error.transient and not self.attempt.is_last):
                raise
            self.log.warning("The campaigns cannot be listed, so each one is viewed, or written without. %s", error)
        return found

    def _viewed(self, app: str | None, tokens: Iterable[str]) -> dict[str, State]:
        hooks, refused = self._hooks, list[BatchApiError]()

        def view(token: str) -> tuple[str, State | None]:
            if not refused:
                try:
                    return token, hooks.own(app).get_campaign(token)
                except (BatchApiMisuseError, BatchAuthenticationError) as error:
                    refused.append(error)
                except BatchApiError as error:
                    self.details.info("Campaign %r could not be read: %s", token, error)
            return token, None

        found: dict[str, State] = {}
        with self._threads() as pool:
            for token, campaign in pool.map(view, tokens):
                if campaign is not None:
                    found[token] = campaign
                    self._whole.add((app, token))
                self.progress.log(self.gate)
        for error in refused:
            if isinstance(error, BatchAuthenticationError):
                raise error
        return found

    def _differing(self, seen: Mapping[int, State]) -> list[int]:
        """Return the campaigns to write, stops first; note those that are as desired, and those with another name."""
        pending: list[tuple[bool, int]] = []
        for index, campaign in enumerate(self.desired):
            if index in self.progress.failed:
                self._note_wanted(index)
                continue
            state = seen.get(index)
            try:
                live = self._is_to_be_live(index)
                if state is not None and rules.names_agree(state, campaign.expect_name) is False:
                    raise rules.other_name_error(campaign.token, state, campaign.expect_name)
            except BatchError as error:
                (self._again if error.transient else self.progress.failed)[index] = error
                continue
            if not isinstance(self._requests[index].live, bool):
                self._wanted_on[index] = live
            if state is None or state.get("live") is not live or self._may_differ(index):
                pending.append((live, index))
            else:
                self.progress.as_desired.add(index)
                self.progress.outcomes[index] = self._unsent(index, state, live, would_change=False)
        return [index for _, index in sorted(pending)]

    def _unsent(self, index: int, seen: State, live: bool, *, would_change: bool) -> Outcome:
        now = self.clock.now()
        return Outcome(
            token=self.desired[index].token,
            requested_at=now,
            completed_at=now,
            changed=None if self.wrote_before else False,
            sent={"live": live},
            live=seen.get("live"),
            name=seen.get("name"),
            before=seen,
            would_change=would_change if self.dry_run else None,
        )

    def _shows_desired(self, index: int, seen: Mapping[int, State]) -> bool:
        return index in seen and seen[index].get("live") is self._wants_on(index)

    def _may_differ(self, index: int) -> bool:
        """Return whether an earlier attempt may have sent the contrary, so that a look is not enough (rule 7)."""
        live, soon = self._requests[index].live, self.clock.now() + SETTLE_TIME  # It may change during the read.
        return self.wrote_before and rules.may_have_flipped(live, self.attempt.run_after, soon)

    def _check_count(self, pending: Sequence[int]) -> None:
        if self.max_changes is None or len(pending) <= self.max_changes:
            return
        named = ", ".join(self.desired[index].token for index in pending[:MAX_NAMED])
        raise BatchChangeRefusedError(
            f"{len(pending)} of {len(self.desired)} campaigns are not as desired, more than max_changes="
            f"{self.max_changes}: {named}{', ...' if len(pending) > MAX_NAMED else ''}. Nothing was sent. Check the "
            "desired states, or raise max_changes."
        )

    def _write_all(self, pending: Sequence[int]) -> None:
        """Write these campaigns, stops first; try those again that failed for a reason that may pass."""
        self.progress.writing_begins()
        stops = [index for index in pending if not self._wants_on(index)]
        self._round(stops)
        left = [index for index in pending if index not in set(stops)]
        for _ in range(VIEW_INSTEAD_OF_LIST):
            first = {self.desired[index].app: index for index in reversed(left)}
            trial = {index for app, index in first.items() if app not in self._proven}
            self._round(trial)
            left = [index for index in left if index not in trial]
        self._round(left)
        for tries in range(1, TRIES):
            if self._again:
                self.log.info("%d campaigns failed for a reason that may pass: trying them again.", len(self._again))
                self.gate.rest(tries)
            self._round({*self._again, *self._flipped()})
        for _ in range(TRIES):
            self._settle()
            self._check()
            if not (flipped := self._flipped()):
                break
            self._round(flipped)

    def _wants_on(self, index: int) -> bool:
        try:
            return self._is_to_be_live(index)
        except BatchClockError:
            return True

    def _note_wanted(self, index: int) -> None:
        if not isinstance(self._requests[index].live, bool):
            self._wanted_on[index] = self._wants_on(index)

    def _flipped(self) -> set[int]:
        """Return the campaigns whose window has opened or closed since they were looked at (rule 7)."""
        return {index for index, live in self._wanted_on.items() if self._wants_on(index) is not live}

    def _unsettled(self) -> datetime | None:
        """Return until when a request may take effect on which it depends what is to be sent (rules 7 and 10).

        What a look has shown does not count: the request has had its effect. What an earlier attempt has sent does, to
        whichever campaign, for that cannot be told from what somebody else did.
        """
        moments = [] if self.is_known else [self.memory.began]
        for index in (self._again.keys() | self.in_doubt) & self._histories.keys():
            history = self._histories[index]
            on, off = history.on, history.off
            stops_again = on is not None and off is not None and not off.partial and not self._wants_on(index)
            moments += [write.at for write in ((on,) if stops_again else (on, off)) if write is not None]
            moments += [] if history.is_known else [history.began]
        return max(moments) + SETTLE_TIME if moments else None

    def _settle(self) -> None:
        """Wait until writes in doubt have taken effect or not, list all, and write what is not as desired (rule 10)."""
        ends, settled = self.clock.now() + MAX_IN_SLOT, None
        while (until := self._unsettled()) is not None and until != settled and self.clock.now() < ends:
            left = (until - self.clock.now()).total_seconds()
            if left > 0:
                self.log.info("Waiting %.0f s: what some requests did is not known yet.", left)
                self.gate.pause(min(left, LOOK_AT_WINDOWS_SECONDS) if self._wanted_on else left)
                self._round(self._flipped())
                continue
            settled = until
            state = self._state(range(len(self.desired)))
            self.is_known = True
            for index, shown in state.items():
                if rules.names_agree(shown, (campaign := self.desired[index]).expect_name) is False:
                    # The first list could not be read.
                    self._note_failure(index, rules.other_name_error(campaign.token, shown, campaign.expect_name))
                    self._wanted_on.pop(index, None)
            given_up = self.progress.failed.keys() | self.progress.skipped.keys()
            differing = {index for index in state if not self._shows_desired(index, state)} - given_up
            wrong = {
                index
                for index in self.progress.failed
                if isinstance(self.progress.failed[index], BatchChangeRefusedError)
            }
            self._round({*self._again, *self.in_doubt, *differing} - wrong)

    def _round(self, indexes: Collection[int]) -> None:
        """Write these campaigns once: first the stops."""
        if indexes and not (self._is_noted and self.memory.is_saved):
            self._is_noted = True
            self._note(in_doubt=True)
        switched_on = {index for index in indexes if self._wants_on(index)}
        self._write(deque(sorted(set(indexes) - switched_on)), switched_on)
        self._write(deque(sorted(switched_on)), None)

    def _write(self, queue: deque[int], switched_on: set[int] | None) -> None:
        """Write these campaigns, several at a time.

        :param switched_on: Given for stops: takes those whose window opens before their turn has come.
        """
        if not queue:
            return
        running: dict[Future[Outcome], tuple[int, ThreadHooks]] = {}
        stopped: Exception | None = None
        with self._threads() as pool:
            while running or (queue and stopped is None):
                while queue and len(running) < self.max_in_flight and stopped is None:
                    index = queue.popleft()
                    if switched_on is not None and self._wants_on(index):
                        switched_on.add(index)
                        continue
                    # What an earlier round made of it does not hold any more, also where this one is cut short.
                    self.progress.outcomes.pop(index, None)
                    self.progress.as_desired.discard(index)
                    running[pool.submit(self._change, index, self._hooks, switched_on is not None)] = index, self._hooks
                done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in done:
                    index, hooks = running.pop(future)
                    try:
                        self._note_outcome(index, future.result())
                    except Outdated:
                        queue.appendleft(index)
                    except TooLateError as late:
                        self._forget(index)
                        self.progress.skipped[index] = self._why_skipped(late)
                    except BatchAuthenticationError as error:
                        # Those that were on their way with the old keys say nothing of the new ones.
                        if hooks is not self._hooks or self._renew():
                            queue.appendleft(index)
                        elif switched_on is not None:
                            self._note_failure(index, error)  # The key of this app alone may be wrong.
                        else:
                            stopped = stopped or error
                    except BatchError as error:
                        if isinstance(error, BatchApiError) and error.throttled:
                            queue.appendleft(index)
                        else:
                            self._note_failure(index, error)
                    except RateLimiterClosed as error:
                        stopped = stopped or error
                self.progress.log(self.gate)
        if stopped is not None:
            raise stopped

    def _why_skipped(self, late: TooLateError) -> str:
        until = self.throttled_until
        if until is None or (self.latest_on is not None and self.latest_on <= until):
            return str(late)
        return (
            f"Not switched on: Batch has throttled this task for longer than max_wait allows, which ended at "
            f"{until:%Y-%m-%d %H:%M:%S} UTC. This attempt sent nothing."
        )

    def _change(self, index: int, hooks: ThreadHooks, stops: bool) -> Outcome:
        """Change one campaign; runs in a thread. ``stops``: it is the turn of the stops, so no "on" is sent."""
        campaign = self.desired[index]
        self._note_wanted(index)
        lost = self._lost.get(campaign.app)
        if lost is not None and self._wants_on(index):
            raise BatchChangeRefusedError(f"Not switched on, for another campaign of the same app was damaged: {lost}")
        change = self._changes.pop(index, None) or self._begin(index, hooks.own(campaign.app))
        change.api = hook = hooks.own(campaign.app)
        change.stops_sent, change.verifies = 0, campaign.app not in self._proven
        if change.sent is not None and change.sent.step.desired["live"] is not self._wants_on(index):
            change.sent = None  # It is a write of the other kind that is to be confirmed now.
        hook.still_wanted = lambda: (
            change.still_sends() and not ((stops or campaign.app in self._lost) and self._wants_on(index))
        )
        try:
            return change.make()
        except Exception as error:
            self._changes[index] = change
            if isinstance(error, BatchParametersLostError):
                self._lost.setdefault(campaign.app, error)  # At once: another thread may be about to switch one on.
            raise
        finally:
            self._histories[index] = change.history
            if change.before is not None:
                self._before_writes[index] = change.before

    def _begin(self, index: int, hook: RateLimitedHook) -> Change:
        is_known = self.memory.was_known and not self._may_differ(index)
        history = self._histories.get(index) or self.memory.history(self.desired[index], is_known=is_known)
        attempt = replace(self.attempt, store=None)
        journal = Journal(attempt, self.clock, self.desired[index].token, hook.app, self.details)
        journal.may_push = self.memory.is_saved
        request = self._requests[index]
        shown = self._views.pop(index, None)
        before = self._before_writes.get(index)
        return Change(
            hook, self.clock, attempt, request, journal, self.details, history, waits=False, seen=shown, before=before
        )

    @contextmanager
    def _threads(self) -> Iterator[Executor]:
        with self.executor(self.max_in_flight) as pool:
            try:
                yield pool
            except BaseException:
                # The end of the pool waits for its threads: those that wait for their turn must not keep the task.
                self.stop()
                raise

    def _renew(self) -> bool:
        """Read the connection again after a 401, once: the key may have been rotated."""
        if self._is_renewed:
            return False
        self.log.warning("Batch refuses the keys (401). Reading the connection again, once.")
        self._is_renewed = True
        self._hooks = self.connect(self.gate)
        return True

    def _note_outcome(self, index: int, outcome: Outcome) -> None:
        self._forget(index)
        if index in self._wanted_on:
            # It was judged with Batch's clock as well, which a hook learns by its first answer.
            self._wanted_on[index] = outcome.live is True
        if outcome.http_status is not None and outcome.before is not None and index in self._before_writes:
            self._proven.add(self.desired[index].app)
        if outcome.http_status is None and outcome.changed is False:
            self.progress.as_desired.add(index)
            outcome = replace(outcome, changed=None if self.wrote_before else False)
        self.progress.outcomes[index] = outcome

    def _forget(self, index: int) -> None:
        """Forget what an earlier round made of a campaign."""
        self.progress.as_desired.discard(index)
        for place in (self._again, self.progress.failed, self.progress.skipped):
            place.pop(index, None)

    def _note_failure(self, index: int, error: BatchError) -> None:
        self._forget(index)
        (self._again if error.transient else self.progress.failed)[index] = error

    def _check(self) -> None:
        """Compare what was written with the list, in one go. What does not show yet is a failure that may pass."""
        written = self.progress.changed
        try:
            seen = self._state(sorted(written)) if written else {}
        except BatchApiError as error:
            self.log.warning("All writes are confirmed, but could not be compared with the list: %s", error)
            return
        for index, state in seen.items():
            live = self._wants_on(index)
            if self.progress.outcomes[index].live is live and state.get("live") is not live:
                self.progress.failed[index] = BatchVerificationError(
                    f"Batch confirmed the update of campaign {self.desired[index].token!r}, but the list still shows "
                    f"it {'not live' if live else 'live'}."
                )
