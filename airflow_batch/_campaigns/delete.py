"""Delete one campaign (rule 9). Acts."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from airflow_batch._campaigns import rules
from airflow_batch._campaigns.diff import Campaign
from airflow_batch._campaigns.dry_run import read_only_reason
from airflow_batch._campaigns.history import History, Journal
from airflow_batch._campaigns.protocol import Attempt, CampaignApi, Clock, Log
from airflow_batch._campaigns.request import Outcome
from airflow_batch._campaigns.waiting import AGAIN_AFTER
from airflow_batch.exceptions import (
    BatchApiError,
    BatchApiMisuseError,
    BatchChangeRefusedError,
    BatchConnectionError,
    BatchNotFoundError,
)

log = logging.getLogger(__name__)


def delete_campaign(
    api: CampaignApi,
    clock: Clock,
    attempt: Attempt,
    token: str,
    *,
    missing_ok: bool = False,
    expect_name: str | None = None,
    dry_run: bool = False,
    log: Log = log,
) -> Outcome:
    """Delete a campaign. A deletion may be repeated.

    A 404 is a success only with ``missing_ok``, or where a deletion of this token by this task instance was confirmed
    or may have been applied: in this attempt, or by what an earlier one has saved.

    :param expect_name: Refuse a campaign with another name; empty: one that cannot be compared.
    :raises BatchChangeRefusedError: for another name, or one that cannot be read.
    :raises BatchApiError: one of its subclasses, for each failed request.
    """
    dry_run = dry_run or bool(read_only_reason(api, clock, attempt, token, log))
    journal = Journal(attempt, clock, token, api.app, log)
    history = History(began=clock.now()) if dry_run else journal.load()
    deletion = Deletion(api, clock, token, missing_ok, dry_run, journal, history, log)
    if (expect_name is not None or dry_run) and deletion.confirmed_before is None:
        try:
            deletion.seen = _checked(api, token, expect_name)
        except BatchNotFoundError as error:
            return deletion.missing(error)
    if dry_run:
        log.info("Dry run: %s would be deleted. Nothing was sent.", deletion.title)
        return deletion.outcome(False, None)
    return deletion.make()


@dataclass
class Deletion:
    """One attempt at a deletion. ``history.extra`` keeps that one was sent, and whether it was confirmed."""

    api: CampaignApi
    clock: Clock
    token: str
    missing_ok: bool
    dry_run: bool
    journal: Journal
    history: History
    log: Log
    seen: Campaign | None = None

    def __post_init__(self) -> None:
        self.began = self.clock.now()
        kept = self.history.extra or {}
        is_same = (kept.get("deleted"), kept.get("app")) == (self.token, self.api.app)
        self.confirmed_before: bool | None = kept.get("confirmed") is True if is_same else None
        """Whether a deletion by this task instance was confirmed; False: it is unconfirmed, None: none was sent."""

    def make(self) -> Outcome:
        """Delete the campaign. What is unconfirmed, or was not sent at all, is repeated (rule 7)."""
        for pause in (*AGAIN_AFTER, None):
            self._save(self.confirmed_before is True)
            try:
                status = self.api.delete_campaign(self.token)
            except BatchNotFoundError as error:
                return self.missing(error)
            except BatchApiError as error:
                if error.may_have_been_applied and self.confirmed_before is None:
                    self.confirmed_before = False
                # Otherwise the answer proves that nothing was applied: the record of the request goes.
                self._save(self.confirmed_before)
                if pause is None or not (error.may_have_been_applied or isinstance(error, BatchConnectionError)):
                    error.may_be_rescheduled = self.journal.is_saved or self.confirmed_before is None
                    raise
                self.log.warning("%s Trying again in %.0f s.", error, pause)
                self.clock.sleep(pause)
            else:
                break
        self._save(True)
        self.log.info("%s was deleted: Batch confirmed with %s.", self.title, status)
        return self.outcome(True, status)

    def missing(self, error: BatchNotFoundError) -> Outcome:
        """Return the outcome where Batch does not know the campaign, or raise the error."""
        if self.confirmed_before is None and not self.missing_ok:
            self._save(None)
            raise error
        self.log.info("Campaign %r does not exist. %s", self.token, error)
        if self.confirmed_before is None:
            return self.outcome(False if self.history.is_known else None, error.status_code)
        return self.outcome(self.confirmed_before or None, error.status_code)

    def _save(self, confirmed: bool | None) -> None:
        extra = {"deleted": self.token, "app": self.api.app, "confirmed": confirmed}
        if not self.dry_run:
            self.journal.save(replace(self.history, extra=None if confirmed is None else extra))

    @property
    def title(self) -> str:
        """How a log line names the campaign."""
        return rules.title_of(self.token, (self.seen or {}).get("name"), self.api.app)

    def outcome(self, changed: bool | None, status: int | None) -> Outcome:
        """Return what became of the campaign."""
        return Outcome(
            token=self.token,
            requested_at=self.began,
            completed_at=self.clock.now(),
            changed=changed,
            sent={},
            live=None,
            name=(self.seen or {}).get("name"),
            http_status=status,
            would_change=status is None if self.dry_run else None,
        )


def _checked(api: CampaignApi, token: str, expect_name: str | None) -> Campaign | None:
    """Return the campaign, refused where its name is another one than expected or cannot be read (rule 2)."""
    try:
        seen = api.get_campaign(token)
    except BatchApiMisuseError:
        seen = None
    if rules.names_agree(seen, expect_name) is False:
        raise rules.other_name_error(token, seen or {}, expect_name)
    if expect_name is not None and (seen is None or not expect_name):
        raise BatchChangeRefusedError(
            f"expect_name was given for campaign {token!r}, but the name cannot be compared. Nothing was sent."
        )
    return seen
