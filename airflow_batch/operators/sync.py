"""Many campaigns in one task: declare what they should be, and the task makes them so.

The work itself is in ``_sync/run.py``; here it becomes a task of Airflow: rendered, resumed, reported.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_batch._airflow.task_state import load_refused_since
from airflow_batch._campaigns.attempt import note_nothing_sent
from airflow_batch._campaigns.protocol import SystemClock
from airflow_batch._sync.desired import DesiredCampaign, read_desired
from airflow_batch._sync.run import CampaignSync
from airflow_batch._values import short_repr
from airflow_batch.exceptions import BatchConfigurationError, BatchError, BatchPayloadError
from airflow_batch.hooks._rate_limited import connect
from airflow_batch.hooks.batch import rendered_or_none
from airflow_batch.operators._base import (
    MAX_LATENESS,
    BaseCampaignOperator,
    Lateness,
    attempt_of,
    latest_moment,
    read_lateness,
)
from airflow_batch.policies.retry import MAX_WAIT, MAX_WAIT_TO_STOP
from airflow_batch.windows import as_datetime

if TYPE_CHECKING:
    from airflow.sdk import Context

MAX_REPORT = 48_000
"""Bytes of a report that goes to XCom whole; a larger one has only the counts and the failures."""


class BatchSyncCampaignsOperator(BaseCampaignOperator):
    """Compare the desired and the actual state of many campaigns, and update only those that differ.

    The actual state is read from the list (100 campaigns a request). Each write follows the rules of
    :class:`~airflow_batch.operators.campaigns.BatchSetCampaignLiveOperator`. Stops go first. The first writes of each
    app are checked by reading the campaign; if a parameter was lost, no further campaign of that app is switched on.
    The others are compared with the list at the end. Campaigns that are not declared are never touched.

    :param campaigns: A list of ``{"campaign": token or result, "live": boolean or CampaignWindow}``, each perhaps with
        ``app``, ``expect_name`` and ``definition``; the output of another task; JSON text, or the name of a ``.json``
        file. Templated.
    :param calendar: Instead: the path of a calendar file; a relative one is looked for beside the DAG. Templated.
    :param at: The moment to evaluate windows by; an aware datetime or ISO 8601 text. Default: that of each request.
        Templated.
    :param max_lateness: How late a fixed ``live: true`` may be sent, as for BatchSetCampaignLiveOperator. Later, or
        after 30 minutes of throttling (``max_wait``), the campaign is reported as skipped.
    :param max_changes: Write nothing where more campaigns than that differ: bad data must not switch thousands.
    :param max_failures: How many campaigns may fail without failing the task. Default 0.
    :param dry_run: Compare and report, but write nothing.
    :param max_in_flight: Requests at a time, 1 to 32. Default 4, so that the API's latency is not the limit.
    :param batch_conn_id: Airflow connection of type ``batch``, with Live API keys. Its ``requests_per_second`` is never
        exceeded; without one the limit is found. Templated.
    :param app: App of the campaigns that name none. Templated.

    The other arguments are those of :class:`~airflow_batch.operators._base.BaseCampaignOperator`.

    A campaign that fails does not stop the others. Requests that may succeed later are repeated at the end. If Batch
    asks to wait up to 30 s, the task sleeps; for longer waits it is rescheduled. If the answer to a write was lost
    and no look shows it, the task ends two minutes later, after it has read the list again. Windows that open or close
    meanwhile are looked at again. A task that runs again compares anew.

    The report in XCom, also when the task fails: ``{"total", "changed", "unchanged", "failed", "skipped", "requests",
    "throttled_seconds", "campaigns": [...]}`` with a :class:`~airflow_batch.results.CampaignResult` for each campaign,
    or ``{"campaign_token", "app", "error", "message"}`` or ``{"campaign_token", "app", "skipped"}``. ``changed`` of a
    campaign is null where an earlier attempt may have written it; it counts as unchanged where this attempt had nothing
    to send. Above 48 kB ``campaigns`` has the failures only.

    :raises BatchPayloadError: before anything is sent, when an argument is wrong.
    :raises BatchChangeRefusedError: before anything is sent, for more than ``max_changes``.
    :raises BatchSyncError: when more than ``max_failures`` failed for good.
    :raises BatchSyncIncompleteError: when more failed, and trying again may help; and when the task is stopped.
    :raises BatchParametersLostError: when a write lost a parameter.
    :raises BatchApiError: one of its other subclasses, when nothing can be read.
    """

    template_fields: Sequence[str] = ("campaigns", "calendar", "at", "batch_conn_id", "app")
    template_fields_renderers: ClassVar[dict[str, str]] = {"campaigns": "json"}
    ui_color = "#f4e4ff"
    json_fields: ClassVar[tuple[str, ...]] = ("campaigns",)
    _sync: CampaignSync | None = None

    def __init__(
        self,
        *,
        campaigns: Any = None,
        calendar: str | None = None,
        at: datetime | str | None = None,
        max_lateness: Lateness = "auto",
        max_changes: int | None = None,
        max_failures: int = 0,
        dry_run: bool = False,
        max_in_flight: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (campaigns is None) is (calendar is None):
            raise BatchConfigurationError("Pass campaigns or calendar, one of the two.")
        self.campaigns = campaigns
        self.calendar = calendar
        self.at = at
        self.max_lateness = read_lateness(max_lateness)
        self.max_changes = None if max_changes is None else _count("max_changes", max_changes)
        self.max_failures = _count("max_failures", max_failures)
        self.only_compare = dry_run
        self.max_in_flight = _count("max_in_flight", max_in_flight, least=1, most=32)

    def execute(self, context: Context) -> dict[str, Any]:
        """Make the campaigns so and return the report."""
        refused = load_refused_since(context)
        try:
            wanted = self._wanted(context)
            self._sync = sync = CampaignSync(
                desired=wanted,
                connect=partial(connect, self.batch_conn_id),
                attempt=attempt_of(context),
                at=_moment(self.at),
                latest_on=latest_moment(context, MAX_LATENESS if self.max_lateness == "auto" else self.max_lateness),
                throttled_until=None if refused is None else refused + (self.max_wait or MAX_WAIT),
                max_changes=self.max_changes,
                max_failures=self.max_failures,
                dry_run=self.only_compare,
                max_in_flight=self.max_in_flight,
            )
        except BatchError:
            note_nothing_sent(attempt_of(context), SystemClock(), None, None, self.log)
            raise
        may_stop = any(campaign.live is not True for campaign in wanted)
        try:
            with self.rescheduling(context, self.max_wait or (MAX_WAIT_TO_STOP if may_stop else MAX_WAIT)):
                sync.run()
        except BatchError:
            self._push(context, self._report(context, sync, wanted))
            raise
        return self._report(context, sync, wanted)

    def on_kill(self) -> None:
        """Send nothing more: Airflow has the task stopped, or its time is over."""
        if self._sync is not None:
            self._sync.stop()

    def _push(self, context: Context, report: dict[str, Any]) -> None:
        """Leave the report of a failed task, which must not hide why it failed."""
        if not self.do_xcom_push:
            return
        try:
            context["ti"].xcom_push(key="return_value", value=report)
        except Exception as error:
            self.log.warning("The report could not be pushed to XCom: %s", type(error).__name__)

    def has_progressed(self) -> bool:
        """Return whether this attempt has written: a long sync may be throttled more than once."""
        return self._sync is not None and self._sync.has_written

    def _wanted(self, context: Context) -> list[DesiredCampaign]:
        if self.calendar is None:
            items = self.read_json("campaigns", context)
        else:
            from airflow_batch.calendars import read_calendar

            items = read_calendar(self._calendar_path()).wanted()
        return read_desired(items, rendered_or_none(self.app))

    def _calendar_path(self) -> str:
        """Return where the calendar is: a relative path is looked for where Airflow looks for the DAG's templates."""
        folders = getattr(self.get_template_env().loader, "searchpath", [])
        places = [Path(folder, str(self.calendar)) for folder in folders]
        return str(next((place for place in places if place.is_file()), self.calendar))

    def _report(self, context: Context, sync: CampaignSync, wanted: Sequence[DesiredCampaign]) -> dict[str, Any]:
        progress = sync.progress
        report: dict[str, Any] = {
            "total": progress.total,
            "changed": len(progress.changed),
            "unchanged": len(progress.unchanged),
            "failed": len(progress.failed),
            "skipped": len(progress.skipped),
            **({"would_change": len(progress.would_change)} if self.only_compare else {}),
            "requests": sync.limiter.requests,
            "throttled_seconds": round(sync.limiter.paused, 1),
        }
        failures = [self._failure(wanted[index], error) for index, error in progress.failed.items()]
        skipped = [
            {"campaign_token": wanted[index].token, "app": wanted[index].app, "skipped": reason}
            for index, reason in progress.skipped.items()
        ]
        results = [
            self.result_of(context, outcome, app=wanted[index].app, action="set_live")
            for index, outcome in sorted(progress.outcomes.items())
            if index not in progress.failed and index not in progress.skipped
        ]
        whole = {**report, "campaigns": [*failures, *skipped, *results]}
        if len(json.dumps(whole)) <= MAX_REPORT:
            return whole
        room = MAX_REPORT - len(json.dumps(report)) - 100
        shown_failures = []
        for failure in failures:
            room -= len(json.dumps(failure)) + 2
            if room < 0:
                break
            shown_failures.append(failure)
        return {**report, "campaigns": shown_failures}

    def _failure(self, campaign: DesiredCampaign, error: BatchError) -> dict[str, Any]:
        return {
            "campaign_token": campaign.token,
            "app": campaign.app,
            "error": type(error).__name__,
            "message": str(error)[:500],
        }


def _count(name: str, value: Any, least: int = 0, most: int = 10**9) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        allowed = f"of at least {least}" if most == 10**9 else f"from {least} to {most}"
        raise BatchConfigurationError(f"{name} must be a whole number {allowed}, not {short_repr(value)}.")
    return value


def _moment(value: Any) -> datetime | None:
    if value in (None, "", "None"):
        return None
    moment = as_datetime(value)
    try:
        if moment is not None and moment.utcoffset() is not None:
            return moment.astimezone(UTC)
    except OverflowError:
        pass  # at the ends of Python's calendar
    raise BatchPayloadError(
        f"at must be a moment with a time zone such as '2026-07-01T09:00+02:00', not {short_repr(value)}."
    )
