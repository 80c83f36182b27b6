"""A storm: 200 mapped toggles that start together, on two worker slots, at a limit that admits a few of them at a time.

Shows whether what waits takes a slot: beside the storm, another DAG's task asks for one again and again. Nothing is
simulated: a real scheduler, real workers, and the sandbox's own log of what was sent when.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import inf
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from busy_sandbox import DEFINITION
from report import table, verdict

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))
from private_airflow import PrivateAirflow  # noqa: E402

TOGGLES = 200
SLOTS = 2
RATE, BURST = 2.0, 5.0
PROBES = 5
PROBE_PAUSE = 10.0
"""Seconds from the start of one probe to the trigger of the next: never two at once."""
MAX_PROBE = 5.0
BATCH_FLOOR = 5.0
"""Seconds after a 429, by Batch's documentation."""
STEP = 30.0
"""Seconds of a row of the curve."""
MAX_SECONDS = 1500.0
"""Seconds for one subject."""
CONFIG = {
    "core.parallelism": str(SLOTS),
    "scheduler.scheduler_idle_sleep_time": "1",  # Airflow's default
    # 5 by default: for so long a worker often does not see that its task has ended, and two slots do not get through
    # enough toggles to exceed the limit.
    "workers.min_heartbeat_interval": "1",
}
PATIENCE = 300.0
"""Seconds for Airflow's start and for its answer, on a machine that has other things to do."""

BATCH, HTTP = "BatchSetCampaignLive", "HttpOperator, retries"
SUBJECTS = {BATCH: "storm_batch", HTTP: "storm_http"}
WAITING = ("up_for_reschedule", "up_for_retry")
READY = ("scheduled", "queued")
RACE = "state mismatch"
"""Airflow's name for "finished with state success, but ... scheduled" in its table of events."""


class Asked(NamedTuple):
    """One request, as the sandbox saw it."""

    time: datetime
    token: str
    status: int


class Sample(NamedTuple):
    """How many toggles were in which state at a moment."""

    time: datetime
    states: Mapping[str, int]
    load: float
    """The machine's load average of the last minute."""

    def count(self, *states: str) -> int:
        """Return how many were in one of these."""
        return sum(self.states.get(state, 0) for state in states)


class Probe(NamedTuple):
    """One task of another DAG: when it was due, how long it waited for its start, how many toggles waited then."""

    due: datetime
    seconds: float
    waiting: int


@dataclass
class Storm:
    """What happened to one subject's toggles."""

    began: datetime
    calm: Sequence[float] = ()
    """Seconds of the probes that went before it, when there was nothing else to do."""
    samples: list[Sample] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    asked: Sequence[Asked] = ()
    tasks: Sequence[Mapping[str, Any]] = ()
    races: Sequence[Mapping[str, Any]] = ()
    """Airflow's own notes of a task that it failed since it had left before its exit was reported."""
    not_live: int = 0
    finished: bool = True

    @property
    def first_wave(self) -> datetime:
        """The moment at which each toggle had sent its first request."""
        first: dict[str, datetime] = {}
        for asked in self.asked:
            first.setdefault(asked.token, asked.time)
        return max(first.values())

    @property
    def ended(self) -> datetime:
        """The moment at which the last toggle ended, or at which the benchmark was stopped."""
        return self.samples[-1].time

    @property
    def seconds(self) -> float:
        """From its begin to its end."""
        return (self.ended - self.began).total_seconds()

    @property
    def counted(self) -> list[Probe]:
        """The probes that the target is about."""
        return [probe for probe in self.probes if probe.due > self.first_wave and probe.waiting][:PROBES]

    @property
    def refused(self) -> int:
        """How many requests got a 429."""
        return sum(asked.status == 429 for asked in self.asked)

    @property
    def retried(self) -> list[int]:
        """The map indexes of the toggles that have spent a retry."""
        return [task["map_index"] for task in self.tasks if task["try_number"] > 1]

    @property
    def failed(self) -> list[int]:
        """The map indexes of the toggles that did not succeed."""
        return [task["map_index"] for task in self.tasks if task["state"] != "success"]

    def without_races(self, indexes: Iterable[int]) -> list[int]:
        """Leave out the toggles that Airflow itself has failed at some time."""
        return sorted({*indexes} - {race["map_index"] for race in self.races})

    @property
    def waits(self) -> list[float]:
        """The seconds from each 429 to the same toggle's next request."""
        found = []
        for token in {asked.token for asked in self.asked}:
            own = [asked for asked in self.asked if asked.token == token]
            found += [(b.time - a.time).total_seconds() for a, b in pairwise(own) if a.status == 429]
        return found

    def early(self, floor: float) -> int:
        """Return how many requests came sooner than that after a 429."""
        return sum(wait < floor for wait in self.waits)


