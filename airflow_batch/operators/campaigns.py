"""The operators for one campaign. Thin: render, check, call the core, return the result.

How a campaign is changed, created and deleted without harm is in ``_campaigns/``; what the operators share is in
``operators/_base.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_batch._airflow.task_context import set_map_index_name
from airflow_batch._campaigns.payload import check_new, check_payload, read_expected_name, read_reference
from airflow_batch._campaigns.protocol import SystemClock
from airflow_batch._campaigns.request import ChangeRequest, CreateRequest
from airflow_batch.exceptions import BatchError
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.operators._arguments import (
    CampaignReference,
    Duration,
    Lateness,
    Live,
    Payload,
    Read,
    Throttle,
    Verify,
    check_arguments,
    read_desired_live,
)
from airflow_batch.operators._base import (
    BaseCampaignOperator,
    BaseChangeOperator,
    attempt_of,
    latest_moment,
    read_lateness,
)
from airflow_batch.results import CampaignResult

if TYPE_CHECKING:
    from airflow.sdk import Context


class BatchSetCampaignLiveOperator(BaseChangeOperator):
    """Switch a campaign on or off, so that late, repeated, cleared and overlapping runs do no harm.

    The operator reads the campaign, sets ``live``, sends the whole campaign back, as Batch asks for
    (https://doc.batch.com/developer/api/mep/campaigns/update), and reads it again. It fails if a parameter is gone. If
    the campaign is in the desired state already, nothing is sent. A stop always gets through, in part if need be.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param live: The desired state: a boolean, the text ``true`` or ``false``, or a
        :class:`~airflow_batch.windows.CampaignWindow`, which is evaluated when the request is sent. Templated.
    :param definition: The payload that created the campaign: an object, JSON text, or the name of a ``.json`` file next
        to the DAG. Default None. It is sent only if the campaign cannot be read, and is never mixed with what Batch
        shows. Templated.
    :param read: ``auto`` (default): read the campaign first if the key can. ``never``: send the definition if there is
        one, otherwise ``live`` alone.
    :param verify: ``auto`` (default): read the campaign again after the write, to find what the write has lost, but not
        for a stop with all that was read, and not while Batch throttles the task. ``always``. ``never``.
    :param expect_name: Name that the campaign must have. Default None. If the name cannot be read, switching on is
        refused, and switching off goes ahead with a warning. Templated.
    :param dry_run: Check and compare, but send nothing. Default False. The result then has ``differences``: a list of
        ``{"parameter", "now", "wanted"}``.
    :param max_lateness: How long after the run's ``run_after`` a boolean may still be sent, in scheduled, backfill and
        asset-triggered runs; seconds or a timedelta. Default ``auto``: 1 hour to switch on, no limit to switch off.
        None: no limit. A later task is skipped, and by ``trigger_rule`` those after it.
    :param batch_conn_id: Airflow connection of type ``batch``. Default ``batch_default``. Templated.
    :param app: App to act for, if the connection has ``api_keys``. Default: that of the given result. Templated.
    :param throttle: After a 429 or a maintenance of Batch: ``reschedule`` (default), which uses no retry, or ``retry``.
    :param max_wait: How long Batch may throttle the task; seconds or a timedelta. Default: 30 minutes, 6 hours to stop.

    The result in XCom is a :class:`~airflow_batch.results.CampaignResult`. ``changed`` is null if an unconfirmed
    request of this task may have been applied.

    :raises BatchConfigurationError: when the DAG is parsed, for an argument that can never be right.
    :raises BatchPayloadError: before anything is sent, when a rendered argument is wrong.
    :raises BatchChangeRefusedError: before anything is sent, for a campaign that was created in the dashboard, one with
        another name or not as approved, and a one-time campaign that would be live after its push time.
    :raises BatchRepeatRefusedError: when an earlier request may have sent the push.
    :raises BatchVerificationError: when the campaign is not as written, or lacks a parameter that it had.
    :raises BatchApiError: one of its other subclasses; permanent ones fail the task at once.
    """

    template_fields: Sequence[str] = ("campaign", "live", "definition", "expect_name", "batch_conn_id", "app")
    template_fields_renderers: ClassVar[dict[str, str]] = {"definition": "json"}
    ui_color = "#f4e4ff"
    action = "set_live"

    def __init__(
        self,
        *,
        campaign: CampaignReference,
        live: Live,
        definition: Payload | None = None,
        read: Read = "auto",
        verify: Verify = "auto",
        expect_name: str | None = None,
        dry_run: bool = False,
        max_lateness: Lateness = "auto",
        batch_conn_id: str = BatchHook.default_conn_name,
        app: str | None = None,
        throttle: Throttle = "reschedule",
        max_wait: Duration | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_conn_id=batch_conn_id, app=app, throttle=throttle, max_wait=max_wait, **kwargs)
        check_arguments(live=live, read=read, verify=verify)
        self.campaign, self.live = campaign, live
        self.definition, self.read, self.verify, self.only_compare = definition, read, verify, dry_run
        self.expect_name, self.expects_name = expect_name, expect_name is not None
        self.max_lateness = read_lateness(max_lateness)

    def request(self, context: Context, token: str) -> ChangeRequest:
        """Return what the task asks for."""
        live = read_desired_live(self.live)
        allowed = self.max_lateness if isinstance(live, bool) else None
        return ChangeRequest(
            token=token,
            live=live,
            definition=self.read_definition(context, stops=live is not True),
            read=self.read == "auto",
            verify=self.verify,
            expect_name=read_expected_name(self.expect_name, given=self.expects_name),
            latest_on=self.latest_on(context, allowed),
            latest_off=latest_moment(context, allowed, auto=None),
            dry_run=self.only_compare,
        )


class BatchUpdateCampaignOperator(BaseChangeOperator):
    """Update a push campaign: the given parameters change, each replaced whole, and the others stay.

    The operator reads the campaign if the key can, sets the payload's parameters, and sends the whole campaign, because
    Batch asks for at least as many parameters as the campaign has
    (https://doc.batch.com/developer/api/mep/campaigns/update). To switch a campaign on and off, use
    :class:`BatchSetCampaignLiveOperator`.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param payload: Parameters to set: an object, JSON text, or the name of a ``.json`` file next to the DAG (or in the
        DAG's ``template_searchpath``), which is rendered and parsed. Templated.
    :param definition: The payload that created the campaign, in the same forms. Default None. It is sent, with the
        payload's parameters, only if the campaign cannot be read. Templated.
    :param read: ``auto`` (default): read the campaign first if the key can. ``never``: use the definition.
    :param verify: As for :class:`BatchSetCampaignLiveOperator`.
    :param expect_name: Name that the campaign must have before the update. Default None. Templated.
    :param dry_run: Check and compare, but send nothing. Default False. The result then has ``differences``.
    :param max_lateness: How long after ``run_after`` a payload with ``push_time: "now"`` may still be sent, as for
        :class:`BatchSetCampaignLiveOperator`. Default ``auto``: 1 hour. None: no limit.
    :param batch_conn_id: Airflow connection of type ``batch``. Default ``batch_default``. Templated.
    :param app: App to act for, if the connection has ``api_keys``. Default: that of the given result. Templated.
    :param throttle: After a 429 or a maintenance of Batch: ``reschedule`` (default), which uses no retry, or ``retry``.
    :param max_wait: How long Batch may throttle the task; seconds or a timedelta. Default: 30 minutes, 6 hours to stop.

    The result in XCom is a :class:`~airflow_batch.results.CampaignResult`.

    A push that goes out at once (``push_time`` is ``now``, or comes within two minutes) is sent at most once by a task
    instance, its retries and cleared attempts included. A new DAG run sends it again.

    :raises BatchConfigurationError: when the DAG is parsed, for an argument that can never be right.
    :raises BatchPayloadError: before anything is sent, when a rendered argument is wrong.
    :raises BatchChangeRefusedError: before anything is sent, as for BatchSetCampaignLiveOperator, and for a payload
        that removes a parameter or makes a recurring campaign one-time.
    :raises BatchRepeatRefusedError: when an earlier request may have sent the push.
    :raises BatchApiError: one of its other subclasses; permanent ones fail the task at once.
    """

    template_fields: Sequence[str] = ("campaign", "payload", "definition", "expect_name", "batch_conn_id", "app")
    template_fields_renderers: ClassVar[dict[str, str]] = {"payload": "json", "definition": "json"}
    json_fields = ("payload", "definition")
    ui_color = "#f4e4ff"
    action = "update"

    def __init__(
        self,
        *,
        campaign: CampaignReference,
        payload: Payload,
        definition: Payload | None = None,
        read: Read = "auto",
        verify: Verify = "auto",
        expect_name: str | None = None,
        dry_run: bool = False,
        max_lateness: Lateness = "auto",
        batch_conn_id: str = BatchHook.default_conn_name,
        app: str | None = None,
        throttle: Throttle = "reschedule",
        max_wait: Duration | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_conn_id=batch_conn_id, app=app, throttle=throttle, max_wait=max_wait, **kwargs)
        check_arguments(read=read, verify=verify)
        self.campaign, self.payload = campaign, payload
        self.definition, self.read, self.verify, self.only_compare = definition, read, verify, dry_run
        self.expect_name, self.expects_name = expect_name, expect_name is not None
        self.max_lateness = read_lateness(max_lateness)

    def request(self, context: Context, token: str) -> ChangeRequest:
        """Return what the task asks for."""
        payload = check_payload(self.read_json("payload", context))
        return ChangeRequest(
            token=token,
            parameters=payload,
            definition=self.read_definition(context, stops=payload.get("live") is False),
            read=self.read == "auto",
            verify=self.verify,
            expect_name=read_expected_name(self.expect_name, given=self.expects_name),
            latest_on=self.latest_on(context, self.max_lateness) if payload.get("push_time") == "now" else None,
            dry_run=self.only_compare,
        )


class BatchCreateCampaignOperator(BaseCampaignOperator):
    """Create a push campaign: as a draft first, which then goes live if the payload says so.

    Batch has no idempotency key. So the campaign is created with ``live: false``, its token is kept in Airflow's task
    state store (Airflow 3.3 and later), and the whole payload is then sent to that token. If the answer to the creation
    is lost, the creation is repeated. Each repetition can leave one more draft, which never goes out.

    A campaign goes live at most once for each task instance: no retry and no cleared task switches it on again.
    Without saved state (Airflow below 3.3, and 3.4 for a cleared task) only the first attempt makes it live; later
    ones fail and ask for a new DAG run.

    :param payload: The campaign: an object, JSON text, or the name of a ``.json`` file next to the DAG, which is
        rendered and parsed. ``name``, ``live``, ``messages`` and a time are required. Templated.
    :param max_lateness: As for :class:`BatchUpdateCampaignOperator`. Default ``auto``: 1 hour. None: no limit.
    :param dry_run: Check the payload, but send nothing. Default False.
    :param force_new: Has no effect any more; deprecated. Start a new DAG run to create a campaign again.
    :param batch_conn_id: Airflow connection of type ``batch``. Default ``batch_default``. Templated.
    :param app: App to act for, if the connection has ``api_keys``. Default None. Templated.
    :param throttle: After a 429 or a maintenance of Batch: ``reschedule`` (default), which uses no retry, or ``retry``.
    :param max_wait: How long Batch may throttle the task; seconds or a timedelta. Default: 30 minutes.

    The result in XCom is a :class:`~airflow_batch.results.CampaignResult`.

    :raises BatchConfigurationError: when the DAG is parsed, for an argument that can never be right.
    :raises BatchPayloadError: before anything is sent, when the payload is wrong.
    :raises BatchChangeRefusedError: for a push time that has passed, and when a task that was cleared after the
        campaign had gone live has another payload.
    :raises BatchRepeatRefusedError: when the campaign may have gone live already, or may not go live any more.
    :raises BatchApiError: one of its other subclasses; permanent ones fail the task at once.
    """

    template_fields: Sequence[str] = ("payload", "batch_conn_id", "app")
    template_fields_renderers: ClassVar[dict[str, str]] = {"payload": "json"}
    json_fields = ("payload",)
    ui_color = "#e0f4e4"

    def __init__(
        self,
        *,
        payload: Payload,
        max_lateness: Lateness = "auto",
        dry_run: bool = False,
        force_new: bool | None = None,
        batch_conn_id: str = BatchHook.default_conn_name,
        app: str | None = None,
        throttle: Throttle = "reschedule",
        max_wait: Duration | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_conn_id=batch_conn_id, app=app, throttle=throttle, max_wait=max_wait, **kwargs)
        self.payload, self.only_compare = payload, dry_run
        self.max_lateness = read_lateness(max_lateness)
        if force_new is not None:
            warnings.warn(
                "force_new has no effect any more: a campaign is created as a draft first, and a new DAG run creates "
                "it again. Remove the argument.",
                DeprecationWarning,
                stacklevel=2,
            )

    def execute(self, context: Context) -> CampaignResult:
        """Create the campaign and return its result."""
        from airflow_batch._campaigns.create import create_campaign  # not needed to parse a DAG

        hook = self.hook_for(None)
        try:
            payload = check_new(check_payload(self.read_json("payload", context)))
        except BatchError:
            self.note_nothing_sent(context, None, hook.app)
            raise
        set_map_index_name(context, hook.app, payload["name"])
        request = CreateRequest(
            payload=payload,
            latest_on=latest_moment(context, self.max_lateness) if payload.get("push_time") == "now" else None,
            dry_run=self.only_compare,
        )
        with self.rescheduling(context):
            outcome = create_campaign(hook, SystemClock(), attempt_of(context), request, log=self.log)
        return self.result_of(context, outcome, app=hook.app, action="create")


class BatchDeleteCampaignOperator(BaseCampaignOperator):
    """Delete a push campaign.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param missing_ok: Whether the task succeeds if Batch does not know the campaign. Default False: a 404 fails the
        task, because the token or the app may be wrong. But it is a success if an earlier attempt may have deleted the
        campaign and this was saved (Airflow 3.3 and later).
    :param expect_name: Name that the campaign must have. Default None. Templated.
    :param dry_run: Check the campaign, but send nothing. Default False.
    :param batch_conn_id: Airflow connection of type ``batch``. Default ``batch_default``. Templated.
    :param app: App to act for, if the connection has ``api_keys``. Default: that of the given result. Templated.
    :param throttle: After a 429 or a maintenance of Batch: ``reschedule`` (default), which uses no retry, or ``retry``.
    :param max_wait: How long Batch may throttle the task; seconds or a timedelta. Default: 30 minutes.

    The result in XCom is a :class:`~airflow_batch.results.CampaignResult`. ``changed`` is null if an earlier attempt
    may have deleted the campaign, and false if there was none (``missing_ok``).

    :raises BatchConfigurationError: when the DAG is parsed, for an argument that can never be right.
    :raises BatchPayloadError: before anything is sent, when the campaign is wrong.
    :raises BatchChangeRefusedError: before anything is sent, for a campaign with another name.
    :raises BatchApiError: one of its subclasses; permanent ones fail the task at once.
    """

    template_fields: Sequence[str] = ("campaign", "expect_name", "batch_conn_id", "app")
    ui_color = "#f8e0e0"

    def __init__(
        self,
        *,
        campaign: CampaignReference,
        missing_ok: bool = False,
        expect_name: str | None = None,
        dry_run: bool = False,
        batch_conn_id: str = BatchHook.default_conn_name,
        app: str | None = None,
        throttle: Throttle = "reschedule",
        max_wait: Duration | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_conn_id=batch_conn_id, app=app, throttle=throttle, max_wait=max_wait, **kwargs)
        self.campaign, self.missing_ok, self.only_compare = campaign, missing_ok, dry_run
        self.expect_name, self.expects_name = expect_name, expect_name is not None

    def execute(self, context: Context) -> CampaignResult:
        """Delete the campaign and return the result."""
        from airflow_batch._campaigns.delete import delete_campaign  # not needed to parse a DAG

        token, app = read_reference(self.campaign)
        hook = self.hook_for(app)
        set_map_index_name(context, hook.app, self.expect_name or token)
        with self.rescheduling(context):
            outcome = delete_campaign(
                hook,
                SystemClock(),
                attempt_of(context),
                token,
                missing_ok=self.missing_ok,
                expect_name=read_expected_name(self.expect_name, given=self.expects_name),
                dry_run=self.only_compare,
                log=self.log,
            )
        return self.result_of(context, outcome, app=hook.app, action="delete")


class BatchGetCampaignStatsOperator(BaseCampaignOperator):
    """Read a campaign's statistics, once. To wait until there are some, put a sensor before it.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param batch_conn_id: Airflow connection of type ``batch``. Default ``batch_default``. Templated.
    :param app: App to read for, if the connection has ``api_keys``. Default: that of the given result. Templated.
    :param throttle: After a 429 or a maintenance of Batch: ``reschedule`` (default), which uses no retry, or ``retry``.
    :param max_wait: How long Batch may throttle the task; seconds or a timedelta. Default: 30 minutes.

    The result in XCom is ``{"campaign_token", "app", "detail": [row, ...]}`` with the rows of
    :meth:`~airflow_batch.hooks.batch.BatchHook.get_campaign_stats`: counters for each date of sending, and the open
    rate. The connection needs a Live API key.

    :raises BatchConfigurationError: when the DAG is parsed, for an argument that can never be right.
    :raises BatchPayloadError: before anything is sent, when the campaign is wrong.
    :raises BatchApiError: one of its subclasses; permanent ones fail the task at once.
    """

    template_fields: Sequence[str] = ("campaign", "batch_conn_id", "app")
    ui_color = "#e9e0ff"

    def __init__(
        self,
        *,
        campaign: CampaignReference,
        batch_conn_id: str = BatchHook.default_conn_name,
        app: str | None = None,
        throttle: Throttle = "reschedule",
        max_wait: Duration | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_conn_id=batch_conn_id, app=app, throttle=throttle, max_wait=max_wait, **kwargs)
        self.campaign = campaign

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the statistics and return them."""
        token, app = read_reference(self.campaign)
        hook = self.hook_for(app)
        set_map_index_name(context, hook.app, token)
        with self.rescheduling(context):
            stats = hook.get_campaign_stats(token)
        self.log.info("Campaign %r has statistics of %s dates.", token, len(stats["detail"]))
        return {"campaign_token": token, "app": hook.app, "detail": stats["detail"]}
