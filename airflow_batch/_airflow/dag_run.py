"""What the DAG run at hand means: when it began, what should be live now, how an index of a mapped task is called."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow_batch._airflow.xcom import text_or_none

TIMED_RUNS = frozenset({"scheduled", "backfill", "asset_triggered", "asset_materialization"})
"""Types of run that stand for a moment. A run that a person or another DAG has started has no moment."""

MAP_INDEX_TEMPLATE = "{{ batch_index | default(task.app or '') }}"
"""The ``map_index_template`` of this provider's tasks: what Airflow's pages show for each index of a mapped task."""

MAX_INDEX_NAME = 200


def set_map_index_name(context: Any, app: str | None, name: Any) -> None:
    """Set what the Airflow UI shows for this index of a mapped task: the app and the campaign's name or token.

    Airflow stores it in ``task_instance.rendered_map_index``, a VARCHAR(250), and fails the task for a longer text.
    """
    context["batch_index"] = text_or_none(" ".join(str(part) for part in (app, name) if part), MAX_INDEX_NAME)


def run_after_of(context: Mapping[str, Any]) -> datetime | None:
    """Return a moment before which no attempt of this run's tasks began, None where the run is not known.

    Its ``run_after``, not its ``start_date``: clearing a task sets that anew.
    """
    moment: datetime | None = getattr(context.get("dag_run"), "run_after", None)
    return None if moment is None else moment.astimezone(UTC)
