"""An Airflow of the tests' own: an empty home, and the DAGs that lie beside this file."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

# Before Airflow is imported, which reads them then.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-tests-")
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(Path(__file__).parent / "dags")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

import pytest


@pytest.fixture(scope="session", autouse=True)
def airflow_database() -> None:
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
