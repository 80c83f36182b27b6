"""Apache Airflow provider for push campaigns on Batch (batch.com)."""

from __future__ import annotations

__version__ = "0.1.0"
