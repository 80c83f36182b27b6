"""Batch's stand-in, slow and throttled, for benchmarks that write many campaigns.

It runs in a process of its own, since a shared interpreter lock would charge the client for the server's work. Each
subject gets a fresh one: a full bucket, campaigns that nobody has touched. It prints its connection and its tokens,
then a line of counts for each line that it reads, and ends when its standard input does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, Any, NamedTuple

DEFINITION = {
    "name": "Summer sale, second reminder",
    "push_time": "2099-06-21T09:30:00",
    "messages": [{"language": "en", "title": "Last days of the sale", "body": "Up to 50% off until Sunday."}],
}


class Counts(NamedTuple):
    """What the sandbox was asked, and in what state its campaigns are."""

    requests: int
    refused: int
    lists: int
    writes: int
    unchanged: int
    """How many campaigns have the state that they had at the start."""
    last_stop: float
    """When the last stop was answered, as a share of the time from the first request to the last write; 0 if none."""


class BusySandbox:
    """A running sandbox, seen from the process that measures."""

    def __init__(self, asks: IO[str], answers: IO[str]) -> None:
        self._asks, self._answers = asks, answers
        self.connection: dict[str, Any]
        self.tokens: list[str]
        self.connection, self.tokens = json.loads(answers.readline())

    def counts(self) -> Counts:
        """Ask for the counts so far."""
        self._asks.write("\n")
        self._asks.flush()
        return Counts(*json.loads(self._answers.readline()))


@contextmanager
def running(
    campaigns: int,
    *,
    live: bool | None = False,
    delay: float = 0,
    rate: float | None = None,
    burst: float | None = None,
) -> Iterator[BusySandbox]:
    """Start a sandbox with so many campaigns.

    :param live: Whether they are live at the start; None: every second one.
    :param delay: Seconds by which every answer is late.
    :param rate: Requests a second that are answered; None: all are.
    :param burst: Requests that are answered at once.
    """
    options = {"campaigns": campaigns, "live": live, "delay": delay, "rate": rate, "burst": burst}
    command = [sys.executable, "-I", __file__, json.dumps(options)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            yield BusySandbox(process.stdin, process.stdout)
        finally:
            process.terminate()


def _serve(campaigns: int, live: bool | None, delay: float, rate: float | None, burst: float | None) -> None:
    from airflow_batch.sandbox import BatchSandbox, Fault

    with BatchSandbox(rate=rate, burst=burst) as sandbox:
        states = [bool(number % 2) if live is None else live for number in range(campaigns)]
        tokens = [sandbox.add_campaign({**DEFINITION, "live": state}) for state in states]
        live_at_first = {token for token, state in zip(tokens, states, strict=True) if state}
        if delay:
            sandbox.inject(Fault("delay", delay=delay, times=None))
        print(json.dumps([sandbox.connection(), tokens]), flush=True)
        for _ in sys.stdin:
            asked = sandbox.requests
            writes = [record for record in asked if record.operation == "update" and record.applied]
            stops = [record for record in writes if record.campaign_token in live_at_first]
            began = asked[0].time if asked else datetime.now(UTC)
            counts = Counts(
                requests=len(asked),
                refused=sum(record.status == 429 for record in asked),
                lists=sum(record.operation == "list" for record in asked),
                writes=sum(record.operation in ("create", "update", "delete") for record in asked),
                unchanged=sum(sandbox.campaign(token)["live"] == (token in live_at_first) for token in tokens),
                last_stop=(stops[-1].time - began) / (writes[-1].time - began) if len(writes) > 1 and stops else 0.0,
            )
            print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    _serve(**json.loads(sys.argv[1]))
