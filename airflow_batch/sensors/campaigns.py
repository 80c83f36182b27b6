"""Wait until a campaign, or many, are what they should be. Reads only. One poll: ``triggers/_poll.py``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_batch._airflow.dag_run import run_after_of
from airflow_batch._campaigns.payload import read_live
from airflow_batch._campaigns.reference import read_reference
from airflow_batch._values import short_repr
from airflow_batch.exceptions import BatchPayloadError
from airflow_batch.results import read_count
from airflow_batch.sensors._base import BaseCampaignSensor
from airflow_batch.triggers._poll import LivePoll, Reference, StatsPoll
from airflow_batch.windows import CampaignWindow

if TYPE_CHECKING:
    from airflow.sdk import Context


class BatchCampaignLiveSensor(BaseCampaignSensor):
    """Wait until a campaign, or every one of many, is live, or is not.

    One campaign is read from Batch's view endpoint
    (https://doc.batch.com/developer/api/mep/campaigns/get-campaign), which supports Live API keys only; many from its
    list (https://doc.batch.com/developer/api/mep/campaigns/list). ``live`` is true for a completed campaign as well
    (``campaigns.ASSUMPTIONS["live_in_view"]``).

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``); or a list of these,
        such as the output of a mapped task. Without ``app`` it is that of the given result. Templated.
    :param live: What to wait for, default True; or a :class:`~airflow_batch.windows.CampaignWindow`, which is asked at
        every look, so that a wait that lasts over a change follows it. Templated.

    The other arguments, and what happens when Batch throttles or fails, are those of
    :class:`~airflow_batch.sensors._base.BaseCampaignSensor`.

    The campaigns of a list must all be in the desired state at the same look. A look costs one request for each 100
    campaigns of each app, from the newest to the oldest that is asked for. A campaign that is not in Batch's list is
    not in the desired state; the log names it. At most 12 requests a minute are made: the pause after a look is at
    least 6 s for each of its requests, and a minute where it has failed, however short the ``poke_interval``.

    The result in XCom is a :class:`~airflow_batch.results.CampaignSummary`; for a list, a list of them in the order
    given, each campaign once. Batch's list has no ``push_time``, so it is null there.

    :raises BatchPayloadError: before anything is sent, when campaign or live are wrong, or the list is empty.
    :raises BatchApiError: one of its permanent subclasses.
    """

    template_fields: Sequence[str] = ("campaign", "live", *BaseCampaignSensor.template_fields)

    def __init__(self, *, campaign: Any, live: Any = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.campaign = campaign
        self.live = live

    def poll_for(self, context: Context) -> LivePoll:
        """Return what is waited for."""
        live = self.live if isinstance(self.live, CampaignWindow) else read_live(self.live)
        given = self.campaign
        many = isinstance(given, Sequence) and not isinstance(given, str | bytes | bytearray | memoryview)
        references = self._references() if many else (self._reference(given),)
        return LivePoll(references, many, live, run_after_of(context))

    def _references(self) -> tuple[Reference, ...]:
        """Return the campaigns of the list, each once, in the order given."""
        references = []
        # Sliced: Airflow's lazy sequence takes one request for a slice, but one for each item when it is iterated, and
        # logs an error at its end.
        for index, campaign in enumerate(self.campaign[:]):
            try:
                references.append(self._reference(campaign))
            except BatchPayloadError as error:
                raise BatchPayloadError(f"campaign[{index}]: {error}") from None
        if not references:
            raise BatchPayloadError(
                "campaign is an empty list: there is nothing to wait for. Did the task that it comes from run?"
            )
        return tuple(dict.fromkeys(references))

    def _reference(self, campaign: Any) -> Reference:
        token, app = read_reference(campaign)
        return Reference(token, self.app_for(app))


class BatchCampaignStatsSensor(BaseCampaignSensor):
    """Wait until a campaign's sending has begun, or until a number of pushes was sent.

    Reads Batch's stats endpoint (https://doc.batch.com/developer/api/mep/campaigns/get), which supports Live API keys
    only, and adds up ``sent`` over all its dates; for a recurring campaign, over those of earlier occurrences too.
    That a campaign is finished cannot be read from this API: a completed one is ``live`` as a running one is, and the
    counters have no end mark.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Without ``app`` it
        is that of the given result. Templated.
    :param min_sent: Number of pushes to wait for, a whole number of at least 1 or its text. Default 1: sending has
        begun. Templated.
    :param poke_interval: Default 60 s.
    :param timeout: Default 1 h, from the first request.

    The other arguments, and what happens when Batch throttles or fails, are those of
    :class:`~airflow_batch.sensors._base.BaseCampaignSensor`.

    The result in XCom is ``{"campaign_token", "app", "sent", "detail": [row, ...]}``: the sum, and the rows as
    :meth:`~airflow_batch.hooks.batch.BatchHook.get_campaign_stats` gives them.

    :raises BatchPayloadError: before anything is sent, when campaign or min_sent are wrong.
    :raises BatchApiError: one of its permanent subclasses.
    """

    template_fields: Sequence[str] = ("campaign", "min_sent", *BaseCampaignSensor.template_fields)

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

    def poll_for(self, context: Context) -> StatsPoll:
        """Return what is waited for."""
        token, app = read_reference(self.campaign)
        if count := read_count(self.min_sent):
            return StatsPoll(Reference(token, self.app_for(app)), count)
        raise BatchPayloadError(
            f"min_sent must be a whole number of at least 1, not {short_repr(self.min_sent)}. Does its template "
            "render as intended?"
        )
