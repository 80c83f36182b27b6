"""Many campaigns at once, half of them to stop: one sync task, next to one task with requests.

Every subject has a sandbox of its own that throttles and is as slow as a distant API. What it takes is compared with
what the limit allows for the requests that this subject makes, and with the sync that knows the limit. Mapped tasks,
which need a scheduler and minutes, are in ``mapped.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import busy_sandbox
import requests
from busy_sandbox import BusySandbox, Counts
from report import table, verdict
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

HERE = Path(__file__).parent
CAMPAIGNS = 300
DELAY = 0.15
RATE, BURST = 20.0, 20.0
MAX_RATIO = {True: 1.10, False: 1.5}
"""Of a sync to what the limit allows, by whether the connection has the limit."""
MAX_REFUSED = {True: 0, False: 3}
MAX_LAST_STOP = 0.55
"""Of the time until the last write."""
MAX_SECONDS = 720.0
"""Seconds for one subject."""

MANY = 10_000
MAX_LISTS = 101
MAX_MEGABYTES = 150

KNOWN, UNKNOWN = "sync, limit known", "sync, limit unknown"
SESSION = "requests + urllib3.Retry, one task"


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
    """Measure the toggles, then the sync that has nothing to do."""
    yield f"  {CAMPAIGNS} campaigns: every second one goes off to on, the others on to off. The sandbox: another"
    yield f"  process, each answer {DELAY * 1000:.0f} ms late, {RATE:.0f} requests a second, bursts of {BURST:.0f},"
    yield "  429 without Retry-After."
    yield f"  x limit: against what the limit allows for the subject's own requests, (n - {BURST:.0f}) / {RATE:.0f} s."
    yield "  last stop: as a share of the time until the last write. One round, each a process without a scheduler."
    toggled = {KNOWN: _synced(known=True), UNKNOWN: _synced(known=False), SESSION: _with_a_session()}
    yield toggle_table(toggled, KNOWN)
    yield from unfinished(toggled)
    yield from _targets(toggled[KNOWN], known=True)
    yield from _targets(toggled[UNKNOWN], known=False)
    yield f"\n  {MANY:,} campaigns already in the desired state; no delay, no limit. MB: peak beyond Airflow, loaded."
    yield from _nothing_to_do(*_synced_already())


def _busy() -> Any:
    return busy_sandbox.running(CAMPAIGNS, live=None, delay=DELAY, rate=RATE, burst=BURST)


def _synced(*, known: bool) -> Toggled:
    with _busy() as sandbox:
        desired = [bool(number % 2 == 0) for number in range(CAMPAIGNS)]
        seconds, _ = _one_sync(sandbox, desired, {"requests_per_second": RATE} if known else {})
        return Toggled(seconds, sandbox.counts())


def _synced_already() -> tuple[float, float, Counts]:
    with busy_sandbox.running(MANY, live=True) as sandbox:
        seconds, megabytes = _one_sync(sandbox, [True] * MANY, {})
        return seconds, megabytes, sandbox.counts()


def _one_sync(sandbox: BusySandbox, live: Sequence[bool], extra: Mapping[str, Any]) -> tuple[float, float]:
    """Run the operator in a process of its own; return its seconds, and the megabytes beyond Airflow."""
    connection = json.dumps({**sandbox.connection, "extra": extra})
    command = [sys.executable, "-I", str(HERE / "one_sync.py")]
    env = {**os.environ, "AIRFLOW_CONN_BATCH_DEFAULT": connection}
    desired = [{"campaign": token, "live": state} for token, state in zip(sandbox.tokens, live, strict=True)]
    output = subprocess.run(
        command, check=True, env=env, input=json.dumps(desired), stdout=subprocess.PIPE, text=True, timeout=MAX_SECONDS
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
    for number, token in enumerate(tokens):
        live = number % 2 == 0
        if time.perf_counter() > deadline:
            return False
        try:
            seen = session.get(f"{url}/{token}", timeout=30)
            seen.raise_for_status()
            if seen.json()["live"] != live:
                session.post(f"{url}/update/{token}", json={"live": live}, timeout=30).raise_for_status()
        except requests.RequestException:
            continue  # it shows in the campaigns that are unchanged
    return True


def toggle_table(toggled: Mapping[str, Toggled], base: str) -> str:
    """Return the table of the subjects, with their times against one of them."""
    rows = [
        (
            name + ("" if took.finished else " (not finished)"),
            f"{took.seconds:.1f}",
            f"{took.seconds / took.allowed:.2f}",
            f"{took.seconds / toggled[base].seconds:.2f}",
            f"{took.counts.last_stop:.2f}" if took.counts.last_stop else "-",
            str(took.counts.requests),
            f"{100 * took.counts.refused / max(took.counts.requests, 1):.1f}",
            str(took.counts.unchanged),
        )
        for name, took in toggled.items()
    ]
    return table(("toggles", "s", "x limit", f"x {base}", "last stop", "requests", "% 429", "unchanged"), rows)


def unfinished(toggled: Mapping[str, Toggled]) -> Iterator[str]:
    """Yield a line for each subject that was stopped."""
    for name, took in toggled.items():
        if not took.finished:
            yield f"  {name}: stopped after {MAX_SECONDS:.0f} s; its figures are those of what it had done by then."


def _targets(took: Toggled, *, known: bool) -> Iterator[str]:
    name = KNOWN if known else UNKNOWN
    ratio, counts = took.seconds / took.allowed, took.counts
    yield (
        f"  Target, {name}: at most {MAX_RATIO[known]:.2f} x what the limit allows: {ratio:.3f}, "
        f"{verdict(ratio <= MAX_RATIO[known])}"
    )
    yield (
        f"  Target, {name}: at most {MAX_REFUSED[known]} refused (429): {counts.refused}, "
        f"{verdict(counts.refused <= MAX_REFUSED[known])}"
    )
    yield f"  Target, {name}: every campaign changes: {counts.unchanged} did not, {verdict(not counts.unchanged)}"
    yield (
        f"  Target, {name}: last stop at most {MAX_LAST_STOP:.2f}: {counts.last_stop:.2f}, "
        f"{verdict(counts.last_stop <= MAX_LAST_STOP)}"
    )


def _nothing_to_do(seconds: float, megabytes: float, counts: Counts) -> Iterator[str]:
    row = (f"{seconds:.1f}", f"{megabytes:.1f}", str(counts.requests), str(counts.lists), str(counts.writes))
    yield table(("s", "MB", "requests", "lists", "writes"), [row])
    yield f"  Target: at most {MAX_LISTS} list requests: {counts.lists}, {verdict(counts.lists <= MAX_LISTS)}"
    yield f"  Target: no write: {counts.writes}, {verdict(not counts.writes)}"
    yield f"  Target: under {MAX_MEGABYTES} MB: {megabytes:.1f}, {verdict(megabytes < MAX_MEGABYTES)}"
