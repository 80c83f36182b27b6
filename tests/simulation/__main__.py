"""Run many worlds, or print one: ``PYTHONPATH=tests python -m simulation --worlds 20000 --seed 1 --jobs 2``."""

from __future__ import annotations

import argparse
import sys
import time

from simulation import subject
from simulation.run import progress_bar, run_many
from simulation.worlds import shrink, story


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="simulation", description="Search for worlds in which a promise breaks.")
    parser.add_argument("--worlds", type=int, default=20_000, help="how many worlds (default 20000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first world (default 0)")
    parser.add_argument("--jobs", type=int, default=None, help="processes (default: all cores)")
    parser.add_argument("--client", default="core", choices=sorted(subject.CLIENTS), help="who sends (default core)")
    parser.add_argument("--story", type=int, metavar="SEED", help="print the world of a seed, and end")
    parser.add_argument("--shrink", type=int, metavar="SEED", help="shrink the world of a seed, print it, and end")
    parser.add_argument("--kind", help="for --shrink: the kind of violation to keep")
    args = parser.parse_args()
    if args.story is not None:
        story(args.story, args.client)
        return 0
    if args.shrink is not None:
        shrink(args.shrink, args.client, args.kind)
        return 0
    began = time.monotonic()
    tally = run_many(args.worlds, args.seed, args.jobs, args.client, progress_bar(args.worlds))
    print("\n".join(tally.lines()))
    took = time.monotonic() - began
    print(f"\n{tally.worlds:,} worlds in {took:.1f} s; {tally.failing:,} violations.")
    for kind, seeds in tally.seeds.items():
        if not kind.startswith("unavoidable:"):
            print(f"  PYTHONPATH=tests python -m simulation --shrink {seeds[0]} --kind {kind!r}")
    return 1 if tally.failing else 0


if __name__ == "__main__":
    sys.exit(main())
