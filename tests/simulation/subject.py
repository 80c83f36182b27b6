"""The clients that are run: the package's core, one that sends without checking, and one that sends nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

from airflow_batch._campaigns.request import ChangeRequest, CreateRequest, Outcome

LOG = logging.getLogger("simulation")
LOG.propagate = False
LOG.addHandler(logging.NullHandler())
LOG.setLevel(logging.CRITICAL)


@cache
def _core() -> dict[str, Callable[..., Any]]:
    from airflow_batch._campaigns.change import change_campaign
    from airflow_batch._campaigns.create import create_campaign
    from airflow_batch._campaigns.delete import delete_campaign

    return {"change": change_campaign, "create": create_campaign, "delete": delete_campaign, "sync": _sync}


def core_exists() -> bool:
    """Return whether the entry points of the core can be imported."""
    try:
        _core()
    except ImportError:
        return False
    return True


def _sync(begins: Callable[[Any], None], **arguments: Any) -> None:
    from airflow_batch._sync.run import CampaignSync

    sync = CampaignSync(**arguments, log=LOG, details=LOG)
    sync.progress.to = LOG
    begins(sync)
    sync.run()


def _outcome(clock: Any, token: str, sent: Any, changed: bool | None) -> Outcome:
    now = clock.now()
    live = sent.get("live") if sent else None
    name = sent.get("name") if sent else None
    return Outcome(token=token, requested_at=now, completed_at=now, changed=changed, sent=sent, live=live, name=name)


def _blind_change(api: Any, clock: Any, attempt: Any, request: ChangeRequest, **_: Any) -> Outcome:
    live = request.live if request.live is None or isinstance(request.live, bool) else None
    if request.live is not None and live is None:
        live = request.live.is_live_at(clock.now())  # type: ignore[union-attr]
    payload = {**(request.definition or {}), **request.parameters}
    if live is not None:
        payload["live"] = live
    if request.expect_name:
        payload["name"] = request.expect_name
    api.update_campaign(request.token, payload)
    return _outcome(clock, request.token, payload, attempt.number == 1)


def _blind_create(api: Any, clock: Any, attempt: Any, request: CreateRequest, **_: Any) -> Outcome:
    token = api.create_campaign(request.payload)
    return _outcome(clock, token, request.payload, True)


def _blind_delete(api: Any, clock: Any, attempt: Any, token: str, **_: Any) -> Outcome:
    api.delete_campaign(token)
    return _outcome(clock, token, {}, True)


def _sends_nothing(*_: Any, **__: Any) -> Outcome:
    from airflow_batch.exceptions import BatchChangeRefusedError

    raise BatchChangeRefusedError("Nothing is sent.")


def _blind_sync(
    begins: Callable[[Any], None], *, desired: Any, connect: Any, clock: Any, attempt: Any, **_: Any
) -> None:
    progress, hooks = SimpleNamespace(outcomes={}, failed={}, skipped={}), connect(None)
    begins(SimpleNamespace(progress=progress, desired=desired, has_written=False, stop=lambda: None))
    for index, campaign in enumerate(desired):
        live = campaign.live if isinstance(campaign.live, bool) else campaign.live.is_live_at(clock.now())
        payload = {**(campaign.definition or {}), "live": live}
        hooks.for_app(campaign.app).update_campaign(campaign.token, payload)
        progress.outcomes[index] = _outcome(clock, campaign.token, payload, attempt.number == 1)


class _Core(dict[str, Callable[..., Any]]):
    def __missing__(self, action: str) -> Callable[..., Any]:
        return _core()[action]


CLIENTS: dict[str, dict[str, Callable[..., Any]]] = {
    "core": _Core(),
    "blind": {"change": _blind_change, "create": _blind_create, "delete": _blind_delete, "sync": _blind_sync},
    "silent": dict.fromkeys(("change", "create", "delete", "sync"), _sends_nothing),
}
