"""Write many campaigns, several at a time: each by the rules of one campaign (``_campaigns/``), stops first (rule 10).

Which ones are to be written, and how often, is decided in ``_sync/run.py``.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from datetime import datetime

from airflow_batch._campaigns.change import Change
from airflow_batch._campaigns.history import History, Journal
from airflow_batch._campaigns.protocol import Attempt, Clock
from airflow_batch._campaigns.request import Outcome, TooLateError
from airflow_batch._sync.memory import Memory
from airflow_batch._sync.progress import Progress
from airflow_batch._sync.rate_limiter import HooksForApps, Outdated, RateLimitedApi, RateLimiterClosed
from airflow_batch._sync.reading import Reader
from airflow_batch._sync.states import DesiredStates
from airflow_batch.exceptions import (
    BatchApiError,
    BatchAuthenticationError,
    BatchChangeRefusedError,
    BatchError,
    BatchParametersLostError,
)


class Writer:
    """Changes campaigns, and keeps what came of each.

    :param throttled_until: Moment until which a task that Batch has throttled for long sends an "on".
    :param max_in_flight: Requests at a time.
    :param details: Where what one of thousands of campaigns does is logged.
    """

    def __init__(
        self,
        states: DesiredStates,
        reader: Reader,
        progress: Progress,
        memory: Memory,
        *,
        attempt: Attempt,
        clock: Clock,
        latest_on: datetime | None,
        throttled_until: datetime | None,
        max_in_flight: int,
        details: logging.Logger,
    ) -> None:
        self.campaigns, self.states, self.reader = states.campaigns, states, reader
        self.progress, self.memory = progress, memory
        self.attempt, self.clock, self.details = attempt, clock, details
        self.latest_on, self.throttled_until, self.max_in_flight = latest_on, throttled_until, max_in_flight
        self.has_begun = False
        self.again: dict[int, BatchError] = {}
        """Campaigns whose change failed for a reason that may pass."""
        self.proven: set[str | None] = set()
        """Apps of which a write was confirmed and checked."""
        self.lost: dict[str | None, BatchParametersLostError] = {
            app: BatchParametersLostError("A campaign of this app lost parameters in an earlier attempt of this task.")
            for app in memory.lost_apps
        }
        self._changes: dict[int, Change] = {}
        """The last change of each campaign."""
        self._unfinished: set[int] = set()
        """Campaigns whose last change failed, and is continued in a later round."""

    @property
    def histories(self) -> dict[int, History]:
        """What was sent to each campaign."""
        return {index: change.history for index, change in self._changes.copy().items()}

    @property
    def has_written(self) -> bool:
        """Whether a write of this attempt was applied, or may have been."""
        writes = [write for history in self.histories.values() for write in (history.on, history.off)]
        return any(write is not None and write.is_own for write in writes)

    @property
    def unconfirmed(self) -> set[int]:
        """Campaigns with a write of this attempt that is unconfirmed, and that no read has shown since."""
        shown = self.progress.outcomes.keys() - self.progress.failed.keys() - self.again.keys()
        return {index for index, history in self.histories.items() if history.has_unconfirmed} - shown

    def record(self, *, unconfirmed: bool, is_over: bool) -> None:
        """Record what was sent so far, or that something is about to be sent."""
        self.has_begun = True
        histories = [(self.campaigns[index], history) for index, history in self.histories.items()]
        self.memory.note(histories, self.lost, has_written=self.has_written, unconfirmed=unconfirmed, is_over=is_over)

    def write(self, indexes: Collection[int]) -> None:
        """Change these campaigns once: first those that are to be stopped.

        :raises BatchAuthenticationError: for keys that are refused twice.
        :raises RateLimiterClosed: where nothing is to be sent any more.
        """
        if indexes and not (self.has_begun and self.memory.is_saved):
            self.record(unconfirmed=True, is_over=False)
        switched_on = {index for index in indexes if self.states.is_on(index)}
        self._write(deque(sorted(set(indexes) - switched_on)), switched_on)
        self._write(deque(sorted(switched_on)), None)

    def _write(self, queue: deque[int], switched_on: set[int] | None) -> None:
        """Write these campaigns, several at a time.

        :param switched_on: Given for stops: takes those whose window opens before their turn has come.
        """
        if not queue:
            return
        running: dict[Future[Outcome], tuple[int, HooksForApps]] = {}
        stopped: Exception | None = None
        with self.reader.threads() as pool:
            while running or (queue and stopped is None):
                while queue and len(running) < self.max_in_flight and stopped is None:
                    index = queue.popleft()
                    if switched_on is not None and self.states.is_on(index):
                        switched_on.add(index)
                        continue
                    # What an earlier round made of it does not hold any more, also where this one is cut short.
                    self.progress.outcomes.pop(index, None)
                    self.progress.as_desired.discard(index)
                    hooks = self.reader.hooks
                    running[pool.submit(self._change, index, hooks, switched_on is not None)] = index, hooks
                done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in done:
                    index, hooks = running.pop(future)
                    try:
                        self._note_result(index, future, queue)
                    except BatchAuthenticationError as error:
                        # Those that were on their way with the old keys say nothing of the new ones.
                        problem = None if hooks is not self.reader.hooks else self.reader.renew(error)
                        if problem is None:
                            queue.appendleft(index)
                        elif switched_on is not None:
                            self.note_failure(index, problem)  # The key of this app alone may be wrong.
                        else:
                            stopped = stopped or problem
                    except RateLimiterClosed as error:
                        stopped = stopped or error
                self.progress.log(self.reader.limiter)
        if stopped is not None:
            raise stopped

    def _note_result(self, index: int, future: Future[Outcome], queue: deque[int]) -> None:
        """Note what came of a campaign; put it into the queue again where it has to wait for its turn once more."""
        try:
            self._note_outcome(index, future.result())
        except Outdated:
            queue.appendleft(index)
        except TooLateError as late:
            self._forget(index)
            self.progress.skipped[index] = self._why_skipped(late)
        except BatchAuthenticationError:
            raise
        except BatchError as error:
            if isinstance(error, BatchApiError) and error.throttled:
                queue.appendleft(index)
            else:
                self.note_failure(index, error)

    def _why_skipped(self, late: TooLateError) -> str:
        until = self.throttled_until
        if until is None or (self.latest_on is not None and self.latest_on <= until):
            return str(late)
        return (
            f"Not switched on: Batch has throttled this task for longer than max_wait allows, which ended at "
            f"{until:%Y-%m-%d %H:%M:%S} UTC. This attempt sent nothing."
        )

    def _change(self, index: int, hooks: HooksForApps, stops: bool) -> Outcome:
        """Change one campaign; runs in a thread. ``stops``: it is the turn of the stops, so no "on" is sent."""
        app = self.campaigns[index].app
        self.states.note(index)
        if (lost := self.lost.get(app)) is not None and self.states.is_on(index):
            raise BatchChangeRefusedError(f"Not switched on, for another campaign of the same app was damaged: {lost}")
        change = self._changes.get(index) if index in self._unfinished else None
        change = self._changes[index] = change or self._begin(index, hooks.for_app(app))
        self._unfinished.add(index)
        change.api = hook = hooks.for_app(app)
        change.stops_sent = 0
        change.unchecked = "the list is compared at the end" if app in self.proven else ""
        if change.sent is not None and change.sent.step.desired["live"] is not self.states.is_on(index):
            change.sent = None  # It is a write of the other kind that is to be confirmed now.
        hook.refusals_at_read = self.reader.limiter.refusals
        hook.still_desired = lambda: (
            hook.refusals_at_read == self.reader.limiter.refusals
            and change.still_sends()
            and not ((stops or app in self.lost) and self.states.is_on(index))
        )
        try:
            outcome = change.make()
        except BatchParametersLostError as error:
            self.lost.setdefault(app, error)  # At once: another thread may be about to switch one on.
            raise
        self._unfinished.discard(index)
        return outcome

    def _begin(self, index: int, hook: RateLimitedApi) -> Change:
        campaign, last = self.campaigns[index], self._changes.get(index)
        seen = self.reader.views.pop((campaign.app, campaign.token), None)
        is_known = self.memory.was_known and not (self.memory.wrote and self.states.may_have_changed(index))
        attempt = replace(self.attempt, store=None)
        journal = Journal(attempt, self.clock, campaign.token, campaign.app, self.details)
        journal.may_push = self.memory.is_saved
        return Change(
            hook,
            self.clock,
            attempt,
            self.states.requests[index],
            journal,
            self.details,
            history=last.history if last else self.memory.history(campaign, is_known=is_known),
            waits=False,
            seen=seen or (last.seen if last else None),
            before=last.before if last else None,
        )

    def _note_outcome(self, index: int, outcome: Outcome) -> None:
        self._forget(index)
        if index in self.states.noted:
            # Batch's clock was considered as well, which a hook learns by its first answer.
            self.states.noted[index] = outcome.live is True
        if outcome.http_status is not None and outcome.before is not None and self._changes[index].before is not None:
            self.proven.add(self.campaigns[index].app)
        if outcome.http_status is None and outcome.changed is False:
            self.progress.as_desired.add(index)
            outcome = replace(outcome, changed=None if self.memory.may_have_written(self.campaigns[index]) else False)
        self.progress.outcomes[index] = outcome

    def note_failure(self, index: int, error: BatchError) -> None:
        """Note that a campaign was not changed, and whether it is to be tried again."""
        self._forget(index)
        (self.again if error.transient else self.progress.failed)[index] = error

    def _forget(self, index: int) -> None:
        """Forget what an earlier round made of a campaign."""
        self.progress.as_desired.discard(index)
        for place in (self.again, self.progress.failed, self.progress.skipped):
            place.pop(index, None)
