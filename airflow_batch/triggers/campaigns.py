"""Poll in the triggerer what a deferred sensor waits for. Never sends a write.

What a poll is, is in ``triggers/_poll.py``; how it reaches Batch, in ``triggers/_connection.py``; what the trigger
returns to the sensor, in ``triggers/_events.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_batch._airflow.backoff import delay_floor, jitter
from airflow_batch._values import duration_text, iso_utc
from airflow_batch.exceptions import BatchApiError, BatchAuthenticationError, BatchError
from airflow_batch.triggers._connection import hook_of, in_thread
from airflow_batch.triggers._events import Event, failed, success, timed_out
from airflow_batch.triggers._poll import Hooks, Poll, Seen, read_poll


class BatchCampaignTrigger(BaseTrigger):
    """Poll campaigns until they are in the desired state, a failure is permanent, or the deadline has passed.

    The connection is read once, asynchronously, and again after a 401: keys may be rotated while a sensor waits.

    A transient error means "not yet": no request is made before Batch's wait has passed. A triggerer that takes over
    begins anew, within one poke interval and spread out; it does not know how long Batch asked the other one to wait.

    ``look`` is what the sensor waits for, as :meth:`airflow_batch.triggers._poll.Poll.as_json` returns it. Deferred
    tasks are stored with this argument, so its name stays.

    :param batch_conn_id: Airflow connection of type ``batch``.
    :param poke_interval: Seconds between two polls; after one of many campaigns at least
        :func:`airflow_batch.triggers._poll.least_pause`.
    :param not_before: When the first poll is due, ISO 8601 with offset.
    :param deadline: When the sensor times out, ISO 8601 with offset. No poll begins or lasts beyond it.
    """

    def __init__(
        self, *, look: Mapping[str, Any], batch_conn_id: str, poke_interval: float, not_before: str, deadline: str
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.poll: Poll = read_poll(look)
        self.batch_conn_id = batch_conn_id
        self.poke_interval = poke_interval
        self.not_before = datetime.fromisoformat(not_before)
        self.deadline = datetime.fromisoformat(deadline)
        self._hooks: Hooks | None = None
        self._requests = 0
        self._polls = 0

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, JSON values without a key."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "look": self.poll.as_json(),
                "batch_conn_id": self.batch_conn_id,
                "poke_interval": self.poke_interval,
                "not_before": self.not_before.isoformat(),
                "deadline": self.deadline.isoformat(),
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event, as ``triggers/_events.py`` makes them."""
        yield TriggerEvent(await self._wait())  # type: ignore[no-untyped-call]

    async def _wait(self) -> Event:
        now = datetime.now(UTC)
        # A triggerer that takes over for another starts all triggers at once.
        moment = self.not_before if now <= self.not_before else now + timedelta(seconds=self._spread())
        reason = ""
        while moment < self.deadline:
            await _sleep_until(moment)
            self._polls += 1
            self._requests = 0
            floor, failing = 0.0, True
            try:
                async with asyncio.timeout(max((self.deadline - datetime.now(UTC)).total_seconds(), 0)):
                    seen = await self._poll()
            except TimeoutError:
                reason = " The last poll was not answered in time."
                break
            except BatchError as error:
                if not error.transient:
                    return failed(error, self.poll.about)
                reason, floor = f" {error}", delay_floor(error)
                if datetime.now(UTC) + timedelta(seconds=floor) > self.deadline:
                    reason += f" Batch asks to wait {duration_text(floor)}."
                    break
                if isinstance(error, BatchApiError) and error.throttled:
                    floor += self._spread()
            else:
                seen.log_to(self.log)
                if seen.done:
                    return success(seen.result, seen.about)
                reason, failing = "", False
            pause = max(floor, self.poke_interval, self.poll.pause(self._requests, failed=failing))
            if failing:
                self.log.warning("Not yet:%s No request for %s.", reason, duration_text(pause))
            moment = datetime.now(UTC) + timedelta(seconds=pause)
        else:
            await _sleep_until(self.deadline)
        message = f"Sensor has timed out: its timeout ends at {iso_utc(self.deadline)}.{reason}"
        return timed_out(message, self.poll.about)

    def _spread(self) -> float:
        return jitter({"ti": self.task_instance, "task_reschedule_count": self._polls}, self.poke_interval)

    async def _poll(self) -> Seen:
        """Poll once, and once more after a 401 if the connection has other keys by now."""
        hooks = self._hooks = self._hooks or await self._connect()
        try:
            return await self._in_thread(hooks)
        except BatchAuthenticationError:
            fresh = await self._connect()
            if fresh.settings == hooks.settings:
                raise
        self.log.info("Connection %r has new keys. The poll is repeated with them.", self.batch_conn_id)
        self._hooks = fresh
        return await self._in_thread(fresh)

    async def _in_thread(self, hooks: Hooks) -> Seen:
        sent = hooks.requests
        try:
            return await in_thread(self.poll, hooks)
        finally:
            self._requests += hooks.requests - sent

    async def _connect(self) -> Hooks:
        return Hooks(await hook_of(self.batch_conn_id))


async def _sleep_until(moment: datetime) -> None:
    while (left := (moment - datetime.now(UTC)).total_seconds()) > 0:
        await asyncio.sleep(left)
