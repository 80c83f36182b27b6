"""The campaigns of the sandbox and what happens to them. Pure: the clock is injected, there is no HTTP here.

Belongs here: storing, changing, deleting, viewing and listing campaigns; when one is sent and complete; their stats.
Does not belong here: whether a payload is acceptable (rules.py), the numbers of stats (stats.py), keys and routes
(service.py).
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from airflow_batch.sandbox.contract import Contract
from airflow_batch.sandbox.rules import (
    Definition,
    Refused,
    check_create,
    format_time,
    is_recurring,
    parameters,
    parse_time,
    updated,
    without_nulls,
)
from airflow_batch.sandbox.stats import Row, generated_row

Clock = Callable[[], datetime]
Phase = Literal["draft", "live", "stopped", "sent", "complete"]


@dataclass
class Campaign:
    """One campaign: its definition as create takes it, and what the server adds.

    `changed` is when it was last written, `was_live` whether it ever was live. `trigger` is what view shows of a
    trigger automation, None for any other campaign. `sent` is the push time at which it was last sent, or None, and
    `pushes` how many times. `stats` are the rows a test has set, or None.
    """

    token: str
    app: str
    definition: Definition
    created: datetime
    changed: datetime
    sequence: int
    from_api: bool = True
    dev_only: bool = False
    complete: bool = False
    was_live: bool = False
    trigger: dict[str, Any] | None = None
    sent: datetime | None = None
    pushes: int = 0
    stats: list[Row] | None = None
    hidden_until: datetime | None = None
    hidden_calls: int = 0

    @property
    def phase(self) -> Phase:
        """Where it stands, in one word; a campaign that is sent or complete may be stopped as well."""
        if self.sent is not None:
            return "sent"
        if self.complete:
            return "complete"
        if self.definition.get("live") is True:
            return "live"
        return "stopped" if self.was_live else "draft"


@dataclass
class Campaigns:
    """Every campaign of every app. `clock` returns aware UTC datetimes; `random` makes the tokens."""

    contract: Contract
    clock: Clock
    random: random.Random
    _by_token: dict[str, Campaign] = field(default_factory=dict)
    _deleted: set[str] = field(default_factory=set)

    def add(
        self,
        definition: Mapping[str, Any],
        *,
        app: str,
        from_api: bool = True,
        dev_only: bool = False,
        complete: bool = False,
        created: datetime | None = None,
    ) -> Campaign:
        """Store a campaign without checking it and return it.

        `push_time` "now" becomes the moment of the call. With a `trigger` it is a trigger automation.
        """
        campaign = Campaign(
            token=f"{self.random.getrandbits(128):032x}",
            app=app,
            definition=self._timed(parameters(copy.deepcopy(dict(definition)))),
            created=created or self.clock(),
            changed=self.clock(),
            was_live=definition.get("live") is True,
            sequence=len(self._by_token) + len(self._deleted),
            from_api=from_api,
            dev_only=dev_only,
            complete=complete,
            trigger=copy.deepcopy(definition.get("trigger")),
        )
        self._by_token[campaign.token] = campaign
        return self.find(campaign.token)

    def create(self, payload: Mapping[str, Any], *, app: str, dev_only: bool) -> Campaign:
        """Check a payload and store it as a campaign made from the API. Raises Refused."""
        check_create(payload, self.contract)
        self._check_not_past(payload)
        return self.add(parameters(without_nulls(payload)), app=app, dev_only=dev_only)

    def update(self, token: str, payload: Mapping[str, Any], *, app: str) -> Campaign:
        """Change a campaign by the rules. Raises Refused, and then nothing has changed."""
        campaign = self.find(token, app=app)
        if not campaign.from_api and self.contract.dashboard_update:
            raise Refused(self.contract.dashboard_update, "Only campaigns created from the API can be updated.")
        after = updated(
            campaign.definition,
            parameters(payload),
            complete=campaign.complete,
            mode=self.contract.update_mode,
            contract=self.contract,
        )
        self._check_not_past(payload)
        before = campaign.definition
        campaign.definition = self._timed(copy.deepcopy(after))
        campaign.changed = self.clock()
        campaign.was_live = campaign.was_live or campaign.definition.get("live") is True
        repeated = payload.get("push_time") == "now" or any(
            before.get(name) != campaign.definition.get(name) for name in ("live", "push_time")
        )
        return self._send_if_due(campaign, repeated=repeated)

    def delete(self, token: str, *, app: str) -> Campaign:
        """Take a campaign away and return it. Raises Refused, and then nothing has changed."""
        campaign = self.find(token, app=app)
        if not campaign.from_api and self.contract.dashboard_delete:
            raise Refused(self.contract.dashboard_delete, "Only campaigns created from the API can be deleted.")
        self.remove(campaign)
        return campaign

    def remove(self, campaign: Campaign) -> None:
        """Take a campaign away, whoever made it."""
        del self._by_token[campaign.token]
        self._deleted.add(campaign.token)

    def find(self, token: str, *, app: str | None = None) -> Campaign:
        """Return the campaign, `sent` and `complete` up to date.

        Raises Refused where the token is unknown, deleted or another app's.
        """
        campaign = self._by_token.get(token)
        if campaign is None or app not in (None, campaign.app):
            raise Refused(self.contract.unknown_token, "No campaign has this token in this app.")
        return self._send_if_due(campaign)

    def knows(self, token: str) -> bool:
        """Return whether any app has, or had, a campaign with this token."""
        return token in self._by_token or token in self._deleted

    def all(self, app: str | None = None) -> list[Campaign]:
        """Return the campaigns of an app, or of all apps, newest first, hidden ones too."""
        chosen = [self.find(token) for token, campaign in self._by_token.items() if app in (None, campaign.app)]
        # With a clock that stands still the order of creation decides.
        return sorted(chosen, key=lambda campaign: (campaign.created, campaign.sequence), reverse=True)

    def page(
        self, app: str, *, start: int, limit: int, live: bool | None = None, from_api: bool | None = None
    ) -> list[dict[str, Any]]:
        """Return one page of summaries of an app's campaigns, newest first (the list page's parameters)."""
        shown = []
        for campaign in self.all(app):
            hidden = campaign.hidden_calls > 0
            campaign.hidden_calls = max(0, campaign.hidden_calls - 1)
            if hidden or (campaign.hidden_until is not None and self.clock() < campaign.hidden_until):
                continue
            summary = self._summary(campaign)
            if live in (None, summary["live"]) and from_api in (None, campaign.from_api):
                shown.append(summary)
        return shown[start : start + limit]

    def view(self, campaign: Campaign) -> dict[str, Any]:
        """Return a campaign as the view page describes it: the creation format plus the server's fields.

        A deep copy.
        """
        result = {**self._summary(campaign), **copy.deepcopy(campaign.definition)}
        if campaign.trigger is not None:
            result["trigger"] = copy.deepcopy(campaign.trigger)
        collapse = result.get("gcm_collapse_key")
        if self.contract.collapse_key_in_view == "string" and isinstance(collapse, dict):
            result["gcm_collapse_key"] = collapse.get("key", "default")
        if not self.contract.message_language_in_view:
            messages = result.get("messages", ())
            for version in messages.values() if isinstance(messages, dict) else (messages,):
                for message in version:
                    message.pop("language", None)
        return result

    def stats(self, campaign: Campaign) -> list[Row]:
        """Return the rows of a campaign's stats: those that were set, else those generated from its token."""
        if campaign.stats is not None:
            return campaign.stats
        if campaign.sent is None:
            return []
        messages = campaign.definition.get("messages")
        versions = self.contract.ab_test_parameter in campaign.definition or isinstance(messages, dict)
        return [generated_row(campaign.sent.date(), seed=campaign.token, versions=versions)]

    def hide(self, campaign: Campaign, *, seconds: float | None, calls: int | None) -> None:
        """Keep a campaign out of the list for some seconds of the clock, for the next list calls, or both."""
        campaign.hidden_until = None if seconds is None else self.clock() + timedelta(seconds=seconds)
        campaign.hidden_calls = calls or 0

    def _summary(self, campaign: Campaign) -> dict[str, Any]:
        return {
            "campaign_token": campaign.token,
            "from_api": campaign.from_api,
            "dev_only": campaign.dev_only,
            "created_date": format_time(campaign.created),
            "name": campaign.definition.get("name", ""),
            "live": campaign.definition.get("live", False),
        }

    def _send_if_due(self, campaign: Campaign, *, repeated: bool = False) -> Campaign:
        due = self._sent(campaign)
        # What is sent stays sent and complete, also where the campaign is stopped afterwards.
        if due is not None and (repeated or campaign.sent is None or due > campaign.sent):
            campaign.sent = due
            campaign.pushes += 1
        if campaign.sent is not None and self.contract.complete_by_push_time:
            campaign.complete = True
        return campaign

    def _sent(self, campaign: Campaign) -> datetime | None:
        definition = campaign.definition
        one_time = campaign.trigger is None and not is_recurring(definition)
        if not one_time or definition.get("live") is not True:
            return None
        moment = parse_time(str(definition.get("push_time", "")))
        return moment if moment is not None and moment <= self.clock() else None

    def _timed(self, definition: Definition) -> Definition:
        if definition.get("push_time") == "now":
            definition["push_time"] = format_time(self.clock())
        return definition

    def _check_not_past(self, payload: Mapping[str, Any]) -> None:
        moment = parse_time(str(payload.get("push_time", "")))
        if self.contract.past_push_time and moment is not None and moment < self.clock():
            raise Refused(self.contract.past_push_time, "Parameter 'push_time' is in the past.")
