"""Only where moto and Airflow's S3 are installed are these tests collected: ``make test-s3`` makes that environment."""

from __future__ import annotations

from importlib.util import find_spec

if not (find_spec("moto") and find_spec("s3fs")):
    collect_ignore = ["test_s3.py"]
