"""What the sandbox was asked: one record for each request, without a key in it.

Belongs here: the record and the list of records, safe to read from another thread.
Does not belong here: deciding what is safe to write into a record (routes.py and keys.py mask it first).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from airflow_batch.sandbox.errors import ERRORS, ErrorName, Operation
from airflow_batch.sandbox.keys import KeyKind

THROTTLED = ERRORS["TOO_MANY_REQUESTS"].status
LOG_MAX = 10_000
"""Records that are kept, the newest."""


@dataclass(frozen=True)
class RequestRecord:
    """One request as the sandbox saw it.

    `time` is aware UTC by the sandbox's clock, on arrival. `path` has APP_KEY in the key's place and UNKNOWN for every
    part that is neither a route's word nor a campaign of the sandbox; `query` holds the list's well-formed parameters.
    `campaign_token` is the campaign asked for or created, also once it is deleted. `status` is None where the
    connection was dropped without an answer. `error` is the documented error that was answered, `retry_after` the
    header of the answer, `delay` the seconds by which a fault delayed it. `applied` says whether a write took effect.
    `body_digest` is the start of the body's SHA-256, in hex.
    """

    sequence: int
    time: datetime
    method: str
    operation: Operation
    app: str | None
    key_kind: KeyKind | None
    path: str
    query: str
    campaign_token: str | None
    status: int | None
    error: ErrorName | None
    retry_after: str | None
    delay: float
    fault: str | None
    applied: bool
    body_digest: str
    user_agent: str

    def as_dict(self) -> dict[str, Any]:
        """Return the record as JSON values; `time` is ISO 8601 with an offset."""
        return {**asdict(self), "time": self.time.isoformat()}

    def __str__(self) -> str:
        target = f"{self.app or '-'}/{self.key_kind or '-'} {self.campaign_token or '-'}"
        outcome = "dropped" if self.status is None else str(self.status)
        extras = "".join((" applied" if self.applied else "", f" [{self.fault}]" if self.fault else ""))
        return f"{self.time:%H:%M:%S} #{self.sequence} {self.operation} {target} -> {outcome}{extras}"


def digest(body: bytes) -> str:
    """Return the first 16 hex digits of the body's SHA-256."""
    return hashlib.sha256(body).hexdigest()[:16]


@dataclass(frozen=True)
class Counts:
    """How many requests came so far; how many of them got a 429, and how many another error or no answer."""

    requests: int
    throttled: int
    failed: int


class RequestLog:
    """The newest LOG_MAX records, in the order in which the requests came; the counts are those of all requests.

    `on_record` is called with each record, on the server's thread.
    """

    def __init__(self, on_record: Callable[[RequestRecord], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._records: dict[int, RequestRecord] = {}
        self._on_record = on_record
        self._sequence = 0
        self._changes = 0
        # The sequence of each record to the number of its last change, the latest last.
        self._changed: dict[int, int] = {}
        self._requests = self._throttled = self._failed = 0
        self._dropped = 0

    def next_sequence(self) -> int:
        """Return the number of the next request, from 1."""
        with self._lock:
            self._sequence += 1
            return self._sequence

    def put(self, record: RequestRecord) -> None:
        """Store a record; a later one with the same sequence takes its place (a change applied after the answer)."""
        with self._lock:
            if record.sequence not in self._records and record.sequence > self._dropped:
                self._requests += 1
                self._throttled += record.status == THROTTLED
                self._failed += record.status is None or (record.status >= 300 and record.status != THROTTLED)
            if record.sequence > self._dropped:
                self._records[record.sequence] = record
                self._changes += 1
                self._changed.pop(record.sequence, None)
                self._changed[record.sequence] = self._changes
            if len(self._records) > LOG_MAX:
                self._dropped = next(iter(self._records))
                del self._records[self._dropped], self._changed[self._dropped]
        if self._on_record is not None:
            self._on_record(record)

    def records(self) -> tuple[RequestRecord, ...]:
        """Return the records that are kept, in the order of the requests."""
        with self._lock:
            return tuple(self._records.values())

    def newest(self, *, after: int, limit: int) -> tuple[int, list[RequestRecord]]:
        """Return the number of the latest change, and the records that changed after change `after`, oldest first.

        At most `limit` of them, the newest. A number that was never reached counts as 0.
        """
        with self._lock:
            after = after if after <= self._changes else 0
            chosen: list[RequestRecord] = []
            for sequence, change in reversed(self._changed.items()):
                if change <= after or len(chosen) == limit:
                    break
                chosen.append(self._records[sequence])
            return self._changes, chosen[::-1]

    def counts(self) -> Counts:
        """Return how the requests so far ended."""
        with self._lock:
            return Counts(self._requests, self._throttled, self._failed)
