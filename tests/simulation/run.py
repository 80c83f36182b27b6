"""Many worlds on several cores, and the tables of what they reached."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from simulation.authors import KINDS
from simulation.worlds import Result, run_world, spec_of

CHUNK = 250
KEPT_SEEDS = 5

RARE = (
    "a connection that never writes",
    "a connection that never writes, from a later attempt on",
    "a dashboard campaign",
    "a dry run",
    "a second page of the list",
    "a sync saw that a parameter was lost",
    "a sync was stopped by Airflow",
    "a late run or a backfill",
    "a passed push time sent at once",
    "a passed push time was refused",
    "a push time passed during a task",
    "a view did not know a new campaign yet",
    "a view showed an older state",
    "a view was about another campaign",
    "a window closed during a task",
    "a window opened during a task",
    "a worker's clock was wrong",
    "an ambiguous write was refused when it arrived",
    "another task ran during a sleep",
    "cleared",
    "cleared with its approval",
    "cleared with a corrected payload",
    "cleared, the store emptied",
    "crash after a read, before its answer",
    "crash after a request that is applied late",
    "crash after a request was applied, before its answer",
    "crash after a save",
    "crash after an answer",
    "crash before a load",
    "crash before a request",
    "crash before a save",
    "crash before a sleep",
    "ambiguous write: applied at once",
    "ambiguous write: applied late",
    "ambiguous write: lost",
    "live again on a sent campaign: nothing",
    "live again on a sent campaign: refused",
    "live again on a sent campaign: sends",
    "mapped tasks",
    "no Date",
    "no clock was right",
    "not connected",
    "now again on a sent campaign sent again",
    "now again on a sent campaign sent nothing",
    "rescheduled",
    "retried",
    "skipped: too late",
    "somebody approved",
    "somebody edited the campaign after the question",
    "somebody rejected",
    "somebody stopped the campaign before the task was cleared",
    "the now of a draft became a moment",
    "the list shifted while it was read",
    "the store failed to load",
    "the store failed to save",
    "throttled for longer than max_wait",
    "two runs on one campaign",
    "Batch's Date was wrong",
)
"""Situations that a large run must reach; none may stay at 0. Everything else that a world notes is printed, too."""


@dataclass
class Tally:
    """The results of many worlds."""

    worlds: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    """Worlds by kind of violation."""
    seeds: dict[str, list[int]] = field(default_factory=dict)
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    mild: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    """(kind of task, with or without store, key, end)"""
    mild_errors: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(kind of task, fault, error)"""

    def add(self, result: Result) -> None:
        """Add one world."""
        self.worlds += 1
        self.notes.update(result.notes.keys())
        for kind in {kind for kind, _ in result.violations}:
            self._violated(kind, [result.spec.seed])
            self.violations[kind] += 1
        for kind, end, _ in result.ends:
            self.ends[kind, end] += 1
        if result.spec.mild is not None and len(result.ends) == 1:
            kind, end, error = result.ends[0]
            store = "store" if result.spec.tasks[0][1].store != "missing" else "no store"
            self.mild[kind, store, "Dev" if result.spec.nature.dev_key else "Live", end] += 1
            if end != "success":
                self.mild_errors[kind, result.spec.mild, error] += 1

    def merge(self, other: Tally) -> None:
        """Add the worlds of another tally."""
        self.worlds += other.worlds
        for name in ("notes", "violations", "ends", "mild", "mild_errors"):
            getattr(self, name).update(getattr(other, name))
        for kind, seeds in other.seeds.items():
            self._violated(kind, seeds)

    def _violated(self, kind: str, seeds: list[int]) -> None:
        kept = self.seeds.setdefault(kind, [])
        kept.extend(seeds[: max(0, KEPT_SEEDS - len(kept))])

    @property
    def failing(self) -> int:
        """Worlds with a violation that counts, by kind and added."""
        return sum(count for kind, count in self.violations.items() if not kind.startswith("unavoidable:"))

    def lines(self) -> Iterator[str]:
        """Return the tables as text."""
        yield f"\nRare situations, in how many of {self.worlds:,} worlds"
        for note in sorted({*RARE, *self.notes}, key=str.lower):
            yield f"  {self.notes[note]:>9,}  {note}{'' if self.notes[note] else '   NEVER REACHED'}"
        yield "\nEnds of tasks"
        for (kind, end), count in sorted(self.ends.items()):
            yield f"  {count:>9,}  {kind}: {end}"
        yield "\nOne mild fault (a 500 or a reset that was not applied, a 429, a crash): per cent that do not end green"
        yield f"  {'':12}{'store, Live':>16}{'store, Dev':>16}{'no store, Live':>16}{'no store, Dev':>16}"
        for kind in KINDS:
            cells = [self._red(kind, store, key) for store in ("store", "no store") for key in ("Live", "Dev")]
            yield f"  {kind:12}" + "".join(f"{cell:>16}" for cell in cells)
        yield "\nWhy: kind of task, fault, error"
        for (kind, fault, error), count in self.mild_errors.most_common(30):
            yield f"  {count:>9,}  {kind}, {fault}: {error[:60]}"
        yield "\nViolations (those that begin with 'unavoidable' cannot be prevented by any rule, and do not count)"
        for kind, count in self.violations.most_common():
            yield f"  {count:>9,}  {kind}: seeds {', '.join(map(str, self.seeds[kind]))}"
        if not self.violations:
            yield "          0"

    def _red(self, kind: str, store: str, key: str) -> str:
        ends = {end: count for (*of, end), count in self.mild.items() if of == [kind, store, key]}
        total = sum(ends.values())
        return f"{100 * (1 - ends.get('success', 0) / total):.1f} of {total:,}" if total else "-"


