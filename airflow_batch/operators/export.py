"""BatchExportCampaignsOperator: campaigns and their statistics as files that a warehouse loads.

The work itself is in ``_export/run.py``; here is what a task of Airflow adds: rendered arguments, the names of the
files, rescheduling, the result.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from airflow.sdk import XComArg

from airflow_batch._airflow.compat import AirflowRescheduleException
from airflow_batch._airflow.outlets import set_outlet_extra
from airflow_batch._airflow.task_context import interval_of, is_mapped, run_after_of, set_map_index_name, text_or_none
from airflow_batch._export.files import FileFormat, Storage, check_format
from airflow_batch._export.run import CampaignExport, Selection
from airflow_batch._values import check_choice, read_moment_argument, rendered_or_none, short_repr, whole_number
from airflow_batch.exceptions import BatchConfigurationError, BatchPayloadError
from airflow_batch.hooks._rate_limited import connect
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.operators._arguments import Duration, Throttle
from airflow_batch.operators._base import BaseCampaignOperator

if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath

MAX_FAILURES_IN_RESULT = 100
MAX_NAME_CHARACTERS = 64
"""Of the DAG, the task and the run in a file's name, so that it has less than 255 with the rest."""
INTERVAL_NAME = re.compile(r"\d{8}T\d{6,12}Z(_\d{8}T\d{6,12}Z)?")


class BatchExportCampaignsOperator(BaseCampaignOperator):
    """Export campaigns, their messages and their statistics to files that a warehouse loads.

    Each run writes one file for each of the tables ``campaigns``, ``messages`` and ``stats``. Their columns are in
    ``docs/operators/export-campaigns.md``. The connection needs Live API keys; nothing is written to Batch.

    :param destination: Folder in any storage that Airflow's ObjectStoragePath knows, with its connection id, such as
        ``s3://aws_default@bucket/batch``, ``gs://``, ``abfs://`` or ``file:///data/batch``. Templated.
    :param apps: Apps of the connection to export: a list of names, or one name. Default None: all. Templated.
    :param live: True: only running and completed campaigns; False: only stopped ones and drafts. Default None: all.
    :param from_api: True: only campaigns created by the API; False: only those created in the dashboard. Default None.
    :param since: Only campaigns that were created, or may have been pushed, at this moment or later: an aware datetime
        or ISO 8601 text. Default None: all. Templated.
    :param restate_days: Statistics are read of campaigns that may have been live or pushed in so many days before the
        end of the run's data interval, because Batch changes the figures of past dates. Default 30. None: of all, which
        the first run of a warehouse needs.
    :param file_format: ``jsonl`` (default), ``csv``, or ``parquet``, which needs the extra ``parquet``.
    :param max_failures: How many campaigns may fail to be read without failing the task. Default 0. With more, no file
        is written.
    :param max_in_flight: Requests at a time, 1 to 32. Default 4.
    :param batch_conn_id: Airflow connection of type ``batch``. Default ``batch_default``. Its ``requests_per_second``
        is never exceeded; without one the task finds the limit. Templated.
    :param app: The only app to export, as other operators name it; ``apps`` takes precedence. Default None. Templated.
    :param throttle: After a long throttle: ``reschedule`` (default), which uses no retry, or ``retry``.
    :param max_wait: How long Batch may throttle the task without progress; seconds or a timedelta. Default: 30 minutes.

    The files are ``TABLE/TABLE.DAG.TASK.RUN.jsonl``, where RUN is the data interval of a scheduled or backfill run and
    the run id of any other, then the map index of a mapped task. A retry or a cleared task replaces the files of its
    own run. A file appears whole or not at all.

    What was read is kept in part files below ``_parts`` in the destination, so that a task that was throttled,
    rescheduled or killed continues after them. They are removed at the end. A cleared task reads everything anew, and
    so does an attempt with other arguments.

    The result in XCom, also when the task fails, and the extra of the events of asset outlets: ``{"files": {table:
    URL}, "rows": {table: number}, "campaigns", "without_stats", "vanished", "failed", "failures": [...], "requests",
    "throttled_seconds"}``. ``without_stats`` counts the campaigns whose statistics were not read, ``vanished`` those
    that were deleted meanwhile. ``failures`` names both, up to 100, each ``{"campaign_token", "app", "name", "error",
    "message"}``. ``requests`` and ``throttled_seconds`` are those of the last attempt.

    :raises BatchConfigurationError: when the DAG is parsed, for an argument that can never be right; for an app that
        the connection does not know, for two apps that have the same key, and for Parquet without pyarrow.
    :raises BatchPayloadError: before anything is sent, when a rendered argument is wrong.
    :raises BatchApiMisuseError: for a key that cannot read campaigns, such as a Dev key.
    :raises BatchExportError: when more than ``max_failures`` campaigns could not be read, for good.
    :raises BatchExportIncompleteError: when trying again may help, and when the task is stopped.
    :raises BatchApiError: one of its other subclasses, when the campaigns cannot be listed.
    :raises OSError: or another error of the storage's library, when a file cannot be written.
    """

    template_fields: Sequence[str] = ("destination", "apps", "since", "batch_conn_id", "app")
    own_arguments = frozenset({"live"})
    ui_color = "#e9e0ff"
    _export: CampaignExport | None = None

    def __init__(
        self,
        *,
        destination: str | ObjectStoragePath | XComArg,
        apps: str | Sequence[str] | XComArg | None = None,
        live: bool | None = None,
        from_api: bool | None = None,
        since: datetime | str | XComArg | None = None,
        restate_days: int | None = 30,
        file_format: FileFormat = "jsonl",
        max_failures: int = 0,
        max_in_flight: int = 4,
        batch_conn_id: str = BatchHook.default_conn_name,
        app: str | None = None,
        throttle: Throttle = "reschedule",
        max_wait: Duration | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_conn_id=batch_conn_id, app=app, throttle=throttle, max_wait=max_wait, **kwargs)
        check_choice("file_format", file_format, get_args(FileFormat))
        for name, value in (("live", live), ("from_api", from_api)):
            if value is not None and not isinstance(value, bool):
                raise BatchConfigurationError(f"{name} must be True, False or None, not {short_repr(value)}.")
        self.destination = destination
        self.apps = apps
        self.live = live
        self.from_api = from_api
        self.since = since
        self.restate_days = None if restate_days is None else whole_number("restate_days", restate_days, 0, 36_500)
        self.file_format = file_format
        self.max_failures = whole_number("max_failures", max_failures)
        self.max_in_flight = whole_number("max_in_flight", max_in_flight, 1, 32)

    def execute(self, context: Context) -> dict[str, Any]:
        """Write the files and return what is in them."""
        check_format(self.file_format)
        apps = _read_apps(self.app if self.apps is None else self.apps)
        set_map_index_name(context, None, ", ".join(apps or ()))
        ti: Any = context["ti"]
        self._export = export = CampaignExport(
            connect=partial(connect, self.batch_conn_id),
            storage=Storage(self.destination),
            name=file_name(context),
            # Clearing a task raises max_tries, unless retries were lowered; clearing an ended run starts it anew.
            marker=f"{ti.max_tries} {getattr(context.get('dag_run'), 'start_date', None)}",
            selection=Selection(
                apps=apps,
                live=self.live,
                from_api=self.from_api,
                since=read_moment_argument("since", self.since),
                restate_since=self._restate_since(context),
            ),
            file_format=self.file_format,
            max_failures=self.max_failures,
            max_in_flight=self.max_in_flight,
        )
        try:
            with self.rescheduling(context):
                export.run()
        except AirflowRescheduleException:
            raise
        except Exception:  # those of the storage's library, too
            self.push_result(context, result_of(export))
            raise
        result = result_of(export)
        set_outlet_extra(context, self.outlets, result, log=self.log)
        return result

    def on_kill(self) -> None:
        """Send nothing more: Airflow stops the task, or its time is over."""
        if self._export is not None:
            self._export.stop()

    def has_progressed(self) -> bool:
        """Return whether this attempt has read campaigns, because a long export may be throttled more than once."""
        return self._export is not None and self._export.read > 0

    def _restate_since(self, context: Context) -> datetime | None:
        if self.restate_days is None:
            return None
        _, end = interval_of(context)
        moment = end or run_after_of(context) or datetime.now(UTC)
        return moment - timedelta(days=self.restate_days)


