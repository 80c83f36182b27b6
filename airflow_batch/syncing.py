"""Make many campaigns what they should be, through hooks: compare with the list, write the differences, each by the
rules of ``changes.py``, as fast as the API allows and no faster.

Knows no Airflow context. It waits for short throttles by itself and stops for long ones, so that the task can give its
slot back; what that task then does is in ``operators/sync.py``, how fast requests may go out in ``pacing.py``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
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
    BatchVerificationError,
)
from airflow_batch.hooks.answers import Answer, Endpoint
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.pacing import Pacer
from airflow_batch.policies.retry import BATCH_FLOOR, required_wait
from airflow_batch.transitions import check_identity
from airflow_batch.wanted import Moment, WantedCampaign

log = logging.getLogger(__name__)
# One line for each of thousands of campaigns would hide those of the progress.
quiet = logging.getLogger(f"{__name__}.changes")
quiet.setLevel(logging.WARNING)

FEW = 3
"""Up to so many campaigns of an app are viewed singly: a list costs at least one request as well."""
PAGE = 100
HOLD, HOLD_IN_ALL = 30.0, 120.0
"""Seconds of one throttle, and of throttles without an answer between them, for which the worker slot is kept."""
ROUNDS = 4
"""How often a campaign is tried that fails for a reason that may pass, before it counts as failed."""
BETWEEN_ROUNDS = 5.0
"""Seconds before the second round; doubled for each one after it."""
BETWEEN_LINES = 5.0


class Gate:
    """Lets the requests of all threads out at the pacer's pace, and counts them."""

    def __init__(self, limit: float | None) -> None:
        self._lock = threading.Lock()
        self._pacer = Pacer(limit, time.monotonic())
        self._refused_since: float | None = None
        self.requests = 0

    def enter(self) -> float:
        """Wait for a slot and return the moment, for :meth:`refused`."""
        with self._lock:
            moment = self._pacer.slot(time.monotonic())
        while (left := moment - time.monotonic()) > 0:
            time.sleep(left)
            with self._lock:
                # Meanwhile another request may have been refused, and then nothing goes out.
                moment = max(moment, self._pacer.not_before)
        with self._lock:
            self.requests += 1
        return time.monotonic()

    def answered(self) -> None:
        """Note that Batch has answered a request other than by a throttle."""
        with self._lock:
            self._refused_since = None

    def refused(self, sent: float, error: BatchApiError) -> bool:
        """Note a throttle; return whether to wait for it here."""
        seconds = max(required_wait(error), BATCH_FLOOR)
        with self._lock:
            now = time.monotonic()
            self._refused_since = now if self._refused_since is None else self._refused_since
            holds = seconds <= HOLD and now + seconds - self._refused_since <= HOLD_IN_ALL
            if holds:
                self._pacer.refused(sent, now, seconds)
        return holds

    @property
    def refusals(self) -> int:
        return self._pacer.refusals

    @property
    def paused(self) -> float:
        return self._pacer.paused


class PacedHook(BatchHook):
    """A hook whose requests go through a gate. A read that is throttled is repeated, a write is not: it is asked anew
    what is wanted then."""

    def __init__(self, batch_conn_id: str, app: str | None, gate: Gate) -> None:
        super().__init__(batch_conn_id, app)
        self.gate = gate

    def _request(self, endpoint: Endpoint, subject: str, **request: Any) -> Answer:
        while True:
            sent = self.gate.enter()
            try:
                answer = super()._request(endpoint, subject, **request)
            except BatchApiError as error:
                if not error.throttled:
                    self.gate.answered()
                    raise
                if not self.gate.refused(sent, error):
                    raise ThrottledForLong(error) from None
                if endpoint.writes:
                    raise
            else:
                self.gate.answered()
                return answer


