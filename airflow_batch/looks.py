"""What one look at Batch shows: whether campaigns are what they should be. Reads only.

A look says what is waited for, and goes to a trigger as JSON values. When the next one is due is not its business: in a
worker that is ``sensors/base.py``, in the triggerer ``triggers/campaigns.py``.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from airflow_batch.hooks.batch import BatchHook
from airflow_batch.hooks.settings import BatchSettings
from airflow_batch.payloads import shown
from airflow_batch.results import campaign_summary, read_count
from airflow_batch.runs import live_now
from airflow_batch.windows import CampaignWindow

MAX_NAMED = 5
"""Campaigns that one log line names."""
PER_REQUEST = 6.0
"""Seconds of pause for each request of a look at many campaigns."""
PER_MINUTE = 12
"""Requests of looks at many campaigns in any 60 seconds, where one look needs no more than that."""


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
    about: tuple[str | None, str] | None
    lines: tuple[tuple[int, str], ...]

    def tell(self, log: Any) -> None:
        """Log what was seen."""
        for level, line in self.lines:
            log.log(level, line)


class Hooks:
    """The hooks that a look uses: one for each app of one connection, which is read once.

    :param hook: Any hook of the connection.
    """

    def __init__(self, hook: BatchHook) -> None:
        self._hooks = [hook]

    def of(self, app: str | None) -> BatchHook:
        """Return the hook of an app."""
        for hook in self._hooks:
            if hook.app == app:
                return hook
        hook = self._hooks[0].lend_settings(BatchHook(self._hooks[0].batch_conn_id, app))
        self._hooks.append(hook)
        return hook

    @property
    def settings(self) -> BatchSettings:
        """What the connection says."""
        return self._hooks[0].settings

    @property
    def requests(self) -> int:
        """How many requests were sent so far."""
        return sum(hook.requests_sent for hook in self._hooks)


class Look(ABC):
    """What is waited for."""

    @property
    @abstractmethod
    def about(self) -> tuple[str | None, str] | None:
        """App and token of the campaign, None for many."""

    @abstractmethod
    def __call__(self, hooks: Hooks) -> Seen:
        """Look once. Blocks.

        :raises BatchApiError: a transient one means "not yet".
        """

    @abstractmethod
    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values, which :func:`read_look` reads."""

    def pause(self, requests: int, *, failed: bool) -> float:
        """Return the least seconds to the next look, after one of so many requests.

        One that failed may have needed more, and so may the next: a minute, for many.
        """
        if self.about:
            return 0.0
        return max(least_pause(requests), 60.0 if failed else 0.0)


@dataclass(frozen=True)
class LiveLook(Look):
    """At whether a campaign, or every one of ``many``, is live, or is not.

    :param live: A window is asked at every look, for this moment, but never one before ``run_after``.
    """

    references: tuple[Reference, ...]
    many: bool
    live: bool | CampaignWindow
    run_after: datetime | None = None

    @property
    def about(self) -> tuple[str | None, str] | None:
        """App and token of the campaign, None for many."""
        return None if self.many else (self.references[0].app, self.references[0].token)

    def __call__(self, hooks: Hooks) -> Seen:
        """Look once. Blocks."""
        wanted = live_now(self.live, self.run_after)
        return self._at_many(hooks, wanted) if self.many else self._at_one(hooks, wanted)

    def _at_one(self, hooks: Hooks, wanted: bool) -> Seen:
        ((token, app),) = self.references
        summary = campaign_summary(token, app, hooks.of(app).get_campaign(token), datetime.now(UTC))
        line = f"Campaign {token!r} is {_live_or_not(summary['live'])}."
        about = (app, summary["name"] or token)
        return Seen(summary["live"] is wanted, summary, about, ((logging.INFO, line),))

    def _at_many(self, hooks: Hooks, wanted: bool) -> Seen:
        listed = self._listed(hooks)
        checked_at = datetime.now(UTC)
        # A live that is no boolean is neither: it must not pass for a campaign that was switched off.
        others = [ref for ref in self.references if ref in listed and listed[ref].get("live") is not wanted]
        absent = [ref for ref in self.references if ref not in listed]
        lines = _lines(
            len(self.references), wanted, [_named(ref, listed[ref]) for ref in others], [_named(ref) for ref in absent]
        )
        if others or absent:
            return Seen(False, None, None, lines)
        summaries = [campaign_summary(ref.token, ref.app, listed[ref], checked_at) for ref in self.references]
        return Seen(True, summaries, None, lines)

    def _listed(self, hooks: Hooks) -> dict[Reference, Mapping[str, Any]]:
        """Return what the lists of their apps say of the campaigns; one that is in none is left out."""
        wanted: dict[str | None, set[str]] = {}
        for ref in self.references:
            wanted.setdefault(ref.app, set()).add(ref.token)
        return {
            Reference(token, app): seen
            for app, tokens in wanted.items()
            for token, seen in _find(tokens, hooks.of(app).list_campaigns()).items()
        }

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "kind": "live",
            "campaigns": [[ref.token, ref.app] for ref in self.references],
            "many": self.many,
            "live": self.live if isinstance(self.live, bool) else _window_as_json(self.live),
            "run_after": None if self.run_after is None else self.run_after.isoformat(),
        }


