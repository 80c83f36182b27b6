"""Create one campaign: as a draft first, then live (rule 8). Acts; how a draft goes live is decided as any change.

Batch has no idempotency key. A creation whose answer was lost is repeated: each can leave one more draft, which never
goes out. Only the token of a confirmed creation goes live, and only once.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import Any

from airflow_batch._airflow.backoff import BATCH_FLOOR
from airflow_batch._campaigns import rules
from airflow_batch._campaigns.change import Change
from airflow_batch._campaigns.diff import Campaign, same_name
from airflow_batch._campaigns.dry_run import apply_dry_run
from airflow_batch._campaigns.history import History, Journal, run_attempt
from airflow_batch._campaigns.payload import dry_run_token, payload_digest
from airflow_batch._campaigns.plan import repeat_refused
from airflow_batch._campaigns.protocol import Attempt, CampaignApi, Clock, Log
from airflow_batch._campaigns.request import ChangeRequest, CreateRequest, Outcome, TooLateError
from airflow_batch._campaigns.rules import Clocks
from airflow_batch._campaigns.waiting import AGAIN_AFTER, MAX_IN_SLOT
from airflow_batch.exceptions import (
    BatchApiError,
    BatchApiMisuseError,
    BatchChangeRefusedError,
    BatchConnectionError,
    BatchNotFoundError,
    BatchNotVisibleError,
    BatchRepeatRefusedError,
    BatchStateError,
    BatchVerificationError,
    BatchWaitExceededError,
)

log = logging.getLogger(__name__)

NEWEST = 100
"""How many campaigns, newest first, are searched for drafts that a lost request may have left."""


def create_campaign(
    api: CampaignApi, clock: Clock, attempt: Attempt, request: CreateRequest, *, log: Log = log
) -> Outcome:
    """Create a campaign as a draft, and make it live where the payload says so.

    A dry run returns a token that begins with ``dry-run-``, which the other operators and the sensors know.

    :raises TooLateError: where ``push_time`` is ``now`` and the run is too late.
    :raises BatchChangeRefusedError: for a push time that has passed, and for a kept token with another payload.
    :raises BatchRepeatRefusedError: where the campaign may have gone live already, or an attempt without saved state
        may not make it live any more.
    :raises BatchApiError: one of its other subclasses, for each failed request.
    """
    attempt, request, _ = apply_dry_run(api, clock, attempt, request, log)
    return run_attempt(Creation(api, clock, attempt, request, log))


class Creation:
    """One attempt at a creation. ``history.extra`` keeps the token, the payload's digest, app, ``max_tries``
    and whether it was repeated."""

    def __init__(self, api: CampaignApi, clock: Clock, attempt: Attempt, request: CreateRequest, log: Log) -> None:
        self.api, self.clock, self.attempt, self.log = api, clock, attempt, log
        self.payload, self.latest_on, self.dry_run = dict(request.payload), request.latest_on, request.dry_run
        self.digest = payload_digest(self.payload)
        self.journal = Journal(attempt, clock, None, api.app, log)
        self.started = clock.now()
        self.history = History(began=self.started) if request.dry_run else self.journal.load()
        self.token = ""
        self.is_throttled = False
        self.status: int | None = None

    @property
    def goes_live(self) -> bool:
        """Whether the payload asks for a live campaign."""
        return self.payload["live"] is True

    def make(self) -> Outcome:
        """Create the draft, or take the one that an earlier attempt has created; then make it live."""
        kept = self._kept()
        if kept is not None and (outcome := self._known(kept)):
            return outcome
        self._check_and_send()
        if self.dry_run:
            self.log.info("Dry run: campaign %r would be created. Nothing was sent.", self.payload["name"])
            self.token = dry_run_token(self.payload, self.api.app)
            return self._outcome(changed=False, would_change=True)
        if kept is None:
            self._create_draft()
        if self.goes_live:
            outcome = self._go_live()
        else:
            self.log.info("%s was created.", self._title)
            outcome = self._outcome(changed=True)
        if self.history.extra and self.history.extra.get("was_repeated") and not self.is_throttled:
            self._log_other_drafts()
        return outcome

    def _kept(self) -> dict[str, Any] | None:
        """Return what an earlier attempt kept of the campaign that it created, None where there is nothing to use.

        :raises BatchChangeRefusedError: for another payload, or app, than that of a campaign that has gone live.
        """
        kept = self.history.extra
        if not kept or not kept.get("token"):
            return None
        self.token = str(kept["token"])
        if (kept.get("digest"), kept.get("app")) == (self.digest, self.api.app):
            return dict(kept)
        if self.history.on is not None:
            raise BatchChangeRefusedError(
                f"An earlier attempt of this task has created campaign {self.token!r} from another payload, and it has "
                "gone live or may have. Nothing was sent. Change it with BatchUpdateCampaignOperator, or start a new "
                "DAG run."
            )
        self.log.warning("The payload has changed: the draft %r of an earlier attempt is left aside.", self.token)
        self.history, self.token = replace(self.history, extra=None), ""
        return None

    def _known(self, kept: dict[str, Any]) -> Outcome | None:
        """Return the outcome where nothing may be sent to the kept campaign any more, None where it goes on.

        :raises BatchNotVisibleError: where Batch does not show it.
        :raises BatchRepeatRefusedError: where an attempt before the task was cleared may have made it live.
        """
        cleared = kept.get("max_tries") != self.attempt.max_tries
        on = self.history.on
        seen = self._view() if cleared or (on is not None and not on.confirmed) else None
        if on is None and self.goes_live:
            return None
        if on is None or on.confirmed:
            self.log.info("%s was created by an earlier attempt. Nothing is sent again.", self._title)
            return self._outcome(changed=True, live=seen.get("live") if seen else self.payload["live"])
        if seen is not None and seen.get("live") is True:
            return self._outcome(changed=None)
        if cleared:
            raise repeat_refused(self.token, "Before the task was cleared it may have made the campaign live: the push")
        return None

    def _view(self) -> Campaign | None:
        """Return what view shows of the kept campaign, None where it cannot be read."""
        try:
            return self.api.get_campaign(self.token)
        except BatchApiMisuseError:
            return None
        except BatchNotFoundError as error:
            raise BatchNotVisibleError(
                f"{error.message} An earlier attempt of this task has created campaign {self.token!r}, and it may take "
                "a while to show. If it is gone, start a new DAG run to create it again.",
                **error.details,
            ) from None

    def _check_and_send(self) -> None:
        """Refuse before a draft is created what would be too late by now (rule 3), or may not go live (rule 8)."""
        if not self.goes_live:
            return
        clocks = Clocks(self.clock.now(), self.api.batch_now())
        if rules.push_has_passed(self.payload, clocks.later):
            raise rules.passed_error(self.token or self.payload["name"], self.payload, complete=False)
        if self.latest_on is not None and clocks.later > self.latest_on and not self.dry_run:
            draft = f" The draft {self.token!r} remains." if self.token else ""
            raise TooLateError(
                f"Not created as live: the run is later than max_lateness allows, which ended at "
                f"{self.latest_on:%Y-%m-%d %H:%M:%S} UTC. No push was sent.{draft}"
            )
        if not self.history.may_push:
            raise BatchRepeatRefusedError(
                "An earlier attempt of this task may have created the campaign and made it live, and nothing is kept "
                "of it, so none is created. Check Batch's dashboard, and start a new DAG run.",
                endpoint="create",
                may_have_been_applied=True,
            )
        if warning := rules.finished_warning(self.payload["name"], self.payload, clocks.later):
            self.log.warning(warning)

    def _create_draft(self) -> None:
        """Create the draft. After a lost answer it is repeated, for a draft is never sent."""
        if self.goes_live and self.attempt.store is not None:
            self.journal.save(self.history)
        draft, unconfirmed = {**self.payload, "live": False}, False
        for pause in (*AGAIN_AFTER, None):
            try:
                self.token = self.api.create_campaign(draft, checked=True)
                break
            except BatchApiError as error:
                repeats = isinstance(error, BatchConnectionError) or error.may_have_been_applied
                if pause is None or not repeats:
                    raise
                unconfirmed |= error.may_have_been_applied
                remains = "; one more may remain" if error.may_have_been_applied else ""
                self.log.warning("%s Creating the draft again in %.0f s%s.", error, pause, remains)
                self.clock.sleep(pause)
        self.status = self.api.last_status
        extra = {
            "token": self.token,
            "app": self.api.app,
            "digest": self.digest,
            "max_tries": self.attempt.max_tries,
            "was_repeated": unconfirmed,
        }
        self.history = replace(self.history, extra=extra)
        if not self.journal.save(self.history) and self.goes_live and self.attempt.store is not None:
            raise BatchStateError(
                f"The draft {self.token!r} was created, but Airflow's task state store did not take its token, so it "
                "does not go live. The next attempt creates a new draft; delete this one."
            )

    def _log_other_drafts(self) -> None:
        """Name the newest drafts of this name that requests without an answer may have left, if the key can list."""
        try:
            newest = list(islice(self.api.list_campaigns(), NEWEST))
        except BatchApiError as error:
            self.log.info("The campaigns cannot be listed, so it is not known whether another draft remains: %s", error)
            return
        others = [
            item["campaign_token"]
            for item in newest
            if item.get("live") is False and same_name(item.get("name"), self.payload["name"])
        ]
        others = [token for token in others if token != self.token]
        if others:
            self.log.warning("Drafts of the same name, which a lost request may have left: %s.", ", ".join(others))

    def _go_live(self) -> Outcome:
        """Send the whole payload to the draft, as any change (rules 3, 5 and 7); nothing of it comes from view.

        Without saved state no later attempt may make it live, so this one tries again for a while (rule 8).
        """
        request = ChangeRequest(token=self.token, parameters=self.payload, latest_on=self.latest_on, is_new=True)
        began = self.clock.now()
        self.journal = Journal(self.attempt, self.clock, self.token, self.api.app, self.log)
        while True:
            change = Change(self.api, self.clock, self.attempt, request, self.journal, self.log, self.history)
            change.waiting.waited = self.clock.now() - began
            try:
                return change.make()
            except BatchVerificationError:
                # It was confirmed but does not show: unconfirmed, so that a retry sends it again.
                on = change.history.on
                change.history = replace(change.history, on=on and replace(on, confirmed=False))
                raise
            except BatchApiError as error:
                if isinstance(error, BatchRepeatRefusedError) or self.attempt.store is not None:
                    raise
                pause = max(BATCH_FLOOR, error.retry_after or 0.0)
                if not error.transient or self.clock.now() - began + timedelta(seconds=pause) > MAX_IN_SLOT:
                    raise self._final(error) from None
                self.log.warning("%s Trying again in %.0f s.", error, pause)
                self.clock.sleep(pause)
            finally:
                self.history, self.is_throttled = change.history, change.is_throttled

    def _final(self, error: BatchApiError) -> BatchApiError:
        """Return the error of a draft that no later attempt may make live."""
        kind = BatchWaitExceededError if error.throttled else BatchRepeatRefusedError
        return kind(
            f"{error.message} The draft {self.token!r} was created; without saved state no later attempt makes it "
            "live. Start a new DAG run, or switch it on with BatchSetCampaignLiveOperator.",
            **error.details,
        )

    @property
    def _title(self) -> str:
        return rules.title_of(self.token, self.payload["name"], self.api.app)

    def _outcome(self, *, changed: bool | None, live: Any = None, would_change: bool | None = None) -> Outcome:
        live = self.payload["live"] if live is None else live
        return Outcome(
            token=self.token,
            requested_at=self.started,
            completed_at=self.clock.now(),
            changed=changed,
            sent=self.payload,
            live=False if would_change else live,
            name=self.payload["name"],
            http_status=self.status,
            would_change=would_change,
        )
