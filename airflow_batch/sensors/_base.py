"""What the sensors share: the connection, and how they back off when Batch throttles.

How long to wait is in ``policies/retry.py``, how a deferred sensor waits in ``triggers/campaigns.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.configuration import conf
from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_batch._airflow.backoff import delay_floor, jitter
from airflow_batch._airflow.compat import (
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    reschedule_at,
)
from airflow_batch._airflow.task_context import set_map_index_name
from airflow_batch._campaigns.payload import read_reference
from airflow_batch._values import FIRST_DATE, LAST_DATE, duration_text, iso_utc
from airflow_batch.exceptions import BatchApiError
from airflow_batch.hooks.batch import BatchHook, rendered_or_none
from airflow_batch.operators._arguments import Duration, SensorMode, TaskArguments
from airflow_batch.triggers._poll import Hooks, Poll, Reference

if TYPE_CHECKING:
    from airflow.sdk import Context

DEFERRABLE = conf.getboolean("operators", "default_deferrable", fallback=False)


class BaseCampaignSensor(TaskArguments, BaseSensorOperator):
    """Base of the sensors. A subclass defines in :meth:`poll_for` what it waits for.

    A 429, a 5xx, a failed connection and an answer that cannot be read mean "not yet": no request is made before
    Batch's wait has passed (at least 5 s, and Retry-After), and the timeout holds. If Batch asks to wait longer than
    the timeout leaves, the sensor times out at once. A permanent error fails it.
    """

    # Until execute sets them, for example when poke is called alone.
    _deadline, _not_before = LAST_DATE, FIRST_DATE

    template_fields: Sequence[str] = ("batch_conn_id", "app")
    ui_color = "#e9e0ff"

    def __init__(
        self,
        *,
        batch_conn_id: str = BatchHook.default_conn_name,
        app: str | None = None,
        mode: SensorMode = "reschedule",
        poke_interval: Duration = 30,
        timeout: Duration = 600,
        deferrable: bool = DEFERRABLE,
        **kwargs: Any,
    ) -> None:
        super().__init__(mode=mode, poke_interval=poke_interval, timeout=timeout, **kwargs)
        self.batch_conn_id = batch_conn_id
        self.app = app
        self.deferrable = deferrable

    def poll_for(self, context: Context) -> Poll:
        """Return what the sensor waits for.

        :raises BatchPayloadError: when its arguments are wrong.
        """
        raise NotImplementedError

    def reference(self, campaign: Any) -> Reference:
        """Return a campaign's token, and its app; the task's own ``app`` takes precedence over that of a result.

        :raises BatchPayloadError: when it is neither a token nor a result.
        :raises AirflowSkipException: for what a dry run returned: nothing was sent, so there is nothing to wait for.
        """
        token, app = read_reference(campaign)
        if isinstance(campaign, Mapping) and campaign.get("action") == "dry_run":
            raise AirflowSkipException(f"Not waiting for {token!r}: the task that should change it was a dry run.")
        return Reference(token, rendered_or_none(rendered_or_none(self.app) or app))

    def execute(self, context: Context) -> Any:
        """Poke until done, like every sensor, but never before Batch's wait has passed."""
        first = context["ti"].get_first_reschedule_date(context) if self.reschedule else None
        self._not_before = datetime.now(UTC)
        self._deadline = (first or self._not_before) + timedelta(seconds=self.timeout)
        try:
            return super().execute(context)
        except AirflowRescheduleException as reschedule:
            if reschedule.reschedule_date >= self._not_before:
                raise
        raise reschedule_at(self._not_before)

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once, unless Batch has asked to wait."""
        if datetime.now(UTC) < self._not_before:
            return PokeReturnValue(is_done=False)
        poll = self.poll_for(context)
        if poll.about:
            set_map_index_name(context, *poll.about)
        hooks = Hooks(BatchHook(self.batch_conn_id, poll.about[0] if poll.about else None))
        failed = False
        try:
            seen = poll(hooks)
        except BatchApiError as error:
            if not error.transient:
                raise
            self._back_off(error, context)
            failed = True
        else:
            seen.log_to(self.log)
            if seen.about:
                set_map_index_name(context, *seen.about)
            if seen.done:
                return PokeReturnValue(is_done=True, xcom_value=seen.result)
        pause = poll.pause(hooks.requests, failed=failed)
        if self.deferrable:
            self._defer(poll, pause)
        self._not_before = max(self._not_before, datetime.now(UTC) + timedelta(seconds=pause))
        return PokeReturnValue(is_done=False)

    def _defer(self, poll: Poll, pause: float) -> NoReturn:
        from airflow_batch.triggers.campaigns import BatchCampaignTrigger

        now = datetime.now(UTC)
        left = self._deadline - now
        if left <= timedelta(0):
            raise AirflowSensorTimeout(f"Sensor has timed out: its timeout ended at {iso_utc(self._deadline)}.")
        not_before = max(self._not_before, now + timedelta(seconds=max(self.poke_interval, pause)))
        trigger = BatchCampaignTrigger(
            look=poll.as_json(),
            batch_conn_id=self.batch_conn_id,
            poke_interval=self.poke_interval,
            not_before=not_before.isoformat(),
            deadline=self._deadline.isoformat(),
        )
        self.defer(trigger=trigger, method_name="resume", timeout=left)

    def resume(self, context: Context, event: Any) -> Any:
        """Return the result of the trigger's event.

        :raises AirflowSensorTimeout: when the wait was too long.
        :raises BatchError: what failed in the triggerer, for good.
        """
        from airflow_batch.triggers._events import outcome, read_about

        if about := read_about(event):
            set_map_index_name(context, *about)
        return outcome(event)

    def _back_off(self, error: BatchApiError, context: Context) -> None:
        floor = delay_floor(error)
        now = datetime.now(UTC)
        if now + timedelta(seconds=floor) > self._deadline:
            raise AirflowSensorTimeout(
                f"{error} Batch asks to wait {duration_text(floor)}, but this sensor's timeout ends at "
                f"{iso_utc(self._deadline)}."
            )
        spread = jitter(context, self.poke_interval) if error.throttled else 0.0
        self._not_before = min(now + timedelta(seconds=floor + spread), self._deadline)
        self.log.warning("Not yet: %s No request before %s.", error, iso_utc(self._not_before))
