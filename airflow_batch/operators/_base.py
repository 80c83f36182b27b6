"""What every operator of this provider shares: connection, JSON files, result, and rescheduling when throttled.

What an operator does with a campaign is in ``operators/campaigns.py``, how long to wait in ``policies/retry.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.sdk import BaseOperator

from airflow_batch._airflow.backoff import (
    MAX_THROTTLE_DELAY,
    delay_before_next,
    delay_floor,
    required_wait,
    stock_delay,
    tries_since_clear,
)
from airflow_batch._airflow.compat import AirflowSkipException, reschedule_at
from airflow_batch._airflow.outlets import fill_outlet_events
from airflow_batch._airflow.task_context import (
    TIMED_RUNS,
    is_mapped,
    run_after_of,
    set_map_index_name,
    storable,
    text_or_none,
)
from airflow_batch._airflow.task_state import TaskState, refused_since
from airflow_batch._campaigns.approval import read_approval
from airflow_batch._campaigns.diff import difference_rows
from airflow_batch._campaigns.payload import payload_digest, read_definition, read_reference
from airflow_batch._campaigns.protocol import Attempt, SystemClock
from airflow_batch._campaigns.request import ChangeRequest, Outcome, TooLateError
from airflow_batch._values import duration_text, iso_utc, read_duration
from airflow_batch.exceptions import BatchApiError, BatchError, BatchPayloadError, BatchWaitExceededError
from airflow_batch.hooks.batch import BatchHook, rendered_or_none
from airflow_batch.operators._arguments import (
    CampaignReference,
    Duration,
    Lateness,
    Payload,
    Read,
    TaskArguments,
    Throttle,
    check_arguments,
)
from airflow_batch.policies.retry import MAX_WAIT, MAX_WAIT_TO_STOP
from airflow_batch.results import CampaignResult

if TYPE_CHECKING:
    from airflow.sdk import Context

MAX_LATENESS = timedelta(hours=1)
"""How late a run may still switch a campaign on. This provider's choice: a push of this morning is wrong tonight."""
CheckedLateness = timedelta | Literal["auto"] | None


