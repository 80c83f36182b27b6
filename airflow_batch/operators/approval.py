"""The operator that asks a person before a campaign goes live, on Airflow's own ``ApprovalOperator``.

What is compared later is in ``_campaigns/approval.py``, what is shown in ``_campaigns/approval_text.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, cast

import pendulum
from airflow.providers.standard.exceptions import HITLRejectException, HITLTimeoutError
from airflow.providers.standard.operators.hitl import ApprovalOperator

from airflow_batch._airflow.compat import AirflowFailException
from airflow_batch._airflow.human_input import put_question, resuming_with, timeout_arguments
from airflow_batch._airflow.task_context import run_after_of, set_map_index_name, storable, text_or_none
from airflow_batch._campaigns.approval import record_of, shown_now
from airflow_batch._campaigns.approval_text import approval_text, visible, warnings_of
from airflow_batch._campaigns.payload import check_payload, read_reference
from airflow_batch._campaigns.rules import Clocks, not_visible
from airflow_batch._values import short_repr
from airflow_batch.exceptions import (
    BatchApiMisuseError,
    BatchChangeRefusedError,
    BatchConfigurationError,
    BatchNotFoundError,
)
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.operators._arguments import CampaignReference, Duration, Payload, Throttle
from airflow_batch.operators._base import BaseCampaignOperator
from airflow_batch.results import ApprovedCampaign, campaign_summary
from airflow_batch.windows import read_timezone

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier, Context
    from airflow.sdk.execution_time.hitl import HITLUser


class BatchCampaignApprovalOperator(BaseCampaignOperator, ApprovalOperator):  # type: ignore[misc,unused-ignore]
    """Show a campaign to a person in the Airflow UI, and go on if it is approved.

    The question appears under Required Actions: what would go out, when and to whom, the differences that ``payload``
    makes, and what the plan would warn of. What the plan would refuse fails the task before anybody is asked.

    Pass its output to the tasks that follow (``campaign=approve.output``). BatchSetCampaignLiveOperator and
    BatchUpdateCampaignOperator then refuse to switch on or to update a campaign that is not as it was shown, and name
    the parameters. A stop never needs an approval.

    After a rejection the tasks that follow are skipped. If the time for the answer is over, the task fails, or
    ``defaults="Reject"`` counts. Neither is asked again by a retry.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param payload: The payload of the update that follows: an object, JSON text, or the name of a ``.json`` file next
        to the DAG. Default None. The campaign is shown as it would be with it. Templated.
    :param subject: Headline of the question. Default: one with the campaign's name. Templated.
    :param timezone: IANA name of the time zone in which times are shown besides UTC. Default: that of the DAG.
    :param assigned_users: Users who may answer, ``{"id", "name"}`` or a list of them. Default: all who may.
    :param notifiers: Notifiers that are called when the question is asked. Default none.
    :param response_timeout: How long to wait for the answer. Default None: without end.
    :param defaults: ``Reject``: what counts when that time is over. Default None: the task fails.
    :param batch_conn_id: Airflow connection of type ``batch``. Default ``batch_default``. Templated.
    :param app: App to read for, if the connection has ``api_keys``. Default: that of the given result. Templated.
    :param throttle: After a 429 or a maintenance of Batch: ``reschedule`` (default), which uses no retry, or ``retry``.
    :param max_wait: How long Batch may throttle the task; seconds or a timedelta. Default: 30 minutes.

    The other arguments of Airflow's ApprovalOperator pass through, but ``body``, which this operator makes.

    The result in XCom is an :class:`~airflow_batch.results.ApprovedCampaign`: the campaign as it was shown, and a
    digest of it. It is there after a rejection, too, so that a stop can use it.

    :raises BatchConfigurationError: when the DAG is parsed, for an argument that can never be right, such as
        ``defaults`` that approve.
    :raises BatchPayloadError: before anybody is asked, when a rendered argument is wrong.
    :raises BatchChangeRefusedError: before anybody is asked, for a change that the plan would refuse; and if Airflow
        still shows the question of an earlier attempt, with another text.
    :raises BatchApiMisuseError: before anybody is asked, for a key that cannot read campaigns.
    :raises BatchApiError: one of its other subclasses; permanent ones fail the task at once.
    """

    template_fields: Sequence[str] = ("campaign", "payload", "subject", "batch_conn_id", "app")
    template_fields_renderers: ClassVar[dict[str, str]] = {"payload": "json"}
    json_fields = ("payload",)
    ui_color = "#fff3d6"

    def __init__(
        self,
        *,
        campaign: CampaignReference,
        payload: Payload | None = None,
        subject: str | None = None,
        timezone: str | tzinfo | None = None,
        assigned_users: HITLUser | list[HITLUser] | None = None,
        notifiers: BaseNotifier | Sequence[BaseNotifier] | None = None,
        response_timeout: timedelta | None = None,
        defaults: str | list[str] | None = None,
        batch_conn_id: str = BatchHook.default_conn_name,
        app: str | None = None,
        throttle: Throttle = "reschedule",
        max_wait: Duration | None = None,
        **kwargs: Any,
    ) -> None:
        _check_defaults(defaults)
        if "body" in kwargs:
            raise BatchConfigurationError("body is made from the campaign. Leave it out; subject is the headline.")
        super().__init__(
            batch_conn_id=batch_conn_id,
            app=app,
            throttle=throttle,
            max_wait=max_wait,
            subject=subject or "",
            assigned_users=assigned_users,
            notifiers=notifiers,
            defaults=defaults if defaults is None or isinstance(defaults, str) else list(defaults),
            **{**kwargs, **timeout_arguments(response_timeout)},
        )
        self.campaign, self.payload = campaign, payload
        # Airflow's operator takes an execution_timeout for it.
        self.response_timeout = response_timeout or getattr(self, "response_timeout", None)
        self.timezone = None if timezone is None else read_timezone(timezone)

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Start a mapped task. See ``BaseOperator.partial``."""
        _check_defaults(kwargs.get("defaults"))
        return super().partial(**kwargs)

    def execute(self, context: Context) -> NoReturn:
        """Read the campaign, ask the question, and wait without a worker slot."""
        token, app = read_reference(self.campaign)
        hook = self.hook_for(app)
        set_map_index_name(context, hook.app, token)
        payload = None if self.payload is None else check_payload(self.read_json("payload", context))
        with self.rescheduling(context):
            seen = _read(hook, token)
        shown_at = datetime.now(UTC)
        clocks = Clocks(shown_at, hook.batch_now())
        summary = campaign_summary(token, hook.app, seen, shown_at)
        set_map_index_name(context, hook.app, summary["name"] or token)
        name = (payload or {}).get("name") or summary["name"] or token
        self.subject = self.subject or f"Send the campaign {visible(' '.join(name.split()))}?"
        self.body = storable(
            approval_text(
                token=token,
                app=hook.app,
                seen=seen,
                payload=payload,
                zone=pendulum.timezone(self.timezone or _zone_of(self)),
                warnings=[
                    *([f"Nothing will be sent, because {hook.read_only_reason}."] if hook.read_only_reason else []),
                    *warnings_of(token, seen, payload, clocks, run_after_of(context)),
                ],
            )
        )
        if context["ti"].try_number > 1 and (other := put_question(self, context["ti"].id)):
            raise BatchChangeRefusedError(
                f"Airflow still shows the question of an earlier attempt about campaign {token!r}: {', '.join(other)} "
                "would be another one now. Nobody is asked. Start a new DAG run."
            )
        with resuming_with(
            {"shown": {"summary": dict(summary), "shown": shown_now(token, hook.app, seen, payload, shown_at)}}
        ):
            super().execute(context)
        raise AssertionError("Airflow's ApprovalOperator waits by an exception.")

    def execute_complete(
        self, context: Context, event: dict[str, Any], shown: Mapping[str, Any] | None = None
    ) -> ApprovedCampaign:
        """Go on with the answer. ``shown`` is what was kept when the question was put."""
        if "error" in event or shown is None:
            super().execute_complete(context, event)
            raise BatchChangeRefusedError("What was shown to the approver was not kept. Clear the task to ask again.")
        result = _result(event, shown)
        if not result["approval"]["approved"]:
            # Airflow ends the task by an exception when it skips what follows, and a stop may need the result.
            self.push_result(context, cast("Any", result))
        try:
            super().execute_complete(context, event)
        except HITLRejectException as rejected:  # fail_on_reject
            raise AirflowFailException(str(rejected)) from None
        return result

    def process_trigger_event_error(self, event: dict[str, Any]) -> None:
        """Fail for good when the time for the answer is over: a retry would ask again."""
        try:
            super().process_trigger_event_error(event)
        except HITLTimeoutError:
            raise AirflowFailException(
                "Nobody has answered within response_timeout. Clear the task to ask again."
            ) from None


