"""The DAG of a calendar file: it runs when something changes, and its one task updates the campaigns.

Reading a calendar is in ``calendars/``, updating campaigns in ``operators/sync.py``.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from os import PathLike
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_batch.calendars import CampaignCalendar, read_calendar
from airflow_batch.calendars.words import name_words, window_words
from airflow_batch.exceptions import BatchConfigurationError
from airflow_batch.operators.sync import BatchSyncCampaignsOperator

MAX_ROWS = 200
"""Campaigns that the documentation of the DAG lists."""
OWN_ARGUMENTS = ("schedule", "catchup", "max_active_runs")


def campaign_calendar_dag(
    path: str | PathLike[str],
    *,
    dag_id: str,
    reconcile_every: timedelta | None = timedelta(minutes=15),
    batch_conn_id: str = "batch_default",
    max_changes: int | None = None,
    max_failures: int = 0,
    **dag_arguments: Any,
) -> DAG:
    """Return the DAG that keeps campaigns in the state that a calendar file gives them.

    ::

        dag = campaign_calendar_dag("campaign_calendar.yaml", dag_id="campaign_calendar")

    It runs at every change in the calendar and every ``reconcile_every``, by Airflow's own timetable. Its task ``sync``
    is a :class:`~airflow_batch.operators.sync.BatchSyncCampaignsOperator`, which reads the file again when it runs. A
    calendar with other content is a new version of the DAG.

    :param path: The calendar: see :func:`airflow_batch.calendars.read_calendar`. Relative to the file that calls this.
    :param dag_id: Id of the DAG.
    :param reconcile_every: How often the campaigns are compared with the calendar between its changes; a divisor of an
        hour in minutes, or of a day in hours. Default 15 minutes. None: at the changes only.
    :param batch_conn_id: Airflow connection of type ``batch``. Default ``batch_default``.
    :param max_changes: As for the operator: write nothing if more campaigns differ. Default None.
    :param max_failures: As for the operator: how many campaigns may fail without failing the task. Default 0.
    :param dag_arguments: Any other argument of a DAG (``default_args``, ``tags``, ...); a ``doc_md`` is put
        above the list of campaigns. ``schedule``, ``catchup`` and ``max_active_runs`` come from the calendar.
    :raises BatchConfigurationError: for a broken calendar, with file and line, and for a wrong argument.
    """
    caller = sys._getframe(1).f_globals.get("__file__")
    if refused := [name for name in OWN_ARGUMENTS if name in dag_arguments]:
        raise BatchConfigurationError(
            f"campaign_calendar_dag sets {', '.join(OWN_ARGUMENTS)} itself: leave out {' and '.join(refused)}."
        )
    calendar = read_calendar(Path(caller).absolute().parent / path if caller else path)
    timetable = calendar.timetable(reconcile_every=reconcile_every)
    doc = "\n\n".join(part for part in (dag_arguments.pop("doc_md", None), _doc(calendar, reconcile_every)) if part)
    with DAG(dag_id, schedule=timetable, catchup=False, max_active_runs=1, doc_md=doc, **dag_arguments) as dag:
        BatchSyncCampaignsOperator(
            task_id="sync",
            calendar=str(calendar.path),
            batch_conn_id=batch_conn_id,
            max_changes=max_changes,
            max_failures=max_failures,
        )
    if caller:
        dag.fileloc = str(Path(caller).absolute())
    return dag


def _doc(calendar: CampaignCalendar, reconcile_every: timedelta | None) -> str:
    """Return the calendar as Markdown, without the present moment: the same calendar is always the same text."""
    minutes = 0 if reconcile_every is None else reconcile_every // timedelta(minutes=1)
    every = f", and every {minutes} minutes" if minutes else ""
    lines = [
        f"Campaigns of `{calendar.path.name}`, times in {calendar.timezone}. The DAG runs at every change{every}. The",
        "task `sync` then updates the campaigns that are not as the calendar says at that moment.",
        "",
        "| campaign | app | token | live |",
        "|---|---|---|---|",
    ]
    for campaign in calendar.campaigns[:MAX_ROWS]:
        live = "; or ".join(window_words(window) for window in campaign.windows)
        cells = (name_words(campaign), campaign.app or "", f"`{campaign.token}`", live)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    if len(calendar.campaigns) > MAX_ROWS:
        lines += ["", f"And {len(calendar.campaigns) - MAX_ROWS} more."]
    return "\n".join((*lines, "", f"Version of the calendar: `{calendar.digest()[:16]}`", ""))
