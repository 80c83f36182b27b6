"""Events for Airflow's AssetWatcher: a campaign went live, was stopped, or has sent its first pushes. Never writes.

The path of this module is stored in databases: it never moves. How Batch is polled is in ``triggers/_list.py``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Hashable, Mapping
from typing import Any, Literal, get_args

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_batch._airflow.asset_state import AssetState, Handover
from airflow_batch._airflow.task_context import text_or_none
from airflow_batch._values import check_token, iso_utc, short_repr
from airflow_batch.exceptions import BatchConfigurationError, BatchNotCreatedError, BatchPayloadError
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.triggers._list import Snapshot, list_of

CampaignEvent = Literal["live", "stopped", "first_sends"]


class BatchCampaignEventTrigger(BaseEventTrigger):
    """Fire an event when a campaign goes live, is stopped, or has sent its first pushes, whoever caused it.

    For ``AssetWatcher(name=..., trigger=BatchCampaignEventTrigger(...))``. All triggers of a connection and app share
    one poll of Batch's list (https://doc.batch.com/developer/api/mep/campaigns/list), one request for each 100
    campaigns, and one statistics request for each campaign whose first sends are awaited
    (https://doc.batch.com/developer/api/mep/campaigns/get). Together they make at most 12 requests a minute; where more
    would be needed, the interval grows.

    :param campaign: Token of the campaign. Default None: every campaign of the app, also those created later.
    :param event: ``live`` (default), ``stopped``, or ``first_sends``: the number of pushes sent rises from 0. It needs
        a ``campaign``.
    :param app: App of the campaign, if the connection has ``api_keys``. Default None.
    :param batch_conn_id: Airflow connection of type ``batch``. Default ``batch_default``. ``first_sends`` needs a Live
        API key.
    :param poll_interval: Seconds between two polls. Default 60. Triggers that share a poll use the shortest.

    The payload of an event is ``{"campaign_token", "app", "name", "event", "live", "seen_at"}``, JSON values without a
    key; ``seen_at`` is ISO 8601 in UTC. An event ``first_sends`` has ``sent``, the number of pushes so far, too.

    The first poll fires nothing: it shows what is live already. A state that no poll sees makes no event, for example
    "on" and "off" between two polls. On Airflow 3.3 and later, what was seen is kept in the asset state store: a
    triggerer that restarts repeats no event, and fires what has changed meanwhile. Airflow 3.1 and 3.2 keep nothing:
    the first poll after a restart fires nothing.

    A failed poll never ends the trigger. It is repeated after at least the interval, 5 s and Retry-After.

    :raises BatchConfigurationError: when the DAG is parsed, for an argument that can never be right.
    """

    def __init__(
        self,
        *,
        campaign: str | None = None,
        event: CampaignEvent = "live",
        app: str | None = None,
        batch_conn_id: str = BatchHook.default_conn_name,
        poll_interval: float = 60,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        _check(campaign, event, poll_interval)
        self.campaign = campaign
        self.event = event
        self.app = app
        self.batch_conn_id = batch_conn_id
        self.poll_interval = float(poll_interval)
        self.awaits_sends = event == "first_sends"

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, JSON values without a key."""
        names = ("campaign", "event", "app", "batch_conn_id", "poll_interval")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    def shared_stream_key(self) -> Hashable | None:
        """Return what the triggers have in common that share one poll (Airflow 3.3 and later)."""
        return ("airflow_batch", self.batch_conn_id, self.app)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Snapshot]:
        """Yield what each poll has seen. Never ends and never raises."""
        async for snapshot in list_of(kwargs["batch_conn_id"], kwargs["app"]).snapshots():
            yield snapshot

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Snapshot]) -> AsyncIterator[TriggerEvent]:
        """Yield this trigger's events, and record each one when Airflow has stored it."""
        state = AssetState(getattr(self, "asset_state_store", None), self._state_key())
        shared = list_of(self.batch_conn_id, self.app)
        with shared.joined(self) as joined_at:
            async for snapshot in shared_stream:
                if snapshot.began_at < joined_at:
                    continue
                seen = states_of(snapshot, self.campaign, self.event)
                if seen is None or (after(state.latest, seen, self.event) == state.latest and not state.is_unsaved):
                    continue
                # One event after the other, so that a triggerer that dies leaves at most one without its record.
                async with shared.handing_over:
                    if not await state.load():
                        continue
                    for token in fired(state.latest, seen, self.event):
                        moment = Handover(iso_utc(snapshot.seen_at))
                        payload = self._payload(token, snapshot, moment if state.outlives_the_trigger else moment.root)
                        self.log.info("Campaign %r: event %r.", token, self.event)
                        yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
                        if state.outlives_the_trigger:
                            await moment.wait()
                        await state.save(after(state.latest, {token: seen[token]}, self.event))
                    await state.save(after(state.latest, seen, self.event))
                if self.campaign in (state.latest or ()):
                    self.awaits_sends = False

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield this trigger's events. Airflow 3.1 and 3.2 call this; the poll is shared all the same."""
        async for event in self.filter_shared_stream(self.open_shared_stream(self.serialize()[1])):
            yield event

    def _payload(self, token: str, snapshot: Snapshot, seen_at: str | Handover) -> dict[str, Any]:
        campaign = snapshot.campaigns.get(token, {})
        live = campaign.get("live")
        return {
            "campaign_token": token,
            "app": self.app,
            "name": text_or_none(campaign.get("name")),
            "event": self.event,
            "live": live if isinstance(live, bool) else None,
            "seen_at": seen_at,
            **({"sent": snapshot.sent[token]} if self.event == "first_sends" else {}),
        }

    def _state_key(self) -> str:
        """Return the key of what is kept for the asset. Another interval goes on with the same."""
        identity = json.dumps([self.batch_conn_id, self.app, self.campaign])
        digest = hashlib.sha1(identity.encode(), usedforsecurity=False).hexdigest()[:16]
        return f"airflow_batch_{self.event}_{digest}"


