"""The pacer alone, on a simulated clock, against servers whose limit it does not know: what it uses of what they allow.

Nothing here takes real time, so the figures are the same on every machine. The simulation is tests/throttled_server.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from math import inf
from pathlib import Path

from report import table, verdict

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from throttled_server import Bucket, Run

LATENCY, IN_FLIGHT = 0.05, 16
MINUTE, HOUR = 60, 3600
DIP = [(MINUTE, 20.0), (2 * MINUTE, 4.0), (inf, 20.0)]
LIMITS = (0.5, 1, 2, 5, 10, 20, 50)
BURSTS = (1, 20)


def run() -> Iterator[str]:
    """Simulate, and yield the tables."""
    yield from _many_requests()
    yield from _a_dip()
    yield from _hours()
    yield from _impossible()


def _many_requests() -> Iterator[str]:
    yield "\n  6,000 requests at 20 a second; ideal: (6,000 - burst) / 20 s"
    rows, worst = [], 0.0
    for burst in BURSTS:
        result = Run(Bucket(20, burst), LATENCY, requests=6000, in_flight=IN_FLIGHT)
        ratio = result.took / ((6000 - burst) / 20)
        worst = max(worst, ratio)
        rows.append((str(burst), f"{result.took:.0f}", f"{ratio:.2f}", str(len(result.refusals))))
    yield table(("burst", "s", "x ideal", "429"), rows)
    yield f"  Target: at most 1.15 x the ideal: {worst:.2f}, {verdict(worst <= 1.15)}"


def _a_dip() -> Iterator[str]:
    yield "\n  A minute at 20 a second, one at 4, one at 20 again"
    rows, least = [], 1.0
    for burst in BURSTS:
        result = Run(Bucket(DIP, burst), LATENCY, until=3 * MINUTE, in_flight=IN_FLIGHT)
        used = result.granted / (44 * MINUTE + burst)
        least = min(least, used)
        each = [sum(at * MINUTE <= moment < (at + 1) * MINUTE for moment in result.sent) for at in range(3)]
        rows.append((str(burst), f"{used:.0%}", ", ".join(map(str, each)), str(len(result.refusals))))
    yield table(("burst", "used", "requests sent in each minute", "429"), rows)
    yield f"  Target: at least 60 % of what was allowed is used: {least:.0%}, {verdict(least >= 0.6)}"
    shifted = [
        Run(
            Bucket([(at, 20.0), (at + MINUTE, 4.0), (inf, 20.0)], burst), LATENCY, until=3 * MINUTE, in_flight=IN_FLIGHT
        )
        for burst in BURSTS
        for at in range(40, 81, 5)
    ]
    share = sorted(result.granted / (44 * MINUTE) for result in shifted)
    yield f"  The same with a minute at 4 that begins after 40 to 80 s: {share[0]:.0%} to {share[-1]:.0%} used"


def _hours() -> Iterator[str]:
    yield "\n  Two hours at a limit"
    rows, least, most = [], 1.0, 0.0
    for limit in LIMITS:
        for burst in BURSTS:
            result = Run(Bucket(limit, burst), LATENCY, until=2 * HOUR, in_flight=IN_FLIGHT)
            used = result.granted / (limit * 2 * HOUR + burst)
            late = sum(now > MINUTE for now, _ in result.refusals)
            share = late / sum(moment > MINUTE for moment in result.sent)
            least, most = min(least, used), max(most, share)
            rows.append((f"{limit:g}", str(burst), f"{used:.0%}", f"{share:.2%}", str(late)))
    yield table(("a second", "burst", "used", "429 after the first minute", "of them"), rows)
    yield f"  Target: at least 80 % used: {least:.0%}, {verdict(least >= 0.8)}"
    yield f"  Target: at most 1 % refused after the first minute: {most:.2%}, {verdict(most <= 0.01)}"


def _impossible() -> Iterator[str]:
    yield (
        "\n  What the rule of 5 seconds makes impossible: a limit that is not published is found only by being\n"
        "  refused, and each refusal stops everything for 5 s. Of those, min(5, burst / limit) s are given back by\n"
        "  the bucket that fills up meanwhile, to a pacer that then bursts; this one does not. So who probes every\n"
        "  T s uses at most 1 - 5 / T of the limit, and at a limit of L has 1 / (L T) of its requests refused:"
    )
    rows = [
        (f"{every}", f"{1 - 5 / every:.0%}", *(f"{1 / (limit * every):.2%}" for limit in (0.5, 5, 50)))
        for every in (10, 30, 90, 400)
    ]
    yield table(("probed every s", "used at most", "refused at 0.5/s", "at 5/s", "at 50/s"), rows)
    yield (
        "  And the first refusal of an unknown limit comes on the way up; a limit that falls is found only by\n"
        "  refusals, 5 s for each halving: from 20 to 4 three of them, a quarter of a minute."
    )
