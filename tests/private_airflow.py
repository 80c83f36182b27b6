"""A real Airflow in a private home, for tests that need a scheduler, workers or Airflow's commands.

What belongs here: creating the home, starting and ending Airflow's own commands, and reading what they have stored
(metadata database, XComs, logs). What does not: anything about Batch, and any replacement of a part of Airflow.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import psutil  # type: ignore[import-untyped]

T = TypeVar("T")

CHECKOUT = Path(__file__).resolve().parents[1]

# Started one after the other, beside the api-server, whose start is the longest and needs a core for itself.
# `-s`: no log server, so the api-server's port is the only one; task logs are read from the disk.
JOBS = {
    "dag-processor": (["dag-processor"], "DagProcessorJob"),
    "scheduler": (["scheduler", "-s"], "SchedulerJob"),
    "triggerer": (["triggerer", "-s"], "TriggererJob"),
}

QUICK = {
    "core.load_examples": "False",
    "core.parallelism": "4",
    "core.simple_auth_manager_all_admins": "True",
    "core.hostname_callable": "socket.gethostname",  # the default asks a name server
    "api.host": "127.0.0.1",
    "api.workers": "1",
    "scheduler.scheduler_idle_sleep_time": "0.3",  # how late a task may start; 1 by default
    "dag_processor.refresh_interval": "5",
    "dag_processor.bundle_refresh_check_interval": "1",
    "dag_processor.min_file_process_interval": "300",  # a changed file is still read at once
    "workers.execution_api_timeout": "60",  # 5 by default, which a busy machine exceeds
    "usage_data_collection.enabled": "False",
}


class CommandResult(NamedTuple):
    returncode: int
    output: str


class PrivateAirflow:
    """A throw-away Airflow: own AIRFLOW_HOME, SQLite, LocalExecutor, a free loopback port.

    `dags` are files or folders to copy into the dags folder, or (file name, source) pairs. `connections` go into the
    environment as JSON; `add_stored_connection` puts one into the database instead. `config` overrides QUICK, as
    {"section.option": value}. `python` may be another virtual environment's.
    """

    def __init__(
        self,
        home: Path,
        *,
        dags: Iterable[Path | tuple[str, str]] = (),
        connections: Mapping[str, Mapping[str, Any]] = {},
        python: str = sys.executable,
        config: Mapping[str, str] = {},
    ) -> None:
        self.home = home.resolve()
        self.dags = self.home / "dags"
        self.database = self.home / "airflow.db"
        self.python = python
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.recorded: set[psutil.Process] = set()
        self._roots: dict[str, subprocess.Popen[bytes]] = {}
        self._token = ""

        self.dags.mkdir(parents=True, exist_ok=True)
        (self.home / "airflow.cfg").touch()  # otherwise every command writes its own, with different secrets
        for dag in dags:
            self.add_dag(dag)
        self.env = self._environment(connections, {**QUICK, **config})

    def add_dag(self, dag: Path | tuple[str, str]) -> None:
        """Add a DAG, also while Airflow runs: it reads a new or changed file within some 6 s."""
        if isinstance(dag, tuple):
            (self.dags / dag[0]).write_text(dag[1], encoding="utf-8")
        elif dag.is_dir():
            shutil.copytree(dag, self.dags / dag.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(dag, self.dags)

    def _environment(self, connections: Mapping[str, Mapping[str, Any]], config: Mapping[str, str]) -> dict[str, str]:
        settings = {
            "core.dags_folder": str(self.dags),
            "core.execution_api_server_url": f"{self.url}/execution/",
            "core.fernet_key": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "database.sql_alchemy_conn": f"sqlite:///{self.database}?timeout=60",
            "api.base_url": self.url,
            "api.port": str(self.port),
            "api.secret_key": secrets.token_hex(32),
            "api_auth.jwt_secret": secrets.token_hex(32),
            **config,
        }
        env = {name: value for name, value in os.environ.items() if not _is_foreign(name)}
        env |= {f"AIRFLOW__{name.upper().replace('.', '__', 1)}": value for name, value in settings.items()}
        env |= {f"AIRFLOW_CONN_{name.upper()}": json.dumps(dict(value)) for name, value in connections.items()}
        env |= {"AIRFLOW_HOME": str(self.home), "PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1"}
        if env.pop("PYTHONDONTWRITEBYTECODE", ""):  # without bytecode every command starts twice as slowly
            env["PYTHONPYCACHEPREFIX"] = str(_cache() / "bytecode")
        return env

    # ------------------------------------------------------------ commands

    def command(self, *arguments: str, timeout: float = 120) -> CommandResult:
        """One `airflow` command; its output and errors in one text. At the timeout it is ended, with its children."""
        with tempfile.TemporaryFile() as output:
            process = self._spawn(arguments, output)
            try:
                returncode = process.wait(timeout)
            finally:
                end_processes([process], grace=1)
            output.seek(0)
            return CommandResult(returncode, output.read().decode(errors="replace"))

    def migrate(self) -> None:
        """An up-to-date metadata database. Made once for each version of Airflow, then copied: that saves seconds."""
        if self.database.exists():
            return
        template = _cache() / f"{self._version()}.db"
        if template.exists():
            _copy_database(template, self.database)
            return
        self._must("db", "migrate")
        unfinished = template.with_name(f"{template.name}.{os.getpid()}-{secrets.token_hex(4)}")
        _copy_database(self.database, unfinished)
        unfinished.replace(template)
        _write_ahead(self.database)

    def add_stored_connection(self, conn_id: str, connection: Mapping[str, Any]) -> None:
        """In the metadata database, encrypted, as a user's own would be."""
        self.migrate()
        self._must("connections", "add", conn_id, "--conn-json", json.dumps(dict(connection)))

    def _must(self, *arguments: str) -> None:
        result = self.command(*arguments)
        if result.returncode:
            raise RuntimeError(f"airflow {' '.join(arguments[:2])} failed:\n{result.output[-4000:]}")

    def _version(self) -> str:
        ask = "from importlib.metadata import version; print(version('apache-airflow'))"
        return subprocess.run([self.python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()

    def _spawn(
        self, arguments: Iterable[str], output: Any, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self.python, "-m", "airflow", *arguments],
            env=env or self.env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us alone; we end them in order
        )

    # ------------------------------------------------------------ all components

    @contextmanager
    def running(self, *, timeout: float = 90) -> Iterator[Self]:
        """Scheduler, dag-processor, triggerer and api-server; all are up on entry, none is left afterwards."""
        self.migrate()
        try:
            self._start_all(timeout)
            yield self
        finally:
            self._note_processes()
            roots, self._roots, self._token = list(self._roots.values()), {}, ""
            end_processes(roots, self.recorded)

    def _start_all(self, timeout: float) -> None:
        ready = threading.Event()
        self._start("api-server", ["api-server"])
        threading.Thread(target=self._warm_up, args=(ready,), daemon=True).start()
        last_job = self.query("SELECT max(id) AS id FROM job")[0]["id"] or 0
        started = "SELECT id FROM job WHERE id > ? AND job_type = ? AND state = 'running'"
        for name, (arguments, job_type) in JOBS.items():
            self._start(name, arguments)
            self._wait(f"{name} to start", partial(self.query, started, last_job, job_type), timeout)
        self._wait("api-server to answer", ready.is_set, timeout)
        self._token = self.api("GET", "/auth/token")["access_token"]

    def _start(self, name: str, arguments: list[str]) -> None:
        with open(self.home / f"{name}.log", "ab") as log:
            self._roots[name] = self._spawn(arguments, log, self._env_of(name))

    def _env_of(self, name: str) -> dict[str, str]:
        if name != "api-server":
            return self.env
        # Sometimes requests of the api-server wait for each other's lock until SQLite fails; callers repeat them.
        return {**self.env, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}?timeout=5"}

    def kill(self, name: str) -> None:
        """End one of the four by SIGKILL, with all that it has started, and without any clean-up."""
        root = self._roots.pop(name)
        family = _families([root.pid])
        self.recorded |= family
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        root.wait(10)

    def start_again(self, name: str, timeout: float = 60) -> None:
        """Start one that was killed: a job of JOBS."""
        arguments, job_type = JOBS[name]
        last_job = self.query("SELECT max(id) AS id FROM job")[0]["id"]
        self._start(name, arguments)
        started = "SELECT id FROM job WHERE id > ? AND job_type = ? AND state = 'running'"
        self._wait(f"{name} to start again", partial(self.query, started, last_job, job_type), timeout)

    def _warm_up(self, ready: threading.Event) -> None:
        """The execution API needs 3 to 5 s for its first request, for which the first task must not wait."""
        while self._roots and not ready.is_set():
            with suppress(OSError):
                self.api("GET", "/execution/health", timeout=60)
                ready.set()
            time.sleep(0.1)

    def api(self, method: str, path: str, body: Any = None, timeout: float = 30) -> Any:
        """One call of Airflow's REST API, as an admin; the decoded answer. `path` begins with /api/v2 as a rule."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.url + path, method=method, data=data, headers=headers)
        try:
            with build_opener(ProxyHandler({})).open(request, timeout=timeout) as response:
                return json.loads(response.read() or b"null")
        except HTTPError as error:
            error.add_note(error.read().decode(errors="replace")[:2000])
            raise

    def trigger(
        self,
        dag_id: str,
        conf: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        logical_date: datetime | None = None,
        timeout: float = 60,
    ) -> str:
        """Wait until the DAG is parsed, unpause it, make a run of it. Returns the run's id."""
        self._wait(f"DAG {dag_id} to be parsed", lambda: self._unpause(dag_id), timeout)
        run_id = run_id or f"manual__{secrets.token_hex(4)}"
        body = {"conf": dict(conf or {}), "logical_date": logical_date and logical_date.isoformat()}
        body["dag_run_id"] = run_id
        # Asking again is safe: the run has its id.
        self._wait(f"a run of {dag_id}", lambda: self._post(f"/api/v2/dags/{dag_id}/dagRuns", body), timeout)
        return run_id

    def backfill(self, dag_id: str, conf: Mapping[str, Any], start: str, end: str, timeout: float = 60) -> str:
        """Make runs for past moments, of type backfill; returns the id of the first."""
        self._wait(f"DAG {dag_id} to be parsed", lambda: self._unpause(dag_id), timeout)
        body = {"dag_id": dag_id, "from_date": start, "to_date": end, "dag_run_conf": dict(conf)}
        self._wait(f"a backfill of {dag_id}", lambda: self._post("/api/v2/backfills", body), timeout)
        runs = "SELECT run_id FROM dag_run WHERE dag_id = ? AND run_type = 'backfill' ORDER BY run_after"
        return str(self._wait("the backfill's runs", lambda: self.query(runs, dag_id), timeout)[0]["run_id"])

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clear a task of a run, so that it runs again."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [task_id], "only_failed": False}
        self._wait(
            f"{task_id} to be cleared", lambda: self._post(f"/api/v2/dags/{dag_id}/clearTaskInstances", body), 60
        )

    def _post(self, path: str, body: Mapping[str, Any]) -> bool:
        """Return False where the api-server could not write to its database; a 409 means that it had done so."""
        try:
            self.api("POST", path, body)
        except HTTPError as error:
            if error.code < 500 and error.code != 409:
                raise
            return error.code == 409
        except TimeoutError:
            return False
        return True

    def _unpause(self, dag_id: str) -> bool:
        try:
            self.api("PATCH", f"/api/v2/dags/{dag_id}?update_mask=is_paused", {"is_paused": False})
        except HTTPError as error:
            if error.code < 500 and error.code != 404:
                raise
            return False
        except TimeoutError:
            return False
        return True

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 120) -> str:
        """The run's final state: success or failed."""
        ended = "SELECT state FROM dag_run WHERE dag_id = ? AND run_id = ? AND state IN ('success', 'failed')"
        return str(self._wait(f"run {run_id}", lambda: self.query(ended, dag_id, run_id), timeout)[0]["state"])

    def _wait(self, what: str, ready: Callable[[], T], timeout: float) -> T:
        deadline = time.monotonic() + timeout
        while not (answer := ready()):
            self._note_processes()
            if dead := [name for name, process in self._roots.items() if process.poll() is not None]:
                self._report_dead(dead)
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {timeout} s for {what}\n{self._summary()}")
            time.sleep(0.2)
        return answer

    def _report_dead(self, dead: list[str]) -> None:
        raise RuntimeError(f"{' and '.join(dead)} died\n{self._summary()}")

    def _summary(self) -> str:
        """What a reader of a failed test needs first."""
        broken = [row["stacktrace"] for row in self.query("SELECT stacktrace FROM import_error")]
        tasks = self.query("SELECT dag_id, run_id, task_id, state, try_number FROM task_instance")
        ends = [f"--- {name}.log\n{_text(self.home / f'{name}.log')[-1500:]}" for name in self._roots]
        return "\n".join([*broken, *map(str, tasks), *ends])

    def _note_processes(self) -> None:
        self.recorded |= _families(process.pid for process in self._roots.values())

    # ------------------------------------------------------------ what it has stored

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        """Rows of the metadata database, read-only. Dates come back aware, in UTC."""
        with closing(sqlite3.connect(f"{self.database.as_uri()}?mode=ro", uri=True, timeout=60)) as database:
            database.row_factory = sqlite3.Row
            rows = database.execute(sql, parameters).fetchall()
        return [{name: _aware(row[name]) for name in row.keys()} for row in rows]  # noqa: SIM118

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Every column of the current attempt of every task, in order of task_id and map_index."""
        current = [row for row in self._attempts(dag_id, run_id) if row["working_set"]]
        return sorted(current, key=lambda row: (row["task_id"], row["map_index"]))

    def tries(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> list[dict[str, Any]]:
        """Every attempt, oldest first, the current one last; each with its `reschedules`, oldest first."""
        reschedules = "SELECT * FROM task_reschedule WHERE ti_id = ? ORDER BY id"
        return [
            {**row, "reschedules": self.query(reschedules, row["id"])}
            for row in self._attempts(dag_id, run_id)
            if (row["task_id"], row["map_index"]) == (task_id, map_index)
        ]

    def _attempts(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """From 3.4 on one table holds them all and marks the current ones as its `working_set`."""
        where = "WHERE dag_id = ? AND run_id = ?"
        if self._has_table("task_instance_history"):
            past = "SELECT *, task_instance_id AS id, 0 AS working_set FROM task_instance_history"
            rows = self.query(f"{past} {where}", dag_id, run_id)
            rows += self.query(f"SELECT *, 1 AS working_set FROM task_instance {where}", dag_id, run_id)
        else:
            rows = self.query(f"SELECT *, region_index AS map_index FROM task_instance {where}", dag_id, run_id)
        return sorted(rows, key=lambda row: int(row["try_number"]))

    def xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        """The decoded value; KeyError where there is none."""
        if self._has_table("xcom"):
            sql = "SELECT value FROM xcom WHERE dag_id = ? AND run_id = ? AND task_id = ? AND map_index = ? AND key = ?"
            rows = self.query(sql, dag_id, run_id, task_id, map_index, key)
        else:  # from 3.4 on it belongs to an attempt
            attempts = self.tries(dag_id, run_id, task_id, map_index)[-1:]
            sql = "SELECT value FROM xcom_v2 WHERE task_instance_id = ? AND key = ?"
            rows = [row for attempt in attempts for row in self.query(sql, attempt["id"], key)]
        if not rows:
            raise KeyError(f"{task_id} has no XCom {key}")
        return json.loads(rows[0]["value"]) if isinstance(rows[0]["value"], str) else rows[0]["value"]

    def _has_table(self, name: str) -> bool:
        return name in self._tables()

    def _tables(self) -> list[str]:
        return [row["name"] for row in self.query("SELECT name FROM sqlite_master WHERE type = 'table'")]

    def task_log(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
        """The log of all attempts, oldest first, then those of its triggers: one JSON object in each line."""
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        if map_index >= 0:
            folder /= f"map_index={map_index}"
        return "".join(map(_text, sorted(folder.glob("attempt=*.log*"), key=lambda path: (len(path.name), path.name))))

    def all_logs(self) -> Iterator[tuple[Path, str]]:
        """Every file of the home but the database, bytecode and the DAGs' source: where a secret must not be."""
        for path in sorted(self.home.rglob("*")):
            if path.is_file() and not path.name.startswith(self.database.name) and self.dags not in path.parents:
                yield path, _text(path)

    def database_cells(self) -> Iterator[tuple[str, str, str]]:
        """(table, column, text) of every cell that is not NULL; what is compressed comes unpacked."""
        for table in self._tables():
            for row in self.query(f'SELECT * FROM "{table}"'):
                for column, value in row.items():
                    if value is not None:
                        yield table, column, _unpacked(value)