def run() -> Iterator[str]:
    """Run both storms, and yield their curves and results."""
    yield f"  {TOGGLES} mapped toggles, off to on, start together: LocalExecutor, parallelism {SLOTS}, SQLite."
    yield "  min_heartbeat_interval is 1 s: a task's end is seen soon, so two slots do enough to exceed the limit."
    yield f"  The sandbox: a process of its own, {RATE:g} requests a second, bursts of {BURST:g}, no Retry-After."
    yield "  HttpOperator: one request for a toggle; this provider also reads before the update and after. 10 retries,"
    yield "  from 10 s on, doubling. The probe: a small task of another DAG. Its run is the younger one, so Airflow"
    yield "  prefers what is ready of the storm. Timed from the moment its run is due to the task's start; one at a"
    yield f"  time, the next {PROBE_PAUSE:.0f} s after that. All of it takes a quarter of an hour."
    storms = {}
    for name, dag_id in SUBJECTS.items():
        storm = storms[name] = _storm(dag_id)
        yield f"\n  {name}. waiting: for its time. ready: for a slot."
        yield _curve(storm)
        first = _since(storm, storm.first_wave)
        yield f"  Each had had its first attempt after {first:.0f} s."
        yield from _named(name, storm)
    yield "\n" + _summary(storms)
    yield from _targets(storms[BATCH])


# ---------------------------------------------------------------- measuring


def _serve(pipe: Connection, toggles: int) -> None:
    from airflow_batch.sandbox import BatchSandbox

    with BatchSandbox(rate=RATE, burst=BURST) as sandbox:
        tokens = [sandbox.add_campaign({**DEFINITION, "live": False}) for _ in range(toggles)]
        pipe.send((sandbox.connection(), tokens))
        while pipe.poll(None):
            try:
                pipe.recv()
            except EOFError:
                return
            asked = [Asked(r.time, r.campaign_token or "", r.status or 0) for r in sandbox.requests]
            pipe.send((asked, sum(not sandbox.campaign(token)["live"] for token in tokens)))


@contextmanager
def running_sandbox(toggles: int) -> Iterator[Connection]:
    """Start a sandbox with so many campaigns in a process of its own; it ends with the pipe.

    It sends its connection and its tokens, and after each message a list of :class:`Asked` and how many are not live.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, toggles))
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join()


def _storm(dag_id: str) -> Storm:
    with running_sandbox(TOGGLES) as sandbox, tempfile.TemporaryDirectory(prefix="airflow-storm-") as home:
        connection, items = connection_and_items(dag_id, *sandbox.recv())
        private = private_airflow(home, {dag_id: connection})
        with private.running(timeout=PATIENCE):
            calm = [_probe_alone(private) for _ in range(PROBES)]
            storm = measure(private, dag_id, items, sandbox, with_probes=True)
            storm.calm = calm
            return storm


def private_airflow(home: str, connections: Mapping[str, Any]) -> PrivateAirflow:
    """Return an Airflow with the DAGs of all subjects; the connection of each has the name of its DAG."""
    return PrivateAirflow(Path(home), dags=[HERE / "dags" / "storm.py"], connections=connections, config=CONFIG)


def connection_and_items(dag_id: str, connection: Any, tokens: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the connection of a subject, and what its tasks are mapped over."""
    if dag_id != SUBJECTS[HTTP]:
        return connection, list(tokens)
    headers = {"X-Authorization": connection["password"], "Content-Type": "application/json"}
    items = [f"/1.1/{connection['login']}/campaigns/update/{token}" for token in tokens]
    return {"conn_type": "http", "host": connection["host"], "extra": headers}, items


