"""What a sync keeps between its attempts: whether it has written, and which campaigns, whether a write is unconfirmed,
which pushes it has sent, and which apps lost parameters (rules 5, 7 and 10).

It is one small record for all campaigns, written before the first request and at the end.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

from airflow_batch._campaigns.diff import read_moment
from airflow_batch._campaigns.history import History, Journal
from airflow_batch._campaigns.protocol import Attempt, Clock
from airflow_batch._campaigns.rules import SETTLE_TIME
from airflow_batch._sync.desired import DesiredCampaign
from airflow_batch._values import FIRST_DATE

MAX_PUSHES = 500
"""Pushes that the record names; after more than that, no later attempt sends one that goes out at once."""

MAX_WRITTEN = 200
"""Written campaigns that the record names; after more than that, every campaign counts as one."""


class Memory:
    """What earlier attempts of a task instance left, and what this one leaves."""

    def __init__(self, attempt: Attempt, clock: Clock, log: logging.Logger) -> None:
        self._journal = Journal(attempt, clock, None, None, log)
        self._before = self._journal.load()
        kept = self._before.extra if isinstance(self._before.extra, Mapping) else {}
        self._pushes: dict[str, str] = dict(kept.get("pushes", {}))
        self.began = self._before.began
        self.was_known = self._before.is_known and not kept.get("unconfirmed")
        """False where an earlier attempt may have sent something that is not recorded, or not confirmed."""
        self.wrote = not self.was_known or bool(kept.get("wrote")) or attempt.is_rescheduled
        """Whether an earlier attempt has written, or may have."""
        written = kept.get("written") if self._before.is_known else None
        self._written = set(written) if isinstance(written, list) else None if self.wrote else set()
        """Campaigns that earlier attempts have written, or may have; None where that may be any."""
        forgets = attempt.is_rescheduled and attempt.store is None
        self.may_push = self.was_known and self._before.may_push and not forgets
        self.lost_apps: list[str | None] = list(kept.get("lost", ()))
        self._has_store = attempt.store is not None
        self.is_saved = True
        """False where there is a store that did not take the last record."""

    def may_have_written(self, campaign: DesiredCampaign) -> bool:
        """Return whether an earlier attempt has written a campaign, or may have."""
        return self.wrote and (self._written is None or _key(campaign) in self._written)

    def history(self, campaign: DesiredCampaign, *, is_known: bool) -> History:
        """Return what earlier attempts have sent to a campaign, for the first change of this one."""
        push_at = read_moment(self._pushes.get(_key(campaign)))
        return History(began=self.began, push_at=push_at, is_known=is_known, may_push=self.may_push)

    def note(
        self,
        histories: Iterable[tuple[DesiredCampaign, History]],
        lost: Iterable[str | None],
        *,
        has_written: bool,
        unconfirmed: bool,
        is_over: bool,
    ) -> None:
        """Record what this attempt has sent, or that it is about to send something.

        :param is_over: Whether it sends nothing more.
        """
        histories = list(histories)
        own = {_key(campaign) for campaign, history in histories if history.on or history.off}
        written = None if self._written is None or not is_over else sorted(self._written | own)
        for campaign, history in histories:
            on, push_at = history.on, history.push_at
            if on is not None and on.push_at is not None and on.push_at <= on.at + SETTLE_TIME:
                push_at = FIRST_DATE  # It went out at once: that is past by any clock.
            if push_at is not None:
                self._pushes[_key(campaign)] = push_at.isoformat()
        fits = len(self._pushes) <= MAX_PUSHES
        extra = {
            "wrote": self.wrote or has_written or unconfirmed,
            "written": written if written is not None and len(written) <= MAX_WRITTEN else None,
            "unconfirmed": unconfirmed,
            "lost": list(lost),
            "pushes": self._pushes if fits else {},
        }
        may_push = self.may_push and fits
        record = replace(self._before, is_known=True, may_push=may_push, extra=extra)
        self.is_saved = self._journal.save(record) or not self._has_store


def _key(campaign: DesiredCampaign) -> str:
    return f"{campaign.token} {campaign.app or ''}"