def wait_until(happened: Callable[[], object], timeout: float = 400) -> None:
    """Wait for something that is not in the database. No assertion depends on how long it takes."""
    deadline = time.monotonic() + timeout
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s")
        time.sleep(0.2)


# ---------------------------------------------------------------- processes and ports


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def end_processes(
    roots: Iterable[subprocess.Popen[bytes]], recorded: set[psutil.Process] | None = None, grace: float = 2
) -> None:
    """End these processes and everything they ever started, within seconds.

    TERM goes to the roots alone: an executor's worker that it killed could keep a lock for ever, for which the
    scheduler would wait. What is alive after `grace` seconds (a triggerer needs 10) is killed. Children change
    their title and their session, so they are known by descent and start time, noted while their parents still live.
    """
    roots, recorded = list(roots), set() if recorded is None else recorded
    recorded |= _families(root.pid for root in roots)
    for root in roots:
        root.terminate()
    softly, surely = time.monotonic() + grace, time.monotonic() + grace + 10
    while alive := {process for process in recorded if is_alive(process)}:
        recorded |= _families(process.pid for process in alive)
        if time.monotonic() > surely:
            raise RuntimeError(f"still running: {alive}")
        if time.monotonic() > softly or not any(root.poll() is None for root in roots):
            for process in alive:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        for root in roots:
            root.poll()  # reaps a root that has ended
        time.sleep(0.05)