def measure(
    private: PrivateAirflow, dag_id: str, items: Sequence[str], sandbox: Connection, *, with_probes: bool = False
) -> Storm:
    """Run the toggles of one subject to their end."""
    storm = Storm(datetime.now(UTC))
    run_id = private.trigger(dag_id, {"toggles": items}, logical_date=storm.began, timeout=PATIENCE)
    _watch(storm, private, dag_id, run_id, with_probes=with_probes)
    tasks = private.task_instances(dag_id, run_id)
    storm.tasks = [task for task in tasks if task["task_id"] == "toggle"]
    races = "SELECT map_index, extra FROM log WHERE event = ? AND dag_id = ? AND task_id = 'toggle'"
    storm.races = private.query(races, RACE, dag_id)
    sandbox.send(None)
    storm.asked, storm.not_live = sandbox.recv()
    return storm


def _probe_alone(private: PrivateAirflow) -> float:
    run_id = private.trigger("storm_probe", logical_date=datetime.now(UTC), timeout=PATIENCE)
    private.wait_for_run("storm_probe", run_id, timeout=PATIENCE)
    _, seconds = _started(private, run_id) or (None, inf)
    return seconds


def _watch(storm: Storm, private: PrivateAirflow, dag_id: str, run_id: str, *, with_probes: bool) -> None:
    """Note the states, and send one probe after the other, until the storm is over."""
    states = (
        "SELECT state, count(*) AS number FROM task_instance WHERE run_id = ? AND task_id = 'toggle' GROUP BY state"
    )
    ended = "SELECT 1 FROM dag_run WHERE run_id = ? AND state IN ('success', 'failed')"
    probe, next_probe = "", 0.0
    deadline = time.monotonic() + MAX_SECONDS
    while not private.query(ended, run_id):
        if time.monotonic() > deadline:
            storm.finished = False
            break
        now = datetime.now(UTC)
        found = {str(row["state"]): row["number"] for row in private.query(states, run_id)}
        if found:
            storm.samples.append(Sample(now, found, os.getloadavg()[0]))
        if probe and (started := _started(private, probe)):
            due, seconds = started
            then = min(storm.samples, key=lambda sample: abs(sample.time - due))
            storm.probes.append(Probe(due, seconds, then.count(*WAITING)))
            probe, next_probe = "", time.monotonic() + PROBE_PAUSE
        if with_probes and found and not probe and time.monotonic() > next_probe:
            probe = private.trigger("storm_probe", logical_date=now, timeout=PATIENCE)
        time.sleep(1)
    found = {str(row["state"]): row["number"] for row in private.query(states, run_id)}
    storm.samples.append(Sample(datetime.now(UTC), found, os.getloadavg()[0]))


def _started(private: PrivateAirflow, run_id: str) -> tuple[datetime, float] | None:
    """Return when a probe's run was due and how many seconds later its task has started, None where it has not."""
    sql = (
        "SELECT r.run_after, t.start_date FROM dag_run r JOIN task_instance t USING (dag_id, run_id) "
        "WHERE r.run_id = ? AND t.start_date IS NOT NULL"
    )
    for row in private.query(sql, run_id):
        return row["run_after"], (row["start_date"] - row["run_after"]).total_seconds()
    return None


# ---------------------------------------------------------------- printing


