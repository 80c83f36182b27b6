"""Only where Celery is installed are these tests collected: ``make test-celery`` makes that environment."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

if find_spec("airflow.providers.celery"):
    sys.path.append(str(Path(__file__).parent))
else:
    collect_ignore = ["test_celery.py"]