def is_alive(process: psutil.Process) -> bool:
    """False for a zombie too: it has ended, whoever its parent is."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _families(pids: Iterable[int]) -> set[psutil.Process]:
    found: set[psutil.Process] = set()
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            head = psutil.Process(pid)
            found |= {head, *head.children(recursive=True)}
    return found


def _is_foreign(name: str) -> bool:
    return name.startswith(("AIRFLOW", "_AIRFLOW")) or name == "PYTHONPATH" or name.lower().endswith("_proxy")


# ---------------------------------------------------------------- files and cells


def _cache() -> Path:
    """Migrated databases and bytecode, shared by all private Airflows of this user."""
    cache = Path(tempfile.gettempdir()) / f"private-airflow-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    if cache.stat().st_uid != os.getuid():
        raise PermissionError(f"{cache} belongs to somebody else")
    return cache


def _copy_database(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as reader, closing(sqlite3.connect(target)) as writer:
        reader.backup(writer)
    _write_ahead(target)


def _write_ahead(database: Path) -> None:
    """Readers and the writer do not block each other in this mode, which the file remembers."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def _aware(value: Any) -> Any:
    """SQLite has no type for times: Airflow's are text of this format, in UTC."""
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", value):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return value


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _unpacked(value: Any) -> str:
    if isinstance(value, bytes):
        for unpack in (zlib.decompress, gzip.decompress):
            with suppress(zlib.error, OSError, EOFError):
                value = unpack(value)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return str(value)
