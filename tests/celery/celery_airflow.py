"""The private Airflow with a CeleryExecutor: PostgreSQL, Redis, and workers that can be killed by name.

What belongs here: what differs from ``private_airflow.py``. What does not: anything about Batch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg2.extras
from private_airflow import PrivateAirflow
from servers import PrivatePostgres

HERE = Path(__file__).parent
WORKERS = ("worker-1", "worker-2")

SETTINGS = {
    "core.executor": "CeleryExecutor",
    "core.parallelism": "16",
    "core.hostname_callable": "worker_name.host",
    "celery_broker_transport_options.visibility_timeout": "86400",
    # By default a lost task is found after minutes.
    "scheduler.task_instance_heartbeat_sec": "5",
    "scheduler.task_instance_heartbeat_timeout": "30",
    "scheduler.task_instance_heartbeat_timeout_detection_interval": "5",
    "scheduler.task_queued_timeout": "60",
    "scheduler.task_queued_timeout_check_interval": "5",
    "celery.worker_concurrency": "4",
}


class CeleryAirflow(PrivateAirflow):
    """PrivateAirflow on a given PostgreSQL and Redis, with two Celery workers.

    While `supervised`, what dies is started again, as systemd or Kubernetes would do it, and stands in `deaths`.
    """

    def __init__(
        self,
        home: Path,
        *,
        postgres: PrivatePostgres,
        redis_url: str,
        config: Mapping[str, str] = {},
        **arguments: Any,
    ) -> None:
        self.postgres = postgres
        self.supervised = False
        self.deaths: list[str] = []
        self._commands: dict[str, list[str]] = {}
        servers = {
            "database.sql_alchemy_conn": f"postgresql+psycopg2://{postgres.address}",
            "celery.broker_url": redis_url,
            "celery.result_backend": f"db+postgresql+psycopg2://{postgres.address}",
        }
        super().__init__(home, config={**servers, **SETTINGS, **config}, **arguments)
        self.env["PYTHONPATH"] += f":{HERE}"

    def migrate(self) -> None:
        if not self._tables():
            self._must("db", "migrate")

    def _start_all(self, timeout: float) -> None:
        super()._start_all(timeout)
        for name in WORKERS:
            self.start_worker(name, timeout)

    def start_worker(self, name: str, timeout: float = 90) -> None:
        log = self.home / f"{name}.log"
        before = log.stat().st_size if log.exists() else 0
        self._start(name, ["celery", "worker", "--celery-hostname", name, "--skip-serve-logs"])
        self._wait(f"{name} to start", lambda: b"ready." in log.read_bytes()[before:], timeout)

    def _start(self, name: str, arguments: list[str]) -> None:
        self._commands[name] = arguments
        super()._start(name, arguments)

    def _env_of(self, name: str) -> dict[str, str]:
        return {**self.env, "WORKER_NAME": name} if name in WORKERS else self.env

    def _report_dead(self, dead: list[str]) -> None:
        if not self.supervised:
            super()._report_dead(dead)
        for name in dead:
            del self._roots[name]
            self.deaths.append(name)
            self._start(name, self._commands[name])

    def lose_database(self, seconds: float) -> None:
        """Stop PostgreSQL, and start it again so much later."""
        self.supervised = True
        self.postgres.stop()
        time.sleep(seconds)
        self.postgres.start()

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        connection = self.postgres.connect()
        try:
            connection.set_session(readonly=True, autocommit=True)
            # As text, as from SQLite.
            psycopg2.extras.register_default_json(connection, loads=lambda text: text)
            psycopg2.extras.register_default_jsonb(connection, loads=lambda text: text)
            with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
                cursor.execute("SET TimeZone = 'UTC'")
                cursor.execute(sql.replace("%", "%%").replace("?", "%s"), parameters)
                return [
                    {name: bytes(value) if isinstance(value, memoryview) else value for name, value in row.items()}
                    for row in cursor.fetchall()
                ]
        finally:
            connection.close()

    def _tables(self) -> list[str]:
        tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        return [row["table_name"] for row in self.query(tables)]
