"""What Airflow notes as the host of a task: which worker ran it, though all of them are on one machine."""

from __future__ import annotations

import os
import socket


def host() -> str:
    return os.environ.get("WORKER_NAME", socket.gethostname())
