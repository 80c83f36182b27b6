"""Switch a campaign when a task or a DAG fails or succeeds: callbacks for what no task can stand behind.

A callback has no Airflow retry behind it, so it waits and tries again by itself. Where a task can do it
(``trigger_rule="one_failed"``), the operators are the better choice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import BaseNotifier

from airflow_batch.campaigns import read_reference
from airflow_batch.changes import CampaignChange
from airflow_batch.exceptions import BatchApiError, BatchError
from airflow_batch.hooks.batch import BatchHook, rendered_or_none
from airflow_batch.payloads import check_payload
from airflow_batch.policies.retry import BATCH_FLOOR, read_duration, required_wait
from airflow_batch.runs import wanted_live

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

DEFAULT_MAX_WAIT = timedelta(minutes=2)


class SetCampaignLiveNotifier(BaseNotifier):
    """Switch a campaign off (or on) from a callback, above all when its data pipeline fails::

        @task(on_failure_callback=SetCampaignLiveNotifier(campaign="{{ params.campaign }}"))
        def refresh_offers(): ...

    The campaign is changed as :class:`~airflow_batch.operators.campaigns.BatchSetCampaignLiveOperator` does. A failure
    that may pass is tried again here, at least 5 s later (https://doc.batch.com/developer/api/mep/campaigns/update,
    Failure) and never before Batch's Retry-After, until ``max_wait`` is over. What fails for good is an error in the
    log and nothing else: it does not hide why the task failed.

    Callbacks of tasks do not fire for ``upstream_failed``, and a worker that dies may take them with it. So let a task
    with ``trigger_rule="one_failed"`` stop the campaign, and this be the second line.

    Synchronous only: the asynchronous form would write from the triggerer, which may run it twice.

    :param campaign: Token of the campaign, or the result of another Batch task. Templated.
    :param live: What it should be: a boolean, text that renders to one, or a
        :class:`~airflow_batch.windows.CampaignWindow`. Default False. Templated.
    :param definition: An object: what the campaign was created from; as for the operator. Templated.
    :param read: ``auto`` (default) or ``never``; as for the operator.
    :param expect_name: Fail where the campaign has another name. Templated.
    :param batch_conn_id: Airflow connection of type ``batch``. Templated.
    :param app: App to act for, where the connection has ``api_keys``; else that of the given result. Templated.
    :param max_wait: How long to try; seconds or a timedelta, default 2 minutes.
    """

    template_fields: Sequence[str] = ("campaign", "live", "definition", "expect_name", "batch_conn_id", "app")

    def __init__(
        self,
        *,
        campaign: Any,
        live: Any = False,
        definition: Any = None,
        read: Literal["auto", "never"] = "auto",
        expect_name: str | None = None,
        batch_conn_id: str = BatchHook.default_conn_name,
        app: str | None = None,
        max_wait: timedelta | float = DEFAULT_MAX_WAIT,
    ) -> None:
        super().__init__()
        self.campaign = campaign
        self.live = live
        self.definition = definition
        self.read = read
        self.expect_name = expect_name
        self.batch_conn_id = batch_conn_id
        self.app = app
        self.max_wait = read_duration("max_wait", max_wait) or DEFAULT_MAX_WAIT

    def notify(self, context: Context) -> None:
        """Switch the campaign; log what went wrong, whatever it is."""
        try:
            self._switch(context)
        except Exception as error:
            log.error("The campaign %r was NOT switched by the callback: %s", self.campaign, error)

    async def async_notify(self, context: Context) -> None:
        """Refuse: a trigger may run twice, and this writes."""
        raise NotImplementedError(
            "SetCampaignLiveNotifier writes to Batch and so does not run in the triggerer. Use it as an "
            "on_failure_callback or on_success_callback."
        )

    def _switch(self, context: Context) -> None:
        token, app = read_reference(self.campaign)
        change = CampaignChange(
            hook=BatchHook(self.batch_conn_id, rendered_or_none(self.app) or app),
            token=token,
            wanted=lambda: {"live": wanted_live(self.live, context)},
            definition=check_payload(self.definition, "definition") if self.definition else None,
            read=self.read == "auto",
            expect_name=self.expect_name or None,
        )
        started = time.monotonic()
        doubtful, tries = False, 0
        while True:
            tries += 1
            try:
                change.make(doubtful=doubtful, last=tries > 1)
                return
            except BatchError as error:
                wait = max(BATCH_FLOOR * 2 ** (tries - 1), required_wait(error))
                left = self.max_wait.total_seconds() - (time.monotonic() - started)
                if not error.transient or wait > left:
                    raise
                doubtful |= not isinstance(error, BatchApiError) or error.may_have_been_applied
                log.warning("%s Trying again in %.0f s; giving up in %.0f s.", error, wait, left)
            time.sleep(wait)
