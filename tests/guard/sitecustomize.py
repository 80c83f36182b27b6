"""Read by every Python process that a test starts with this folder on PYTHONPATH: it blocks all hosts but loopback."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

import loopback_only  # noqa: F401