class BaseCampaignOperator(TaskArguments, BaseOperator):
    """Base of the operators.

    The retry arguments default to 6 retries, 10 s doubling up to 10 min, and on Airflow 3.3 and later
    :class:`~airflow_batch.policies.retry.BatchRetryPolicy`; ``map_index_template`` defaults to app and campaign. Your
    own arguments and ``default_args`` take precedence.

    ``max_wait`` begins at the first refusal. When it is over, the error goes to Airflow's retries. A longer Retry-After
    fails the task at once. Airflow 3.3 and later count across retries, earlier versions anew for each.
    """

    json_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that may be JSON text, or the name of a ``.json`` file."""

    def __init__(
        self,
        *,
        batch_conn_id: str = BatchHook.default_conn_name,
        app: str | None = None,
        throttle: Throttle = "reschedule",
        max_wait: Duration | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_arguments(throttle=throttle)
        self.batch_conn_id = batch_conn_id
        self.app = app
        self.throttle = throttle
        self.max_wait = read_duration("max_wait", max_wait)

    def hook_for(self, app: str | None) -> BatchHook:
        """Return the hook for an app; the task's own ``app`` takes precedence over the given one."""
        return BatchHook(batch_conn_id=self.batch_conn_id, app=rendered_or_none(self.app) or app)

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render the fields, and the files that they name, so that the Rendered Templates page shows those."""
        super().render_template_fields(context, jinja_env)
        for name in self.json_fields:
            try:
                setattr(self, name, self.read_json(name, context))
            except BatchPayloadError:
                continue  # execute reads it again, because a mapped task is not rendered by its own class, and raises

    def read_json(self, field: str, context: Context) -> Any:
        """Return a field, parsed where it is the name of a JSON file or JSON text.

        Only a field that is itself such a string is a file. Airflow's ``template_ext`` would take every nested string
        that ends in ``.json`` for one, a deep link for instance.

        :raises BatchPayloadError: for a file that is not found or cannot be rendered, and for text that is not JSON.
        """
        value = getattr(self, field)
        if not isinstance(value, str):
            return value
        source = field
        if value.strip().endswith(".json"):
            source = f"{field} file {value.strip()!r}"
            value = self._render_file(source, value.strip(), context)
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BatchPayloadError(
                f"{source} is not JSON: {error}. Give an object, JSON text, or a .json file next to the DAG."
            ) from None

    def _render_file(self, source: str, name: str, context: Context) -> str:
        import jinja2

        env = self.get_template_env()
        try:
            if env.loader is None:
                raise jinja2.TemplateNotFound(name)
            # generate() gives text in a DAG with render_template_as_native_obj, too, where render() would not.
            return "".join(str(part) for part in env.get_template(name).generate(dict(context)))
        except jinja2.TemplateNotFound:
            places = ", ".join(getattr(env.loader, "searchpath", [])) or "no folder (the task is in no DAG)"
            raise BatchPayloadError(f"{source} was not found in {places}.") from None
        except Exception as error:  # a template can raise anything
            raise BatchPayloadError(f"{source} cannot be rendered: {type(error).__name__}: {error}") from None

    def result_of(self, context: Context, outcome: Outcome, *, app: str | None, action: str) -> CampaignResult:
        """Return the result of a writing operator for XCom, and fill in the events of its outlets."""
        result = self.row_of(context, outcome, app=app, action=action)
        fill_outlet_events(context, self.outlets, self.batch_conn_id, [result], log=self.log)
        return result

    def row_of(self, context: Context, outcome: Outcome, *, app: str | None, action: str) -> CampaignResult:
        """Return the result for one campaign."""
        result: CampaignResult = {
            "campaign_token": outcome.token,
            "app": app,
            "action": action if outcome.would_change is None else "dry_run",
            "live": outcome.live,
            "name": text_or_none(outcome.name),
            "changed": outcome.changed,
            "http_status": outcome.http_status,
            "attempt": context["ti"].try_number,
            "requested_at": iso_utc(outcome.requested_at),
            "completed_at": iso_utc(outcome.completed_at),
            "payload_digest": payload_digest(outcome.sent),
        }
        if outcome.would_change is not None:
            rows = difference_rows(outcome.sent, outcome.before) if outcome.would_change else []
            for row in rows:
                self.log.info("Dry run: %s would become %r, it is %r.", row["parameter"], row["wanted"], row["now"])
            self.log.info("Dry run: nothing was sent to campaign %r.", outcome.token)
            result["differences"] = storable(rows)
        return result

    def note_nothing_sent(self, context: Context, token: str | None, app: str | None) -> None:
        """Record for the next attempt that this one sends nothing (rule 7)."""
        from airflow_batch._campaigns.history import note_nothing_sent

        note_nothing_sent(attempt_of(context), SystemClock(), token, app, self.log)

    def push_result(self, context: Context, result: Mapping[str, Any]) -> None:
        """Push the result of a failed task. A failure to do so must not replace the error of the task."""
        if not self.do_xcom_push:
            return
        try:
            context["ti"].xcom_push(key="return_value", value=dict(result))
        except Exception as error:
            self.log.warning(
                "The result could not be pushed to XCom: %s. The error of the task follows.", type(error).__name__
            )

    @contextmanager
    def rescheduling(self, context: Context, *, may_stop: bool = False) -> Iterator[None]:
        """Reschedule the task when Batch throttles it, and skip it when it is too late.

        :param may_stop: Whether a campaign may be stopped: such a task waits longer for a throttle.
        :raises AirflowRescheduleException: to give the worker slot back.
        :raises AirflowSkipException: for a run that is later than ``max_lateness``.
        :raises BatchApiError: for Airflow's retries to handle, or for the task to fail.
        """
        try:
            yield
        except TooLateError as late:
            raise AirflowSkipException(str(late)) from None
        except BatchApiError as error:
            again = self._when_again(error, context, self.max_wait or (MAX_WAIT_TO_STOP if may_stop else MAX_WAIT))
            if again is None:
                raise
            raise reschedule_at(again) from None

    def _when_again(self, error: BatchApiError, context: Context, max_wait: timedelta) -> datetime | None:
        """Return when to run again without a retry; None if Airflow's retries decide."""
        retry_is_too_early = error.transient and self._retry_would_come_too_early(error, context)
        if not error.may_be_rescheduled or not (error.throttled or retry_is_too_early):
            return None
        since = refused_since(context, datetime.now(UTC), anew=self.has_progressed())
        # Not before: the state store may have taken seconds, and a wait that is counted from an earlier moment could
        # end before the exit of this attempt is reported, which can fail the task (airflow 72716).
        now = datetime.now(UTC)
        if timedelta(seconds=error.retry_after or 0) > max_wait:
            raise self._too_long(error, max_wait, since)
        if self.throttle == "retry" and not retry_is_too_early:
            return None
        if now + timedelta(seconds=delay_floor(error)) > since + max_wait:
            if retry_is_too_early:
                raise self._too_long(error, max_wait, since)
            self.log.error(
                "Batch has refused requests since %s, as long as max_wait (%s) allows. This request changed nothing. "
                "The error goes to Airflow's retries.",
                _clock_time(since),
                duration_text(max_wait),
            )
            return None
        count = int(context.get("task_reschedule_count") or 0)
        delay = timedelta(seconds=delay_before_next(error, count + 1, context, cap=MAX_THROTTLE_DELAY))
        again = min(now + delay, since + max_wait)
        self.log.warning(
            "%s Giving the worker slot back, without using a retry. Next attempt in %s, at %s; refused since %s, "
            "waiting until %s at most.",
            error,
            duration_text(again - now),
            _clock_time(again),
            _clock_time(since),
            _clock_time(since + max_wait),
        )
        return again

    def has_progressed(self) -> bool:
        """Return whether this attempt has made progress since its first refusal."""
        return False

    def _retry_would_come_too_early(self, error: BatchApiError, context: Context) -> bool:
        """Return whether a retry could come before Batch allows it, because no retry policy can set its delay."""
        if getattr(self, "retry_policy", None) is not None:
            return False
        attempt = tries_since_clear(self, context["ti"].try_number, context["ti"].max_tries)
        return required_wait(error) > stock_delay(self, attempt)

    def _too_long(self, error: BatchApiError, max_wait: timedelta, since: datetime) -> BatchWaitExceededError:
        effect = "The request may have been applied" if error.may_have_been_applied else "The request changed nothing"
        return BatchWaitExceededError(
            f"{error.message} Batch asks to wait {duration_text(required_wait(error))}, but this task waits at most "
            f"{duration_text(max_wait)} (max_wait) from its first refusal at {_clock_time(since)}. {effect}. Raise "
            "max_wait, or run the task again later.",
            **error.details,
        )


