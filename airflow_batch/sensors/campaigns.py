"""Wait until a campaign is what it should be. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_batch.campaigns import read_reference
from airflow_batch.compat import AirflowRescheduleException, AirflowSensorTimeout, reschedule_at
from airflow_batch.exceptions import BatchApiError
from airflow_batch.hooks.batch import BatchHook, rendered_or_none
from airflow_batch.payloads import read_live
from airflow_batch.policies.retry import RetryDefaults, delay_floor, jitter
from airflow_batch.results import campaign_summary, iso_utc

if TYPE_CHECKING:
    from airflow.sdk import Context


class BatchCampaignLiveSensor(RetryDefaults, BaseSensorOperator):
    """Wait until a campaign is live, or is not.

    Reads Batch's view endpoint (https://doc.batch.com/developer/api/mep/campaigns/get-campaign), which supports Live
    API keys only. ``live`` is true for a completed campaign as well (``campaigns.ASSUMPTIONS["live_in_view"]``).

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param live: What to wait for, default True. Templated.
    :param batch_conn_id: Airflow connection of type ``batch``. Templated.
    :param app: App to read for, where the connection has ``api_keys``; else that of the given result. Templated.
    :param mode: ``reschedule`` (default) or ``poke``.
    :param poke_interval: Default 30 s.
    :param timeout: Default 10 min, from the first poke.

    A 429, a 5xx and a failed connection mean "not yet": no request is made before Batch's wait has passed (at least
    5 s, and Retry-After), and the timeout holds. Where Batch asks to wait longer than the timeout leaves, the sensor
    times out at once. A permanent error fails it.

    The result in XCom is a :class:`~airflow_batch.results.CampaignSummary`.

    :raises BatchPayloadError: before anything is sent, when campaign or live are wrong.
    :raises BatchApiError: one of its permanent subclasses.
    """

    template_fields: Sequence[str] = ("campaign", "live", "batch_conn_id", "app")
    ui_color = "#e9e0ff"

    def __init__(
        self,
        *,
        campaign: Any,
        live: Any = True,
        batch_conn_id: str = BatchHook.default_conn_name,
        app: str | None = None,
        mode: str = "reschedule",
        poke_interval: timedelta | float = 30,
        timeout: timedelta | float = 600,
        **kwargs: Any,
    ) -> None:
        super().__init__(mode=mode, poke_interval=poke_interval, timeout=timeout, **kwargs)
        self.campaign = campaign
        self.live = live
        self.batch_conn_id = batch_conn_id
        self.app = app

    def execute(self, context: Context) -> Any:
        """Poke until done, as every sensor does, but never before Batch's wait has passed."""
        now = datetime.now(UTC)
        first = context["ti"].get_first_reschedule_date(context) if self.reschedule else None
        self._deadline = (first or now) + timedelta(seconds=self.timeout)
        self._quiet_until = now
        try:
            return super().execute(context)
        except AirflowRescheduleException as reschedule:
            if reschedule.reschedule_date >= self._quiet_until:
                raise
        raise reschedule_at(self._quiet_until)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once, unless Batch has asked for silence."""
        if datetime.now(UTC) < self._quiet_until:
            return PokeReturnValue(is_done=False)
        token, app = read_reference(self.campaign)
        wanted = read_live(self.live)
        hook = self._hook(app)
        try:
            seen = hook.get_campaign(token)
        except BatchApiError as error:
            if not error.transient:
                raise
            self._keep_quiet(error, context)
            return PokeReturnValue(is_done=False)
        summary = campaign_summary(token, hook.app, seen, datetime.now(UTC))
        done = summary["live"] is wanted
        self.log.info("Campaign %r is %s.", token, "live" if summary["live"] else "not live")
        return PokeReturnValue(is_done=done, xcom_value=summary if done else None)

    def _hook(self, app: str | None) -> BatchHook:
        return BatchHook(batch_conn_id=self.batch_conn_id, app=rendered_or_none(self.app) or app)

    def _keep_quiet(self, error: BatchApiError, context: Context) -> None:
        floor = delay_floor(error)
        now = datetime.now(UTC)
        if now + timedelta(seconds=floor) > self._deadline:
            raise AirflowSensorTimeout(
                f"{error} Batch asks to wait {floor:.0f} s; this sensor's timeout ends at {iso_utc(self._deadline)}."
            )
        spread = jitter(context, self.poke_interval) if error.throttled else 0.0
        self._quiet_until = min(now + timedelta(seconds=floor + spread), self._deadline)
        self.log.warning("Not yet: %s No request before %s.", error, iso_utc(self._quiet_until))
