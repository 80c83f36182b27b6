"""Values as XCom can hold them. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


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
