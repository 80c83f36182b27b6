"""Delete one campaign (rule 9). Acts."""

from __future__ import annotations

import logging
from dataclasses import replace

from airflow_batch._campaigns import rules
from airflow_batch._campaigns.change import AGAIN_AFTER, title_of
from airflow_batch._campaigns.history import History, Journal
from airflow_batch._campaigns.protocol import Attempt, CampaignApi, Clock, Log
from airflow_batch._campaigns.request import Campaign, Outcome
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
    or is in doubt by what was saved.

    :param expect_name: Refuse a campaign with another name; empty: one that cannot be compared.
    :raises BatchChangeRefusedError: for another name, or one that cannot be read.
    :raises BatchApiError: one of its subclasses, for each failed request.
    """
    began = clock.now()
    journal = Journal(attempt, clock, token, api.app, log)
    history = History(began=began) if dry_run else journal.load()
    key = {"deleted": token, "app": api.app}
    kept = (
        history.extra if history.extra and {**history.extra, "confirmed": None} == {**key, "confirmed": None} else None
    )
    seen: Campaign = {}

    def outcome(changed: bool | None, status: int | None) -> Outcome:
        name = seen.get("name")
        return Outcome(
            token=token,
            requested_at=began,
            completed_at=clock.now(),
            changed=changed,
            sent={},
            live=None,
            name=name,
            http_status=status,
            would_change=True if dry_run else None,
        )

    if (expect_name is not None or dry_run) and kept is None:
        seen = _checked(api, token, expect_name) or {}
    if dry_run:
        log.info("Dry run: %s would be deleted. Nothing was sent.", title_of(token, seen.get("name"), api.app))
        return outcome(False, None)
    for pause in (*AGAIN_AFTER, None):
        journal.save(replace(history, extra={**key, "confirmed": bool(kept and kept.get("confirmed"))}))
        try:
            status = api.delete_campaign(token)
        except BatchNotFoundError as error:
            if kept is None and not missing_ok:
                journal.save(replace(history, extra=None))
                raise
            log.info("Campaign %r does not exist%s. %s", token, " any more" if kept else "", error)
            return outcome((True if kept.get("confirmed") else None) if kept else False, error.status_code)
        except BatchApiError as error:
            if error.may_have_been_applied:
                kept = {**key, "confirmed": False}
            elif kept is None:
                journal.save(replace(history, extra=None))
            if pause is None or not isinstance(error, BatchConnectionError):
                error.may_be_rescheduled = journal.is_saved or kept is None
                raise
            log.warning("%s Trying again in %.0f s.", error, pause)
            clock.sleep(pause)
        else:
            break
    journal.save(replace(history, extra={**key, "confirmed": True}))
    log.info("Deleted %s. Batch confirmed with %s.", title_of(token, seen.get("name"), api.app), status)
    return outcome(True, status)


def _checked(api: CampaignApi, token: str, expect_name: str | None) -> Campaign | None:
    """Return the campaign, refused where its name is another one than expected or cannot be read (rule 2)."""
    try:
        seen = api.get_campaign(token)
    except BatchApiMisuseError:
        seen = None
    if seen is not None and rules.has_other_name(seen, expect_name, None):
        raise rules.other_name_error(token, seen, expect_name)
    if expect_name is not None and (seen is None or not expect_name):
        raise BatchChangeRefusedError(
            f"expect_name was given for campaign {token!r}, but the name cannot be compared. Nothing was sent."
        )
    return seen
