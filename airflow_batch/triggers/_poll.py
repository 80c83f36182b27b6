"""What one look at Batch shows: whether campaigns are what they should be. Reads only.

A look says what is waited for, and goes to a trigger as JSON values. When the next one is due is decided in a worker by
``sensors/_base.py``, in the triggerer by ``triggers/campaigns.py``.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from airflow_batch._http.settings import BatchSettings
from airflow_batch._values import short_repr
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.results import About, campaign_summary, read_count
from airflow_batch.windows import CampaignWindow

MAX_NAMED = 5
"""Campaigns that one log line names."""
PER_REQUEST = 6.0
"""Seconds of pause for each request of a look at many campaigns."""
PER_MINUTE = 12
"""Requests of looks at many campaigns in any 60 seconds, where one look needs no more than that."""
_LIVE = {True: "live", False: "not live"}


def least_pause(requests: int) -> float:
    """Return the seconds from the end of a look at many campaigns to the next one, after so many requests.

    However the minute is laid, no more than :data:`PER_MINUTE` requests fall into it: 6 s after one request, 30 s after
    five, 60 s after seven to ten. A look of more than twelve requests is not spread; 10 a minute is its average then.
    """
    looks = max(PER_MINUTE // max(requests, 1), 1)
    return max(PER_REQUEST * requests, 60 / looks)


class Reference(NamedTuple):
    """A campaign: its token, and the app that it belongs to."""

    token: str
    app: str | None


@dataclass(frozen=True)
class Seen:
    """What a look has shown.

    :param result: What goes to XCom once the wait is over.
    :param about: App and name of the campaign, for Airflow's pages; None for many.
    :param lines: What to log: level and text.
    """

    done: bool
    result: Any
    about: About
    lines: Sequence[tuple[int, str]]

    def tell(self, log: Any) -> None:
        """Log what was seen."""
        for level, line in self.lines:
            log.log(level, line)


class Hooks:
    """The hooks that a look uses: one for each app of one connection, which is read once.

    :param hook: Any hook of the connection.
    """

    def __init__(self, hook: BatchHook) -> None:
        self._base = hook
        self._hooks = {hook.app: hook}

    def of(self, app: str | None) -> BatchHook:
        """Return the hook of an app."""
        if app not in self._hooks:
            self._hooks[app] = self._base.with_settings(BatchHook(self._base.batch_conn_id, app))
        return self._hooks[app]

    @property
    def settings(self) -> BatchSettings:
        """What the connection says."""
        return self._base.settings

    @property
    def requests(self) -> int:
        """How many requests were sent so far."""
        return sum(hook.requests_sent for hook in self._hooks.values())


class Poll(ABC):
    """What is waited for."""

    @property
    @abstractmethod
    def about(self) -> About:
        """App and token of the campaign, None for many."""

    @abstractmethod
    def __call__(self, hooks: Hooks) -> Seen:
        """Poll once. Blocks.

        :raises BatchApiError: a transient one means "not yet".
        """

    @abstractmethod
    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values, which :func:`read_poll` reads."""

    def pause(self, requests: int, *, failed: bool) -> float:
        """Return the least seconds to the next look, after one of so many requests.

        One that failed may have needed more, and so may the next: a minute, for many.
        """
        return 0.0 if self.about else max(least_pause(requests), 60.0 if failed else 0.0)


