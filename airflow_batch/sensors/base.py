"""What every sensor of this provider shares: its connection, and how it keeps quiet when Batch asks for it.

What a sensor waits for is in ``sensors/campaigns.py``, how long to wait in ``policies/retry.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_batch.compat import AirflowRescheduleException, AirflowSensorTimeout, reschedule_at
from airflow_batch.exceptions import BatchApiError
from airflow_batch.hooks.batch import BatchHook, rendered_or_none
from airflow_batch.policies.retry import RetryDefaults, delay_floor, jitter
from airflow_batch.results import iso_utc
from airflow_batch.runs import INDEX_NAME

if TYPE_CHECKING:
    from airflow.sdk import Context


class BatchSensor(RetryDefaults, BaseSensorOperator):
    """Base of the sensors. A subclass says in :meth:`look` what one look at Batch has shown.

    :param batch_conn_id: Airflow connection of type ``batch``. Templated.
    :param app: App to read for, where the connection has ``api_keys``. Templated.
    :param mode: ``reschedule`` (default) or ``poke``.
    :param poke_interval: Seconds or a timedelta between two looks, default 30 s.
    :param timeout: Seconds or a timedelta from the first look, default 10 min.

    A 429, a 5xx and a failed connection mean "not yet": no request is made before Batch's wait has passed (at least
    5 s, and Retry-After), and the timeout holds. Where Batch asks to wait longer than the timeout leaves, the sensor
    times out at once. A permanent error fails it.
    """

    template_fields: Sequence[str] = ("batch_conn_id", "app")
    ui_color = "#e9e0ff"

    def __init__(
        self,
        *,
        batch_conn_id: str = BatchHook.default_conn_name,
        app: str | None = None,
        mode: str = "reschedule",
        poke_interval: timedelta | float = 30,
        timeout: timedelta | float = 600,
        **kwargs: Any,
    ) -> None:
        super().__init__(mode=mode, poke_interval=poke_interval, timeout=timeout, **kwargs)
        self.batch_conn_id = batch_conn_id
        self.app = app

    @classmethod
    def task_defaults(cls) -> dict[str, Any]:
        """Return the arguments that a task gets where nobody gives them."""
        return {**super().task_defaults(), "map_index_template": INDEX_NAME}

    def look(self, context: Context) -> PokeReturnValue:
        """Read from Batch once and return whether the wait is over, with the result.

        :raises BatchApiError: a transient one means "not yet", a permanent one fails the sensor.
        """
        raise NotImplementedError

    def hook_for(self, app: str | None) -> BatchHook:
        """Return the hook for an app; the task's own ``app`` goes before the given one."""
        return BatchHook(batch_conn_id=self.batch_conn_id, app=rendered_or_none(self.app) or app)

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
        try:
            return self.look(context)
        except BatchApiError as error:
            if not error.transient:
                raise
            self._keep_quiet(error, context)
            return PokeReturnValue(is_done=False)

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
