"""Keys that must not appear anywhere, faults that could reveal them, and the search for them."""

from __future__ import annotations

import json
from typing import Any

REST_KEY = "sandbox-canary-rest-5f0c1d7e9b"
APP_KEYS = {"live": "sandbox-canary-live-a83e64d2c1", "dev": "sandbox-canary-dev-77b1f09e35"}
SECRETS = {"REST": REST_KEY} | {f"app {kind}": key for kind, key in APP_KEYS.items()}
FAULTS: list[dict[str, Any]] = [
    *({"kind": "echo", "status": status} for status in (400, 401, 403, 404, 409, 500, 503)),
    {"kind": "answer", "status": 429, "headers": {"Retry-After": "6"}},
    {"kind": "answer", "status": 429, "headers": {"Retry-After": "10000"}},
    {"kind": "answer", "error": "MAINTENANCE_ERROR"},
    {"kind": "answer", "status": 200, "body": "not JSON"},
    *({"kind": kind} for kind in ("reset_before", "reset_after", "silence", "truncate", "html")),
    *({"kind": "redirect", "location": location} for location in ("same", "other", "http")),
    {"kind": "drip", "interval": 0.5},
]


def assert_free(text: str, place: Any) -> None:
    """Fail if ``text`` contains a key, also without its prefix or as it is written in JSON."""
    for name, secret in SECRETS.items():
        for form in {secret, secret.removeprefix("sandbox-"), json.dumps(secret)[1:-1]}:
            at = text.find(form)
            assert at < 0, f"the {name} key is in {place}: ...{text[max(0, at - 200) : at]}<HERE>"