def _since(storm: Storm, moment: datetime) -> float:
    return (moment - storm.began).total_seconds()


def _curve(storm: Storm) -> str:
    rows = []
    start = storm.began
    while start < storm.ended:
        end = start + timedelta(seconds=STEP)
        samples = [sample for sample in storm.samples if start <= sample.time < end]
        asked = [asked for asked in storm.asked if start <= asked.time < end]
        probes = [probe for probe in storm.probes if start <= probe.due < end]
        if samples:
            last = samples[-1]
            rows.append(
                (
                    f"{_since(storm, min(end, storm.ended)):.0f}",
                    str(last.count("success", "failed")),
                    str(last.count(*WAITING)),
                    str(last.count(*READY)),
                    f"{sum(sample.count('running') for sample in samples) / len(samples):.1f}",
                    str(last.count("None")),
                    f"{last.load:.0f}",
                    str(len(asked)),
                    str(sum(one.status == 429 for one in asked)),
                    " ".join(f"{probe.seconds:.1f}{'*' if probe in storm.counted else ''}" for probe in probes),
                )
            )
        start = end
    headings = (
        "s",
        "done",
        "waiting",
        "ready",
        "running",
        "no state",
        "load",
        "requests",
        "429",
        "probes, s (* counted)",
    )
    return table(headings, rows)


def _named(name: str, storm: Storm) -> Iterator[str]:
    if not storm.finished:
        yield f"  {name}: stopped after {MAX_SECONDS:.0f} s; its figures are those of what it had done by then."
    for race in storm.races:
        yield f"  {name}: Airflow's own race, map index {race['map_index']}: {race['extra'][:300]}"


def _summary(storms: Mapping[str, Storm]) -> str:
    rows = []
    for name, storm in storms.items():
        probes = [probe.seconds for probe in storm.counted]
        early = [probe.seconds for probe in storm.probes if probe.due <= storm.first_wave]
        rows.append(
            (
                name,
                f"{storm.seconds:.0f}",
                str(len(storm.failed)),
                str(storm.not_live),
                str(len(storm.retried)),
                str(len(storm.races)),
                str(len(storm.asked)),
                f"{100 * storm.refused / max(len(storm.asked), 1):.0f}",
                f"{min(storm.waits):.1f}" if storm.waits else "-",
                str(storm.early(BATCH_FLOOR)),
                f"{median(storm.calm):.1f}",
                f"{median(early):.1f}" if early else "-",
                f"{median(probes):.1f}" if probes else "-",
            )
        )
    headings = (
        *("", "s", "failed", "not live", "retried", "races", "requests", "% 429", "least wait"),
        *("under 5 s", "probe before", "in the first wave", "then"),
    )
    return table(headings, rows)


def _targets(storm: Storm) -> Iterator[str]:
    probes = [probe.seconds for probe in storm.counted]
    middle = median(probes) if probes else inf
    failed, retried = storm.without_races(storm.failed), storm.without_races(storm.retried)
    met = middle <= MAX_PROBE and len(probes) == PROBES
    yield f"  Target: all succeed, but for Airflow's own race: {len(failed)} did not, {verdict(not failed)}"
    yield f"  Target: no retry is spent, but for that race: {len(retried)}, {verdict(not retried)}"
    early = storm.early(BATCH_FLOOR)
    yield f"  Target: nothing is sent within {BATCH_FLOOR:.0f} s of a 429: {early}, {verdict(not early)}"
    each = ", ".join(f"{probe.seconds:.1f} ({probe.waiting})" for probe in storm.counted) or "none: nothing waited"
    yield (
        f"  Target: once each has had its first attempt, another DAG's task starts within {MAX_PROBE:.0f} s, by the\n"
        f"  median of {PROBES}: {middle:.1f}, {verdict(met)}. Each, and how many toggles waited: {each}.\n"
        f"  Before the storm, with nothing else to do: {', '.join(f'{seconds:.1f}' for seconds in storm.calm)}."
    )
