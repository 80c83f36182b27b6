"""The export of many campaigns, which takes minutes. What is measured, and how, is in ``export.py``."""

from __future__ import annotations

from export import run_full as run

__all__ = ["run"]
