"""Whether an attempt may send anything: the task or the connection may ask for a dry run. Acts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from airflow_batch._campaigns.diff import Campaign
from airflow_batch._campaigns.history import note_nothing_sent
from airflow_batch._campaigns.protocol import Attempt, CampaignApi, Clock, Log
from airflow_batch._campaigns.request import ChangeRequest, CreateRequest, Outcome
from airflow_batch._campaigns.rules import describe, title_of
from airflow_batch._campaigns.waiting import AGAIN_AFTER
from airflow_batch.exceptions import BatchConnectionError, BatchError

Request = TypeVar("Request", ChangeRequest, CreateRequest)


def apply_dry_run(
    api: CampaignApi, clock: Clock, attempt: Attempt, request: Request, log: Log, budget: timedelta | None = None
) -> tuple[Attempt, Request, timedelta | None]:
    """Return what an attempt begins with: those of a dry run, where nothing may be sent.

    A dry run neither uses nor changes what earlier attempts have recorded, but the next attempt knows that this one
    sent nothing (rule 7).

    :param budget: How long the whole may take; what is left of it is returned.
    """
    began = clock.now()
    token = request.token if isinstance(request, ChangeRequest) else None
    reason = "" if request.dry_run else read_only_reason(api, clock, attempt, token, log, budget)
    if request.dry_run or reason:
        note_nothing_sent(attempt, clock, token, api.app, log)
        attempt, request = replace(attempt, store=None), replace(request, dry_run=True, read_only_reason=reason)
    return attempt, request, budget and budget - (clock.now() - began)


def read_only_reason(
    api: CampaignApi, clock: Clock, attempt: Attempt, token: str | None, log: Log, budget: timedelta | None = None
) -> str:
    """Return why the connection allows no write, and log it; empty where it allows writes.

    The connection is read here. A failure proves that nothing was sent: it is read again after 5 and 15 s (rule 7).

    :param budget: How long that may take.
    :raises BatchError: where the connection cannot be read; the next attempt knows that this one sent nothing.
    """
    ends = None if budget is None else clock.now() + budget
    for pause in (*AGAIN_AFTER, None):
        try:
            reason = api.read_only_reason
            break
        except BatchError as error:
            is_lasting = not isinstance(error, BatchConnectionError)
            if is_lasting or pause is None or (ends is not None and clock.now() + timedelta(seconds=pause) > ends):
                note_nothing_sent(attempt, clock, token, api.app, log)
                raise
            log.warning("%s Reading it again in %.0f s.", error, pause)
            clock.sleep(pause)
    if reason:
        log.info("Dry run, because %s.", reason)
    return reason


def log_unsent(outcome: Outcome, desired: Campaign, request: ChangeRequest, app: str | None, log: Log) -> Outcome:
    """Log what a dry run would change, a stop that the connection does not allow as a warning; return the outcome."""
    title = title_of(outcome.token, outcome.name, app)
    if desired.get("live") is False and request.read_only_reason:
        log.warning("%s is NOT stopped, because %s.", title, request.read_only_reason)
    else:
        log.info("Dry run: %s would be %s.", title, describe(desired))
    return outcome