def _check_defaults(defaults: Any) -> None:
    """Refuse defaults that approve by themselves."""
    chosen = [defaults] if isinstance(defaults, str) else defaults
    if chosen is not None and list(chosen) != [ApprovalOperator.REJECT]:
        raise BatchConfigurationError(
            f"defaults is {short_repr(defaults)}. Allowed are 'Reject' and None: a campaign is not approved by itself "
            "when the time for the answer is over."
        )


def _read(hook: BatchHook, token: str) -> dict[str, Any]:
    """Return the campaign as view shows it.

    :raises BatchApiError: where it cannot be read; a 404 is transient, because a new campaign may not show yet.
    """
    try:
        return hook.get_campaign(token)
    except BatchApiMisuseError as error:
        raise error.explained("The approver sees what Batch shows, so the app needs a Live API key.") from None
    except BatchNotFoundError as error:
        raise not_visible(error) from None


def _zone_of(task: BaseCampaignOperator) -> str:
    """Return the name of the time zone of the task's DAG."""
    try:
        return read_timezone(cast("Any", task.dag).timezone)
    except (AttributeError, RuntimeError, BatchConfigurationError):  # in no DAG, or a zone without a name
        return "UTC"


def _result(event: Mapping[str, Any], shown: Mapping[str, Any]) -> ApprovedCampaign:
    """Return the result: what was shown, and the answer."""
    by = event.get("responded_by_user")
    record = record_of(
        shown["shown"],
        # A person's answer alone approves: defaults never do.
        approved=list(event["chosen_options"]) == [ApprovalOperator.APPROVE] and by is not None,
        at=event["responded_at"],
        by=text_or_none(by.get("name") if isinstance(by, Mapping) else getattr(by, "name", None)),
        params_input=storable(event.get("params_input")),
    )
    return cast("ApprovedCampaign", {**shown["summary"], "approval": record})
