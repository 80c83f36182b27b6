"""The page at /: its file, its headers, and the JSON that it reads once a second.

Belongs here: the shape of what the page reads. Does not belong here: its appearance (page.html), routes (app.py).
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from airflow_batch.sandbox.engine import Engine
from airflow_batch.sandbox.rules import is_recurring
from airflow_batch.sandbox.state import Campaign

REQUESTS_MAX = 500
CAMPAIGNS_MAX = 200
TEXT_MAX = 200
PAGE = Path(__file__).with_name("page.html").read_text("utf-8")


def _hashes(element: str) -> str:
    """Return the sources that allow the page's own inline elements, and no others."""
    contents = re.findall(rf"<{element}>(.*?)</{element}>", PAGE, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hashes('script')}",
            f"style-src {_hashes('style')}",
            "connect-src 'self'",
            # The empty icon, without which a browser would ask for /favicon.ico and stand in the request log.
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def snapshot(engine: Engine, *, after: int) -> dict[str, Any]:
    """Return the state of the sandbox, and the requests that are new or changed since change `after` of its log.

    `run` names this sandbox, `last` is the `after` of the next call. At most REQUESTS_MAX requests, the newest, and
    CAMPAIGNS_MAX campaigns, those that changed last.
    """
    with engine.lock:
        now = engine.clock()
        throttle = engine.service.throttle
        everything = engine.campaigns.all()
        chosen = sorted(everything, key=_changed, reverse=True)[:CAMPAIGNS_MAX]
        shown = {campaign.token for campaign in chosen}
        campaigns = [_row(engine, campaign) for campaign in everything if campaign.token in shown]
        last, records = engine.log.newest(after=after, limit=REQUESTS_MAX)
        return {
            "run": engine.run,
            "now": now.isoformat(),
            "throttle": vars(throttle) if throttle else None,
            "counts": vars(engine.log.counts()),
            "campaigns": campaigns,
            "campaigns_total": len(everything),
            "requests": [record.as_dict() for record in records],
            "last": last,
        }


def _changed(campaign: Campaign) -> Any:
    return max(campaign.changed, campaign.sent or campaign.changed)


def _row(engine: Engine, campaign: Campaign) -> dict[str, Any]:
    definition = campaign.definition
    push_time = definition.get("push_time") or definition.get("local_push_time") or ""
    return {
        "token": campaign.token,
        "app": campaign.app,
        # What a definition holds is not checked where a test puts a campaign in place.
        "name": engine.keyring.scrub(str(definition.get("name", "")))[:TEXT_MAX],
        "phase": campaign.phase,
        "live": definition.get("live") is True,
        "push_time": engine.keyring.scrub(str(push_time))[:TEXT_MAX],
        "local": "local_push_time" in definition,
        "recurring": is_recurring(definition),
        "trigger": campaign.trigger is not None,
        "changed": _changed(campaign).isoformat(),
    }