@dataclass(frozen=True)
class LivePoll(Poll):
    """At whether a campaign, or every one of ``many``, is live, or is not.

    :param live: A window is asked at every look, for this moment, but never one before ``run_after``.
    """

    references: tuple[Reference, ...]
    many: bool
    live: bool | CampaignWindow
    run_after: datetime | None = None

    @property
    def about(self) -> About:
        return None if self.many else (self.references[0].app, self.references[0].token)

    def __call__(self, hooks: Hooks) -> Seen:
        wanted = live_now(self.live, self.run_after)
        return self._at_many(hooks, wanted) if self.many else self._at_one(hooks, wanted)

    def _at_one(self, hooks: Hooks, wanted: bool) -> Seen:
        ((token, app),) = self.references
        summary = campaign_summary(token, app, hooks.of(app).get_campaign(token), datetime.now(UTC))
        line = f"Campaign {token!r} is {_LIVE[summary['live']]}."
        return Seen(summary["live"] is wanted, summary, (app, summary["name"] or token), [(logging.INFO, line)])

    def _at_many(self, hooks: Hooks, wanted: bool) -> Seen:
        listed = self._listed(hooks)
        checked_at = datetime.now(UTC)
        # A live that is no boolean is neither: it must not pass for a campaign that was switched off.
        others = [ref for ref in self.references if ref in listed and listed[ref].get("live") is not wanted]
        absent = [ref for ref in self.references if ref not in listed]
        total = len(self.references)
        waiting = f" Not yet: {_names(others, listed)}." if others else ""
        ready = f"{total - len(others) - len(absent)} of {total} campaigns are {_LIVE[wanted]}.{waiting}"
        lines = [(logging.INFO, ready)]
        if absent:
            lines.append((logging.WARNING, f"Not in Batch's list: {_names(absent, listed)}."))
        if others or absent:
            return Seen(False, None, None, lines)
        summaries = [campaign_summary(ref.token, ref.app, listed[ref], checked_at) for ref in self.references]
        return Seen(True, summaries, None, lines)

    def _listed(self, hooks: Hooks) -> dict[Reference, Mapping[str, Any]]:
        """Return what Batch's lists say of the campaigns, each read no further than the last one that is asked for."""
        found: dict[Reference, Mapping[str, Any]] = {}
        for app in dict.fromkeys(ref.app for ref in self.references):
            missing = {ref.token for ref in self.references if ref.app == app}
            for campaign in hooks.of(app).list_campaigns():
                token = campaign["campaign_token"]
                if token in missing:
                    found[Reference(token, app)] = campaign
                    missing.remove(token)
                if not missing:
                    break
        return found

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": "live",
            "campaigns": [[ref.token, ref.app] for ref in self.references],
            "many": self.many,
            "live": self.live if isinstance(self.live, bool) else self.live.arguments(),
            "run_after": None if self.run_after is None else self.run_after.isoformat(),
        }


@dataclass(frozen=True)
class StatsPoll(Poll):
    """At whether a campaign has sent so many pushes."""

    reference: Reference
    min_sent: int

    @property
    def about(self) -> About:
        return self.reference.app, self.reference.token

    def __call__(self, hooks: Hooks) -> Seen:
        token, app = self.reference
        detail = hooks.of(app).get_campaign_stats(token)["detail"]
        sent = sum(read_count(row.get("sent")) or 0 for row in detail)
        line = f"Campaign {token!r} has sent {sent} pushes; at least {self.min_sent} are awaited."
        result = {"campaign_token": token, "app": app, "sent": sent, "detail": detail}
        return Seen(sent >= self.min_sent, result, self.about, [(logging.INFO, line)])

    def as_json(self) -> dict[str, Any]:
        return {"kind": "stats", "campaign": list(self.reference), "min_sent": self.min_sent}


def read_poll(values: Mapping[str, Any]) -> Poll:
    """Return the look that was written by :meth:`Poll.as_json`."""
    if values["kind"] == "stats":
        return StatsPoll(Reference(*values["campaign"]), values["min_sent"])
    live, run_after = values["live"], values["run_after"]
    return LivePoll(
        tuple(Reference(*pair) for pair in values["campaigns"]),
        values["many"],
        live if isinstance(live, bool) else CampaignWindow(**live),
        None if run_after is None else datetime.fromisoformat(run_after),
    )


def _names(references: Sequence[Reference], listed: Mapping[Reference, Mapping[str, Any]]) -> str:
    """Return how a log line names campaigns: token, and name and app as far as they are known, of the first few."""
    named = []
    for ref in references[:MAX_NAMED]:
        name = listed.get(ref, {}).get("name")
        about = ", ".join(part for part in (name and short_repr(name), ref.app and f"app {ref.app!r}") if part)
        named.append(f"{ref.token} ({about})" if about else ref.token)
    more = len(references) - MAX_NAMED
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def live_now(live: bool | CampaignWindow, run_after: datetime | None) -> bool:
    """Return what a campaign should be at this moment, which is never before the run's own.

    A worker's clock may be behind the scheduler's, and a run of 09:00 that reads 08:59:59 would leave the campaign as
    it is until the next change.
    """
    if isinstance(live, bool):
        return live
    now = datetime.now(UTC)
    return live.is_live_at(now if run_after is None else max(now, run_after))
