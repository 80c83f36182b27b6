"""The routes of Batch's campaigns API, version 1.1 (https://doc.batch.com/developer/api/mep/campaigns)."""

from __future__ import annotations

from dataclasses import dataclass

MAX_PAGE = 100
"""Campaigns in one request of the list (https://doc.batch.com/developer/api/mep/campaigns/list)."""


@dataclass(frozen=True)
class Endpoint:
    """One route of the API: its name in messages, its method, its path below ``campaigns/``, and whether it writes."""

    name: str
    method: str
    path: str
    writes: bool


CREATE = Endpoint("create", "POST", "create", writes=True)
UPDATE = Endpoint("update", "POST", "update/{token}", writes=True)
DELETE = Endpoint("delete", "POST", "delete/{token}", writes=True)
VIEW = Endpoint("view", "GET", "{token}", writes=False)
STATS = Endpoint("stats", "GET", "stats/{token}", writes=False)
LIST = Endpoint("list", "GET", "list", writes=False)
