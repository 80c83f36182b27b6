"""A Redis and a PostgreSQL of our own: free loopback ports, a temporary folder, a password, gone afterwards.

What belongs here: starting and ending the two servers, found where Debian's packages put them. What does not: Airflow.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import redis
from private_airflow import free_port


def program(name: str) -> str:
    """Debian keeps PostgreSQL's own programs off the path, by version."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    found = str(versions[-1]) if versions else shutil.which(name)
    if not found:
        raise FileNotFoundError(f"{name} is missing: install the Debian packages redis-server and postgresql")
    return found


@contextmanager
def private_redis() -> Iterator[str]:
    """The URL of a Redis that keeps nothing on disk."""
    port, password = free_port(), secrets.token_hex(16)
    settings = f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\nappendonly no\n'
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    with tempfile.TemporaryDirectory(prefix="redis-") as folder, open(f"{folder}/log", "wb") as log:
        # Read from its input, so that the password is in no list of processes.
        server = subprocess.Popen(
            [program("redis-server"), "-"], cwd=folder, stdin=subprocess.PIPE, stdout=log, stderr=log
        )
        try:
            assert server.stdin
            server.stdin.write(settings.encode())
            server.stdin.close()
            _wait(server, lambda: redis.Redis.from_url(url).ping(), redis.RedisError, Path(folder, "log"))
            yield url
        finally:
            server.terminate()
            server.wait(10)


class PrivatePostgres:
    """A PostgreSQL with a database `airflow`. It can be stopped and started again; what was committed is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.password = folder, free_port(), secrets.token_hex(16)
        self.address = f"airflow:{self.password}@127.0.0.1:{self.port}/airflow"
        self._server: subprocess.Popen[bytes] | None = None
        # PostgreSQL refuses to run as root; its package brings a user.
        self._as: dict[str, Any] = {"cwd": folder}
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        options = ["-U", "airflow", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"]
        (folder / "password").write_text(self.password)
        _must([program("initdb"), "-D", folder / "data", "--pwfile", folder / "password", *options], **self._as)
        self.start()
        admin = self.connect("postgres")
        admin.autocommit = True
        admin.cursor().execute("CREATE DATABASE airflow")
        admin.close()

    def start(self) -> None:
        options = ["-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.folder), "-F"]
        with open(self.folder / "log", "ab") as log:
            self._server = subprocess.Popen(
                [program("postgres"), "-D", self.folder / "data", *options], stdout=log, stderr=log, **self._as
            )
        _wait(self._server, lambda: self.connect("postgres").close() is None, psycopg2.Error, self.folder / "log")

    def stop(self) -> None:
        """At once: every connection is cut, and what was not committed is lost."""
        if self._server:
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait(30)
            self._server = None

    def connect(self, database: str = "airflow") -> Any:
        return psycopg2.connect(
            host="127.0.0.1", port=self.port, user="airflow", password=self.password, dbname=database
        )


@contextmanager
def private_postgres() -> Iterator[PrivatePostgres]:
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        server = PrivatePostgres(Path(folder))
        try:
            yield server
        finally:
            server.stop()


def _must(command: list[Any], **options: Any) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:])


def _wait(server: subprocess.Popen[bytes], answers: Callable[[], Any], not_yet: type[Exception], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            if answers():
                return
        except (OSError, not_yet):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"a server did not start:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.1)
