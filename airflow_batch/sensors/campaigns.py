"""Wait until one or many campaigns are in the desired state. Reads only. One poll: ``triggers/_poll.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import XComArg

from airflow_batch._airflow.compat import AirflowSkipException
from airflow_batch._airflow.task_context import run_after_of
from airflow_batch._values import short_repr
from airflow_batch.exceptions import BatchPayloadError
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.operators._arguments import (
    CampaignReference,
    Duration,
    Live,
    SensorMode,
    check_arguments,
    read_desired_live,
)
from airflow_batch.results import read_count
from airflow_batch.sensors._base import DEFERRABLE, BaseCampaignSensor
from airflow_batch.triggers._poll import LivePoll, Reference, StatsPoll

if TYPE_CHECKING:
    from airflow.sdk import Context


class BatchCampaignLiveSensor(BaseCampaignSensor):
    """Wait until a campaign, or every campaign of a list, is live or not live.

    One campaign is read from Batch's view endpoint
    (https://doc.batch.com/developer/api/mep/campaigns/get-campaign), which supports Live API keys only; many from its
    list (https://doc.batch.com/developer/api/mep/campaigns/list). ``live`` is true for a completed campaign, too.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``); or a list of these,
        such as the output of a mapped task. Templated.
    :param live: The state to wait for: a boolean, the text ``true`` or ``false``, or a
        :class:`~airflow_batch.windows.CampaignWindow`, which is evaluated at every poll. Default True. Templated.
    :param batch_conn_id: Airflow connection of type ``batch``, with Live API keys. Default ``batch_default``.
        Templated.
    :param app: App to read for, if the connection has ``api_keys``. Default: that of the given result. Templated.
    :param mode: ``reschedule`` (default) or ``poke``.
    :param poke_interval: Time between two polls; seconds or a timedelta. Default 30 s.
    :param timeout: Time from the first poll; seconds or a timedelta. Default 10 minutes.
    :param deferrable: Wait in the triggerer, whatever the ``mode``, after a first poll in the worker. The
        ``poke_interval`` does not grow then. Default ``[operators] default_deferrable``.

    A 429, a 5xx, a failed connection and an unreadable answer mean "not yet": the sensor backs off for as long as Batch
    asks. If that is longer than the timeout leaves, it times out at once.

    The campaigns of a list must all be in the desired state at the same poll. A poll makes one request for each 100
    campaigns of each app, from the newest to the oldest of the given ones. A campaign that is not in Batch's list is
    not in the desired state; the log names it. At most 12 requests a minute are made: the pause after a poll is at
    least 6 s for each of its requests, and a minute after a failed one, however short the ``poke_interval``.

    What a dry run returned is skipped: nothing was sent, so there is nothing to wait for. In a list it is left out.

    The result in XCom is a :class:`~airflow_batch.results.CampaignSummary`; for a list, a list of them in the given
    order, each campaign once. Batch's list has no ``push_time``, so it is null there.

    :raises BatchConfigurationError: when the DAG is parsed, for a ``live`` that can never be right.
    :raises BatchPayloadError: before anything is sent, when campaign or live are wrong, or the list is empty.
    :raises BatchApiError: one of its permanent subclasses.
    """

    template_fields: Sequence[str] = ("campaign", "live", *BaseCampaignSensor.template_fields)

    def __init__(
        self,
        *,
        campaign: CampaignReference | Sequence[CampaignReference],
        live: Live = True,
        batch_conn_id: str = BatchHook.default_conn_name,
        app: str | None = None,
        mode: SensorMode = "reschedule",
        poke_interval: Duration = 30,
        timeout: Duration = 600,
        deferrable: bool = DEFERRABLE,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            batch_conn_id=batch_conn_id,
            app=app,
            mode=mode,
            poke_interval=poke_interval,
            timeout=timeout,
            deferrable=deferrable,
            **kwargs,
        )
        check_arguments(live=live)
        self.campaign = campaign
        self.live = live

    def poll_for(self, context: Context) -> LivePoll:
        """Return what the sensor waits for."""
        given: Any = self.campaign
        many = isinstance(given, Sequence) and not isinstance(given, str | bytes | bytearray | memoryview)
        references = self._references(given) if many else (self.reference(given),)
        return LivePoll(references, many, read_desired_live(self.live), run_after_of(context))

    def _references(self, campaigns: Sequence[Any]) -> tuple[Reference, ...]:
        """Return the campaigns of the list, each once, in the order given."""
        references, left_out = [], 0
        # Sliced: Airflow's lazy sequence takes one request for a slice, but one for each item when it is iterated, and
        # logs an error at its end.
        for index, campaign in enumerate(campaigns[:]):
            try:
                references.append(self.reference(campaign))
            except AirflowSkipException as skipped:
                left_out += 1
                self.log.warning("campaign[%d] is left out. %s", index, skipped)
            except BatchPayloadError as error:
                raise BatchPayloadError(f"campaign[{index}]: {error}") from None
        if left_out and not references:
            raise AirflowSkipException("Not waiting: the tasks that should change these campaigns were dry runs.")
        if not references:
            raise BatchPayloadError(
                "campaign is an empty list: there is nothing to wait for. Did the task that returns it run?"
            )
        return tuple(dict.fromkeys(references))


class BatchCampaignStatsSensor(BaseCampaignSensor):
    """Wait until a campaign's sending has begun, or until a number of pushes was sent.

    Reads Batch's stats endpoint (https://doc.batch.com/developer/api/mep/campaigns/get), which supports Live API keys
    only, and adds up ``sent`` over all its dates; for a recurring campaign, over those of earlier occurrences too.
    The API does not show that a campaign is finished: a completed campaign is ``live`` like a running one, and the
    counters have no end mark.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param min_sent: Number of pushes to wait for, a whole number of at least 1 or its text. Default 1: sending has
        begun. Templated.
    :param batch_conn_id: Airflow connection of type ``batch``, with Live API keys. Default ``batch_default``.
        Templated.
    :param app: App to read for, if the connection has ``api_keys``. Default: that of the given result. Templated.
    :param mode: ``reschedule`` (default) or ``poke``.
    :param poke_interval: Time between two polls; seconds or a timedelta. Default 60 s.
    :param timeout: Time from the first poll; seconds or a timedelta. Default 1 hour.
    :param deferrable: Wait in the triggerer, whatever the ``mode``, after a first poll in the worker. The
        ``poke_interval`` does not grow then. Default ``[operators] default_deferrable``.

    A 429, a 5xx, a failed connection and an unreadable answer mean "not yet": the sensor backs off for as long as Batch
    asks. If that is longer than the timeout leaves, it times out at once.

    What a dry run returned is skipped: nothing was sent, so there is nothing to wait for.

    The result in XCom is ``{"campaign_token", "app", "sent", "detail": [row, ...]}``: the sum, and the rows as
    :meth:`~airflow_batch.hooks.batch.BatchHook.get_campaign_stats` gives them.

    :raises BatchPayloadError: before anything is sent, when campaign or min_sent are wrong.
    :raises BatchApiError: one of its permanent subclasses.
    """

    template_fields: Sequence[str] = ("campaign", "min_sent", *BaseCampaignSensor.template_fields)

    def __init__(
        self,
        *,
        campaign: CampaignReference,
        min_sent: int | str | XComArg = 1,
        batch_conn_id: str = BatchHook.default_conn_name,
        app: str | None = None,
        mode: SensorMode = "reschedule",
        poke_interval: Duration = 60,
        timeout: Duration = 3600,
        deferrable: bool = DEFERRABLE,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            batch_conn_id=batch_conn_id,
            app=app,
            mode=mode,
            poke_interval=poke_interval,
            timeout=timeout,
            deferrable=deferrable,
            **kwargs,
        )
        self.campaign = campaign
        self.min_sent = min_sent

    def poll_for(self, context: Context) -> StatsPoll:
        """Return what the sensor waits for."""
        reference = self.reference(self.campaign)
        if count := read_count(self.min_sent):
            return StatsPoll(reference, count)
        raise BatchPayloadError(
            f"min_sent must be a whole number of at least 1, not {short_repr(self.min_sent)}. Does its template "
            "render as intended?"
        )
