"""Give many campaigns their desired state: compare with the list, write the differences, check (rule 10).

Reading is in ``_sync/reading.py``, writing in ``_sync/writing.py``; what a task does that is throttled for long, in
``operators/sync.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from airflow_batch._campaigns import rules
from airflow_batch._campaigns.protocol import Attempt, Clock, SystemClock
from airflow_batch._campaigns.request import Outcome
from airflow_batch._campaigns.rules import SETTLE_TIME
from airflow_batch._campaigns.waiting import MAX_IN_SLOT
from airflow_batch._sync.desired import DesiredCampaign
from airflow_batch._sync.memory import Memory
from airflow_batch._sync.progress import Progress
from airflow_batch._sync.rate_limiter import TRIES, HooksForApps, RateLimiter, RateLimiterClosed
from airflow_batch._sync.reading import Connect, Reader, State
from airflow_batch._sync.states import DesiredStates
from airflow_batch._sync.writing import Writer
from airflow_batch._values import short_list
from airflow_batch.exceptions import (
    BatchApiError,
    BatchAuthenticationError,
    BatchChangeRefusedError,
    BatchError,
    BatchNotFoundError,
    BatchSyncIncompleteError,
    BatchVerificationError,
)

log = logging.getLogger(__name__)
# One line for each of thousands of campaigns would hide those of the progress.
details_log = logging.getLogger(f"{__name__}.changes")
details_log.setLevel(logging.WARNING)

MAX_TRIALS = 3
"""How many "on" of an app are sent one after the other until one is confirmed and checked."""
MAX_NAMED = 10
MAX_PAUSE_SECONDS = 15.0
"""Between two questions whether a window has changed, while it is not known what some writes did."""


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
    :param dry_run: Compare, but write nothing. True also where the connection allows no write.
    :param max_in_flight: Requests at a time.
    """

    desired: Sequence[DesiredCampaign]
    connect: Connect[HooksForApps]
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
        self.reader = Reader(
            self.connect,
            partial(self.executor, self.max_in_flight),
            self.progress,
            is_last_attempt=self.attempt.is_last,
            log=self.log,
            details=self.details,
        )
        self._read_only_reason = self.reader.hooks.read_only_reason
        """As the sync began: what the connection says when it is read again does not end a dry run."""
        if self._read_only_reason:
            self.log.info("Dry run, because %s.", self._read_only_reason)
            self.dry_run = True
        self.wrote_before = self.memory.wrote and not self.dry_run
        self.states = DesiredStates(
            self.desired,
            self.clock,
            lambda app: self.reader.hooks.for_app(app).batch_now(),
            run_after=self.attempt.run_after,
            at=self.at,
            latest_on=min(filter(None, (self.latest_on, self.throttled_until)), default=None),
        )
        self.writer = Writer(
            self.states,
            self.reader,
            self.progress,
            self.memory,
            attempt=self.attempt,
            clock=self.clock,
            latest_on=self.latest_on,
            throttled_until=self.throttled_until,
            max_in_flight=self.max_in_flight,
            details=self.details,
        )

    @property
    def limiter(self) -> RateLimiter:
        """Where the requests wait for their turn."""
        return self.reader.limiter

    @property
    def has_written(self) -> bool:
        """Whether a write of this attempt was applied, or may have been."""
        return self.writer.has_written

    def stop(self) -> None:
        """Send nothing more and let :meth:`run` end; for another thread, or the handler of a signal."""
        self.limiter.stop()

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
                self.reader.hooks.for_app(app)
            state = self._state(range(len(self.desired)))
            pending = self._compare(state)
            self._check_count([index for index in pending if not self._shows_desired(index, state)])
            if self.dry_run:
                self._compare_only(pending, state)
            else:
                self._write_all(pending)
        except RateLimiterClosed as closed:
            if isinstance(closed.reason, BatchApiError):
                closed.reason.may_be_rescheduled = self.attempt.store is not None or not self.writer.unconfirmed
            raise closed.reason from None
        finally:
            self.progress.failed.update(self.writer.again)
            if not self.dry_run:
                unconfirmed = bool(self.writer.unconfirmed) or not self.is_known
                self.writer.record(unconfirmed=unconfirmed, is_over=True)
            self.progress.log(self.limiter, last=True)
        for error in self.writer.lost.values():
            if any(not self.states.is_on(index) for index in self.writer.again):
                raise BatchSyncIncompleteError(f"Some campaigns are still to be stopped. {error}")
            raise error
        if changed := sorted(self.progress.changed):
            self.log.info("Changed: %s.", short_list(changed, MAX_NAMED, show=lambda index: self.desired[index].token))
        self.progress.raise_for_failures([campaign.token for campaign in self.desired], self.max_failures, self.log)
        return self.progress

    def _state(self, indexes: Iterable[int]) -> dict[int, State]:
        """Return what Batch shows of the campaigns; one that cannot be read or does not exist is left out."""
        by_app: dict[str | None, dict[str, int]] = {}
        for index in indexes:
            by_app.setdefault(self.desired[index].app, {})[self.desired[index].token] = index
        seen: dict[int, State] = {}
        for app, places in by_app.items():
            try:
                found = self.reader.read(app, set(places))
            except (BatchAuthenticationError, BatchNotFoundError) as error:
                # Most likely the app's key is wrong. Stops are sent all the same, and Batch decides (rule 4).
                if self.writer.has_begun or self.dry_run or all(map(self.states.is_on, range(len(self.desired)))):
                    raise
                self.progress.failed.update({index: error for index in places.values() if self.states.is_on(index)})
                continue
            seen.update((places[token], campaign) for token, campaign in found.items())
        return seen

    def _compare(self, seen: Mapping[int, State]) -> list[int]:
        """Return the campaigns to write, stops first; note those that are as desired, and those with another name."""
        pending: list[tuple[bool, int]] = []
        for index, campaign in enumerate(self.desired):
            if index in self.progress.failed:
                self.states.note(index)
                continue
            state = seen.get(index)
            try:
                if state is not None and rules.names_agree(state, campaign.expect_name) is False:
                    raise rules.other_name_error(campaign.token, state, campaign.expect_name)
                live = self.states.is_to_be_live(index)
            except BatchError as error:
                self.writer.note_failure(index, error)
                continue
            if not isinstance(self.states.requests[index].live, bool):
                self.states.noted[index] = live
            if (
                state is None
                or state.get("live") is not live
                or (self.wrote_before and self.states.may_have_changed(index))
            ):
                pending.append((live, index))
            else:
                self.progress.as_desired.add(index)
                self.progress.outcomes[index] = self._unsent(index, state, live, would_change=False)
        return [index for _, index in sorted(pending)]

    def _compare_only(self, pending: Sequence[int], seen: Mapping[int, State]) -> None:
        """Note what would be written. Stops that the connection does not allow are a warning."""
        self.progress.would_change.update(pending)
        for index in pending:
            live = self.states.is_to_be_live(index)
            self.progress.outcomes[index] = self._unsent(index, seen.get(index, {}), live, would_change=True)
        stops = [index for index in pending if self.progress.outcomes[index].sent["live"] is False]
        if stops and self._read_only_reason:
            named = short_list(stops, MAX_NAMED, show=lambda index: self.desired[index].token)
            warning = "Campaigns that are NOT stopped (%d), because %s: %s."
            self.log.warning(warning, len(stops), self._read_only_reason, named)

    def _unsent(self, index: int, seen: State, live: bool, *, would_change: bool) -> Outcome:
        now = self.clock.now()
        return Outcome(
            token=self.desired[index].token,
            requested_at=now,
            completed_at=now,
            changed=None if self.wrote_before and self.memory.may_have_written(self.desired[index]) else False,
            sent={"live": live},
            live=seen.get("live"),
            name=seen.get("name"),
            before=seen,
            would_change=would_change if self.dry_run else None,
        )

    def _shows_desired(self, index: int, seen: Mapping[int, State]) -> bool:
        return index in seen and seen[index].get("live") is self.states.is_on(index)

    def _check_count(self, pending: Sequence[int]) -> None:
        if self.max_changes is None or len(pending) <= self.max_changes:
            return
        named = short_list(pending, MAX_NAMED, show=lambda index: self.desired[index].token)
        raise BatchChangeRefusedError(
            f"{len(pending)} of {len(self.desired)} campaigns are not as desired, more than max_changes="
            f"{self.max_changes}: {named}. Nothing was sent. Check the desired states, or raise max_changes."
        )

    def _write_all(self, pending: Sequence[int]) -> None:
        """Write these campaigns, stops first; try those again that failed for a reason that may pass."""
        self.progress.writing_begins()
        stops = [index for index in pending if not self.states.is_on(index)]
        self.writer.write(stops)
        left = [index for index in pending if index not in set(stops)]
        for _ in range(MAX_TRIALS):
            first = {self.desired[index].app: index for index in reversed(left)}
            trial = {index for app, index in first.items() if app not in self.writer.proven}
            self.writer.write(trial)
            left = [index for index in left if index not in trial]
        self.writer.write(left)
        for tries in range(1, TRIES):
            if self.writer.again:
                self.log.info(
                    "%d campaigns failed for a reason that may pass: trying them again.", len(self.writer.again)
                )
                self.limiter.rest(tries)
            self.writer.write({*self.writer.again, *self.states.changed()})
        for _ in range(TRIES):
            self._settle()
            self._check()
            if not (flipped := self.states.changed()):
                break
            self.writer.write(flipped)

    def _unsettled(self) -> datetime | None:
        """Return until when a request may take effect on which it depends what is to be sent (rules 7 and 10).

        What a read has shown does not count: the request has had its effect. What an earlier attempt has sent does, to
        whichever campaign, for that cannot be distinguished from what somebody else did.
        """
        moments = [] if self.is_known else [self.memory.began]
        histories = self.writer.histories
        for index in (self.writer.again.keys() | self.writer.unconfirmed) & histories.keys():
            history = histories[index]
            on, off = history.on, history.off
            stops_again = on is not None and off is not None and not off.partial and not self.states.is_on(index)
            moments += [write.at for write in ((on,) if stops_again else (on, off)) if write is not None]
            moments += [] if history.is_known else [history.began]
        return max(moments) + SETTLE_TIME if moments else None

    def _settle(self) -> None:
        """Wait until unconfirmed writes have taken effect or not, list all, write what is not as desired (rule 10)."""
        ends, settled = self.clock.now() + MAX_IN_SLOT, None
        while (until := self._unsettled()) is not None and until != settled and self.clock.now() < ends:
            left = (until - self.clock.now()).total_seconds()
            if left > 0:
                self.log.info("Waiting %.0f s: what some requests did is not known yet.", left)
                self.limiter.pause(min(left, MAX_PAUSE_SECONDS) if self.states.noted else left)
                self.writer.write(self.states.changed())
                continue
            settled = until
            state = self._state(range(len(self.desired)))
            self.is_known = True
            for index, shown in state.items():
                if rules.names_agree(shown, (campaign := self.desired[index]).expect_name) is False:
                    # The first list could not be read.
                    self.writer.note_failure(index, rules.other_name_error(campaign.token, shown, campaign.expect_name))
                    self.states.noted.pop(index, None)
            ended = self.progress.failed.keys() | self.progress.skipped.keys()
            differing = {index for index in state if not self._shows_desired(index, state)} - ended
            wrong = {
                index
                for index in self.progress.failed
                if isinstance(self.progress.failed[index], BatchChangeRefusedError)
            }
            self.writer.write({*self.writer.again, *self.writer.unconfirmed, *differing} - wrong)

    def _check(self) -> None:
        """Compare what was written with the list, in one go. What does not show yet is a failure that may pass."""
        written = self.progress.changed
        try:
            seen = self._state(sorted(written)) if written else {}
        except BatchApiError as error:
            self.log.warning("All writes are confirmed, but could not be compared with the list: %s", error)
            return
        for index, state in seen.items():
            live = self.states.is_on(index)
            if self.progress.outcomes[index].live is live and state.get("live") is not live:
                self.progress.failed[index] = BatchVerificationError(
                    f"Batch confirmed the update of campaign {self.desired[index].token!r}, but the list still shows "
                    f"it {'not live' if live else 'live'}."
                )
