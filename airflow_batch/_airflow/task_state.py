"""What a task keeps between its attempts, in Airflow's task state store (3.3 and later, experimental).

The store survives retries and reschedules; Airflow 3.3 keeps it when a task is cleared, 3.4 empties it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

RECORD = "airflow_batch_record"
REFUSED_SINCE = "airflow_batch_refused_since"


class TaskState:
    """The record of one task instance; a :class:`~airflow_batch._campaigns.protocol.StateStore`."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def load(self) -> dict[str, Any] | None:
        """Return what was saved, None where nothing was."""
        record: dict[str, Any] | None = self._store.get(RECORD)
        return record

    def save(self, record: Mapping[str, Any]) -> None:
        """Replace what was saved."""
        self._store.set(RECORD, dict(record))


def load_refused_since(context: Context) -> datetime | None:
    """Return since when Batch has refused this task, as far as earlier attempts left it; else None.

    What was kept before the task was cleared (``max_tries`` differs) does not count.
    """
    ti: Any = context["ti"]
    store: Any = context.get("task_state_store")
    try:
        kept = None if store is None else store.get(REFUSED_SINCE)
    except Exception as error:
        log.warning("Airflow's task state store cannot be read: %s", type(error).__name__)
        kept = None
    if isinstance(kept, Mapping) and kept.get("max_tries") == ti.max_tries:
        return datetime.fromisoformat(str(kept.get("value")))
    first: datetime | None = ti.get_first_reschedule_date(context)
    return first


def refused_since(context: Context, now: datetime, *, anew: bool = False) -> datetime:
    """Return since when Batch has refused this task, and keep it for later attempts.

    :param anew: Count from now on, because something was done since.
    """
    since = now if anew else load_refused_since(context) or now
    store: Any = context.get("task_state_store")
    if store is not None:
        try:
            store.set(REFUSED_SINCE, {"max_tries": context["ti"].max_tries, "value": since.isoformat()})
        except Exception as error:
            log.warning("Airflow's task state store does not take a value: %s", type(error).__name__)
    return since
