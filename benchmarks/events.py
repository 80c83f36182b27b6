"""Watched campaigns on a real triggerer that is killed: requests a minute, and whether each change made one event.

    python benchmarks/events.py --campaigns 100 --minutes 10

Somebody switches campaigns at random moments, none twice within two minutes, while the triggerer runs and while it does
not. What should have fired is what two polls can see, by the sandbox's own log. It takes its minutes and some three
more. The command fails if an event is missing or doubled, or if any 60 seconds had more than 12 requests.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent)]
from private_airflow import PrivateAirflow  # noqa: E402
from watched_airflow import Watched, watched_airflow  # noqa: E402

from airflow_batch.sandbox import BatchSandbox  # noqa: E402

MAX_REQUESTS = 12


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--campaigns", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--interval", type=float, default=20, help="seconds between two polls")
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--python", default=sys.executable, help="that of another Airflow")
    given = parser.parse_args()
    chosen = random.Random(given.seed)
    config = {"triggerer.triggerer_health_check_threshold": "4", "triggerer.job_heartbeat_sec": "1"}
    with tempfile.TemporaryDirectory() as home, BatchSandbox() as batch:
        airflow = PrivateAirflow(
            Path(home), connections={"watched": batch.connection()}, python=given.python, config=config
        )
        watched = Watched(airflow, batch, given.campaigns, given.interval)
        with airflow.running(timeout=240), watched_airflow(airflow, watched, "watched"):
            part = 60 * given.minutes / (given.kills + 1)
            for kill in range(given.kills + 1):
                watched.switch_some(chosen, least=120, each=5, seconds=part + chosen.uniform(-5, 5))
                if kill < given.kills:
                    watched.kill_triggerer()
            watched.wait_for_polls()
            watched.wait_for_events()
            return report(watched, given)


def report(watched: Watched, given: argparse.Namespace) -> int:
    fired, expected = watched.fired(), watched.expected()
    missing, doubled = expected - fired, fired - expected
    busiest = watched.busiest_minute()
    print(f"{given.campaigns} campaigns, 2 watchers each; {given.minutes:g} minutes, seed {given.seed}")
    print(f"triggerer killed with SIGKILL: {given.kills} times")
    print(f"polls: {watched.polls()}, one request each; busiest 60 s: {busiest} requests (at most {MAX_REQUESTS})")
    print(f"changes that two polls can see: {sum(expected.values())}; events: {sum(fired.values())}")
    print(f"missing: {sum(missing.values())}; doubled or not expected: {sum(doubled.values())}")
    for what, edges in (("missing", missing), ("doubled", doubled)):
        for event, token in edges:
            print(f"  {what}: {event} {token}")
    return int(bool(missing or doubled) or busiest > MAX_REQUESTS)


if __name__ == "__main__":
    sys.exit(main())
