"""What a DAG author writes about one campaign. Thin: render, check, call, shape the result.

How a campaign is changed without harm is in ``changes.py``, how it is created once in ``creations.py``; what the
operators share in ``operators/base.py`` and ``operators/changing.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_batch.campaigns import read_reference
from airflow_batch.compat import AirflowSkipException, recall, remember, reschedule_at
from airflow_batch.creations import CampaignCreation, LookAgain
from airflow_batch.exceptions import BatchNotFoundError
from airflow_batch.operators.base import BatchOperator
from airflow_batch.operators.changing import WROTE, BatchChangeOperator
from airflow_batch.payloads import check_new, check_payload
from airflow_batch.policies.retry import MAX_WAIT, read_duration
from airflow_batch.results import CampaignResult
from airflow_batch.runs import lateness, name_index, run_began, wanted_live
from airflow_batch.windows import CampaignWindow

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_batch.hooks.batch import BatchHook

CREATION = "airflow_batch_creation"
MAX_LATENESS = timedelta(hours=1)
"""How late a run may still switch a campaign on. Nothing of Batch's: a push of this morning is wrong tonight."""


class BatchSetCampaignLiveOperator(BatchChangeOperator):
    """Switch a campaign on or off, so that late, repeated, cleared and overlapping runs do no harm.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param live: What it should be: a boolean, text that renders to one, or a
        :class:`~airflow_batch.windows.CampaignWindow`, which is asked at the moment of sending. Templated.
    :param definition: What the campaign was created from: an object, JSON text, or the name of a ``.json`` file next to
        the DAG. Fills what view does not give; where they differ, the campaign is kept as it is in Batch. Templated.
    :param read: ``auto`` (default): read the campaign first where the key can, and send the whole of it back.
        ``never``: send the definition if there is one, else ``live`` alone. A definition with a ``push_time`` of
        ``now`` then sends the push when it switches on.
    :param max_lateness: How long after the run's ``run_after`` a boolean may still be sent, in scheduled, backfill and
        asset runs; seconds or a timedelta. Default ``auto``: 1 hour to switch on, no limit to switch off. None: no
        limit. Later, the task is skipped, and so is what follows it (unless its ``trigger_rule`` says otherwise).
    :param expect_name: Fail where the campaign has another name. Where it cannot be read, the name is sent along: a
        wrong token would rename the wrong campaign. Templated.
    :param dry_run: Judge and compare, but send nothing; the result has ``differences`` then: a list of
        ``{"parameter", "now", "wanted"}``.
    :param batch_conn_id: Airflow connection of type ``batch``. Templated.
    :param app: App to act for, where the connection has ``api_keys``; else that of the given result. Templated.

    The other arguments are those of :class:`~airflow_batch.operators.base.BatchOperator`: ``throttle``, ``max_wait``.

    Batch asks for the whole payload in an update and documents no way to send a part
    (https://doc.batch.com/developer/api/mep/campaigns/update), so the campaign is read, ``live`` laid over it, and all
    of it sent back; then it is read again, and the task fails if anything is gone. Where it is as wanted already,
    nothing is sent. Stopping is never refused for a definition: what Batch does not take back is left out.

    The result in XCom is a :class:`~airflow_batch.results.CampaignResult`. ``changed`` is null where an earlier attempt
    may have written and the campaign was found as wanted.

    :raises BatchChangeRefusedError: before anything is sent, for a campaign made in the dashboard, one of another name,
        and a one-time campaign that is to go live after its push time.
    :raises BatchPayloadError: before anything is sent, when an argument is wrong.
    :raises BatchRepeatRefusedError: where an earlier attempt may have sent the push and it cannot be told.
    :raises BatchVerificationError: when the campaign is not as written, or lacks what it had.
    :raises BatchApiError: one of its other subclasses; permanent ones fail the task at once.
    """

    template_fields: Sequence[str] = ("campaign", "live", "definition", "expect_name", "batch_conn_id", "app")
    template_fields_renderers: ClassVar[dict[str, str]] = {"definition": "json"}
    ui_color = "#f4e4ff"
    action = "set_live"

    def __init__(
        self,
        *,
        campaign: Any,
        live: Any,
        max_lateness: timedelta | float | Literal["auto"] | None = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(campaign=campaign, **kwargs)
        self.live = live
        self.max_lateness: timedelta | str | None = (
            "auto" if max_lateness == "auto" else read_duration("max_lateness", max_lateness, also=", 'auto'")
        )

    def wanted(self, context: Context) -> dict[str, Any]:
        """Return ``live`` at this moment."""
        return {"live": wanted_live(self.live, context)}

    def check_in_time(self, context: Context, wanted: Mapping[str, Any]) -> None:
        """Skip the task where it is too late for a fixed boolean."""
        late = lateness(context)
        allowed = self.max_lateness
        if allowed == "auto":
            allowed = MAX_LATENESS if wanted["live"] else None
        if isinstance(self.live, CampaignWindow) or late is None or not isinstance(allowed, timedelta):
            return
        if late > allowed:
            raise AirflowSkipException(
                f"Not switched {'on' if wanted['live'] else 'off'}: the run was due {_duration(late)} ago, and "
                f"max_lateness is {_duration(allowed)}. This task sent nothing in this attempt."
            )


class BatchUpdateCampaignOperator(BatchChangeOperator):
    """Update a push campaign: what is given changes, the rest stays.

    The campaign is read first where the key can, the payload laid over it, and all of it sent, for Batch asks for at
    least as many parameters as the campaign has (https://doc.batch.com/developer/api/mep/campaigns/update). To switch a
    campaign on and off, use :class:`BatchSetCampaignLiveOperator`, which also minds late runs.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param payload: Parameters to set: an object, JSON text, or the name of a ``.json`` file next to the DAG (or in the
        DAG's ``template_searchpath``), which is rendered and parsed; checked by
        :func:`airflow_batch.payloads.check_payload`. Templated.
    :param definition: As for BatchSetCampaignLiveOperator. Templated.
    :param read: ``auto`` (default) or ``never``: then the payload is sent as it is, completed by the definition.
    :param expect_name: Fail where the campaign has another name now. Templated.
    :param dry_run: Judge and compare, but send nothing; the result has ``differences`` then.
    :param batch_conn_id: Airflow connection of type ``batch``. Templated.
    :param app: App to act for, where the connection has ``api_keys``; else that of the given result. Templated.

    The other arguments are those of :class:`~airflow_batch.operators.base.BatchOperator`: ``throttle``, ``max_wait``.

    The result in XCom is a :class:`~airflow_batch.results.CampaignResult`.

    An attempt that follows one that may have been applied sends only what is not as wanted. A write that may send a
    push at once (``push_time`` is ``now``, or has come meanwhile) is never sent again blindly.

    :raises BatchChangeRefusedError: before anything is sent, as for BatchSetCampaignLiveOperator, and for a payload
        that removes a parameter or makes a recurring campaign one-time.
    :raises BatchPayloadError: before anything is sent, when an argument is wrong.
    :raises BatchApiError: one of its subclasses; permanent ones fail the task at once.
    """

    template_fields: Sequence[str] = ("campaign", "payload", "definition", "expect_name", "batch_conn_id", "app")
    template_fields_renderers: ClassVar[dict[str, str]] = {"payload": "json", "definition": "json"}
    json_fields = ("payload", "definition")
    ui_color = "#f4e4ff"
    action = "update"

    def __init__(self, *, campaign: Any, payload: Any, **kwargs: Any) -> None:
        super().__init__(campaign=campaign, **kwargs)
        self.payload = payload

    def wanted(self, context: Context) -> dict[str, Any]:
        """Return the payload, checked."""
        return check_payload(self.read_json("payload", context))


class BatchCreateCampaignOperator(BatchOperator):
    """Create a push campaign, once.

    Batch has no idempotency key: a request that is repeated makes a second campaign. So every attempt but the first
    looks in the list for what an earlier one may have created, after a clear too, unless nothing was sent by then:
    from the newest on, of the same name, created since the earlier attempt (five minutes of tolerance on Batch's
    clock), and with nothing that contradicts the payload. One that no other task has created is adopted; of several,
    none. Only where several looks over 2 minutes after the request find nothing is it sent again, and then the list is
    looked at once more.

    What remains possible: two processes of one task at the same moment, and a request that takes effect more than 4
    minutes after it was sent, where a second one was. Where nothing is kept between attempts (Airflow below 3.3; on
    3.4 after a clear) the search goes back to the run's ``run_after``, a second request keeps its worker slot for the 2
    minutes until it is checked, and from the third attempt on a campaign that is found is adopted 4 minutes later.

    :param payload: What to create: an object, JSON text, or the name of a ``.json`` file next to the DAG, which is
        rendered and parsed. ``name``, ``live`` and ``messages`` are required, and a time. Templated.
    :param force_new: Create again after a clear, though a campaign of before may be there. Default False.
    :param batch_conn_id: Airflow connection of type ``batch``. Templated.
    :param app: App to create for, where the connection has ``api_keys``. Templated.

    The other arguments are those of :class:`~airflow_batch.operators.base.BatchOperator`: ``throttle``, ``max_wait``.

    The result in XCom is a :class:`~airflow_batch.results.CampaignResult`; ``changed`` is null where the campaign was
    found in the list.

    :raises BatchPayloadError: before anything is sent, when the payload is wrong.
    :raises BatchRepeatRefusedError: where it cannot be told whether an earlier attempt created it, above all with a key
        that cannot list campaigns.
    :raises BatchApiError: one of its other subclasses; permanent ones fail the task at once.
    """

    template_fields: Sequence[str] = ("payload", "batch_conn_id", "app")
    template_fields_renderers: ClassVar[dict[str, str]] = {"payload": "json"}
    json_fields = ("payload",)
    ui_color = "#e0f4e4"

    def __init__(self, *, payload: Any, force_new: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.payload = payload
        self.force_new = force_new

    def execute(self, context: Context) -> CampaignResult:
        """Create the campaign, or find it, and return its result."""
        payload = check_new(check_payload(self.read_json("payload", context)))
        hook = self.hook_for(None)
        name_index(context, hook.app, payload["name"])
        requested_at = datetime.now(UTC)
        ti = context["ti"]
        creation = CampaignCreation(
            hook=hook,
            payload=payload,
            attempt=ti.try_number,
            since=run_began(context) or requested_at,
            waiting_since=ti.get_first_reschedule_date(context),
            record=recall(context, CREATION, across_clears=True),
            keep=lambda record: remember(context, CREATION, record),
            claimed=lambda: self._claimed(context),
            generation=max(0, ti.max_tries - (self.retries or 0)),
            force_new=self.force_new,
        )
        step = self.give_way(context, self.max_wait or MAX_WAIT, creation.make)
        if isinstance(step, LookAgain):
            raise reschedule_at(step.moment)
        return self.result(
            context,
            token=step.token,
            app=hook.app,
            action="create",
            live=payload["live"],
            name=payload["name"],
            changed=step.changed,
            http_status=step.http_status,
            requested_at=requested_at,
            payload=payload,
        )

    def _claimed(self, context: Context) -> set[str]:
        """Return the campaigns that this task has created in its other indexes and in earlier runs."""
        results = context["ti"].xcom_pull(task_ids=self.task_id, include_prior_dates=True)
        results = results if isinstance(results, list) else [results]
        return {
            str(result["campaign_token"])
            for result in results
            if isinstance(result, Mapping) and "campaign_token" in result
        }


class BatchDeleteCampaignOperator(BatchOperator):
    """Delete a push campaign.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param missing_ok: Whether a campaign that Batch does not know is fine. Default False: a 404 fails the task, for the
        token or the app may be wrong; but after an earlier attempt that may have deleted it, it is a success.
    :param batch_conn_id: Airflow connection of type ``batch``. Templated.
    :param app: App to act for, where the connection has ``api_keys``; else that of the given result. Templated.

    The other arguments are those of :class:`~airflow_batch.operators.base.BatchOperator`: ``throttle``, ``max_wait``.

    The result in XCom is a :class:`~airflow_batch.results.CampaignResult`. ``changed`` is null where the campaign was
    gone already, perhaps by an earlier attempt; false with ``missing_ok`` where there was none; and on Airflow 3.3 and
    later true where an earlier attempt had Batch's word that it is deleted.

    :raises BatchPayloadError: before anything is sent, when the campaign is wrong.
    :raises BatchApiError: one of its subclasses; permanent ones fail the task at once.
    """

    template_fields: Sequence[str] = ("campaign", "batch_conn_id", "app")
    ui_color = "#f8e0e0"

    def __init__(self, *, campaign: Any, missing_ok: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.campaign = campaign
        self.missing_ok = missing_ok

    def execute(self, context: Context) -> CampaignResult:
        """Delete the campaign and return the result."""
        token, app = read_reference(self.campaign)
        hook = self.hook_for(app)
        name_index(context, hook.app, token)
        requested_at = datetime.now(UTC)
        status, changed = self.give_way(
            context, self.max_wait or MAX_WAIT, lambda: self._delete(hook, token, self.may_have_been_applied(context))
        )
        if changed:
            remember(context, WROTE, True)
        elif changed is None and recall(context, WROTE) is True:
            changed = True
        return self.result(
            context,
            token=token,
            app=hook.app,
            action="delete",
            live=None,
            name=None,
            changed=changed,
            http_status=status,
            requested_at=requested_at,
            payload={},
        )

    def _delete(self, hook: BatchHook, token: str, doubtful: bool) -> tuple[int, bool | None]:
        try:
            status = hook.delete_campaign(token)
        except BatchNotFoundError as error:
            if not doubtful and not self.missing_ok:
                raise
            self.log.info(
                "Campaign %r is gone%s. %s", token, ", perhaps by an earlier attempt" if doubtful else "", error
            )
            return 404, None if doubtful else False
        self.log.info("Deleted campaign %r. Batch confirmed with %s.", token, status)
        return status, True


class BatchGetCampaignStatsOperator(BatchOperator):
    """Leave a campaign's statistics in XCom.

    Reads once. To wait until there is something to read, put a sensor before it.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param batch_conn_id: Airflow connection of type ``batch``, with a Live API key. Templated.
    :param app: App to read for, where the connection has ``api_keys``; else that of the given result. Templated.

    The other arguments are those of :class:`~airflow_batch.operators.base.BatchOperator`: ``throttle``, ``max_wait``.

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
        name_index(context, hook.app, token)
        stats = self.give_way(context, self.max_wait or MAX_WAIT, lambda: hook.get_campaign_stats(token))
        self.log.info("Campaign %r has statistics of %s dates.", token, len(stats["detail"]))
        return {"campaign_token": token, "app": hook.app, "detail": stats["detail"]}


def _duration(time: timedelta) -> str:
    minutes, seconds = divmod(int(time.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        " ".join(f"{count} {unit}" for count, unit in ((hours, "h"), (minutes, "min"), (seconds, "s")) if count)
        or "0 s"
    )