class ThrottledForLong(Exception):
    """Batch throttles for longer than a worker slot should be kept."""

    def __init__(self, error: BatchApiError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass
class Progress:
    """What is known of each campaign, by its index."""

    total: int
    changed: set[int] = field(default_factory=set)
    unchanged: set[int] = field(default_factory=set)
    failed: dict[int, BatchError] = field(default_factory=dict)
    would_change: set[int] = field(default_factory=set)
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    @property
    def done(self) -> int:
        return len(self.changed) + len(self.unchanged) + len(self.failed)


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
    :param changed_before: Indexes of the campaigns that earlier attempts have changed.
    :param save: Called with the progress every few seconds.
    """

    wanted: Sequence[WantedCampaign]
    connect: Callable[[Gate | None], HookMaker]
    moment: Moment
    max_changes: int | None = None
    dry_run: bool = False
    max_in_flight: int = 4
    doubtful: bool = False
    changed_before: frozenset[int] = frozenset()
    save: Callable[[Progress], object] = lambda progress: None

    def __post_init__(self) -> None:
        self.progress = Progress(len(self.wanted), changed=set(self.changed_before))
        self._hooks = self.connect(None)
        self._renewed = False
        self._in_doubt: set[int] = set()
        self._local = threading.local()
        self._began = self._told = time.monotonic()

    @property
    def gate(self) -> Gate:
        return self._hooks.gate

    def run(self) -> Progress:
        """Make the campaigns so; return what became of each.

        :raises BatchChangeRefusedError: before anything is written, for more differences than ``max_changes``.
        :raises BatchParametersLostError: when the first write to an app lost parameters; the others are not written.
        :raises BatchAuthenticationError: for keys that are refused twice.
        :raises BatchApiError: for a throttle that lasts long.
        """
        try:
            state = self._state()
            pending = self._differing(state)
            if self.max_changes is not None and len(pending) > self.max_changes:
                raise BatchChangeRefusedError(
                    f"{len(pending)} of {len(self.wanted)} campaigns are not as wanted, more than max_changes="
                    f"{self.max_changes}. Nothing was sent. Look at what is wanted, or raise max_changes."
                )
            if self.dry_run:
                self._only_compare(pending, state)
            else:
                first = list({self.wanted[index].app: index for index in reversed(pending)}.values())
                self._write(first, verify=True)
                self._write([index for index in pending if index not in first], verify=False)
                self._check(pending, first)
        except ThrottledForLong as stopped:
            raise stopped.error from None
        finally:
            self._tell(last=True)
            self.save(self.progress)
        return self.progress

    def _state(self) -> dict[int, Mapping[str, Any]]:
        try:
            return self._state_of(range(len(self.wanted)))
        except BatchAuthenticationError:
            if not self._renew():
                raise
            return self._state_of(range(len(self.wanted)))

    def _state_of(self, indexes: Iterable[int]) -> dict[int, Mapping[str, Any]]:
        """Return what Batch shows of the campaigns; one that cannot be read or is not there is left out."""
        by_app: dict[str | None, dict[str, int]] = {}
        for index in indexes:
            by_app.setdefault(self.wanted[index].app, {})[self.wanted[index].token] = index
        seen: dict[int, Mapping[str, Any]] = {}
        for app, missing in by_app.items():
            hook = self._hooks.make(app)
            for token, summary in self._listed(hook, set(missing)).items():
                seen[missing.pop(token)] = summary
            if len(missing) <= FEW:
                seen.update(self._viewed(hook, missing))
        return seen

    def _listed(self, hook: BatchHook, tokens: set[str]) -> dict[str, Mapping[str, Any]]:
        """Return the list's word on these tokens, reading on while that is cheaper than to view the rest singly."""
        if len(tokens) <= FEW:
            return {}
        found: dict[str, Mapping[str, Any]] = {}
        hits = 0
        try:
            for count, item in enumerate(hook.list_campaigns(), 1):
                if item["campaign_token"] in tokens:
                    tokens.discard(item["campaign_token"])
                    found[item["campaign_token"]] = item
                    hits += 1
                if not tokens:
                    break
                if count % PAGE == 0:
                    if not hits and len(tokens) <= FEW:
                        break
                    hits = 0
                    self._tell()
        except BatchApiMisuseError as error:
            log.warning("This API key cannot list campaigns, so each one is written or viewed singly. %s", error)
        return found

    def _viewed(self, hook: BatchHook, tokens: Mapping[str, int]) -> dict[int, Mapping[str, Any]]:
        seen: dict[int, Mapping[str, Any]] = {}
        for token, index in tokens.items():
            try:
                seen[index] = hook.get_campaign(token)
            except (BatchApiMisuseError, BatchNotFoundError):
                continue
        return seen

    def _differing(self, seen: Mapping[int, Mapping[str, Any]]) -> list[int]:
        """Return the campaigns to write; note those that are as wanted, and those that are others than is meant."""
        pending = []
        for index, campaign in enumerate(self.wanted):
            state = seen.get(index)
            if state is None or not isinstance(state.get("live"), bool):
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
            elif index not in self.progress.changed:
                self.progress.unchanged.add(index)
                self.progress.outcomes[index] = Outcome(
                    requested_at=datetime.now(UTC),
                    changed=False,
                    sent={"live": live},
                    live=live,
                    name=state.get("name"),
                )
        return pending

    def _only_compare(self, pending: Iterable[int], state: Mapping[int, Mapping[str, Any]]) -> None:
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

    def _write(self, indexes: Sequence[int], *, verify: bool) -> None:
        """Write these campaigns; those that fail for a reason that may pass are tried again at the end."""
        queue, later = deque(indexes), list[int]()
        tries: dict[int, int] = {}
        running: dict[Future[Outcome], int] = {}
        stopped: Exception | None = None
        with ThreadPoolExecutor(self.max_in_flight, thread_name_prefix="batch-sync") as pool:
            while queue or running or (later and stopped is None):
                if not queue and not running:
                    time.sleep(BETWEEN_ROUNDS * 2 ** (max(tries[index] for index in later) - 1))
                    queue, later = deque(later), []
                while queue and len(running) < self.max_in_flight and stopped is None:
                    index = queue.popleft()
                    running[pool.submit(self._change, index, verify)] = index
                if stopped is not None and not running:
                    break
                done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in done:
                    index = running.pop(future)
                    try:
                        self._note(index, future.result())
                    except (ThrottledForLong, BatchParametersLostError) as error:
                        stopped = stopped or error
                        if isinstance(error, BatchParametersLostError):
                            self.progress.failed[index] = error
                    except BatchAuthenticationError as error:
                        if self._renew():
                            queue.append(index)
                        else:
                            stopped = stopped or error
                    except BatchError as error:
                        if getattr(error, "throttled", False):
                            queue.appendleft(index)
                            continue
                        if getattr(error, "may_have_been_applied", False) or isinstance(error, BatchVerificationError):
                            self._in_doubt.add(index)
                        tries[index] = tries.get(index, 0) + 1
                        if error.transient and tries[index] < ROUNDS:
                            later.append(index)
                        else:
                            self.progress.failed[index] = error
                self._tell()
        if stopped is not None:
            raise stopped

    def _change(self, index: int, verify: bool) -> Outcome:
        """Change one campaign; runs in a thread."""
        campaign = self.wanted[index]
        change = CampaignChange(
            hook=self._own_hook(campaign.app),
            token=campaign.token,
            wanted=lambda: {"live": campaign.is_live_at(self.moment())},
            definition=campaign.definition,
            expect_name=campaign.expect_name,
            confirmed=lambda: self.progress.changed.add(index),
            verify=verify,
            log=quiet,
        )
        return change.make(doubtful=self.doubtful or index in self._in_doubt)

    def _own_hook(self, app: str | None) -> BatchHook:
        """Return this thread's hook for an app: a session is not shared between threads."""
        if getattr(self._local, "maker", None) is not self._hooks:
            self._local.maker, self._local.hooks = self._hooks, {}
        hooks: dict[str | None, BatchHook] = self._local.hooks
        if app not in hooks:
            hooks[app] = self._hooks.make(app)
        return hooks[app]

    def _renew(self) -> bool:
        """Read the connection again after a 401, once: the key may have been rotated."""
        if self._renewed:
            return False
        log.warning("Batch refuses the keys (401). Reading the connection again, once.")
        self._renewed = True
        self._hooks = self.connect(self.gate)
        return True

    def _note(self, index: int, outcome: Outcome) -> None:
        self.progress.outcomes[index] = outcome
        self.progress.failed.pop(index, None)
        if outcome.changed is False and index not in self.progress.changed:
            self.progress.unchanged.add(index)
        else:
            self.progress.changed.add(index)

    def _check(self, written: Sequence[int], checked: Sequence[int]) -> None:
        """Compare what was written with the list, in one go. What is not there yet is a failure that may pass."""
        indexes = [index for index in written if index in self.progress.changed and index not in checked]
        if not indexes:
            return
        for index, state in self._state_of(indexes).items():
            live = self.wanted[index].is_live_at(self.moment())
            if self.progress.outcomes[index].live is live and state.get("live") is not live:
                self.progress.changed.discard(index)
                self.progress.failed[index] = BatchVerificationError(
                    f"Batch confirmed the update of campaign {self.wanted[index].token!r}, but the list still shows it "
                    f"{'not live' if live else 'live'}."
                )

    def _tell(self, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - self._told < BETWEEN_LINES:
            return
        self._told = now
        progress, took = self.progress, max(now - self._began, 0.001)
        todo = progress.total - progress.done
        left = "" if last or not progress.done else f"; about {took / progress.done * todo:.0f} s left"
        log.info(
            "%d of %d campaigns: %d changed, %d unchanged, %d failed. %d requests, %.1f a second; %d refused (429), "
            "%.0f s waited for them%s.",
            progress.done,
            progress.total,
            len(progress.changed),
            len(progress.unchanged),
            len(progress.failed),
            self.gate.requests,
            self.gate.requests / took,
            self.gate.refusals,
            self.gate.paused,
            left,
        )
        self.save(progress)


@dataclass(frozen=True)
class HookMaker:
    """Makes hooks of one reading of the connection, which share a gate."""

    base: BatchHook
    gate: Gate

    def make(self, app: str | None) -> BatchHook:
        """Return a hook with a session of its own."""
        return self.base.lend_settings(PacedHook(self.base.batch_conn_id, app, self.gate))


def connect(batch_conn_id: str, gate: Gate | None) -> HookMaker:
    """Read a connection and return what makes hooks of it; its ``requests_per_second`` is the gate's limit."""
    base = BatchHook(batch_conn_id)
    limit = base.settings.requests_per_second
    return HookMaker(base, gate or Gate(limit))