@dataclass(frozen=True)
class StatsLook(Look):
    """At whether a campaign has sent so many pushes."""

    reference: Reference
    min_sent: int

    @property
    def about(self) -> tuple[str | None, str] | None:
        """App and token of the campaign."""
        return self.reference.app, self.reference.token

    def __call__(self, hooks: Hooks) -> Seen:
        """Look once. Blocks."""
        token, app = self.reference
        detail = hooks.of(app).get_campaign_stats(token)["detail"]
        sent = _sent(detail)
        line = f"Campaign {token!r} has sent {sent} pushes; at least {self.min_sent} are awaited."
        result = {"campaign_token": token, "app": app, "sent": sent, "detail": detail}
        return Seen(sent >= self.min_sent, result, self.about, ((logging.INFO, line),))

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"kind": "stats", "campaign": list(self.reference), "min_sent": self.min_sent}


def read_look(values: Mapping[str, Any]) -> Look:
    """Return the look that was written by :meth:`Look.as_json`."""
    if values["kind"] == "stats":
        return StatsLook(Reference(*values["campaign"]), values["min_sent"])
    live, run_after = values["live"], values["run_after"]
    return LiveLook(
        tuple(Reference(*pair) for pair in values["campaigns"]),
        values["many"],
        live if isinstance(live, bool) else CampaignWindow(**live),
        None if run_after is None else datetime.fromisoformat(run_after),
    )


def _window_as_json(window: CampaignWindow) -> dict[str, Any]:
    ends: dict[str, Any] = {"on": window.on, "off": window.off}
    if window.start is not None and window.end is not None:
        ends = {"start": window.start.isoformat(), "end": window.end.isoformat()}
    return {**ends, "timezone": window.timezone, "except_dates": [day.isoformat() for day in window.except_dates]}


def _find(tokens: Iterable[str], campaigns: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return those of the campaigns that have the tokens, reading no further than the last of them."""
    missing = set(tokens)
    found: dict[str, Mapping[str, Any]] = {}
    for campaign in campaigns:
        token = campaign["campaign_token"]
        if token in missing:
            found[token] = campaign
            missing.remove(token)
        if not missing:
            break
    return found


def _lines(total: int, wanted: bool, others: Sequence[str], absent: Sequence[str]) -> tuple[tuple[int, str], ...]:
    ready = total - len(others) - len(absent)
    waiting = f" Not yet: {_first_few(others)}." if others else ""
    told = (logging.INFO, f"{ready} of {total} campaigns are {_live_or_not(wanted)}.{waiting}")
    return (told, (logging.WARNING, f"Not in Batch's list: {_first_few(absent)}.")) if absent else (told,)


def _named(ref: Reference, seen: Mapping[str, Any] | None = None) -> str:
    """Return how a log line names a campaign: token, name and app, as far as they are known."""
    name = (seen or {}).get("name")
    known = (shown(name) if name else "", f"app {ref.app!r}" if ref.app else "")
    about = ", ".join(part for part in known if part)
    return f"{ref.token} ({about})" if about else ref.token


def _first_few(names: Sequence[str]) -> str:
    first = ", ".join(names[:MAX_NAMED])
    return first if len(names) <= MAX_NAMED else f"{first} and {len(names) - MAX_NAMED} more"


def _live_or_not(live: bool) -> str:
    return "live" if live else "not live"


def _sent(rows: Iterable[Mapping[str, Any]]) -> int:
    return sum(read_count(row.get("sent")) or 0 for row in rows)
