"""BatchSyncCampaignsOperator: the desired state of many campaigns, in one task.

The work itself is in ``_sync/run.py``; here is what a task of Airflow adds: rendered arguments, rescheduling, a report.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import XComArg

from airflow_batch._airflow.outlets import fill_outlet_events
from airflow_batch._airflow.task_state import load_refused_since
from airflow_batch._sync.desired import DesiredCampaign, read_desired
from airflow_batch._sync.run import CampaignSync
from airflow_batch._values import read_moment_argument, whole_number
from airflow_batch.exceptions import BatchConfigurationError, BatchError
from airflow_batch.hooks._rate_limited import connect
from airflow_batch.hooks.batch import BatchHook, rendered_or_none
from airflow_batch.operators._arguments import Campaigns, Duration, Lateness, Throttle
from airflow_batch.operators._base import BaseCampaignOperator, attempt_of, latest_moment, read_lateness
from airflow_batch.policies.retry import MAX_WAIT
from airflow_batch.results import CampaignResult

if TYPE_CHECKING:
    from airflow.sdk import Context

MAX_REPORT = 48_000
"""Bytes of a report that XCom holds in full; a larger one has only the counts and the failures."""


class BatchSyncCampaignsOperator(BaseCampaignOperator):
    """Compare the desired and the actual state of many campaigns, and update only those that differ.

    The actual state is read from the list (100 campaigns a request). Each write follows the rules of
    :class:`~airflow_batch.operators.campaigns.BatchSetCampaignLiveOperator`. Stops go first. The first writes of each
    app are checked by reading the campaign; if a parameter was lost, no further campaign of that app is switched on.
    The others are compared with the list at the end. Campaigns that are not declared are never touched.

    :param campaigns: A list of ``{"campaign": token or result, "live": boolean or CampaignWindow}``, each perhaps with
        ``app``, ``expect_name`` and ``definition``; the output of another task; JSON text, or the name of a ``.json``
        file. Required, unless there is a ``calendar``. Templated.
    :param calendar: The path of a calendar file instead; a relative one is relative to the DAG's folder. Templated.
    :param at: The moment to evaluate windows by; an aware datetime or ISO 8601 text. Default: that of each request.
        Templated.
    :param max_lateness: How late a fixed ``live: true`` may be sent, as for BatchSetCampaignLiveOperator. Default
        ``auto``: 1 hour. None: no limit. Later, or after 30 minutes of throttling (``max_wait``), the campaign is
        reported as skipped.
    :param max_changes: Write nothing if more campaigns differ: bad data must not switch thousands. Default None.
    :param max_failures: How many campaigns may fail without failing the task. Default 0.
    :param dry_run: Compare and report, but write nothing. Default False. True if the connection has ``dry_run``.
    :param max_in_flight: Requests at a time, 1 to 32. Default 4, so that the API's latency is not the limit.
    :param batch_conn_id: Airflow connection of type ``batch``, with Live API keys. Default ``batch_default``. Its
        ``requests_per_second`` is never exceeded; without one the task finds the limit. Templated.
    :param app: App of the campaigns that name none. Default None. Templated.
    :param throttle: After a long throttle: ``reschedule`` (default), which uses no retry, or ``retry``.
    :param max_wait: How long Batch may throttle the task; seconds or a timedelta. Default: 30 minutes, 6 hours to stop.

    A campaign that fails does not stop the others. Requests that may succeed later are repeated at the end. If Batch
    asks to wait up to 30 s, the task sleeps; for longer waits it is rescheduled. If the answer to a write was lost and
    no later read shows the change, the task ends two minutes later, after it has read the list again. Windows that open
    or close meanwhile are evaluated again. A new attempt compares again.

    The report in XCom, also when the task fails: ``{"total", "changed", "unchanged", "failed", "skipped", "requests",
    "throttled_seconds", "campaigns": [...]}`` with a :class:`~airflow_batch.results.CampaignResult` for each campaign,
    or ``{"campaign_token", "app", "error", "message"}`` or ``{"campaign_token", "app", "skipped"}``. ``changed`` of a
    campaign is null if an earlier attempt may have written it: what it wrote is kept for up to 200 campaigns; beyond
    that, below Airflow 3.3, and after a worker that died, it may be any. It counts as unchanged if this attempt had
    nothing to send. Above 48 kB ``campaigns`` has the failures only.

    :raises BatchConfigurationError: when the DAG is parsed, for an argument that can never be right.
    :raises BatchPayloadError: before anything is sent, when a rendered argument is wrong.
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
        campaigns: Campaigns | None = None,
        calendar: str | None = None,
        at: datetime | str | XComArg | None = None,
        max_lateness: Lateness = "auto",
        max_changes: int | None = None,
        max_failures: int = 0,
        dry_run: bool = False,
        max_in_flight: int = 4,
        batch_conn_id: str = BatchHook.default_conn_name,
        app: str | None = None,
        throttle: Throttle = "reschedule",
        max_wait: Duration | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_conn_id=batch_conn_id, app=app, throttle=throttle, max_wait=max_wait, **kwargs)
        if (campaigns is None) is (calendar is None):
            raise BatchConfigurationError("Pass campaigns or calendar, one of the two.")
        self.campaigns = campaigns
        self.calendar = calendar
        self.at = at
        self.max_lateness = read_lateness(max_lateness)
        self.max_changes = None if max_changes is None else whole_number("max_changes", max_changes)
        self.max_failures = whole_number("max_failures", max_failures)
        self.only_compare = dry_run
        self.max_in_flight = whole_number("max_in_flight", max_in_flight, 1, 32)

    def execute(self, context: Context) -> dict[str, Any]:
        """Give the campaigns their desired state and return the report."""
        refused = load_refused_since(context)
        try:
            desired = self._desired(context)
            self._sync = sync = CampaignSync(
                desired=desired,
                connect=partial(connect, self.batch_conn_id),
                attempt=attempt_of(context),
                at=read_moment_argument("at", self.at),
                latest_on=latest_moment(context, self.max_lateness),
                throttled_until=None if refused is None else refused + (self.max_wait or MAX_WAIT),
                max_changes=self.max_changes,
                max_failures=self.max_failures,
                dry_run=self.only_compare,
                max_in_flight=self.max_in_flight,
            )
        except BatchError:
            self.note_nothing_sent(context, None, None)
            raise
        try:
            with self.rescheduling(context, may_stop=any(campaign.live is not True for campaign in desired)):
                sync.run()
        except BatchError:
            self.push_result(context, self._report(context, sync, desired))
            raise
        action = "dry_run" if sync.dry_run else "sync"
        results = self._results(context, sync, desired)
        fill_outlet_events(context, self.outlets, self.batch_conn_id, results, summary={"action": action}, log=self.log)
        return self._report(context, sync, desired)

    def on_kill(self) -> None:
        """Send nothing more: Airflow stops the task, or its time is over."""
        if self._sync is not None:
            self._sync.stop()

    def has_progressed(self) -> bool:
        """Return whether this attempt has written, because a long sync may be throttled more than once."""
        return self._sync is not None and self._sync.has_written

    def _desired(self, context: Context) -> list[DesiredCampaign]:
        if self.calendar is None:
            items = self.read_json("campaigns", context)
        else:
            from airflow_batch.calendars import read_calendar

            items = read_calendar(self._calendar_path()).desired()
        return read_desired(items, rendered_or_none(self.app))

    def _calendar_path(self) -> str:
        """Return the path of the calendar. A relative path is relative to the folders of the DAG's templates."""
        folders = getattr(self.get_template_env().loader, "searchpath", [])
        places = [Path(folder, str(self.calendar)) for folder in folders]
        return str(next((place for place in places if place.is_file()), self.calendar))

    def _results(
        self, context: Context, sync: CampaignSync, desired: Sequence[DesiredCampaign]
    ) -> list[CampaignResult]:
        """Return the results of the campaigns that are as desired, or would be."""
        ended = sync.progress.failed.keys() | sync.progress.skipped.keys()
        return [
            self.row_of(context, outcome, app=desired[index].app, action="set_live")
            for index, outcome in sorted(sync.progress.outcomes.items())
            if index not in ended
        ]

    def _report(self, context: Context, sync: CampaignSync, desired: Sequence[DesiredCampaign]) -> dict[str, Any]:
        progress = sync.progress
        report: dict[str, Any] = {
            "total": progress.total,
            "changed": len(progress.changed),
            "unchanged": len(progress.unchanged),
            "failed": len(progress.failed),
            "skipped": len(progress.skipped),
            **({"would_change": len(progress.would_change)} if sync.dry_run else {}),
            "requests": sync.limiter.requests,
            "throttled_seconds": round(sync.limiter.paused, 1),
        }

        def names(index: int) -> dict[str, Any]:
            return {"campaign_token": desired[index].token, "app": desired[index].app}

        failures = [
            {**names(index), "error": type(error).__name__, "message": str(error)[:500]}
            for index, error in progress.failed.items()
        ]
        skipped = [{**names(index), "skipped": reason} for index, reason in progress.skipped.items()]
        results = self._results(context, sync, desired)
        whole = {**report, "campaigns": [*failures, *skipped, *results]}
        if len(json.dumps(whole)) <= MAX_REPORT:
            return whole
        size, fitting = len(json.dumps(report)) + 100, []
        for failure in failures:
            size += len(json.dumps(failure)) + 2
            if size > MAX_REPORT:
                break
            fitting.append(failure)
        return {**report, "campaigns": fitting}
