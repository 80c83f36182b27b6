"""Switch a campaign from a callback: when a task or a DAG run fails or succeeds, or misses a deadline.

Airflow ends a callback after a short time and does not repeat it. Where a task can do the work
(``trigger_rule="one_failed"``), the operators are the better choice.
"""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, BaseNotifier

from airflow_batch._airflow.task_context import run_after_of
from airflow_batch._campaigns.approval import read_approval
from airflow_batch._campaigns.change import change_campaign
from airflow_batch._campaigns.payload import read_definition, read_expected_name, read_reference
from airflow_batch._campaigns.protocol import Attempt, SystemClock
from airflow_batch._campaigns.request import ChangeRequest
from airflow_batch.exceptions import BatchConfigurationError, BatchError, BatchNotCreatedError
from airflow_batch.hooks.batch import BatchHook, rendered_or_none
from airflow_batch.operators._arguments import (
    CampaignReference,
    Duration,
    Live,
    Payload,
    Read,
    check_arguments,
    read_desired_live,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

TIME_LIMIT = timedelta(seconds=15)
"""How long a callback tries. Airflow kills the callback of a task after ``[core] task_success_overtime`` (20 s), and
the callback of a DAG with its dag processor's file after ``[dag_processor] dag_file_processor_timeout`` (50 s)."""


class SetCampaignLiveNotifier(BaseNotifier):
    """Switch a campaign off (or on) from a callback, above all when its data pipeline fails::

        @task(on_failure_callback=SetCampaignLiveNotifier(campaign="{{ params.campaign }}"))
        def refresh_offers(): ...

    The campaign is changed as :class:`~airflow_batch.operators.campaigns.BatchSetCampaignLiveOperator` does, within 15
    seconds; failed requests are repeated within that time. If the campaign was not switched, the notifier logs an error
    and raises. Airflow logs the exception of a task's callback, so it does not hide why the task failed, and records
    the callback of a deadline as failed.

    Through a connection with ``dry_run`` the campaign is compared, and a warning says that it was not stopped.

    Callbacks of tasks do not fire for ``upstream_failed``, and a worker that dies may lose them. So let a task with
    ``trigger_rule="one_failed"`` stop the campaign, and use this in addition.

    As the callback of a deadline: ``SyncCallback(SetCampaignLiveNotifier, kwargs={"campaign": ...})`` on Airflow 3.3
    and later. On 3.3 the connection must come from the environment or a secrets backend, since the API server refuses a
    stored one to a callback; 3.4 allows it. ``AsyncCallback`` runs in the triggerer, which may run it twice: it is
    accepted for ``live=False`` alone, because a campaign may be stopped twice.

    :param campaign: Token of the campaign, or the result of another Batch task. Templated.
    :param live: The desired state: a boolean, the text ``true`` or ``false``, or a
        :class:`~airflow_batch.windows.CampaignWindow`. Default False. Templated.
    :param definition: The payload that created the campaign, an object. Default None. It is sent only if the campaign
        cannot be read. A wrong one never blocks a stop. Templated.
    :param read: ``auto`` (default): read the campaign first if the key can. ``never``: do not.
    :param expect_name: Name that the campaign must have. Default None. Templated.
    :param batch_conn_id: Airflow connection of type ``batch``. Default ``batch_default``. Templated.
    :param app: App to act for, if the connection has ``api_keys``. Default: that of the given result. Templated.
    :param max_wait: Has no effect any more; deprecated. Airflow ends callbacks after 20 seconds.
    :param context: Airflow passes it to the callback of a deadline. Default None.
    :raises BatchConfigurationError: when the DAG is parsed, for an argument that can never be right.
    """

    template_fields: Sequence[str] = ("campaign", "live", "definition", "expect_name", "batch_conn_id", "app")

    def __init__(
        self,
        *,
        campaign: CampaignReference,
        live: Live = False,
        definition: Payload | None = None,
        read: Read = "auto",
        expect_name: str | None = None,
        batch_conn_id: str = BatchHook.default_conn_name,
        app: str | None = None,
        max_wait: Duration | None = None,
        context: Context | None = None,
    ) -> None:
        super().__init__(context=context)
        check_arguments(live=live, read=read)
        if max_wait is not None:
            message = "max_wait has no effect any more: a callback tries for 15 seconds. Remove the argument."
            warnings.warn(message, DeprecationWarning, stacklevel=2)
        self.campaign = campaign
        self.live = live
        self.definition = definition
        self.read = read
        self.expect_name = expect_name
        self.expects_name = expect_name is not None
        self.batch_conn_id = batch_conn_id
        self.app = app

    def notify(self, context: Context) -> None:
        """Switch the campaign.

        :raises BatchError: where it was not switched.
        """
        self._switch(context, None)

    async def async_notify(self, context: Context) -> None:
        """Stop the campaign from the triggerer.

        :raises BatchConfigurationError: for anything but ``live=False``: the triggerer may run a callback twice.
        :raises BatchError: where the campaign was not stopped.
        """
        if read_desired_live(self.live) is not False:
            raise BatchConfigurationError(
                "SetCampaignLiveNotifier runs in the triggerer for live=False alone, because a callback may run twice "
                "there. Nothing was sent. Use SyncCallback (Airflow 3.3 and later) to switch a campaign on."
            )
        connection = await BaseHook.aget_connection(self.batch_conn_id)
        await asyncio.to_thread(self._switch, context, connection)

    def _switch(self, context: Context, connection: Any) -> None:
        started = time.monotonic()
        try:
            live = read_desired_live(self.live)
            token, app = read_reference(self.campaign)
            app = rendered_or_none(self.app) or app
            if connection is None:
                hook = BatchHook(self.batch_conn_id, app)
            else:
                hook = BatchHook.from_connection(connection, app)
            request = ChangeRequest(
                token=token,
                live=live,
                definition=read_definition(self.definition, stops=live is not True, log=log),
                read=self.read == "auto",
                expect_name=read_expected_name(self.expect_name, given=self.expects_name),
                approval=read_approval(self.campaign, hook.app),
            )
            left = TIME_LIMIT - timedelta(seconds=time.monotonic() - started)
            attempt = Attempt(run_after=run_after_of(context))
            change_campaign(hook, SystemClock(), attempt, request, log=log, budget=left)
        except BatchNotCreatedError as missing:
            log.warning("The callback has nothing to switch. %s", missing)
        except Exception as error:
            log.error("The campaign %r was NOT switched by the callback: %s", self.campaign, error)
            if isinstance(error, BatchError):
                raise
            raise BatchError(f"The campaign was not switched by the callback: {type(error).__name__}.") from None