def result_of(export: CampaignExport) -> dict[str, Any]:
    """Return the result for XCom."""
    failures = [
        _failure(app, token, name, type(error).__name__, str(error))
        for (app, token), (name, error) in export.errors.items()
    ]
    vanished = [
        _failure(app, token, name, "vanished", "It was deleted meanwhile.")
        for (app, token), name in export.vanished.items()
    ]
    return {
        "files": export.files,
        "rows": export.rows,
        "campaigns": export.campaigns,
        "without_stats": export.without_stats,
        "vanished": len(vanished),
        "failed": len(failures),
        "failures": [*failures, *vanished][:MAX_FAILURES_IN_RESULT],
        "requests": export.limiter.requests,
        "throttled_seconds": round(export.limiter.paused, 1),
    }


def _failure(app: str | None, token: str, name: str | None, error: str, message: str) -> dict[str, Any]:
    cut = {"campaign_token": text_or_none(token, 200), "app": app, "name": name}
    return {**cut, "error": error, "message": text_or_none(message, 200)}


def file_name(context: Mapping[str, Any]) -> str:
    """Return what the files of a task instance share: the DAG, the task, the run and the map index."""
    ti = context["ti"]
    start, end = interval_of(context)
    run = _safe(ti.run_id) if start is None or end is None else "_".join(dict.fromkeys(map(_compact, (start, end))))
    index = [str(ti.map_index)] if is_mapped(ti) else []
    # No part holds a dot, so that two task instances never share a name.
    return ".".join([_safe(ti.dag_id), _safe(ti.task_id), run, *index])


def _compact(moment: datetime) -> str:
    moment = moment.astimezone(UTC)
    return f"{moment:%Y%m%dT%H%M%S}{f'{moment:%f}' if moment.microsecond else ''}Z"


def _safe(text: str) -> str:
    """Return a name that any storage takes, different for different texts and from that of an interval."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", text)
    if safe == text and len(text) <= MAX_NAME_CHARACTERS and not INTERVAL_NAME.fullmatch(text):
        return text
    return f"{safe[: MAX_NAME_CHARACTERS - 9]}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _read_apps(apps: Any) -> list[str] | None:
    """Return the rendered ``apps``: None for all, one name, or a list of names.

    :raises BatchPayloadError: for anything else.
    """
    if isinstance(apps, str):
        name = rendered_or_none(apps)
        apps = None if name is None else [name]
    if apps is None:
        return None
    if isinstance(apps, list | tuple) and apps and all(isinstance(app, str) and app for app in apps):
        return list(dict.fromkeys(apps))
    raise BatchPayloadError(f"apps must be the name of an app, a list of names, or None, not {short_repr(apps)}.")
