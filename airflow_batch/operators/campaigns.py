"""What a DAG author writes about one campaign. Thin: render, check, call, shape the result.

How a campaign is changed without harm is in ``changes.py``, how it is created once in ``creations.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_batch.campaigns import read_reference
from airflow_batch.changes import CampaignChange, Outcome
from airflow_batch.compat import AirflowSkipException, recall, remember
from airflow_batch.exceptions import BatchConfigurationError, BatchPayloadError
from airflow_batch.operators.base import BatchOperator, positive
from airflow_batch.payloads import check_payload, stops
from airflow_batch.policies.retry import MAX_WAIT, MAX_WAIT_TO_STOP
from airflow_batch.results import CampaignResult, iso_utc, text_or_none
from airflow_batch.runs import lateness, wanted_live
from airflow_batch.windows import CampaignWindow

if TYPE_CHECKING:
    from airflow.sdk import Context

WROTE = "airflow_batch_wrote"
MAX_LATENESS = timedelta(hours=1)
"""How late a run may still switch a campaign on. Nothing of Batch's: a push of this morning is wrong tonight."""


class BatchChangeOperator(BatchOperator):
    """Base of the operators that change a campaign. What they share is told at BatchSetCampaignLiveOperator."""

    action: ClassVar[str]
    json_fields: ClassVar[tuple[str, ...]] = ("definition",)

    def __init__(
        self,
        *,
        campaign: Any,
        definition: Any = None,
        read: Literal["auto", "never"] = "auto",
        expect_name: str | None = None,
        dry_run: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if read not in ("auto", "never"):
            raise BatchConfigurationError(f"read must be 'auto' or 'never', not {read!r}.")
        self.campaign = campaign
        self.definition = definition
        self.read = read
        self.expect_name = expect_name
        self.only_compare = dry_run

    def execute(self, context: Context) -> CampaignResult:
        """Make the change and return its result."""
        token, app = read_reference(self.campaign)
        wanted = self.wanted(context)
        change = CampaignChange(
            hook=self.hook_for(app),
            token=token,
            wanted=lambda: self.wanted(context),
            definition=self._definition(context, stopping=stops(wanted)),
            read=self.read == "auto",
            expect_name=self.expect_name or None,
            dry_run=self.only_compare,
            before_sending=lambda wanted: self.check_in_time(context, wanted),
            confirmed=lambda: remember(context, WROTE, True),
        )
        self.name_index(context, change.hook.app, self.expect_name or token)
        ti = context["ti"]
        outcome = self.give_way(
            context,
            self.max_wait or (MAX_WAIT_TO_STOP if stops(wanted) else MAX_WAIT),
            lambda: change.make(doubtful=self.may_have_been_applied(context), last=ti.try_number > ti.max_tries),
        )
        self.name_index(context, change.hook.app, outcome.name or token)
        return self._result(context, token, change.hook.app, outcome)

    def wanted(self, context: Context) -> dict[str, Any]:
        """Return the parameters to set at this moment."""
        raise NotImplementedError

    def check_in_time(self, context: Context, wanted: Mapping[str, Any]) -> None:
        """Skip the task where it is too late to send."""

    def _definition(self, context: Context, *, stopping: bool) -> dict[str, Any] | None:
        try:
            definition = self.read_json("definition", context)
            return None if definition in (None, "") else check_payload(definition, "definition")
        except BatchPayloadError as error:
            if not stopping:
                raise
            self.log.warning("Stopping goes ahead without the definition. %s", error)
            return None

    def _result(self, context: Context, token: str, app: str | None, outcome: Outcome) -> CampaignResult:
        wrote = outcome.changed is None and recall(context, WROTE) is True
        result: CampaignResult = {
            "campaign_token": token,
            "app": app,
            "action": "dry_run" if self.only_compare else self.action,
            "live": outcome.live,
            "name": text_or_none(outcome.name),
            "changed": True if wrote else outcome.changed,
            "http_status": outcome.http_status,
            "attempt": context["ti"].try_number,
            "requested_at": iso_utc(outcome.requested_at),
            "completed_at": iso_utc(datetime.now(UTC)),
            "payload_digest": outcome.digest,
        }
        if outcome.differences is not None:
            result["differences"] = outcome.differences
        return result


class BatchSetCampaignLiveOperator(BatchChangeOperator):
    """Switch a campaign on or off, so that late, repeated, cleared and overlapping runs do no harm.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param live: What it should be: a boolean, text that renders to one, or a
        :class:`~airflow_batch.windows.CampaignWindow`, which is asked at the moment of sending. Templated.
    :param definition: What the campaign was created from: an object, JSON text, or the name of a ``.json`` file next to
        the DAG. Fills what view does not give; where they differ, the campaign is kept as it is in Batch. Templated.
    :param read: ``auto`` (default): read the campaign first where the key can, and send the whole of it back.
        ``never``: send the definition if there is one, else ``live`` alone (and ``expect_name``).
    :param max_lateness: How long after the run's ``run_after`` a boolean may still be sent, in scheduled, backfill and
        asset runs; seconds or a timedelta. Default ``auto``: 1 hour to switch on, no limit to switch off. None: no
        limit. Later, the task is skipped, and so is what follows it (unless its ``trigger_rule`` says otherwise).
    :param expect_name: Fail where the campaign has another name. Sent along where it cannot be read. Templated.
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
        self.max_lateness = max_lateness if max_lateness == "auto" else positive("max_lateness", max_lateness)

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
        self.name_index(context, hook.app, token)
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
