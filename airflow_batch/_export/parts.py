"""What an export has read so far, in part files at the destination: for the next attempt, on every Airflow version.

A part is JSON Lines, a record for each campaign (``_export/tables.py``). The parts of a task instance are in a folder
of their own, below it one for each marker: a cleared task, or one with other arguments, reads everything anew.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_batch._export.files import Storage
from airflow_batch._values import iso_utc
from airflow_batch.exceptions import BatchExportIncompleteError

log = logging.getLogger(__name__)

FOLDER = "_parts"
"""Warehouses ignore folders that begin with an underscore, or load other ones by name."""
MAX_BYTES, MAX_CAMPAIGNS, MAX_SECONDS = 2_000_000, 200, 60.0
"""After so much, whichever comes first, a part is put to the destination."""
MAX_AGE = timedelta(days=1)
"""What was read earlier is read again: a run may have been deleted and repeated, and figures change."""
SUFFIX = ".jsonl"

Key = tuple[str | None, str]
"""App and token."""
Record = Mapping[str, Any]


class Parts:
    """The records of one export, those of earlier attempts included.

    :param name: That of the task instance, the same in all attempts.
    :param marker: Differs where what was read before must not be used. Parts with another marker are left alone until
        :meth:`remove`, because a process that Airflow takes for dead may still write there.
    :param workspace: A local folder.
    """

    def __init__(self, storage: Storage, name: str, marker: str, workspace: Path) -> None:
        self._storage, self._workspace = storage, workspace
        self.folder = f"{FOLDER}/{name}"
        self._own = f"{self.folder}/{marker}"
        self._oldest = iso_utc(datetime.now(UTC) - MAX_AGE)
        self._names = [part for part in storage.find(self._own) if part.endswith(SUFFIX)]
        self._lines: list[bytes] = []
        self._size = 0
        self._since = time.monotonic()
        self.keys: set[Key] = {_key(record) for part in self._names for record in self._read(part)}
        """The campaigns that need not be read any more."""
        self.resumed = len(self.keys)
        """How many of them earlier attempts have read."""
        # Before anything is read for which there would be no place.
        self._put(b"", f"{self._own}/can-be-written")

    def add(self, record: Record) -> None:
        """Add a campaign; one that is there already is left as it is."""
        if (key := _key(record)) in self.keys:
            return
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        self._lines.append(line)
        self._size += len(line)
        self.keys.add(key)
        is_large = self._size >= MAX_BYTES or len(self._lines) >= MAX_CAMPAIGNS
        if is_large or time.monotonic() - self._since >= MAX_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Put what was added to the destination."""
        if not self._lines:
            return
        # A process that Airflow takes for dead may still write: the names of two attempts must differ.
        name = f"{self._own}/{len(self._names):06}-{secrets.token_hex(4)}{SUFFIX}"
        self._put(b"".join(self._lines), name)
        self._names.append(name)
        self._lines, self._size, self._since = [], 0, time.monotonic()

    def records(self) -> Iterator[Record]:
        """Yield the record of each campaign once, in the order in which they were read.

        :raises BatchExportIncompleteError: when one is not there any more. The next attempt reads it again.
        """
        left = set(self.keys)
        for part in self._names:
            for record in self._read(part):
                if (key := _key(record)) in left:
                    left.remove(key)
                    yield record
        if left:
            raise BatchExportIncompleteError(
                f"Part files of {self._storage.url_of(self._own)} are gone or broken: {len(left)} campaigns must be "
                "read again. Does another task change files there?"
            )

    def remove(self) -> None:
        """Remove all parts of the task instance, and what was left beside them."""
        self._storage.remove(self.folder)

    def _put(self, content: bytes, name: str) -> None:
        local = self._workspace / "part"
        local.write_bytes(content)
        self._storage.put(local, name, self._own)

    def _read(self, part: str) -> Iterator[Record]:
        """Yield the records of a part that are not too old, up to where it is broken."""
        try:
            for line in self._storage.lines(part):
                record = json.loads(line)
                if record["exported_at"] >= self._oldest:
                    yield record
        except (FileNotFoundError, ValueError) as error:
            log.warning("Part %s is gone or broken: %s.", self._storage.url_of(part), type(error).__name__)


def _key(record: Record) -> Key:
    return record["app"], record["campaign_token"]
