"""What the DAG run at hand asks for: what should be live now, how late it is, how an index of a mapped task is called.

Operators, sensors and notifiers ask it. When a campaign should be live is in ``windows.py``; what is done is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_batch.payloads import read_live
from airflow_batch.results import text_or_none
from airflow_batch.windows import CampaignWindow

TIMED_RUNS = frozenset({"scheduled", "backfill", "asset_triggered", "asset_materialization"})
"""Types of run that stand for a moment. A run that a person or another DAG has started is wanted now."""

INDEX_NAME = "{{ batch_index | default(task.app or '') }}"
"""The ``map_index_template`` of this provider's tasks: what Airflow's pages show for each index of a mapped task."""

MAX_INDEX_NAME = 200


def name_index(context: Any, app: str | None, name: Any) -> None:
    """Set what the Airflow UI shows for this index of a mapped task: the app and the campaign's name or token.

    Airflow stores it in ``task_instance.rendered_map_index``, a VARCHAR(250), and fails the task for a longer text.
    """
    context["batch_index"] = text_or_none(" ".join(str(part) for part in (app, name) if part), MAX_INDEX_NAME)


def wanted_live(live: Any, context: Mapping[str, Any]) -> bool:
    """Return what a campaign should be at this moment: a window's answer, else the boolean (or its rendered text).

    :raises BatchPayloadError: when ``live`` is neither.
    """
    return live_now(live, run_began(context)) if isinstance(live, CampaignWindow) else read_live(live)


def live_now(live: bool | CampaignWindow, run_after: datetime | None) -> bool:
    """Return the same, where the run's own moment is known and ``live`` was read."""
    return live if isinstance(live, bool) else live.is_live_at(_not_before(run_after))


def present_moment(context: Mapping[str, Any]) -> datetime:
    """Return this moment in UTC, but never one before the run's own.

    A worker's clock may be behind the scheduler's, and a run of 09:00 that reads 08:59:59 would leave the campaign as
    it is until the next change.
    """
    return _not_before(run_began(context))


def lateness(context: Mapping[str, Any]) -> timedelta | None:
    """Return how long ago the run should have been, None where it stands for no moment.

    Counted from ``run_after``, which a cleared run keeps.
    """
    run_after = run_began(context)
    if run_after is None or getattr(context.get("dag_run"), "run_type", None) not in TIMED_RUNS:
        return None
    return max(datetime.now(UTC) - run_after, timedelta(0))


def run_began(context: Mapping[str, Any]) -> datetime | None:
    """Return a moment before which no attempt of this run's tasks began, None where the run is not known.

    Its ``run_after``, not its ``start_date``: a clear sets that anew.
    """
    moment: datetime | None = getattr(context.get("dag_run"), "run_after", None)
    return None if moment is None else moment.astimezone(UTC)


def _not_before(run_after: datetime | None) -> datetime:
    now = datetime.now(UTC)
    return now if run_after is None else max(now, run_after)
