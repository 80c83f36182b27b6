"""Batch's stand-in for the benchmarks of exports: campaigns of every kind, some of which vanish or appear meanwhile.

It runs in a process of its own, since a shared interpreter lock would charge the client for the server's work. It
prints its connection, then what its campaigns are and what was asked for each line that it reads, and ends when its
standard input does.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

NAMES = ["Soldes d'été", "夏のセール", "تخفيضات الصيف", "Θερινές εκπτώσεις", "Летняя распродажа", "ฤดูร้อน", 'A "B", 🎉']
THROTTLED_SECONDS = 40.0


class World:
    """A running world, seen from the process that measures."""

    def __init__(self, asks: IO[str], answers: IO[str]) -> None:
        self._asks, self._answers = asks, answers
        self.connection: dict[str, Any] = json.loads(answers.readline())

    def ask(self) -> dict[str, Any]:
        """Return ``requests``, ``refused``, and the ``campaigns`` by token with ``campaign``, ``stats``, ``is_sure``.

        One that vanished or appeared meanwhile is not sure: an export may have it or not.
        """
        self._asks.write("\n")
        self._asks.flush()
        found: dict[str, Any] = json.loads(self._answers.readline())
        return found


@contextmanager
def running(kind: str, campaigns: int, **options: Any) -> Iterator[World]:
    """Start a world.

    :param kind: ``plain``; ``stopped``: some were stopped after their push; ``vanishing``: three are deleted
        meanwhile; ``appearing``: two are created meanwhile; ``failing``: some answers are a 500 or broken off, one is
        the page of a proxy; ``throttled``: halfway, every request is refused for 40 s.
    :param options: ``delay`` of each answer in seconds, ``rate`` and ``burst`` of the throttle.
    """
    command = [sys.executable, "-I", __file__, json.dumps({"kind": kind, "campaigns": campaigns, **options})]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            yield World(process.stdin, process.stdout)
        finally:
            process.terminate()


def _definition(index: int) -> dict[str, Any]:
    text = {"language": "en", "title": NAMES[index % len(NAMES)], "body": f"Text {index}"}
    campaign = {
        "name": f"{NAMES[index % len(NAMES)]} {index}",
        "live": True,
        "push_time": "now",
        "labels": ["SALE", "SUMMER"],
        "messages": [text, {"language": "fr", "body": f"Texte {index}", "deeplink": f"app://{index}"}],
    }
    if index % 20 == 7:
        del campaign["labels"]
    if index % 100 == 13:
        campaign["messages"] = {"a": [text], "b": [{**text, "body": f"Other text {index}"}]}
    return campaign


class _Changes:
    """What happens to the campaigns meanwhile."""

    def __init__(self, kind: str) -> None:
        self.kind, self.views, self.lists = kind, 0, 0
        self.sandbox: Any = None
        self.tokens: list[str] = []
        self.refused = self.requests = 0
        self.removed: dict[str, dict[str, Any]] = {}
        self.added: list[str] = []

    def record(self, record: Any) -> None:
        self.requests += 1
        self.refused += record.status == 429
        self.views += record.operation == "view"
        self.lists += record.operation == "list"
        half = len(self.tokens) // 2
        if self.kind == "vanishing":
            # Listed already; not listed yet; viewed last of all.
            if record.operation == "list" and self.lists == 1:
                self.remove(self.tokens[-3])
            elif record.operation == "view" and self.views in (5, 10):
                self.remove(self.tokens[half if self.views == 5 else 0])
        if self.kind == "appearing" and record.operation == "list" and self.lists in (1, 2):
            self.added.append(self.sandbox.add_campaign(_definition(10**6 + self.lists)))
        if self.kind == "throttled" and record.operation == "view" and self.views == half:
            self.sandbox.set_throttle(0.001, 1)
            threading.Thread(target=self.relax, daemon=True).start()

    def remove(self, token: str) -> None:
        if token not in self.removed:
            self.removed[token] = self.sandbox.campaign(token)
            self.sandbox.remove_campaign(token)

    def relax(self) -> None:
        time.sleep(THROTTLED_SECONDS)
        self.sandbox.set_throttle(None)


def _serve(kind: str, campaigns: int, delay: float = 0, rate: float | None = None, burst: float | None = None) -> None:
    from airflow_batch.sandbox import BatchSandbox, Fault

    changes = _Changes(kind)
    with BatchSandbox(rate=rate, burst=burst, on_record=changes.record) as sandbox:
        tokens = [sandbox.add_campaign(_definition(index)) for index in range(campaigns)]
        changes.sandbox, changes.tokens = sandbox, tokens
        if kind == "stopped":
            for token in tokens[::24]:
                stopped = sandbox.add_campaign({**sandbox.campaign(token), "name": "Stopped", "live": False})
                counts = {"sent": 9, "sent_optins": 9, "direct_open": 1, "influenced_open": 1, "errors": 0}
                sandbox.set_stats(stopped, [{"date": "2026-06-01", **counts}])
        if kind == "failing":
            some = random.Random(1).sample(tokens, 6)
            sandbox.inject(*(Fault("answer", "view", status=500, token=token) for token in some[:3]))
            sandbox.inject(Fault("truncate", "stats", token=some[3]), Fault("reset_after", "view", token=some[4]))
            sandbox.inject(Fault("html", "stats", status=200, token=some[5]))
        if delay:
            sandbox.inject(Fault("delay", delay=delay, times=None))
        print(json.dumps(sandbox.connection()), flush=True)
        for _ in sys.stdin:
            with sandbox._engine.lock:
                stats = {token: sandbox._engine.campaigns.stats(sandbox._find(token)) for token in sandbox.tokens()}
            shown = {
                token: {
                    "campaign": sandbox.campaign(token),
                    "stats": rows,
                    "is_sure": token not in changes.added,
                }
                for token, rows in stats.items()
            }
            gone = {
                token: {"campaign": campaign, "stats": [], "is_sure": False}
                for token, campaign in changes.removed.items()
            }
            found = {"requests": changes.requests, "refused": changes.refused, "campaigns": {**shown, **gone}}
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _serve(**json.loads(sys.argv[1]))
