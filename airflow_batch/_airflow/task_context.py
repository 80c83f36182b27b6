"""The DAG run and the task at hand, and values as XCom can hold them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

TIMED_RUNS = frozenset({"scheduled", "backfill", "asset_triggered", "asset_materialization"})
"""Types of run that stand for a moment. A run that a person or another DAG has started has no moment."""
RUNS_OF_AN_INTERVAL = frozenset({"scheduled", "backfill"})
"""Types of run that have a data interval of their own. Airflow gives one that a person starts that of another run."""

MAP_INDEX_TEMPLATE = "{{ batch_index | default(task.app or '') }}"
"""The ``map_index_template`` of this provider's tasks: what Airflow's pages show for each index of a mapped task."""

MAX_INDEX_NAME = 200


def set_map_index_name(context: Any, app: str | None, name: Any) -> None:
    """Set what the Airflow UI shows for this index of a mapped task: the app and the campaign's name or token.

    Airflow stores it in ``task_instance.rendered_map_index``, a VARCHAR(250), and fails the task for a longer text.
    """
    context["batch_index"] = text_or_none(" ".join(str(part) for part in (app, name) if part), MAX_INDEX_NAME)


def is_mapped(ti: Any) -> bool:
    """Return whether a task instance is one of a mapped task (``.expand``)."""
    return ti.map_index is not None and ti.map_index >= 0


def run_after_of(context: Mapping[str, Any]) -> datetime | None:
    """Return a moment before which no attempt of this run's tasks began, None where the run is not known.

    Its ``run_after``, not its ``start_date``: clearing a task sets that anew.
    """
    moment: datetime | None = getattr(context.get("dag_run"), "run_after", None)
    return None if moment is None else moment.astimezone(UTC)


def interval_of(context: Mapping[str, Any]) -> tuple[datetime | None, datetime | None]:
    """Return start and end of the data interval of a run that has one of its own, else None for both."""
    run = context.get("dag_run")
    if getattr(run, "run_type", None) not in RUNS_OF_AN_INTERVAL:
        return None, None
    return getattr(run, "data_interval_start", None), getattr(run, "data_interval_end", None)


def text_or_none(value: Any, limit: int = 500) -> str | None:
    """Return a server's text, cut, for XCom; None for anything that is not text."""
    return _text(value[:limit]) if isinstance(value, str) else None


def storable(value: Any) -> Any:
    """Return a JSON value as XCom can hold it.

    Airflow and its databases refuse half a surrogate pair and NUL in text, which become the replacement character,
    numbers that are not finite, which become null, and whole numbers beyond 64 bits, which become text.
    """
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return {_text(key) if isinstance(key, str) else key: storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, int) and abs(value) >= 2**63 else value


def _text(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
