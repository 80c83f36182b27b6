"""What the asset events of a task carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow.sdk import Asset


def set_outlet_extra(context: Mapping[str, Any], outlets: Iterable[Any], extra: Mapping[str, Any]) -> None:
    """Add what a task has done to the events of its outlets, for DAGs that are scheduled by them.

    An outlet that is no asset, such as an alias, is left as it is.
    """
    for outlet in outlets:
        if isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(extra)
