"""Read many campaigns: from the list where they are many, one by one where they are few. Sends no write."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from airflow_batch._http.endpoints import MAX_PAGE
from airflow_batch._sync.progress import Progress
from airflow_batch._sync.rate_limiter import HooksForApps, RateLimiter
from airflow_batch.exceptions import (
    BatchApiError,
    BatchApiMisuseError,
    BatchAuthenticationError,
    BatchError,
    BatchNotFoundError,
)

VIEW_INSTEAD_OF_LIST = 3
"""Up to so many campaigns of an app are viewed rather than listed, for a list costs at least one request as well."""

State = Mapping[str, Any]
Hooks = TypeVar("Hooks", bound=HooksForApps)
Connect = Callable[[RateLimiter | None], Hooks]


class Access(Generic[Hooks]):
    """The hooks of a connection, which is read again where its keys were changed, and the threads that use them.

    :param connect: Returns hooks that have read the connection anew; called at the start and after a 401.
    :param executor: Returns the threads that send requests.
    """

    def __init__(self, connect: Connect[Hooks], executor: Callable[[], Executor], log: logging.Logger) -> None:
        self._connect, self._executor, self._log = connect, executor, log
        self.hooks: Hooks = connect(None)
        self._is_renewed = False

    @property
    def limiter(self) -> RateLimiter:
        """Where the requests wait for their turn."""
        return self.hooks.limiter

    def renew(self, error: BatchAuthenticationError) -> BatchError | None:
        """Read the connection again after a 401, once: the key may have been rotated.

        :return: What to raise where that was done before, or fails; None where the request is to be repeated.
        """
        if self._is_renewed:
            return error
        self._log.warning("Batch refuses the keys (401). Reading the connection again, once.")
        self._is_renewed = True
        try:
            self.hooks = self._connect(self.limiter)
        except BatchError as problem:
            return problem
        return None

    @contextmanager
    def threads(self) -> Iterator[Executor]:
        """Return threads, whose requests end where an exception leaves the block.

        The end of the pool waits for its threads: those that wait for their turn must not keep the task.
        """
        with self._executor() as pool:
            try:
                yield pool
            except BaseException:
                self.limiter.stop()
                raise


class Reader(Access[HooksForApps]):
    """Reads campaigns.

    :param is_last_attempt: Whether a list that cannot be read is no reason to wait for another attempt.
    """

    def __init__(
        self,
        connect: Connect[HooksForApps],
        executor: Callable[[], Executor],
        progress: Progress,
        *,
        is_last_attempt: bool,
        log: logging.Logger,
        details: logging.Logger,
    ) -> None:
        super().__init__(connect, executor, log)
        self._progress, self._is_last_attempt, self._details = progress, is_last_attempt, details
        self.views: dict[tuple[str | None, str], State] = {}
        """What view showed last, by app and token. The list shows only a part of a campaign."""

    def read(self, app: str | None, tokens: set[str]) -> dict[str, State]:
        """Return what Batch shows of an app's campaigns; one that cannot be read or does not exist is left out.

        :raises BatchAuthenticationError: for keys that are refused twice.
        :raises BatchApiError: where the list cannot be read.
        """
        try:
            return self._read(app, tokens)
        except BatchAuthenticationError as error:
            if (problem := self.renew(error)) is not None:
                self._log.warning("The keys are refused, and no others can be read: %s", problem)
                raise
            return self._read(app, tokens)

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
            for count, item in enumerate(self.hooks.for_app(app).list_campaigns(), 1):
                pages = -(-count // MAX_PAGE)
                if item["campaign_token"] in tokens:
                    found[item["campaign_token"]] = item
                    last_hit = pages
                missing = len(tokens) - len(found)
                if not missing or (count % MAX_PAGE == 0 and pages - last_hit >= missing):
                    break
                self._progress.log(self.limiter)
        except BatchApiError as error:
            is_unknown = isinstance(error, BatchNotFoundError) and not found
            keys_are_wrong = is_unknown or isinstance(error, BatchAuthenticationError)
            if keys_are_wrong or (error.transient and not self._is_last_attempt):
                raise
            self._log.warning("The campaigns cannot be listed, so each one is viewed, or written without. %s", error)
        return found

    def _viewed(self, app: str | None, tokens: Iterable[str]) -> dict[str, State]:
        hooks, refused = self.hooks, list[BatchApiError]()

        def view(token: str) -> tuple[str, State | None]:
            if not refused:
                try:
                    return token, hooks.for_app(app).get_campaign(token)
                except (BatchApiMisuseError, BatchAuthenticationError) as error:
                    refused.append(error)
                except BatchApiError as error:
                    self._details.info("Campaign %r could not be read: %s", token, error)
            return token, None

        found: dict[str, State] = {}
        with self.threads() as pool:
            for token, campaign in pool.map(view, tokens):
                if campaign is not None:
                    found[token] = self.views[app, token] = campaign
                self._progress.log(self.limiter)
        for error in refused:
            if isinstance(error, BatchAuthenticationError):
                raise error
        return found
