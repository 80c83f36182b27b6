"""One poll of a sensor or trigger: whether campaigns are in the desired state. Reads only.

A poll goes to a trigger as JSON values. When the next one is due is decided in a worker by ``sensors/_base.py``, in the
triggerer by ``triggers/campaigns.py``.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from airflow_batch._http.settings import BatchSettings
from airflow_batch._values import short_list, short_repr
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.results import About, campaign_summary, read_count
from airflow_batch.windows import CampaignWindow

MAX_NAMED = 5
"""Campaigns that one log line names."""
PER_REQUEST_SECONDS = 6.0
"""Seconds of pause for each request of a poll of many campaigns."""
PER_MINUTE = 12
"""Requests of polls of many campaigns in any 60 seconds, if one poll needs no more than that."""
_LIVE = {True: "live", False: "not live"}


def least_pause(requests: int) -> float:
    """Return the seconds from the end of a poll of many campaigns to the next one, after so many requests.

    No minute has more than :data:`PER_MINUTE` requests, wherever it begins: 6 s after one request, 30 s after five,
    60 s after seven to ten. A poll of more than twelve requests is not spread; its average is 10 a minute then.
    """
    polls = max(PER_MINUTE // max(requests, 1), 1)
    return max(PER_REQUEST_SECONDS * requests, 60 / polls)


class Reference(NamedTuple):
    """A campaign: its token, and the app that it belongs to."""

    token: str
    app: str | None


@dataclass(frozen=True)
class Seen:
    """What a poll has shown.

    :param result: What goes to XCom once the wait is over.
    :param about: App and name of the campaign, for the Airflow UI; None for many.
    :param lines: What to log: level and text.
    """

    done: bool
    result: Any
    about: About
    lines: Sequence[tuple[int, str]]

    def log_to(self, log: Any) -> None:
        """Log what was seen."""
        for level, line in self.lines:
            log.log(level, line)


class Hooks:
    """The hooks of a poll: one for each app of one connection, which is read once.

    :param hook: Any hook of the connection.
    """

    def __init__(self, hook: BatchHook) -> None:
        self._base = hook
        self._hooks = {hook.app: hook}

    def for_app(self, app: str | None) -> BatchHook:
        """Return the hook of an app."""
        if app not in self._hooks:
            self._hooks[app] = self._base.with_settings(BatchHook(self._base.batch_conn_id, app))
        return self._hooks[app]

    @property
    def settings(self) -> BatchSettings:
        """The settings of the connection."""
        return self._base.settings

    @property
    def requests(self) -> int:
        """How many requests were sent so far."""
        return sum(hook.requests_sent for hook in self._hooks.values())


class Poll(ABC):
    """What a sensor waits for."""

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
        """Return the poll as JSON values, which :func:`read_poll` reads."""

    def pause(self, requests: int, *, failed: bool) -> float:
        """Return the least seconds to the next poll, after one of so many requests.

        A failed poll of many campaigns may have needed more requests, and so may the next one: a minute.
        """
        return 0.0 if self.about else max(least_pause(requests), 60.0 if failed else 0.0)


@dataclass(frozen=True)
class LivePoll(Poll):
    """Whether a campaign, or every one of ``many``, is in the desired state.

    :param live: A window is evaluated at every poll, for that moment, but never for one before ``run_after``.
    """

    references: tuple[Reference, ...]
    many: bool
    live: bool | CampaignWindow
    run_after: datetime | None = None

    @property
    def about(self) -> About:
        return None if self.many else (self.references[0].app, self.references[0].token)

    def __call__(self, hooks: Hooks) -> Seen:
        desired = live_now(self.live, self.run_after)
        return self._poll_many(hooks, desired) if self.many else self._poll_one(hooks, desired)

    def _poll_one(self, hooks: Hooks, desired: bool) -> Seen:
        ((token, app),) = self.references
        summary = campaign_summary(token, app, hooks.for_app(app).get_campaign(token), datetime.now(UTC))
        line = f"Campaign {token!r} is {_LIVE[summary['live']]}."
        return Seen(summary["live"] is desired, summary, (app, summary["name"] or token), [(logging.INFO, line)])

    def _poll_many(self, hooks: Hooks, desired: bool) -> Seen:
        listed = self._listed(hooks)
        checked_at = datetime.now(UTC)
        # A live that is no boolean is neither: it must not count as switched off.
        others = [ref for ref in self.references if ref in listed and listed[ref].get("live") is not desired]
        absent = [ref for ref in self.references if ref not in listed]
        total = len(self.references)
        waiting = f" Not yet: {_names(others, listed)}." if others else ""
        ready = f"{total - len(others) - len(absent)} of {total} campaigns are {_LIVE[desired]}.{waiting}"
        lines = [(logging.INFO, ready)]
        if absent:
            lines.append((logging.WARNING, f"Not in Batch's list: {_names(absent, listed)}."))
        if others or absent:
            return Seen(False, None, None, lines)
        summaries = [campaign_summary(ref.token, ref.app, listed[ref], checked_at) for ref in self.references]
        return Seen(True, summaries, None, lines)

    def _listed(self, hooks: Hooks) -> dict[Reference, Mapping[str, Any]]:
        """Return the campaigns in Batch's lists. Each list is read up to the last campaign that is needed."""
        found: dict[Reference, Mapping[str, Any]] = {}
        for app in dict.fromkeys(ref.app for ref in self.references):
            missing = {ref.token for ref in self.references if ref.app == app}
            for campaign in hooks.for_app(app).list_campaigns():
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
    """Whether a campaign has sent so many pushes."""

    reference: Reference
    min_sent: int

    @property
    def about(self) -> About:
        return self.reference.app, self.reference.token

    def __call__(self, hooks: Hooks) -> Seen:
        token, app = self.reference
        stats = hooks.for_app(app).get_campaign_stats(token)
        detail, sent = stats["detail"], count_sent(stats)
        line = f"Campaign {token!r} has sent {sent} pushes; at least {self.min_sent} are awaited."
        result = {"campaign_token": token, "app": app, "sent": sent, "detail": detail}
        return Seen(sent >= self.min_sent, result, self.about, [(logging.INFO, line)])

    def as_json(self) -> dict[str, Any]:
        return {"kind": "stats", "campaign": list(self.reference), "min_sent": self.min_sent}


def count_sent(stats: Mapping[str, Any]) -> int:
    """Return the pushes that a campaign has sent, over all dates of its statistics."""
    return sum(read_count(row.get("sent")) or 0 for row in stats["detail"])


def read_poll(values: Mapping[str, Any]) -> Poll:
    """Return the poll of which :meth:`Poll.as_json` returned the values."""
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
    """Return the tokens of the first few campaigns, with name and app as far as they are known."""

    def show(ref: Reference) -> str:
        name = listed.get(ref, {}).get("name")
        about = ", ".join(part for part in (name and short_repr(name), ref.app and f"app {ref.app!r}") if part)
        return f"{ref.token} ({about})" if about else ref.token

    return short_list(references, MAX_NAMED, show=show)


def live_now(live: bool | CampaignWindow, run_after: datetime | None) -> bool:
    """Return the desired state at this moment, but never at one before ``run_after``.

    A worker's clock may be behind the scheduler's, and a run of 09:00 that reads 08:59:59 would leave the campaign as
    it is until the next change.
    """
    if isinstance(live, bool):
        return live
    now = datetime.now(UTC)
    return live.is_live_at(now if run_after is None else max(now, run_after))