def _clock_time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


class BaseChangeOperator(BaseCampaignOperator):
    """Base of the operators that change a campaign. A subclass has these arguments and sets these attributes."""

    action: ClassVar[str]
    json_fields: ClassVar[tuple[str, ...]] = ("definition",)
    campaign: CampaignReference
    definition: Payload | None
    read: Read
    expect_name: str | None
    only_compare: bool
    expects_name: bool
    max_lateness: CheckedLateness

    def execute(self, context: Context) -> CampaignResult:
        """Make the change and return its result."""
        from airflow_batch._campaigns.change import change_campaign  # not needed to parse a DAG

        token = app = None
        try:
            token, app = read_reference(self.campaign)
            hook = self.hook_for(app)
            set_map_index_name(context, hook.app, self.expect_name or token)
            request = replace(self.request(context, token), approval=read_approval(self.campaign, hook.app))
        except BatchError:
            self.note_nothing_sent(context, token, self.hook_for(app).app)
            raise
        live = request.parameters.get("live") if request.live is None else request.live
        with self.rescheduling(context, may_stop=live is not None and live is not True):
            outcome = change_campaign(hook, SystemClock(), attempt_of(context), request, log=self.log)
        set_map_index_name(context, hook.app, outcome.name or token)
        return self.result_of(context, outcome, app=hook.app, action=self.action)

    def request(self, context: Context, token: str) -> ChangeRequest:
        """Return what the task asks for."""
        raise NotImplementedError

    def latest_on(self, context: Context, allowed: CheckedLateness) -> datetime | None:
        """Return until when the campaign may go live, counted from the approval, but not from one in the future."""
        approval = read_approval(self.campaign, None)
        answered_at = None if approval is None else approval.answered_at
        since = None if answered_at is None else min(answered_at, datetime.now(UTC))
        return latest_moment(context, allowed, since=since)

    def read_definition(self, context: Context, *, stops: bool) -> dict[str, Any] | None:
        """Return the field ``definition``, checked. A wrong one never blocks a stop (rule 4)."""
        parse = partial(self.read_json, "definition", context)
        return read_definition(self.definition, stops=stops, log=self.log, parse=parse)


def latest_moment(
    context: Mapping[str, Any],
    allowed: CheckedLateness,
    auto: timedelta | None = MAX_LATENESS,
    since: datetime | None = None,
) -> datetime | None:
    """Return until when a run may still send something, None for no limit.

    Counted from ``run_after``, which a cleared run keeps, or from ``since``. A run that a person or another DAG has
    started stands for no moment and has no limit.
    """
    if allowed == "auto":
        allowed = auto
    began = since or run_after_of(context)
    is_timed = getattr(context.get("dag_run"), "run_type", None) in TIMED_RUNS
    return began + allowed if allowed is not None and is_timed and began is not None else None


def read_lateness(value: Lateness) -> CheckedLateness:
    """Return the argument ``max_lateness``, checked."""
    return "auto" if value == "auto" else read_duration("max_lateness", value, also=", 'auto'")


def attempt_of(context: Context) -> Attempt:
    """Return the attempt of a context, and the store of its record."""
    ti: Any = context["ti"]
    store: Any = context.get("task_state_store")
    run_after = getattr(context.get("dag_run"), "run_after", None)
    return Attempt(
        number=ti.try_number,
        max_tries=ti.max_tries,
        is_rescheduled=bool(context.get("task_reschedule_count")),
        is_mapped=is_mapped(ti),
        run_after=run_after,
        store=None if store is None else TaskState(store),
    )
