"""Export campaigns: list them, read each one, put the rows into files.

Reading continues where an earlier attempt ended (``_export/parts.py``). The files are written when all is read.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from airflow_batch._airflow.task_context import storable, text_or_none
from airflow_batch._export.files import FileFormat, RowFile, Storage, open_rows
from airflow_batch._export.parts import Key, Parts, Record
from airflow_batch._export.selection import is_created_since, may_have_been_sent_since
from airflow_batch._export.tables import TABLES, rows_of
from airflow_batch._http.endpoints import MAX_PAGE
from airflow_batch._sync.rate_limiter import TRIES, RateLimiter, RateLimiterClosed
from airflow_batch._sync.reading import Access, Connect
from airflow_batch._values import iso_utc, short_list, short_repr
from airflow_batch.exceptions import (
    BatchApiMisuseError,
    BatchAuthenticationError,
    BatchConfigurationError,
    BatchError,
    BatchExportError,
    BatchExportIncompleteError,
    BatchNotFoundError,
)
from airflow_batch.hooks._rate_limited import ThreadHooks

log = logging.getLogger(__name__)

READ_AHEAD_PER_REQUEST = 8
"""Campaigns for each request in flight that are listed and not read yet: what is in memory."""
MAX_REFUSED = 10
"""Campaigns of an app that its key may not read, and none that it may: then it is no Live API key."""
BETWEEN_LINES_SECONDS = 5.0
MAX_NAMED = 10
"""Failures that the error of the task names."""

Campaign = Mapping[str, Any]


class Selection(NamedTuple):
    """What is exported.

    :param apps: None for all apps of the connection.
    :param live: None for all; else as Batch's list filters.
    :param from_api: The same.
    :param since: Only campaigns that were created, or may have been pushed, at this moment or later; None for all.
    :param restate_since: Statistics of campaigns that may have been live or pushed then or later; None for all.
    """

    apps: Sequence[str] | None = None
    live: bool | None = None
    from_api: bool | None = None
    since: datetime | None = None
    restate_since: datetime | None = None


class ReadCampaign(NamedTuple):
    """What reading a campaign gave."""

    key: Key
    name: str | None
    record: Record | None = None
    error: BatchError | None = None


@dataclass(kw_only=True)
class CampaignExport:
    """Campaigns of one connection, and the files for their rows.

    :param connect: Returns hooks that have read the connection anew; called at the start and after a 401.
    :param name: Of the files, after that of the table. The same in all attempts of a task instance.
    :param marker: Differs after the task was cleared: what was read before is not used then, nor what was read with
        another selection, or from another connection.
    :param max_failures: With more campaigns that cannot be read no file is written.
    :param max_in_flight: Requests at a time.
    """

    connect: Connect[ThreadHooks]
    storage: Storage
    name: str
    marker: str
    selection: Selection = field(default_factory=Selection)
    file_format: FileFormat = "jsonl"
    max_failures: int = 0
    max_in_flight: int = 4
    log: logging.Logger = log
    executor: Callable[[int], Executor] = lambda count: ThreadPoolExecutor(count, thread_name_prefix="batch-export")

    def __post_init__(self) -> None:
        self.access = Access(self.connect, partial(self.executor, self.max_in_flight), self.log)
        self.errors: dict[Key, tuple[str | None, BatchError]] = {}
        """Name and error of what could not be read, so far."""
        self.vanished: dict[Key, str | None] = {}
        self.read = 0
        """Campaigns that this attempt has read."""
        self.files: dict[str, str] = {}
        self.rows: dict[str, int] = {}
        self.campaigns = self.without_stats = 0
        self._readable: set[str | None] = set()
        self._began = self._logged = time.monotonic()

    @property
    def limiter(self) -> RateLimiter:
        """Where the requests wait for their turn."""
        return self.access.limiter

    def stop(self) -> None:
        """Send nothing more and let :meth:`run` end; for the handler of a signal."""
        self.limiter.close(BatchExportIncompleteError("The task was stopped. What was read is kept in part files."))

    def run(self) -> None:
        """Read the campaigns and write the files.

        :raises BatchConfigurationError: before anything is sent, for an app that the connection does not know.
        :raises BatchApiMisuseError: for a key that cannot read.
        :raises BatchAuthenticationError: for keys that are refused twice.
        :raises BatchApiError: for a throttle that lasts long, and where the list cannot be read.
        :raises BatchExportIncompleteError: when it was stopped, when a part is gone, and when more than
            ``max_failures`` failed and trying again may help.
        :raises BatchExportError: when it does not help.
        """
        apps = self._apps()
        with tempfile.TemporaryDirectory(prefix="batch-export-") as workspace:
            parts = Parts(self.storage, self.name, self._parts_marker(apps), Path(workspace))
            if parts.resumed:
                self.log.info("An earlier attempt has read %d campaigns: continuing after them.", parts.resumed)
            self._readable = {app for app, _ in parts.keys}
            try:
                self._read_and_keep(apps, parts)
                self._raise_for_failures()
            except BatchError as error:
                if not error.transient:
                    parts.remove()
                raise
            self._write(parts, Path(workspace))
            parts.remove()

    def _apps(self) -> Sequence[str | None]:
        """Return the apps to export.

        :raises BatchConfigurationError: for one that the connection does not know, and for two that have the same key.
        """
        settings = self.access.hooks.base.settings
        names: dict[str, str | None] = {}
        for app in self.selection.apps or settings.api_keys:
            other = names.setdefault(settings.api_key(app), app)
            if other != app:
                raise BatchConfigurationError(
                    f"The apps {other!r} and {app!r} have the same key in connection {settings.conn_id!r}, so that "
                    "each campaign would be exported twice. Name one of them, or give each app its own key in the "
                    "connection's extra api_keys."
                )
        return list(names.values())

    def _parts_marker(self, apps: Sequence[str | None]) -> str:
        """Return a text that differs where what was read before must not be used."""
        base = self.access.hooks.base
        read_for = self.marker, self.selection, apps, base.batch_conn_id, list(base.settings.api_keys)
        return hashlib.sha256(repr(read_for).encode()).hexdigest()[:16]

    def _read_and_keep(self, apps: Sequence[str | None], parts: Parts) -> None:
        """Read all campaigns, and keep what was read also where that ends early."""
        try:
            self._read_all(apps, parts)
        except BaseException as error:
            try:
                parts.flush()
            except Exception as problem:  # The task must end with the first error: a throttle is no failure.
                self.log.warning("What was read last is not kept: %s: %s", type(problem).__name__, problem)
            if isinstance(error, RateLimiterClosed):
                raise error.reason from None
            raise
        finally:
            self._log_progress(last=True)
        parts.flush()

    def _read_all(self, apps: Sequence[str | None], parts: Parts) -> None:
        """Read all campaigns; list again until the list shows none that was not read.

        Campaigns that are created or deleted meanwhile shift the pages of the list, so that it may skip some.
        """
        for tries in range(1, TRIES + 1):
            if any(error.transient for _, error in self.errors.values()):
                self.log.info("%d campaigns could not be read: trying them again.", len(self.errors))
                self.limiter.rest(tries - 1)
            listed = {key for app in apps for key in self._read_listed(app, parts)}
            if all(map(self._has_failed_for_good, listed)):
                break
        for app in apps:
            self._check_key(app)
        for key, (name, error) in list(self.errors.items()):
            if isinstance(error, BatchNotFoundError) and key not in listed:
                self.vanished[key] = name
                del self.errors[key]

    def _read_listed(self, app: str | None, parts: Parts) -> set[Key]:
        """Read the listed campaigns of an app that were not read yet, and what failed before; return the listed."""
        listed: set[Key] = set()
        try:
            self._read_once(app, parts, listed)
        except BatchAuthenticationError as error:
            if (problem := self.access.renew(error)) is not None:
                raise problem from None
            self._read_once(app, parts, listed)
        return listed

    def _read_once(self, app: str | None, parts: Parts, listed: set[Key]) -> None:
        refused = None
        with self.access.threads() as pool:
            unread = self._unread(app, parts, listed, pool)
            results = _in_order(pool, partial(self._read, app), unread, READ_AHEAD_PER_REQUEST * self.max_in_flight)
            try:
                for result in results:
                    if isinstance(result.error, BatchAuthenticationError):
                        refused = result.error
                        break
                    self._note(result, parts)
            except BatchAuthenticationError as error:
                refused = error
        if refused is not None:
            raise refused

    def _unread(self, app: str | None, parts: Parts, listed: set[Key], pool: Executor) -> Iterator[Campaign]:
        items = self.access.hooks.for_app(app).list_campaigns(self.selection.live, self.selection.from_api)

        def next_page() -> list[Campaign]:
            return list(islice(items, MAX_PAGE))

        try:
            # In one of the threads, because it is one of the requests in flight. The next page is asked for early.
            coming = pool.submit(next_page)
            while page := coming.result():
                coming = pool.submit(next_page)
                for item in page:
                    key = app, item["campaign_token"]
                    if key not in parts.keys:
                        listed.add(key)
                        if not self._has_failed_for_good(key):
                            yield item
        except BatchApiMisuseError as error:
            raise _cannot_read(error, app) from None
        for key, (name, problem) in list(self.errors.items()):
            # It may have been deleted, or be missing in the list because others were.
            if key[0] == app and key not in listed and not isinstance(problem, BatchNotFoundError):
                yield {"campaign_token": key[1], **({} if name is None else {"name": name})}

    def _has_failed_for_good(self, key: Key) -> bool:
        _, error = self.errors.get(key, (None, None))
        return error is not None and not error.transient and not isinstance(error, BatchNotFoundError)

    def _read(self, app: str | None, item: Campaign) -> ReadCampaign:
        token, moment = item["campaign_token"], datetime.now(UTC)
        read = ReadCampaign((app, token), text_or_none(item.get("name"), 200))
        record: dict[str, Any] = {
            "app": app,
            "campaign_token": token,
            "exported_at": iso_utc(moment),
            "campaign": None,
            "stats": None,
        }
        try:
            hook = self.access.hooks.for_app(app)
            campaign = {**item, **hook.get_campaign(token)}
            since, restate_since = self.selection.since, self.selection.restate_since
            if since is None or is_created_since(campaign, since) or may_have_been_sent_since(campaign, since):
                record["campaign"] = storable(campaign)
                if restate_since is None or may_have_been_sent_since(campaign, restate_since):
                    with suppress(BatchNotFoundError):  # Batch does not document what it answers for one never sent.
                        record["stats"] = storable(hook.get_campaign_stats(token))
        except BatchError as error:
            return read._replace(error=error)
        return read._replace(record=record)

    def _note(self, read: ReadCampaign, parts: Parts) -> None:
        app, _ = read.key
        if read.error is not None:
            self.errors[read.key] = read.name, read.error
            if isinstance(read.error, BatchApiMisuseError):
                self._check_key(app, MAX_REFUSED)
        elif read.record is not None:
            parts.add(read.record)
            self.errors.pop(read.key, None)
            self._readable.add(app)
            self.read += 1
        self._log_progress()

    def _check_key(self, app: str | None, refused: int = 1) -> None:
        """Raise where an app's key has read no campaign and was refused as a wrong kind of key so often."""
        if app in self._readable:
            return
        errors = [error for (of, _), (_, error) in self.errors.items() if of == app]
        misuses = [error for error in errors if isinstance(error, BatchApiMisuseError)]
        if len(misuses) >= refused:
            raise _cannot_read(misuses[0], app)

    def _raise_for_failures(self) -> None:
        for (app, token), name in self.vanished.items():
            self.log.warning("Campaign %s (%r, app %r) was deleted meanwhile.", short_repr(token), name, app)
        for (app, token), (name, error) in self.errors.items():
            self.log.error("Campaign %s (%r, app %r): %s", short_repr(token), name, app, error)
        if len(self.errors) <= self.max_failures:
            return
        named = short_list(
            self.errors.items(),
            MAX_NAMED,
            show=lambda item: f"{short_repr(item[0][1])} ({short_repr(item[1][0])}): {str(item[1][1])[:200]}",
            separator="; ",
        )
        may_help = any(error.transient for _, error in self.errors.values())
        raise (BatchExportIncompleteError if may_help else BatchExportError)(
            f"{len(self.errors)} campaigns could not be read, more than max_failures={self.max_failures}. No file was "
            f"written. {named}"
        )

    def _write(self, parts: Parts, workspace: Path) -> None:
        """Make the files of the tables from the parts, and put them to the destination."""
        self.rows = {table.name: 0 for table in TABLES}
        local = {table.name: workspace / f"{table.name}.{self.file_format}" for table in TABLES}
        writers: dict[str, RowFile] = {
            table.name: open_rows(local[table.name], table, self.file_format) for table in TABLES
        }
        for record in parts.records():
            if record["campaign"] is None:
                continue
            self.campaigns += 1
            self.without_stats += record["stats"] is None
            for table, row in rows_of(record):
                writers[table.name].write(row)
                self.rows[table.name] += 1
        for table in TABLES:
            writers[table.name].close()
            name = f"{table.name}/{table.name}.{self.name}.{self.file_format}"
            self.storage.put(local[table.name], name, parts.folder)
            self.files[table.name] = self.storage.url_of(name)

    def _log_progress(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - self._logged < BETWEEN_LINES_SECONDS:
            return
        self._logged = now
        self.log.info(
            "%d campaigns read, %d not. %d requests, %.1f a second; %d refused (429), %.0f s waited for them.",
            self.read,
            len(self.errors),
            self.limiter.requests,
            self.limiter.requests / max(now - self._began, 0.001),
            self.limiter.refusals,
            self.limiter.paused,
        )


def _cannot_read(error: BatchApiMisuseError, app: str | None) -> BatchError:
    which = "the app API key" if app is None else f"the app API key of {app!r}"
    return error.explained(f"An export needs a Live API key: {which} cannot read campaigns.")


def _in_order(
    pool: Executor, call: Callable[[Campaign], ReadCampaign], items: Iterator[Campaign], ahead: int
) -> Iterator[ReadCampaign]:
    """Yield what ``call`` returns for each item, in order, with few items waiting; what has ended at a closing, too."""
    pending: deque[Future[ReadCampaign]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(call, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except RateLimiterClosed:
        for future in pending:
            with suppress(RateLimiterClosed):
                yield future.result()
        raise