def run_chunk(job: tuple[int, int, str]) -> Tally:
    """Run the worlds of a range of seeds."""
    first, last, client = job
    tally = Tally()
    for seed in range(first, last):
        try:
            result = run_world(spec_of(seed), client)
        except Exception as error:
            raise RuntimeError(f"World {seed} broke the simulator: {type(error).__name__}: {error}") from error
        tally.add(result)
    return tally


def run_many(
    worlds: int, seed: int, jobs: int | None = None, client: str = "core", report: Callable[[Tally], None] | None = None
) -> Tally:
    """Run worlds of consecutive seeds on several cores."""
    jobs = jobs or os.cpu_count() or 1
    last = seed + worlds
    chunks = [(first, min(first + CHUNK, last), client) for first in range(seed, last, CHUNK)]
    tally = Tally()
    if jobs == 1 or len(chunks) == 1:
        for chunk in chunks:
            tally.merge(run_chunk(chunk))
            if report:
                report(tally)
        return tally
    # A pool of fresh processes would load the package once more in each; fork is there on every system of the tests.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    with multiprocessing.get_context(method).Pool(jobs) as pool:
        for part in pool.imap_unordered(run_chunk, chunks):
            tally.merge(part)
            if report:
                report(tally)
    # In the order of the chunks' ends, so the seeds are sorted to be the same in each run with few violations.
    for seeds in tally.seeds.values():
        seeds.sort()
    return tally


def progress_bar(worlds: int) -> Callable[[Tally], None]:
    """Return what draws a progress bar on a terminal, and nothing elsewhere."""
    began = time.monotonic()

    def draw(tally: Tally) -> None:
        if not sys.stderr.isatty():
            return
        done = tally.worlds / worlds
        took = time.monotonic() - began
        left = took / done - took
        bar = "#" * int(40 * done)
        text = f"\r[{bar:40}] {tally.worlds:,} of {worlds:,}, {tally.failing} violations, {left:.0f} s left   "
        sys.stderr.write(text + ("\n" if tally.worlds == worlds else ""))
        sys.stderr.flush()

    return draw
