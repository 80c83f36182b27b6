"""What a DAG author writes about one campaign. Thin: render, check, call the core, shape the result.

How a campaign is changed, created and deleted without harm is in ``_campaigns/``; what the operators share is in
``operators/_base.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_batch._airflow.dag_run import set_map_index_name
from airflow_batch._campaigns.attempt import note_nothing_sent
from airflow_batch._campaigns.create import create_campaign
from airflow_batch._campaigns.delete import delete_campaign
from airflow_batch._campaigns.payload import check_live_argument, check_new, check_payload, read_live
from airflow_batch._campaigns.protocol import SystemClock
from airflow_batch._campaigns.reference import read_expected_name, read_reference
from airflow_batch._campaigns.request import ChangeRequest, CreateRequest
from airflow_batch.exceptions import BatchError
from airflow_batch.operators._base import (
    MAX_LATENESS,
    BaseCampaignOperator,
    BaseChangeOperator,
    Lateness,
    attempt_of,
    latest_moment,
    read_lateness,
)
from airflow_batch.policies.retry import MAX_WAIT
from airflow_batch.results import CampaignResult
from airflow_batch.windows import CampaignWindow

if TYPE_CHECKING:
    from airflow.sdk import Context


class BatchSetCampaignLiveOperator(BaseChangeOperator):
    """Switch a campaign on or off, so that late, repeated, cleared and overlapping runs do no harm.

    The operator reads the campaign, sets ``live``, sends the whole campaign back, and reads it again; it fails if
    anything is gone. Batch asks for the whole payload in an update
    (https://doc.batch.com/developer/api/mep/campaigns/update). If the campaign is in the desired state already, nothing
    is sent. A stop always gets through: if Batch refuses the whole campaign, less of it is sent.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param live: The desired state: a boolean, the text ``true`` or ``false``, or a
        :class:`~airflow_batch.windows.CampaignWindow`, which is evaluated when the request is sent. Templated.
    :param definition: What the campaign was created from: an object, JSON text, or the name of a ``.json`` file next to
        the DAG. Sent only where the campaign cannot be read; it is never mixed with what Batch shows. Templated.
    :param read: ``auto`` (default): read the campaign first where the key can. ``never``: send the definition if there
        is one, else ``live`` alone.
    :param max_lateness: How long after the run's ``run_after`` a boolean may still be sent, in scheduled, backfill and
        asset-triggered runs; seconds or a timedelta. Default ``auto``: 1 hour to switch on, no limit to switch off.
        None: no limit. Later, the task is skipped, and so is what follows it (unless its ``trigger_rule`` says
        otherwise).
    :param expect_name: Name that the campaign must have. Where the name cannot be read, switching on is refused and
        switching off goes ahead with a warning. Templated.
    :param dry_run: Check and compare, but send nothing; the result then has ``differences``: a list of
        ``{"parameter", "now", "wanted"}``.
    :param batch_conn_id: Airflow connection of type ``batch``. Templated.
    :param app: App to act for, where the connection has ``api_keys``; else that of the given result. Templated.

    The other arguments are those of :class:`~airflow_batch.operators._base.BaseCampaignOperator`.

    The result in XCom is a :class:`~airflow_batch.results.CampaignResult`. ``changed`` is null where an unconfirmed
    request of this task may have been applied.

    :raises BatchChangeRefusedError: before anything is sent, for a campaign made in the dashboard, one of another name,
        and a one-time campaign that would be live after its push time.
    :raises BatchPayloadError: before anything is sent, when an argument is wrong.
    :raises BatchRepeatRefusedError: where an earlier request may have sent the push.
    :raises BatchVerificationError: when the campaign is not as written, or lacks what it had.
    :raises BatchApiError: one of its other subclasses; permanent ones fail the task at once.
    """

    template_fields: Sequence[str] = ("campaign", "live", "definition", "expect_name", "batch_conn_id", "app")
    template_fields_renderers: ClassVar[dict[str, str]] = {"definition": "json"}
    ui_color = "#f4e4ff"
    action = "set_live"

    def __init__(self, *, campaign: Any, live: Any, **kwargs: Any) -> None:
        super().__init__(campaign=campaign, **kwargs)
        check_live_argument(live)
        self.live = live

    def request(self, context: Context, token: str) -> ChangeRequest:
        """Return what the task asks for."""
        live = self.live if isinstance(self.live, CampaignWindow) else read_live(self.live)
        is_fixed = isinstance(live, bool)
        allowed = self.max_lateness if is_fixed else None
        return ChangeRequest(
            token=token,
            live=live,
            definition=self.read_definition(context, stops=live is not True),
            read=self.read == "auto",
            expect_name=read_expected_name(self.expect_name, given=self.expects_name),
            latest_on=latest_moment(context, MAX_LATENESS if allowed == "auto" else allowed),
            latest_off=latest_moment(context, None if allowed == "auto" else allowed),
            dry_run=self.only_compare,
        )


class BatchUpdateCampaignOperator(BaseChangeOperator):
    """Update a push campaign: the given parameters change, each replaced whole, and the others stay.

    The operator reads the campaign where the key can, puts the payload's parameters in place, and sends all of it, for
    Batch asks for at least as many parameters as the campaign has
    (https://doc.batch.com/developer/api/mep/campaigns/update). To switch a campaign on and off, use
    :class:`BatchSetCampaignLiveOperator`.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param payload: Parameters to set: an object, JSON text, or the name of a ``.json`` file next to the DAG (or in the
        DAG's ``template_searchpath``), which is rendered and parsed; checked by
        :func:`airflow_batch._campaigns.payload.check_payload`. Templated.
    :param definition: As for BatchSetCampaignLiveOperator. Templated.
    :param read: ``auto`` (default) or ``never``: then the definition is sent with the payload's parameters in place.
    :param max_lateness: How long after the run's ``run_after`` a payload with ``push_time: "now"`` may still be sent,
        as for BatchSetCampaignLiveOperator. Default ``auto``: 1 hour.
    :param expect_name: Name that the campaign must have now. Templated.
    :param dry_run: Check and compare, but send nothing; the result then has ``differences``.
    :param batch_conn_id: Airflow connection of type ``batch``. Templated.
    :param app: App to act for, where the connection has ``api_keys``; else that of the given result. Templated.

    The other arguments are those of :class:`~airflow_batch.operators._base.BaseCampaignOperator`.

    The result in XCom is a :class:`~airflow_batch.results.CampaignResult`.

    A push that goes out at once (``push_time`` is ``now``, or comes within two minutes) is sent at most once by a task
    instance, retries and clears included. A new DAG run sends it again.

    :raises BatchChangeRefusedError: before anything is sent, as for BatchSetCampaignLiveOperator, and for a payload
        that removes a parameter or makes a recurring campaign one-time.
    :raises BatchPayloadError: before anything is sent, when an argument is wrong.
    :raises BatchRepeatRefusedError: where an earlier request may have sent the push.
    :raises BatchApiError: one of its other subclasses; permanent ones fail the task at once.
    """

    template_fields: Sequence[str] = ("campaign", "payload", "definition", "expect_name", "batch_conn_id", "app")
    template_fields_renderers: ClassVar[dict[str, str]] = {"payload": "json", "definition": "json"}
    json_fields = ("payload", "definition")
    ui_color = "#f4e4ff"
    action = "update"

    def __init__(self, *, campaign: Any, payload: Any, **kwargs: Any) -> None:
        super().__init__(campaign=campaign, **kwargs)
        self.payload = payload

    def request(self, context: Context, token: str) -> ChangeRequest:
        """Return what the task asks for."""
        payload = check_payload(self.read_json("payload", context))
        return ChangeRequest(
            token=token,
            parameters=payload,
            definition=self.read_definition(context, stops=payload.get("live") is False),
            read=self.read == "auto",
            expect_name=read_expected_name(self.expect_name, given=self.expects_name),
            latest_on=latest_for_now(context, payload, self.max_lateness),
            dry_run=self.only_compare,
        )


class BatchCreateCampaignOperator(BaseCampaignOperator):
    """Create a push campaign: as a draft first, which then goes live if the payload says so.

    Batch has no idempotency key. So the campaign is created with ``live: false``, its token is kept in Airflow's task
    state store (Airflow 3.3 and later), and the whole payload is then sent to that token. If the answer to the creation
    is lost, it is repeated: each time one more draft can remain, which never goes out. Drafts are listed by the Batch
    dashboard and by :meth:`~airflow_batch.hooks.batch.BatchHook.list_campaigns`.

    A campaign goes live at most once for each task instance: no retry and no clear switches it on again after it went
    live. Without saved state (Airflow below 3.3, and 3.4 after a clear) only the first attempt makes it live; later
    ones fail and ask for a new DAG run.

    :param payload: What to create: an object, JSON text, or the name of a ``.json`` file next to the DAG, which is
        rendered and parsed. ``name``, ``live`` and ``messages`` are required, and a time. Templated.
    :param max_lateness: As for BatchUpdateCampaignOperator.
    :param dry_run: Check the payload, but send nothing.
    :param force_new: Has no effect any more; deprecated. Start a new DAG run to create a campaign again.
    :param batch_conn_id: Airflow connection of type ``batch``. Templated.
    :param app: App to create for, where the connection has ``api_keys``. Templated.

    The other arguments are those of :class:`~airflow_batch.operators._base.BaseCampaignOperator`.

    The result in XCom is a :class:`~airflow_batch.results.CampaignResult`.

    :raises BatchPayloadError: before anything is sent, when the payload is wrong.
    :raises BatchChangeRefusedError: for a push time that has passed, and for another payload after a clear once the
        campaign has gone live.
    :raises BatchRepeatRefusedError: where the campaign may have gone live already, or may not go live any more.
    :raises BatchApiError: one of its other subclasses; permanent ones fail the task at once.
    """

    template_fields: Sequence[str] = ("payload", "batch_conn_id", "app")
    template_fields_renderers: ClassVar[dict[str, str]] = {"payload": "json"}
    json_fields = ("payload",)
    ui_color = "#e0f4e4"

    def __init__(
        self,
        *,
        payload: Any,
        max_lateness: Lateness = "auto",
        dry_run: bool = False,
        force_new: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.payload = payload
        self.max_lateness = read_lateness(max_lateness)
        self.only_compare = dry_run
        if force_new is not None:
            warnings.warn(
                "force_new has no effect any more: a campaign is created as a draft first, and a new DAG run creates "
                "it again. Remove the argument.",
                DeprecationWarning,
                stacklevel=2,
            )

    def execute(self, context: Context) -> CampaignResult:
        """Create the campaign and return its result."""
        hook = self.hook_for(None)
        try:
            payload = check_new(check_payload(self.read_json("payload", context)))
        except BatchError:
            note_nothing_sent(attempt_of(context), SystemClock(), None, hook.app, self.log)
            raise
        set_map_index_name(context, hook.app, payload["name"])
        request = CreateRequest(
            payload=payload,
            latest_on=latest_for_now(context, payload, self.max_lateness),
            dry_run=self.only_compare,
        )
        with self.rescheduling(context, self.max_wait or MAX_WAIT):
            outcome = create_campaign(hook, SystemClock(), attempt_of(context), request, log=self.log)
        return self.result_of(context, outcome, app=hook.app, action="create")


class BatchDeleteCampaignOperator(BaseCampaignOperator):
    """Delete a push campaign.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param missing_ok: Whether a campaign that Batch does not know is fine. Default False: a 404 fails the task, for the
        token or the app may be wrong; but it is a success if an earlier attempt may have deleted it, as far as that was
        saved (Airflow 3.3 and later).
    :param expect_name: Name that the campaign must have. Templated.
    :param dry_run: Check the campaign, but send nothing.
    :param batch_conn_id: Airflow connection of type ``batch``. Templated.
    :param app: App to act for, where the connection has ``api_keys``; else that of the given result. Templated.

    The other arguments are those of :class:`~airflow_batch.operators._base.BaseCampaignOperator`.

    The result in XCom is a :class:`~airflow_batch.results.CampaignResult`. ``changed`` is null where an earlier attempt
    may have deleted the campaign; false with ``missing_ok`` where there was none.

    :raises BatchPayloadError: before anything is sent, when the campaign is wrong.
    :raises BatchChangeRefusedError: before anything is sent, for a campaign with another name.
    :raises BatchApiError: one of its subclasses; permanent ones fail the task at once.
    """

    template_fields: Sequence[str] = ("campaign", "expect_name", "batch_conn_id", "app")
    ui_color = "#f8e0e0"

    def __init__(
        self,
        *,
        campaign: Any,
        missing_ok: bool = False,
        expect_name: str | None = None,
        dry_run: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.campaign = campaign
        self.missing_ok = missing_ok
        self.expect_name = expect_name
        self.expects_name = expect_name is not None
        self.only_compare = dry_run

    def execute(self, context: Context) -> CampaignResult:
        """Delete the campaign and return the result."""
        token, app = read_reference(self.campaign)
        hook = self.hook_for(app)
        set_map_index_name(context, hook.app, self.expect_name or token)
        with self.rescheduling(context, self.max_wait or MAX_WAIT):
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
    """Leave a campaign's statistics in XCom.

    Reads once. To wait until there is something to read, put a sensor before it.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param batch_conn_id: Airflow connection of type ``batch``, with a Live API key. Templated.
    :param app: App to read for, where the connection has ``api_keys``; else that of the given result. Templated.

    The other arguments are those of :class:`~airflow_batch.operators._base.BaseCampaignOperator`.

    The result is ``{"campaign_token", "app", "detail": [row, ...]}``, its rows as
    :meth:`~airflow_batch.hooks.batch.BatchHook.get_campaign_stats` gives them: counters for each date of sending, and
    the open rate.

    :raises BatchPayloadError: before anything is sent, when the campaign is wrong.
    :raises BatchApiError: one of its subclasses; permanent ones fail the task at once.
    """

    template_fields: Sequence[str] = ("campaign", "batch_conn_id", "app")
    ui_color = "#e9e0ff"

    def __init__(self, *, campaign: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.campaign = campaign

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the statistics and return them."""
        token, app = read_reference(self.campaign)
        hook = self.hook_for(app)
        set_map_index_name(context, hook.app, token)
        with self.rescheduling(context, self.max_wait or MAX_WAIT):
            stats = hook.get_campaign_stats(token)
        self.log.info("Campaign %r has statistics of %s dates.", token, len(stats["detail"]))
        return {"campaign_token": token, "app": hook.app, "detail": stats["detail"]}


def latest_for_now(context: Context, payload: Mapping[str, Any], allowed: timedelta | Literal["auto"] | None) -> Any:
    """Return until when a payload with ``push_time: "now"`` may be sent (rule 3), None for any other."""
    if payload.get("push_time") != "now":
        return None
    return latest_moment(context, MAX_LATENESS if allowed == "auto" else allowed)
