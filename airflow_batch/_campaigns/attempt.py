"""Run one attempt and leave its record, so that the next one knows what was sent (rule 7)."""

from __future__ import annotations

from typing import Protocol

from airflow_batch._campaigns.history import History, Journal
from airflow_batch._campaigns.protocol import Attempt, Clock, Log
from airflow_batch._campaigns.request import Outcome
from airflow_batch.exceptions import BatchApiError


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
