"""Make many campaigns what they should be, through hooks: compare with the list, write the differences, each by the
rules of ``changes.py``, as fast as the API allows and no faster.

Knows no Airflow context. How requests wait for their turn is in ``gate.py``, what the task does that is throttled for
long in ``operators/sync.py``.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from airflow_batch.campaigns import difference_rows
from airflow_batch.changes import CampaignChange, Outcome
from airflow_batch.exceptions import (
    BatchApiError,
    BatchApiMisuseError,
    BatchAuthenticationError,
    BatchChangeRefusedError,
    BatchError,
    BatchNotFoundError,
    BatchParametersLostError,
    BatchSyncIncompleteError,
    BatchVerificationError,
)
from airflow_batch.gate import TRIES, Gate, GateClosed, HookMaker, Outdated
from airflow_batch.hooks.batch import MAX_PAGE
from airflow_batch.progress import Progress
from airflow_batch.transitions import check_identity
from airflow_batch.wanted import Moment, WantedCampaign

log = logging.getLogger(__name__)
# One line for each of thousands of campaigns would hide those of the progress.
quiet = logging.getLogger(f"{__name__}.changes")
quiet.setLevel(logging.WARNING)

FEW = 3
"""Up to so many campaigns of an app are viewed rather than listed, for a list costs at least one request as well; and
so many writes of an app are tried one after the other until one is confirmed and looked at."""

BETWEEN_SAVES = 1.0
"""Seconds between two savings of the progress."""

State = Mapping[str, Any]


@dataclass(kw_only=True)
class CampaignSync:
    """Many campaigns and what they should be.

    :param wanted: The campaigns.
    :param connect: Returns hooks that have read the connection anew; called at the start and after a 401.
    :param moment: Returns the moment for which the campaigns are judged.
    :param max_changes: With more differences than that nothing is written.
    :param dry_run: Compare, but write nothing.
    :param max_in_flight: Requests at a time.
    :param doubtful: An earlier attempt may have written.
    :param last: No attempt follows, so stopping goes ahead where reading fails.
    :param written_before: Indexes of the campaigns that earlier attempts have changed.
    :param begun_before: Of those that they found to differ and began to write; None where that is not known.
    :param save: Called with the progress before the first write, and about every second.
    """

    wanted: Sequence[WantedCampaign]
    connect: Callable[[Gate | None], HookMaker]
    moment: Moment
    max_changes: int | None = None
    dry_run: bool = False
    max_in_flight: int = 4
    doubtful: bool = False
    last: bool = False
    written_before: frozenset[int] = frozenset()
    begun_before: frozenset[int] | None = None
    save: Callable[[Progress], object] = lambda progress: None

    def __post_init__(self) -> None:
        self.progress = Progress(len(self.wanted), written=set(self.written_before), begun=set(self.begun_before or ()))
        self._hooks = self.connect(None)
        self._saved = time.monotonic()
        self._renewed = False
        self._in_doubt: set[int] = set()
        self._proven: set[str | None] = set()
        """Apps of which a write was confirmed and looked at."""
        self._again: dict[int, BatchError] = {}
        """Those that failed for a reason that may pass."""

    @property
    def gate(self) -> Gate:
        return self._hooks.gate

    def stop(self) -> None:
        """Send nothing more and let :meth:`run` end; for another thread, or the handler of a signal."""
        self.gate.close(BatchSyncIncompleteError("The task was told to stop. What it had done is done."))

    def run(self) -> Progress:
        """Make the campaigns so; return what became of each.

        :raises BatchConfigurationError: before anything is sent, for an app that the connection does not know.
        :raises BatchChangeRefusedError: before anything is written, for more differences than ``max_changes``.
        :raises BatchParametersLostError: when a write lost parameters; the others are not written.
        :raises BatchAuthenticationError: for keys that are refused twice.
        :raises BatchSyncIncompleteError: when it was stopped.
        :raises BatchApiError: for a throttle that lasts long, and where the list cannot be read.
        """
        if not self.wanted:
            log.warning("No campaign is declared: there is nothing to do.")
        try:
            for app in {campaign.app for campaign in self.wanted}:
                self._hooks.own(app)
            state = self._state(range(len(self.wanted)))
            pending = self._differing(state)
            if self.max_changes is not None and len(pending) > self.max_changes:
                raise BatchChangeRefusedError(
                    f"{len(pending)} of {len(self.wanted)} campaigns are not as wanted, more than max_changes="
                    f"{self.max_changes}. Nothing was sent. Look at what is wanted, or raise max_changes."
                )
            if self.dry_run:
                self._only_compare(pending, state)
            else:
                self._write(pending)
                self._check(pending)
        except GateClosed as closed:
            raise closed.reason from None
        finally:
            self.progress.failed.update(self._again)
            self._tell(last=True)
        return self.progress

    def _state(self, indexes: Iterable[int]) -> dict[int, State]:
        """Return what Batch shows of the campaigns; one that cannot be read or is not there is left out."""
        by_app: dict[str | None, dict[str, int]] = {}
        for index in indexes:
            by_app.setdefault(self.wanted[index].app, {})[self.wanted[index].token] = index
        seen: dict[int, State] = {}
        for app, places in by_app.items():
            try:
                found = self._read(app, set(places))
            except BatchAuthenticationError:
                if not self._renew():
                    raise
                found = self._read(app, set(places))
            seen.update((places[token], campaign) for token, campaign in found.items())
        return seen

    def _read(self, app: str | None, tokens: set[str]) -> dict[str, State]:
        found = self._listed(app, tokens) if len(tokens) > FEW else {}
        return {**found, **self._viewed(app, tokens - found.keys())}

    def _listed(self, app: str | None, tokens: set[str]) -> dict[str, State]:
        """Return the list's word on these tokens. It is read no further once pages in vain have cost as many requests
        as it takes to view the rest."""
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
                self._tell()
        except BatchApiError as error:
            keys_are_wrong = isinstance(error, BatchAuthenticationError | BatchNotFoundError)
            if keys_are_wrong or (error.transient and not self.last):
                raise
            log.warning("The campaigns cannot be listed, so each one is viewed, or written without. %s", error)
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
                    quiet.info("Campaign %r could not be read, so it is written or fails: %s", token, error)
            return token, None

        found: dict[str, State] = {}
        with self._threads() as pool:
            for token, campaign in pool.map(view, tokens):
                if campaign is not None:
                    found[token] = campaign
                self._tell()
        for error in refused:
            if isinstance(error, BatchAuthenticationError):
                raise error
        return found

    def _differing(self, seen: Mapping[int, State]) -> list[int]:
        """Return the campaigns to write; note those that are as wanted, and those that are others than is meant."""
        pending = []
        for index, campaign in enumerate(self.wanted):
            written = index in self.progress.written
            state = seen.get(index)
            if state is None or not isinstance(state.get("live"), bool):
                # What an earlier attempt wrote is not written again, unless something else may be wanted by now.
                if not (written and isinstance(campaign.live, bool)):
                    pending.append(index)
                continue
            try:
                check_identity(campaign.token, state, campaign.expect_name)
            except BatchError as error:
                self.progress.failed[index] = error
                continue
            live = campaign.is_live_at(self.moment())
            if state["live"] is not live:
                pending.append(index)
                continue
            if index in self.progress.begun:
                self.progress.written.add(index)
            if index not in self.progress.written:
                self.progress.unchanged.add(index)
            self.progress.outcomes[index] = Outcome(
                requested_at=datetime.now(UTC),
                changed=True if written else self._perhaps_changed(index),
                sent={"live": live},
                live=live,
                name=state.get("name"),
            )
        return pending

    def _perhaps_changed(self, index: int) -> bool | None:
        """Return None where an earlier attempt may have brought about what is there, else False."""
        known = self.begun_before is not None or not self.doubtful
        return False if known and index not in self.progress.begun else None

    def _only_compare(self, pending: Iterable[int], state: Mapping[int, State]) -> None:
        for index in pending:
            wanted, seen = {"live": self.wanted[index].is_live_at(self.moment())}, state.get(index, {})
            self.progress.would_change.add(index)
            self.progress.outcomes[index] = Outcome(
                requested_at=datetime.now(UTC),
                changed=False,
                sent=wanted,
                live=seen.get("live"),
                name=seen.get("name"),
                differences=difference_rows(wanted, seen),
            )

    def _write(self, pending: Iterable[int]) -> None:
        """Write these campaigns; those that fail for a reason that may pass are tried again at the end."""
        pending = list(pending)
        self.progress.writing_begins()
        self.progress.begun.update(pending)
        self.save(self.progress)
        by_app: dict[str | None, deque[int]] = {}
        for index in pending:
            by_app.setdefault(self.wanted[index].app, deque()).append(index)
        for _ in range(FEW):
            self._round([queue.popleft() for app, queue in by_app.items() if queue and app not in self._proven])
        self._round([index for queue in by_app.values() for index in queue])
        for tries in range(1, TRIES):
            if self._again:
                log.info("%d campaigns failed for a reason that may pass: trying them again.", len(self._again))
                self.gate.rest(tries)
                self._round(list(self._again), last=self.last and tries == TRIES - 1)

    def _round(self, indexes: Iterable[int], *, last: bool = False) -> None:
        """Write these campaigns once."""
        queue = deque(indexes)
        running: dict[Future[Outcome], tuple[int, HookMaker]] = {}
        stopped: Exception | None = None
        with self._threads() as pool:
            while running or (queue and stopped is None):
                while queue and len(running) < self.max_in_flight and stopped is None:
                    index = queue.popleft()
                    running[pool.submit(self._change, index, self._hooks, last)] = index, self._hooks
                done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in done:
                    index, hooks = running.pop(future)
                    try:
                        self._note(index, future.result())
                    except Outdated:
                        queue.appendleft(index)
                    except GateClosed as error:
                        stopped = stopped or error
                    except BatchAuthenticationError as error:
                        # Those that were on their way with the old keys say nothing of the new ones.
                        if hooks is not self._hooks or self._renew():
                            queue.appendleft(index)
                        else:
                            stopped = stopped or error
                    except BatchError as error:
                        if isinstance(error, BatchApiError) and error.throttled:
                            queue.appendleft(index)
                        else:
                            self._note_failure(index, error)
                        if isinstance(error, BatchParametersLostError):
                            stopped = error
                            self.gate.close(error)
                self._tell()
        if stopped is not None:
            raise stopped

    def _change(self, index: int, hooks: HookMaker, last: bool) -> Outcome:
        """Change one campaign; runs in a thread."""
        campaign = self.wanted[index]
        hook = hooks.own(campaign.app)
        live = False

        def wanted() -> dict[str, Any]:
            nonlocal live
            live = campaign.is_live_at(self.moment())
            return {"live": live}

        hook.still_wanted = lambda: campaign.is_live_at(self.moment()) is live
        change = CampaignChange(
            hook=hook,
            token=campaign.token,
            wanted=wanted,
            definition=campaign.definition,
            expect_name=campaign.expect_name,
            confirmed=lambda: self.progress.written.add(index),
            verify=campaign.app not in self._proven,
            log=quiet,
        )
        return change.make(doubtful=self.doubtful or index in self._in_doubt, last=last)

    @contextmanager
    def _threads(self) -> Iterator[ThreadPoolExecutor]:
        with ThreadPoolExecutor(self.max_in_flight, thread_name_prefix="batch-sync") as pool:
            try:
                yield pool
            except BaseException:
                # The end of the pool waits for its threads: those that wait for their turn must not keep the task.
                self.stop()
                raise

    def _renew(self) -> bool:
        """Read the connection again after a 401, once: the key may have been rotated."""
        if self._renewed:
            return False
        log.warning("Batch refuses the keys (401). Reading the connection again, once.")
        self._renewed = True
        self._hooks = self.connect(self.gate)
        return True

    def _note(self, index: int, outcome: Outcome) -> None:
        if outcome.changed:
            self._proven.add(self.wanted[index].app)
        elif index in self.progress.written:
            outcome = replace(outcome, changed=True)
        if outcome.changed is False:
            self.progress.unchanged.add(index)
        else:
            self.progress.written.add(index)
        self.progress.outcomes[index] = outcome
        self._again.pop(index, None)

    def _note_failure(self, index: int, error: BatchError) -> None:
        if isinstance(error, BatchVerificationError) or getattr(error, "may_have_been_applied", False):
            self._in_doubt.add(index)
        self._again.pop(index, None)
        (self._again if error.transient else self.progress.failed)[index] = error

    def _check(self, pending: Iterable[int]) -> None:
        """Compare what was written with the list, in one go. What is not there yet is a failure that may pass."""
        written = self.progress.changed & self.progress.outcomes.keys() & set(pending)
        try:
            seen = self._state(sorted(written)) if written else {}
        except BatchApiError as error:
            log.warning("All writes are confirmed, but they could not be compared with the list afterwards: %s", error)
            return
        for index, state in seen.items():
            live = self.wanted[index].is_live_at(self.moment())
            if self.progress.outcomes[index].live is live and state.get("live") is not live:
                self.progress.failed[index] = BatchVerificationError(
                    f"Batch confirmed the update of campaign {self.wanted[index].token!r}, but the list still shows it "
                    f"{'not live' if live else 'live'}."
                )

    def _tell(self, last: bool = False) -> None:
        self.progress.tell(self.gate, last=last)
        # More often than a line: what is not saved is not known to have been changed after a kill.
        if last or time.monotonic() - self._saved >= BETWEEN_SAVES:
            self.save(self.progress)
            self._saved = time.monotonic()