def _check(campaign: Any, event: Any, poll_interval: Any) -> None:
    if event not in get_args(CampaignEvent):
        raise BatchConfigurationError(f"event must be 'live', 'stopped' or 'first_sends', not {short_repr(event)}.")
    if campaign is None and event == "first_sends":
        raise BatchConfigurationError(
            "event 'first_sends' needs a campaign: Batch's list has no numbers, and the statistics take one request "
            "for each campaign. Pass campaign, or watch for 'live'."
        )
    if campaign is not None:
        try:
            check_token(campaign)
        except (BatchPayloadError, BatchNotCreatedError) as error:
            raise BatchConfigurationError(str(error)) from None
    is_number = isinstance(poll_interval, int | float) and not isinstance(poll_interval, bool)
    if not is_number or not 1 <= poll_interval <= 86_400:
        raise BatchConfigurationError(
            f"poll_interval must be a number of seconds from 1 to 86,400, not {short_repr(poll_interval)}."
        )


def states_of(snapshot: Snapshot, campaign: str | None, event: CampaignEvent) -> Mapping[str, bool] | None:
    """Return for each watched campaign whether it is live, or has sent pushes; None if the poll does not show it.

    A campaign without a boolean ``live`` is left out: it must not count as stopped.
    """
    if event == "first_sends":
        sent = snapshot.sent.get(campaign or "")
        return None if campaign is None or sent is None else {campaign: sent > 0}
    if campaign is None and not snapshot.is_complete:
        return None
    shown = snapshot.campaigns if campaign is None else {campaign: snapshot.campaigns.get(campaign, {})}
    states = {token: live for token, item in shown.items() if isinstance(live := item.get("live"), bool)}
    return states if states or campaign is None else None


def after(before: frozenset[str] | None, seen: Mapping[str, bool], event: CampaignEvent) -> frozenset[str]:
    """Return the campaigns that are live, or have sent, after a poll. One that the poll does not show stays as it was.

    So does one that has sent: statistics of 0 are older then.

    :param before: The same before the poll, None if this is the first.
    """
    gone = frozenset() if event == "first_sends" else seen.keys()
    return ((before or frozenset()) - gone) | {token for token, state in seen.items() if state}


def fired(before: frozenset[str] | None, seen: Mapping[str, bool], event: CampaignEvent) -> list[str]:
    """Return the campaigns to which the event has happened between two polls. The first poll fires nothing."""
    if before is None:
        return []
    return [token for token, state in seen.items() if state is (event != "stopped") and (token in before) is not state]
