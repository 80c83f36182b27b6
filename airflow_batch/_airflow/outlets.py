"""The asset events of a task with ``outlets``: what their ``extra`` says, and which campaigns an alias adds.

Airflow makes the events after the task has succeeded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from airflow_batch._airflow.task_context import storable

URI_SCHEME = "batch"
MAX_LISTED = 200
"""Campaigns that the ``extra`` of one event lists. An alias has an event for each, however many."""
_INCOMPLETE = "The asset events of this task say less than they should: %s: %s"
_KEYS = ("campaign_token", "app", "name", "live", "changed", "action")


def campaign_uri(batch_conn_id: str, app: str | None, token: str) -> str:
    """Return the URI of a campaign as an asset: ``batch://<connection>/<app>/<token>``, without an app two parts."""
    parts = (batch_conn_id, token) if app is None else (batch_conn_id, app, token)
    return f"{URI_SCHEME}://{'/'.join(quote(part, safe='') for part in parts)}"


def fill_outlet_events(
    context: Mapping[str, Any],
    outlets: Iterable[Any],
    batch_conn_id: str,
    results: Sequence[Mapping[str, Any]],
    *,
    summary: Mapping[str, Any] | None = None,
    log: Any,
) -> None:
    """Fill in the events of a task that has changed campaigns. A failure is logged: the change was made.

    :param results: The results of the campaigns, as :class:`~airflow_batch.results.CampaignResult`.
    :param summary: What the event of an asset says about many campaigns; None for a single one.
    """
    outlets = list(outlets or ())
    if not outlets:
        return
    try:
        from airflow.sdk import AssetAlias

        rows = [{key: storable(result[key]) for key in _KEYS} for result in results]
        changed = [row for row in rows if row["changed"] is not False and row["action"] != "dry_run"]
        extra = rows[0] if summary is None else {**summary, **_listed(changed)}
        _set_extra(context, outlets, extra)
        for alias in (outlet for outlet in outlets if isinstance(outlet, AssetAlias)):
            _add_each(context["outlet_events"][alias], batch_conn_id, changed)
    except Exception as error:
        log.warning(_INCOMPLETE, type(error).__name__, error)


def set_outlet_extra(context: Mapping[str, Any], outlets: Iterable[Any], extra: Mapping[str, Any], *, log: Any) -> None:
    """Add what a task has done to the events of its outlets, but of aliases. A failure is logged: the work is done."""
    try:
        _set_extra(context, outlets or (), extra)
    except Exception as error:
        log.warning(_INCOMPLETE, type(error).__name__, error)


def _set_extra(context: Mapping[str, Any], outlets: Iterable[Any], extra: Mapping[str, Any]) -> None:
    from airflow.sdk import AssetAlias

    for outlet in outlets:
        if not isinstance(outlet, AssetAlias):
            context["outlet_events"][outlet].extra.update(extra)


def _listed(changed: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"changed": bool(changed), "changed_campaigns": len(changed), "campaigns": list(changed[:MAX_LISTED])}


def _add_each(event: Any, batch_conn_id: str, changed: Iterable[dict[str, Any]]) -> None:
    from airflow.sdk import Asset

    for row in changed:
        event.add(Asset(campaign_uri(batch_conn_id, row["app"], row["campaign_token"])), extra=row)
