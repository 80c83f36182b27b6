"""Campaigns for tests that need one and do not depend on its parameters."""

from __future__ import annotations

from typing import Any

TOKEN = "d9d5e5a52ca08110d4893af3254ec21b"
MORNING_NEWS: dict[str, Any] = {
    "name": "Morning news",
    "live": False,
    "push_time": "2026-01-05T08:00:00",
    "recurrence": {"repeat_unit": "DAILY", "repeat_frequency": 1},
    "messages": [{"language": "en", "body": "Good morning"}],
}
SUMMER_SALE: dict[str, Any] = {
    "name": "Summer sale",
    "live": False,
    "push_time": "2099-06-01T09:00:00",
    "messages": [{"language": "en", "body": "Everything must go"}],
}
"""Sends once, far in the future."""
