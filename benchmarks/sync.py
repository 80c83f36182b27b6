"""Many campaigns at once: one sync task, next to one task with requests and to a mapped task for each campaign.

Every subject has a sandbox of its own that throttles and is as slow as a distant API. What it takes is compared with
what the limit allows for the requests that this subject makes, and with the sync that knows the limit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import busy_sandbox
import requests
from busy_sandbox import BusySandbox, Counts
from report import Spread, table, verdict
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))
from private_airflow import PrivateAirflow  # noqa: E402

ROUNDS = 3
CAMPAIGNS = 300
DELAY = 0.15
RATE, BURST = 20.0, 20.0
MAX_RATIO = {True: 1.10, False: 1.5}
"""Of a sync to what the limit allows, by whether the connection has the limit."""
MAX_REFUSED = {True: 0, False: 3}
PARALLELISM = 8
MAX_SECONDS = 720.0
"""Seconds for one subject."""

MANY = 10_000
MAX_LISTS = 101
MAX_MEGABYTES = 150

KNOWN, UNKNOWN = "sync, limit known", "sync, limit unknown"
SESSION = "requests + urllib3.Retry, one task"
HTTP, MAPPED = "HttpOperator, mapped", "BatchSetCampaignLive, mapped"


class Toggled(NamedTuple):
    """What one subject took for its toggles."""

    seconds: float
    counts: Counts
    finished: bool = True

    @property
    def allowed(self) -> float:
        """The seconds in which the limit allows this subject's requests."""
        return max(self.counts.requests - BURST, 1) / RATE


def run() -> Iterator[str]:
    """Measure the toggles, the syncs in alternation, then the sync that has nothing to do."""
    yield f"  {CAMPAIGNS} campaigns, off to on. The sandbox: another process, each answer {DELAY * 1000:.0f} ms late,"
    yield f"  {RATE:.0f} requests a second, bursts of {BURST:.0f}, 429 without Retry-After."
    yield f"  x limit: against what the limit allows for the subject's own requests, (n - {BURST:.0f}) / {RATE:.0f} s."
    yield f"  sync: {ROUNDS} rounds, a process without a scheduler. {SESSION}: once, without one too."
    yield f"  mapped: once, a real scheduler, LocalExecutor with parallelism {PARALLELISM}, SQLite; from the end of"
    yield "  the task that gives the list to the end of the run. HttpOperator does not read the campaigns."
    yield "  All of it takes a quarter of an hour."
    toggled: dict[str, list[Toggled]] = {KNOWN: [], UNKNOWN: []}
    for _ in range(ROUNDS):
        toggled[KNOWN].append(_synced(known=True))
        toggled[UNKNOWN].append(_synced(known=False))
    toggled[SESSION] = [_with_a_session()]
    toggled[HTTP] = [_mapped("mapped_http")]
    toggled[MAPPED] = [_mapped("mapped_batch")]
    yield _table(toggled)
    yield from _unfinished(toggled)
    yield _mapped_against_mapped(toggled[MAPPED][0], toggled[HTTP][0])
    yield from _targets(toggled[KNOWN], known=True)
    yield from _targets(toggled[UNKNOWN], known=False)
    yield f"\n  {MANY:,} campaigns already in the desired state; no delay, no limit. MB: peak beyond Airflow, loaded."
    yield from _nothing_to_do([_synced_already() for _ in range(ROUNDS)])


def _busy() -> Any:
    return busy_sandbox.running(CAMPAIGNS, delay=DELAY, rate=RATE, burst=BURST)


def _synced(*, known: bool) -> Toggled:
    with _busy() as sandbox:
        seconds, _ = _one_sync(sandbox, {"requests_per_second": RATE} if known else {})
        return Toggled(seconds, sandbox.counts())


def _synced_already() -> tuple[float, float, Counts]:
    with busy_sandbox.running(MANY, live=True) as sandbox:
        seconds, megabytes = _one_sync(sandbox, {})
        return seconds, megabytes, sandbox.counts()


def _one_sync(sandbox: BusySandbox, extra: Mapping[str, Any]) -> tuple[float, float]:
    """Run the operator in a process of its own; return its seconds, and the megabytes beyond Airflow."""
    connection = json.dumps({**sandbox.connection, "extra": extra})
    command = [sys.executable, "-I", str(HERE / "one_sync.py")]
    env = {**os.environ, "AIRFLOW_CONN_BATCH_DEFAULT": connection}
    tokens = json.dumps(sandbox.tokens)
    output = subprocess.run(
        command, check=True, env=env, input=tokens, stdout=subprocess.PIPE, text=True, timeout=MAX_SECONDS
    ).stdout
    found = json.loads(output.splitlines()[-1])
    return found["seconds"], found["megabytes"]


def _with_a_session() -> Toggled:
    """Do what a careful user's own task does."""
    retry = Retry(
        total=5,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods={"GET", "POST"},
        backoff_factor=1,
        respect_retry_after_header=True,
    )
    with _busy() as sandbox, requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=retry))
        session.headers["X-Authorization"] = sandbox.connection["password"]
        url = f"{sandbox.connection['host']}/1.1/{sandbox.connection['login']}/campaigns"
        start = time.perf_counter()
        finished = _each_in_turn(session, url, sandbox.tokens, start + MAX_SECONDS)
        return Toggled(time.perf_counter() - start, sandbox.counts(), finished)


