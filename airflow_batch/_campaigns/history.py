"""What this task instance has sent so far, kept between its attempts (rule 7).

Each write is recorded before it is sent. Moments of an earlier attempt were taken by another worker's clock, so they
count as if the request had been sent when this attempt began: later than it was, which is the safe side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol, Self

from airflow_batch._campaigns.diff import Campaign, read_moment
from airflow_batch._campaigns.payload import payload_digest
from airflow_batch._campaigns.protocol import Attempt, Clock, Log
from airflow_batch._campaigns.request import Outcome
from airflow_batch.exceptions import BatchApiError, BatchStateError

SAVE_TRIES = 3
MAX_BEFORE = 20_000
"""Characters of a campaign that a record holds; Airflow's store takes 64 kB."""


@dataclass(frozen=True, kw_only=True)
class Write:
    """One request that this task instance has sent.

    :param at: When, by this worker's clock.
    :param digest: Of the desired parameters.
    :param confirmed: Whether Batch confirmed it; else it may have been applied, or not.
    :param push_at: When the push that it sets going goes out; None where it sends none.
    :param batch_at: When it was sent, by Batch's clock.
    :param before: What view showed before it: the whole where less than that was sent, else the push time alone.
    :param partial: Whether less than the whole campaign was sent (rule 4).
    :param is_own: Whether this attempt sent it.
    """

    at: datetime
    digest: str
    confirmed: bool = False
    push_at: datetime | None = None
    batch_at: datetime | None = None
    before: Campaign | None = None
    partial: bool = False
    is_own: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that is saved."""
        before = self.before if len(json.dumps(self.before, default=str)) <= MAX_BEFORE else None
        moments = {name: _text(getattr(self, name)) for name in ("push_at", "batch_at")}
        return {
            "digest": self.digest,
            "confirmed": self.confirmed,
            "partial": self.partial,
            "before": before,
            **moments,
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any], at: datetime) -> Self:
        """Return a write of an earlier attempt."""
        return cls(
            at=at,
            digest=str(saved.get("digest")),
            confirmed=saved.get("confirmed") is True,
            push_at=read_moment(saved.get("push_at")),
            batch_at=read_moment(saved.get("batch_at")),
            before=saved.get("before"),
            partial=saved.get("partial") is True,
            is_own=False,
        )


@dataclass(frozen=True, kw_only=True)
class History:
    """What this task instance has sent to one campaign.

    :param began: When this attempt began, by this worker's clock.
    :param on: The last write that leaves the campaign live.
    :param off: The last one that stops it.
    :param push_at: When a push of this task instance went out or goes out, to whichever campaign; None for none.
    :param last_stops: Whether the last write was a stop.
    :param is_known: False where an earlier attempt may have sent something that is not recorded.
    :param may_push: False where that may have been a push, so that none may be sent any more (rules 5 and 8).
    :param extra: What the creation keeps beside it.
    """

    began: datetime
    on: Write | None = None
    off: Write | None = None
    push_at: datetime | None = None
    last_stops: bool = False
    is_known: bool = True
    may_push: bool = True
    extra: Mapping[str, Any] | None = None

    @property
    def last(self) -> Write | None:
        """The last write."""
        return self.off if self.last_stops or self.on is None else self.on

    def find(self, desired: Campaign) -> Write | None:
        """Return the write that asked for a desired state, None where there is none."""
        digest = payload_digest(desired)
        return next((write for write in (self.on, self.off) if write is not None and write.digest == digest), None)

    @property
    def has_unconfirmed(self) -> bool:
        """Whether a write of this attempt may have been applied, or not."""
        return any(w is not None and w.is_own and not w.confirmed for w in (self.on, self.off))

    def with_write(self, write: Write, *, stops: bool) -> Self:
        """Return the history with one write more, or with the same one confirmed."""
        if not stops:
            return replace(self, on=write, push_at=self.push_at or write.push_at, last_stops=False)
        if self.off is not None and self.off.partial:
            write = replace(write, partial=True, before=self.off.before)
        return replace(self, off=write, last_stops=True)


class Journal:
    """Loads and saves the history of one task instance and one campaign.

    :param token: The campaign; None where the record itself names it (a creation).
    """

    def __init__(self, attempt: Attempt, clock: Clock, token: str | None, app: str | None, log: Log) -> None:
        self._attempt = attempt
        self._clock = clock
        self._log = log
        self._key = {"token": token, "app": app}
        self._saved: History | None = None
        self._is_readable = True
        self.may_push = True
        """False if the record is kept elsewhere and could not be saved."""
        self.is_saved = True
        """Whether all that was sent is in the store, so that another attempt can rely on it."""

    def load(self) -> History:
        """Return the history. Without a readable record, every attempt but the first counts as unconfirmed (rule 7)."""
        began = self._clock.now()
        attempt = self._attempt
        first = attempt.number == 1 and not (attempt.is_rescheduled and attempt.store is not None)
        record = None
        if attempt.store is not None:
            try:
                record = attempt.store.load()
            except Exception as error:
                self._is_readable = False
                self._log.warning("Airflow's task state store cannot be read: %s", type(error).__name__)
        if not isinstance(record, Mapping):
            return History(began=began, is_known=first, may_push=first)
        on, off = (
            Write.from_json(record[name], began) if isinstance(record.get(name), Mapping) else None
            for name in ("on", "off")
        )
        if self._key["token"] is None:
            self._key = {name: record.get(name) for name in self._key}
        same = {name: record.get(name) for name in self._key} == self._key
        return History(
            began=began,
            on=on if same else None,
            off=off if same else None,
            push_at=read_moment(record.get("push_at")),
            last_stops=same and record.get("last_stops") is True,
            is_known=record.get("attempt") in (attempt.number, attempt.number - 1) and record.get("is_known") is True,
            may_push=record.get("may_push") is True,
            extra=record.get("extra"),
        )

    def save(self, history: History) -> bool:
        """Save the history and return whether that succeeded. Without a store it does not."""
        if self._attempt.store is None:
            self.is_saved = history.extra is None and not any(w and w.is_own for w in (history.on, history.off))
            return False
        record = {
            **self._key,
            "attempt": self._attempt.number,
            "is_known": history.is_known,
            "may_push": history.may_push,
            "push_at": _text(history.push_at),
            "last_stops": history.last_stops,
            "on": history.on and history.on.as_json(),
            "off": history.off and history.off.as_json(),
            "extra": history.extra,
        }
        for tries in range(SAVE_TRIES):
            try:
                self._attempt.store.save(record)
            except Exception as error:
                self._log.warning("Airflow's task state store does not take the record: %s", type(error).__name__)
                if tries < SAVE_TRIES - 1:
                    self._clock.sleep(1)
            else:
                self._saved, self.is_saved = history, True
                return True
        self.is_saved = False
        return False

    def save_before_push(self, history: History) -> None:
        """Save the history before a push of rule 5, or before a new campaign goes live.

        :raises BatchStateError: where there is a store that does not take it. Without one, an attempt but the first
            never comes here.
        """
        if (not self.save(history) and self._attempt.store is not None) or not self.may_push:
            raise BatchStateError(
                "Nothing was sent: Airflow's task state store did not take the record that keeps this push from being "
                "sent twice. Trying again later may help."
            )

    def note_end(self, history: History) -> None:
        """Leave a record of an attempt that ends, so that the next one knows what was sent and what was not.

        A record that could not be read may hold more than this attempt knows, so it is not replaced.
        """
        if self._attempt.store is not None and self._saved != history and (self._is_readable or not self.is_saved):
            self.save(history)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


class Work(Protocol):
    """One attempt at something: what ``run_attempt`` runs."""

    journal: Journal
    history: History

    def make(self) -> Outcome:
        """Do it."""


def run_attempt(work: Work) -> Outcome:
    """Run an attempt and leave its record: whether it succeeds or fails, the next one knows what was sent (rule 7)."""
    try:
        outcome = work.make()
    except Exception as error:
        if isinstance(error, BatchApiError):
            error.may_be_rescheduled = work.journal.is_saved
        work.journal.note_end(work.history)
        raise
    work.journal.note_end(work.history)
    return outcome


def note_nothing_sent(attempt: Attempt, clock: Clock, token: str | None, app: str | None, log: Log) -> None:
    """Leave the record of an attempt that fails before it can send anything, so that the next one knows it (rule 7)."""
    journal = Journal(attempt, clock, token, app, log)
    journal.note_end(journal.load())
