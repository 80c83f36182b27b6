"""What a sync needs besides the models of a task: a rate limiter in true time, hooks, and threads that take turns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_batch._campaigns.protocol import Attempt
from airflow_batch._http.endpoints import LIST, UPDATE, VIEW, Endpoint
from airflow_batch._sync.rate_limiter import RateLimiter
from simulation import subject
from simulation.authors import MAX_LATENESS_SECONDS
from simulation.batch_model import Crash, FakeApi, moment

if TYPE_CHECKING:
    from simulation.airflow_model import TaskInstance, WorkerClock
    from simulation.worlds import World


class ModelRateLimiter(RateLimiter):
    """The package's rate limiter, in true time."""

    poll_seconds = math.inf

    def __init__(self, world: World) -> None:
        super().__init__(None, lambda: world.batch.time, world.sleep)


class SyncApi(FakeApi):
    """``CampaignApi`` for one thread and one app of a sync, with the package's way through the rate limiter."""

    def __init__(self, root: FakeApi, app: str | None, limiter: RateLimiter, threads: Threads) -> None:
        super().__init__(root.world, root.instance, root.worker_offset, app)
        self.root, self.seen, self.limiter, self.date_gap = root, root.seen, limiter, root.date_gap
        self.threads = threads
        self.still_desired: Callable[[], bool] = lambda: True
        self.refusals_at_read = 0
        self.has_just_written: str | None = None

    def _send(self, endpoint: Endpoint, request: Callable[[], Any]) -> Any:
        if not endpoint.writes:
            self.refusals_at_read = self.limiter.refusals
        return self.limiter.send(endpoint, request, lambda: self.still_desired())

    def get_campaign(self, campaign_token: str) -> dict[str, Any]:
        """View a campaign; keep in mind for the invariants where the check of a write shows a loss."""
        written, self.has_just_written = self.has_just_written, None
        fresh_at = dict(self.seen.fresh_at)
        view: dict[str, Any] = self._send(VIEW, partial(super().get_campaign, campaign_token))
        if written == campaign_token:
            last = self.world.batch.campaigns[campaign_token].writes[-1]
            before = self.world.batch.campaigns[campaign_token].state_at((last.applied_at or 0.0) - 0.001) or {}
            # After less than the whole was sent, and where a stop is sent again, a loss is found two minutes later.
            part = self.instance.task.of(campaign_token)
            is_whole = last.sender is self.instance and "messages" in last.payload and part and part.window is None
            if is_whole and before.get("targeting") and not view.get("targeting"):
                self.world.note("a sync saw that a parameter was lost")
                self.seen.lost.add(self.app)
        if self.threads.is_listing:
            # What stands in for the list only shows what is to be done. What is lost shows the check of each change.
            self.seen.fresh_at = fresh_at
        return view

    def _page(self, start: int, first: int) -> list[dict[str, Any]]:
        page: list[dict[str, Any]] = self._send(LIST, partial(super()._page, start, first))
        return page

    def update_campaign(self, campaign_token: str, payload: Mapping[str, Any], *, checked: bool = False) -> int:
        """Update a campaign."""
        status: int = self._send(UPDATE, partial(super().update_campaign, campaign_token, payload))
        self.has_just_written = campaign_token if campaign_token in self.seen.views else None
        return status

    def _answered(self, status: int, text: str = "") -> None:
        super()._answered(status, text)
        self.root.has_answered, self.root.date_gap = True, self.date_gap


class Hooks:
    """What makes the hooks of one reading of the connection: one for each thread and app."""

    def __init__(self, root: FakeApi, threads: Threads, limiter: RateLimiter) -> None:
        self.root, self.threads, self.limiter = root, threads, limiter
        self.hooks: dict[tuple[int, str | None], SyncApi] = {}

    @property
    def read_only_reason(self) -> str:
        """Why nothing may be written; empty where writes are allowed."""
        return self.root.read_only_reason

    def for_app(self, app: str | None) -> SyncApi:
        """Return the hook of the thread at hand."""
        key = (self.threads.current, app)
        if key not in self.hooks:
            self.hooks[key] = SyncApi(self.root, app, self.limiter, self.threads)
        return self.hooks[key]


class Threads(Executor):
    """A pool whose threads take turns: what is submitted is run at once, each time by the next one of them."""

    def __init__(self) -> None:
        self.current = self.first = self.submitted = 0
        self.count = 1
        self.is_listing = False
        """Whether campaigns are viewed instead of listed."""

    def pool(self, count: int) -> Threads:
        """Return new threads."""
        self.first, self.count = self.first + self.count, count
        return self

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call."""
        future: Future[Any] = Future()
        self.submitted += 1
        self.current = self.first + self.submitted % self.count
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        finally:
            self.current = 0
        return future

    def map(self, fn: Callable[..., Any], *iterables: Any, **options: Any) -> Iterator[Any]:
        """Run a call for each item: only what stands in for the list is read in this way."""
        self.is_listing = True
        try:
            return iter(list(super().map(fn, *iterables, **options)))
        finally:
            self.is_listing = False

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End nothing."""


def run_sync(
    world: World, instance: TaskInstance, api: FakeApi, clock: WorkerClock, attempt: Attempt, *, throttled_for: float
) -> None:
    """Run one attempt of a sync, as the operator does."""
    task, plan, refused = instance.task, instance.plan, instance.refused_since
    threads = Threads()

    def begins(sync: Any) -> None:
        instance.sync = sync

    subject.CLIENTS[world.client]["sync"](
        begins,
        desired=[item.wanted() for item in task.items],
        connect=lambda limiter: Hooks(api, threads, limiter or ModelRateLimiter(world)),
        attempt=attempt,
        clock=clock,
        latest_on=moment(instance.run_after + MAX_LATENESS_SECONDS) if plan.timed else None,
        throttled_until=None if refused is None else moment(refused + throttled_for),
        dry_run=task.dry_run,
        executor=threads.pool,
    )
    if instance.dead:
        raise Crash("dead already")