def _each_in_turn(session: requests.Session, url: str, tokens: Sequence[str], deadline: float) -> bool:
    for token in tokens:
        if time.perf_counter() > deadline:
            return False
        try:
            seen = session.get(f"{url}/{token}", timeout=30)
            seen.raise_for_status()
            if not seen.json()["live"]:
                session.post(f"{url}/update/{token}", json={"live": True}, timeout=30).raise_for_status()
        except requests.RequestException:
            continue  # it shows in the campaigns that are not live
    return True


def _mapped(dag_id: str) -> Toggled:
    with _busy() as sandbox, tempfile.TemporaryDirectory(prefix="airflow-mapped-") as home:
        key = sandbox.connection["login"]
        url = f"/1.1/{key}/campaigns/update/"
        connection = sandbox.connection if dag_id == "mapped_batch" else _http_connection(sandbox)
        items = [token if dag_id == "mapped_batch" else url + token for token in sandbox.tokens]
        private = PrivateAirflow(
            Path(home),
            dags=[HERE / "dags" / "mapped_toggles.py"],
            connections={"toggles": connection},
            config={"core.parallelism": str(PARALLELISM)},
        )
        with private.running():
            run_id = private.trigger(dag_id, {"toggles": items})
            finished = True
            try:
                private.wait_for_run(dag_id, run_id, timeout=MAX_SECONDS)
            except TimeoutError:
                finished = False
            return Toggled(_seconds(private, dag_id, run_id), sandbox.counts(), finished)


def _http_connection(sandbox: BusySandbox) -> dict[str, Any]:
    headers = {"X-Authorization": sandbox.connection["password"], "Content-Type": "application/json"}
    return {"conn_type": "http", "host": sandbox.connection["host"], "extra": headers}


def _seconds(private: PrivateAirflow, dag_id: str, run_id: str) -> float:
    """Return the time from the end of the task that gives the list to that of the run, or to now."""
    tasks = private.task_instances(dag_id, run_id)
    listed = next(task["end_date"] for task in tasks if task["task_id"] == "toggles")
    (run,) = private.query("SELECT end_date FROM dag_run WHERE dag_id = ? AND run_id = ?", dag_id, run_id)
    took: float = ((run["end_date"] or datetime.now(UTC)) - listed).total_seconds()
    return took


def _table(toggled: Mapping[str, Sequence[Toggled]]) -> str:
    known = [took.seconds for took in toggled[KNOWN]]
    rows = []
    for name, rounds in toggled.items():
        seconds = [took.seconds for took in rounds]
        base = known if len(rounds) == len(known) else [Spread.of(known).median]
        rows.append(
            (
                name + ("" if all(took.finished for took in rounds) else " (not finished)"),
                _text(seconds, 1),
                _text([took.seconds / took.allowed for took in rounds], 2),
                _text([a / b for a, b in zip(seconds, base, strict=True)], 2),
                _text([took.counts.requests for took in rounds], 0),
                _text([100 * took.counts.refused / max(took.counts.requests, 1) for took in rounds], 1),
                _text([took.counts.not_live for took in rounds], 0),
            )
        )
    return table(("toggles", "s", "x limit", "x sync known", "requests", "% 429", "not live"), rows)


def _text(values: Sequence[float], digits: int) -> str:
    return Spread.of(values).text(digits) if len(set(values)) > 1 else f"{values[0]:.{digits}f}"


def _unfinished(toggled: Mapping[str, Sequence[Toggled]]) -> Iterator[str]:
    for name, rounds in toggled.items():
        if not all(took.finished for took in rounds):
            yield f"  {name}: stopped after {MAX_SECONDS:.0f} s; its figures are those of what it had done by then."


def _mapped_against_mapped(ours: Toggled, theirs: Toggled) -> str:
    return (
        f"  {MAPPED}, against {HTTP}: {ours.seconds / theirs.seconds:.2f} x the time, "
        f"{ours.counts.requests / max(theirs.counts.requests, 1):.1f} x the requests."
    )


def _targets(rounds: Sequence[Toggled], *, known: bool) -> Iterator[str]:
    name = KNOWN if known else UNKNOWN
    ratio = Spread.of(took.seconds / took.allowed for took in rounds).median
    refused = [took.counts.refused for took in rounds]
    failed = max(took.counts.not_live for took in rounds)
    yield (
        f"  Target, {name}: at most {MAX_RATIO[known]:.2f} x what the limit allows: {ratio:.3f}, "
        f"{verdict(ratio <= MAX_RATIO[known])}"
    )
    yield (
        f"  Target, {name}: at most {MAX_REFUSED[known]} refused (429) in any round: {max(refused)}, "
        f"{verdict(max(refused) <= MAX_REFUSED[known])}"
    )
    yield f"  Target, {name}: every campaign is live in the end: {failed} not, {verdict(not failed)}"


def _nothing_to_do(rounds: Sequence[tuple[float, float, Counts]]) -> Iterator[str]:
    seconds, megabytes = Spread.of(took[0] for took in rounds), Spread.of(took[1] for took in rounds)
    counts = [took[2] for took in rounds]
    lists, writes = (max(getattr(count, what) for count in counts) for what in ("lists", "writes"))
    row = (
        seconds.text(1),
        megabytes.text(1),
        _text([count.requests for count in counts], 0),
        _text([count.lists for count in counts], 0),
        _text([count.writes for count in counts], 0),
    )
    yield table(("s", "MB", "requests", "lists", "writes"), [row])
    yield f"  Target: at most {MAX_LISTS} list requests: {lists}, {verdict(lists <= MAX_LISTS)}"
    yield f"  Target: no write: {writes}, {verdict(not writes)}"
    most = megabytes.high
    yield f"  Target: under {MAX_MEGABYTES} MB: {most:.1f} at most, {verdict(most < MAX_MEGABYTES)}"
