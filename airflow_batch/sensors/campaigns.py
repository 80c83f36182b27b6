"""Wait until a campaign, or many, are what they should be. Reads only.

How a sensor waits, and keeps quiet when Batch asks for it, is in ``sensors/base.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from airflow.sdk import PokeReturnValue

from airflow_batch.campaigns import read_reference
from airflow_batch.exceptions import BatchPayloadError
from airflow_batch.payloads import shown
from airflow_batch.results import MAX_COUNT, campaign_summary
from airflow_batch.runs import name_index, wanted_live
from airflow_batch.sensors.base import BatchSensor

if TYPE_CHECKING:
    from airflow.sdk import Context

MAX_NAMED = 5
"""Campaigns that one log line names."""

_COUNT = re.compile(r"[0-9]{1,15}")


class Reference(NamedTuple):
    """A campaign among many: its token, and the app whose list holds it."""

    token: str
    app: str | None


class BatchCampaignLiveSensor(BatchSensor):
    """Wait until a campaign, or every one of many, is live, or is not.

    One campaign is read from Batch's view endpoint
    (https://doc.batch.com/developer/api/mep/campaigns/get-campaign), which supports Live API keys only; many from its
    list (https://doc.batch.com/developer/api/mep/campaigns/list). ``live`` is true for a completed campaign as well
    (``campaigns.ASSUMPTIONS["live_in_view"]``).

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``); or a list of these,
        such as the output of a mapped task. Templated.
    :param live: What to wait for, default True; or a :class:`~airflow_batch.windows.CampaignWindow`, which is asked at
        every look, so that a wait that lasts over a change follows it. Templated.
    :param batch_conn_id: Airflow connection of type ``batch``. Templated.
    :param app: App to read for, where the connection has ``api_keys``; else that of the given result. Templated.
    :param mode: ``reschedule`` (default) or ``poke``.
    :param poke_interval: Default 30 s.
    :param timeout: Default 10 min, from the first poke.

    Of a list, all must be as wanted at the same look. A look costs one request for each 100 campaigns of each app
    among them, from the newest on, and ends at the oldest that is asked for. A campaign that is not in the list is not
    yet as wanted; the log names it.

    A 429, a 5xx and a failed connection mean "not yet": no request is made before Batch's wait has passed (at least
    5 s, and Retry-After), and the timeout holds. Where Batch asks to wait longer than the timeout leaves, the sensor
    times out at once. A permanent error fails it.

    The result in XCom is a :class:`~airflow_batch.results.CampaignSummary`; for a list, a list of them in the order
    given, each campaign once. Batch's list has no ``push_time``, so it is null there.

    :raises BatchPayloadError: before anything is sent, when campaign or live are wrong, or the list is empty.
    :raises BatchApiError: one of its permanent subclasses.
    """

    template_fields: Sequence[str] = ("campaign", "live", *BatchSensor.template_fields)

    def __init__(self, *, campaign: Any, live: Any = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.campaign = campaign
        self.live = live

    def look(self, context: Context) -> PokeReturnValue:
        """See whether the campaign, or every one of many, is what it should be now."""
        wanted = wanted_live(self.live, context)
        return self._look_at_many(wanted) if _is_many(self.campaign) else self._look_at_one(context, wanted)

    def _look_at_one(self, context: Context, wanted: bool) -> PokeReturnValue:
        token, app = read_reference(self.campaign)
        hook = self.hook_for(app)
        name_index(context, hook.app, token)
        summary = campaign_summary(token, hook.app, hook.get_campaign(token), datetime.now(UTC))
        name_index(context, hook.app, summary["name"] or token)
        done = summary["live"] is wanted
        self.log.info("Campaign %r is %s.", token, _live_or_not(summary["live"]))
        return PokeReturnValue(is_done=done, xcom_value=summary if done else None)

    def _look_at_many(self, wanted: bool) -> PokeReturnValue:
        references = self._references()
        listed = self._listed(references)
        checked_at = datetime.now(UTC)
        # A live that is no boolean is neither: it must not pass for a campaign that was switched off.
        others = [ref for ref in references if ref in listed and listed[ref].get("live") is not wanted]
        absent = [ref for ref in references if ref not in listed]
        self._tell(
            len(references), wanted, [_named(ref, listed[ref]) for ref in others], [_named(ref) for ref in absent]
        )
        if others or absent:
            return PokeReturnValue(is_done=False)
        summaries = [campaign_summary(ref.token, ref.app, listed[ref], checked_at) for ref in references]
        return PokeReturnValue(is_done=True, xcom_value=summaries)

    def _references(self) -> list[Reference]:
        """Return the campaigns of the list, each once, in the order given."""
        # Sliced: Airflow's lazy sequence takes one request for a slice, but one for each item when it is iterated, and
        # logs an error at its end.
        campaigns = list(self.campaign[:])
        if not campaigns:
            raise BatchPayloadError(
                "campaign is an empty list: there is nothing to wait for. Did the task that it comes from run?"
            )
        return list(dict.fromkeys(self._reference(index, campaign) for index, campaign in enumerate(campaigns)))

    def _reference(self, index: int, campaign: Any) -> Reference:
        try:
            token, app = read_reference(campaign)
        except BatchPayloadError as error:
            raise BatchPayloadError(f"campaign[{index}]: {error}") from None
        return Reference(token, self.hook_for(app).app)

    def _listed(self, references: Iterable[Reference]) -> dict[Reference, Mapping[str, Any]]:
        """Return what the lists of their apps say of the campaigns; one that is in none is left out."""
        wanted: dict[str | None, set[str]] = {}
        for ref in references:
            wanted.setdefault(ref.app, set()).add(ref.token)
        return {
            Reference(token, app): seen
            for app, tokens in wanted.items()
            for token, seen in _find(tokens, self.hook_for(app).list_campaigns()).items()
        }

    def _tell(self, total: int, wanted: bool, others: Sequence[str], absent: Sequence[str]) -> None:
        ready = total - len(others) - len(absent)
        waiting = f" Not yet: {_first_few(others)}." if others else ""
        self.log.info("%d of %d campaigns are %s.%s", ready, total, _live_or_not(wanted), waiting)
        if absent:
            self.log.warning("Not in Batch's list: %s.", _first_few(absent))


class BatchCampaignStatsSensor(BatchSensor):
    """Wait until a campaign's sending has begun, or until a number of pushes was sent.

    Reads Batch's stats endpoint (https://doc.batch.com/developer/api/mep/campaigns/get), which supports Live API keys
    only, and adds up ``sent`` over all its dates; for a recurring campaign, over those of earlier occurrences too.

    That a campaign is finished cannot be read from this API: a completed one is ``live`` as a running one is, and the
    counters have no end mark. It can only be inferred, for instance from counters that have stopped to grow, or from a
    ``min_sent`` near the size of the audience.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param min_sent: Number of pushes to wait for, a whole number of at least 1 or its text. Default 1: sending has
        begun. Templated.
    :param batch_conn_id: Airflow connection of type ``batch``. Templated.
    :param app: App to read for, where the connection has ``api_keys``; else that of the given result. Templated.
    :param mode: ``reschedule`` (default) or ``poke``.
    :param poke_interval: Default 60 s.
    :param timeout: Default 1 h, from the first poke.

    A 429, a 5xx and a failed connection mean "not yet", as for
    :class:`~airflow_batch.sensors.base.BatchSensor`; a permanent error fails the sensor.

    The result in XCom is ``{"campaign_token", "app", "sent", "detail": [row, ...]}``: the sum, and the rows as
    :meth:`~airflow_batch.hooks.batch.BatchHook.get_campaign_stats` gives them.

    :raises BatchPayloadError: before anything is sent, when campaign or min_sent are wrong.
    :raises BatchApiError: one of its permanent subclasses.
    """

    template_fields: Sequence[str] = ("campaign", "min_sent", *BatchSensor.template_fields)

    def __init__(
        self,
        *,
        campaign: Any,
        min_sent: int | str = 1,
        poke_interval: timedelta | float = 60,
        timeout: timedelta | float = 3600,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, **kwargs)
        self.campaign = campaign
        self.min_sent = min_sent

    def look(self, context: Context) -> PokeReturnValue:
        """See whether enough was sent."""
        token, app = read_reference(self.campaign)
        least = _read_min_sent(self.min_sent)
        hook = self.hook_for(app)
        name_index(context, hook.app, token)
        detail = hook.get_campaign_stats(token)["detail"]
        sent = _sent(detail)
        self.log.info("Campaign %r has sent %d pushes; at least %d are awaited.", token, sent, least)
        if sent < least:
            return PokeReturnValue(is_done=False)
        result = {"campaign_token": token, "app": hook.app, "sent": sent, "detail": detail}
        return PokeReturnValue(is_done=True, xcom_value=result)


def _is_many(campaign: Any) -> bool:
    return isinstance(campaign, Sequence) and not isinstance(campaign, str | bytes | bytearray | memoryview)


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
    counts = (row.get("sent") for row in rows)
    return sum(count for count in counts if _is_whole(count) and 0 <= count <= MAX_COUNT)


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _read_min_sent(value: Any) -> int:
    text = value.strip() if isinstance(value, str) else ""
    count = int(text) if _COUNT.fullmatch(text) else value
    if _is_whole(count) and count >= 1:
        return count
    raise BatchPayloadError(
        f"min_sent must be a whole number of at least 1, not {shown(value)}. Does its template render as intended?"
    )
