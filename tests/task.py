"""Runs one attempt of a task as Airflow would call it, without a database: for tests of operators and sensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from airflow.sdk.bases.operator import ExecutorSafeguard

ExecutorSafeguard.test_mode = True


@dataclass
class Attempt:
    """The task instance of one attempt."""

    try_number: int = 1
    max_tries: int = 6
    map_index: int = -1
    refused_for: timedelta | None = None
    dag_id: str = "dag"
    task_id: str = "task"
    run_id: str = "run"

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return None if self.refused_for is None else datetime.now(UTC) - self.refused_for


@dataclass
class Store:
    """Stands for Airflow's task state store (3.3 and later)."""

    kept: dict[str, Any] = field(default_factory=dict)

    def get(self, key: str) -> Any:
        return self.kept.get(key)

    def set(self, key: str, value: Any) -> None:
        self.kept[key] = value


def context_of(
    task: Any,
    *,
    reschedules: int = 0,
    store: Store | None = None,
    late: timedelta = timedelta(0),
    run_type: str = "scheduled",
    run_after: datetime | None = None,
    kind: type[Attempt] = Attempt,
    **ti: Any,
) -> dict[str, Any]:
    """Return the context of an attempt in a run that was due ``late`` ago."""
    return {
        "ti": kind(**ti),
        "task": task,
        "task_reschedule_count": reschedules,
        "task_state_store": store,
        "dag_run": SimpleNamespace(run_after=run_after or datetime.now(UTC) - late, run_type=run_type),
    }


def attempt(task: Any, *, reschedules: int = 0, store: Store | None = None, **ti: Any) -> Any:
    """Execute ``task`` once, in no DAG run, and return its result, or raise what Airflow would see."""
    context = context_of(task, reschedules=reschedules, store=store, **ti)
    del context["dag_run"]
    return task.execute(context)


def seconds_until(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()
