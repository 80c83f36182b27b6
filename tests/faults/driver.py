"""Simulates Airflow for one task and one row of the table: its attempts, its delays and its end, on a simulated clock.

No scheduler, no database: attempts follow one another as Airflow's rules say. A run again that the task asked for uses
no retry; a failure is retried after the delay of the task's retry policy, else of Airflow's own backoff; an
``AirflowFailException`` ends it. The clock jumps to where the next attempt is due; sleeping inside an attempt moves it
too. Only what a request takes is real time, so time limits are short.
"""

from __future__ import annotations

import json
import logging
import os
import re
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import time_machine
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import log as log_module
from airflow.sdk._shared.secrets_masker import _secrets_masker
from canary import APP_KEYS, REST_KEY, SECRETS
from requests import adapters
from samples import SUMMER_SALE
from structlog.testing import capture_logs
from task import Attempt, Store

from airflow_batch._airflow.compat import HAS_RETRY_POLICY, AirflowFailException, AirflowRescheduleException
from airflow_batch._http import transport
from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator
from airflow_batch.sandbox import BatchSandbox

from .servers import Front, OtherHost, Seen, certificate, closed_port
from .table import START, Row

READ_TIMEOUT = 1.0
TOTAL_TIMEOUT = 1.5
HANGS = 3.0
"""Real seconds after which a request counts as one without a time limit."""
MOST_STEPS = 150
DEBUG = "DEBUG "


class World:
    """The servers of one row, the connection to them, and the clock."""

    def __init__(self, row: Row, stack: ExitStack) -> None:
        self.row = row
        self.clock = stack.enter_context(time_machine.travel(START, tick=True))
        self.sandbox = stack.enter_context(BatchSandbox(rest_key=REST_KEY, apps={"app": APP_KEYS}))
        self.token = self.sandbox.add_campaign(SUMMER_SALE)
        self.sandbox.inject(*row.faults)
        self.front: Front | None = None
        self.other_host: OtherHost | None = None
        self.rest_key, self.app_key = REST_KEY, APP_KEYS["live"]
        self.url = self._place(row, stack)

    def _place(self, row: Row, stack: ExitStack) -> str:
        if not row.place:
            return self.sandbox.url
        if row.place == "dns":
            # The hook sends the sandbox's keys to no other host.
            self.rest_key, self.app_key = (key.removeprefix("sandbox-") for key in (self.rest_key, self.app_key))
            return "https://no-such-host.invalid"
        if row.place == "refused":
            return f"http://127.0.0.1:{closed_port()}"
        behaviour, tls = row.place, row.place in ("tls", "redirect_http")
        if behaviour.startswith("redirect_"):
            self.other_host = OtherHost()
            stack.callback(self.other_host.close)
            host = "127.0.0.1" if tls else "localhost"
            behaviour = f"http://{host}:{self.other_host.port}"
        self.front = Front(self.sandbox.url, behaviour, row.times, tls=tls)
        stack.callback(self.front.close)
        if row.place == "redirect_http":
            _trust(certificate(), stack)
        return f"{'https' if tls else 'http'}://127.0.0.1:{self.front.port}"

    @property
    def path(self) -> str:
        """The update's route, for a client that has to build it."""
        return f"1.1/{self.app_key}/campaigns/update/{self.token}"

    def move(self, seconds: float) -> None:
        """Set the clock forward, and end the faults whose time is over."""
        self.clock.shift(timedelta(seconds=max(0.0, seconds)))
        if self.row.until is not None and datetime.now(UTC) >= START + timedelta(seconds=self.row.until):
            self.sandbox.clear_faults()
        if any(fault.kind == "late" for fault in self.row.faults):
            self._let_it_arrive()

    def _let_it_arrive(self) -> None:
        """Wait for the sandbox to apply the change: it does so in real time, after the client has left."""
        deadline = time.monotonic() + HANGS
        while not any(one.applied for one in self.sandbox.requests) and time.monotonic() < deadline:
            threading.Event().wait(0.01)

    def requests(self) -> list[Seen]:
        """Return the requests that all servers received, in order."""
        seen = [Seen(r.time, r.operation, r.status, r.applied) for r in self.sandbox.requests]
        return sorted([*seen, *(self.front.seen if self.front else ())], key=lambda one: one.time)


def _trust(certificate: Path, stack: ExitStack) -> None:
    """Make requests trust a server's certificate."""
    stack.enter_context(mock.patch("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(certificate)))
    if hasattr(adapters, "_preloaded_ssl_context"):  # some versions have read that file by then
        context = ssl.create_default_context(cafile=str(certificate))
        stack.enter_context(mock.patch("requests.adapters._preloaded_ssl_context", context))


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A way to switch a campaign on. ``make`` returns an operator, or what has its ``execute`` and its ``retries``."""

    name: str
    make: Callable[[World], Any]
    connections: Callable[[World], dict[str, dict[str, Any]]]


def _connection(world: World) -> dict[str, dict[str, Any]]:
    return {
        "batch_default": {
            "conn_type": "batch",
            "host": world.url,
            "password": world.rest_key,
            "login": world.app_key,
            "extra": {"timeout": [READ_TIMEOUT, READ_TIMEOUT]},
        }
    }


def ours(throttle: Any) -> Subject:
    """Return our operator with its defaults, except for ``throttle``."""
    return Subject(
        name=f"ours, {throttle}",
        make=lambda world: BatchSetCampaignLiveOperator(
            task_id="toggle", campaign=world.token, live=True, throttle=throttle
        ),
        connections=_connection,
    )


OURS = {throttle: ours(throttle) for throttle in ("reschedule", "retry")}


@dataclass(kw_only=True)
class Played:
    """The course and the end of a task."""

    state: str = "running"
    steps: int = 0
    error: str = ""
    text: str = ""
    slot_seconds: float = 0.0
    """Seconds slept inside attempts, that is with the worker slot."""
    most_slot_seconds: float = 0.0
    """The most of these seconds in one attempt."""
    pushes: int = 0
    campaigns: int = 0
    """Live campaigns at the end."""
    drafts: int = 0
    """Campaigns at the end that are not live."""
    hung: bool = False
    live: bool = False
    requests: list[Seen] = field(default_factory=list)
    received: list[str] = field(default_factory=list)
    log_text: str = ""
    """The text of the log and of all errors."""

    @property
    def updates(self) -> list[Seen]:
        return [one for one in self.requests if one.operation == "update"]

    @property
    def waits(self) -> list[float]:
        """Seconds from each update to the next one."""
        pairs = zip(self.updates, self.updates[1:], strict=False)
        return [(later.time - one.time).total_seconds() for one, later in pairs]

    def shown_keys(self) -> list[str]:
        """Return the names of the keys that a log at Airflow's usual level shows once Airflow has masked it."""
        bare = {name: key.removeprefix("sandbox-") for name, key in SECRETS.items()}
        text = "\n".join(line for line in self.log_text.split("\n") if not line.startswith(DEBUG))
        if not any(key in text for key in bare.values()):
            return []
        masked = str(log_module.redact(text))
        return [name for name, key in bare.items() if key in masked]


def play(subject: Subject, row: Row) -> Played:
    """Run a task that meets the row to its end, or for MOST_STEPS attempts."""
    played = Played()
    # What an earlier subject has made Airflow mask must not count for this one.
    _secrets_masker().reset_masker()
    with _captured_log() as log, ExitStack() as stack:
        world = World(row, stack)
        stack.enter_context(_environment(subject.connections(world)))
        stack.enter_context(mock.patch.object(transport, "TOTAL_TIMEOUT", TOTAL_TIMEOUT))
        stack.enter_context(_simulated_sleep(world, played))
        _run(subject.make(world), world, played)
        played.requests = world.requests()
        played.live = world.sandbox.campaign(world.token)["live"]
        tokens = world.sandbox.tokens()
        played.campaigns = sum(world.sandbox.campaign(token)["live"] for token in tokens)
        played.drafts = len(tokens) - played.campaigns
        played.pushes = sum(map(world.sandbox.pushes, tokens))
        played.received = world.other_host.received if world.other_host else []
    played.log_text += "\n".join(log)
    return played


def _run(task: Any, world: World, played: Played) -> None:
    store = Store() if HAS_RETRY_POLICY else None
    try_number, reschedules, first_refused = 1, 0, None
    while played.steps < MOST_STEPS:
        played.steps += 1
        began = datetime.now(UTC)
        ti = Attempt(
            try_number=try_number,
            max_tries=task.retries,
            refused_for=None if first_refused is None else began - first_refused,
        )
        context: dict[str, Any] = {"ti": ti, "task": task, "task_reschedule_count": reschedules}
        context["task_state_store"] = store
        real, slept = time.monotonic(), played.slot_seconds
        try:
            result = task.execute(context)
        except AirflowRescheduleException as again:
            reschedules += 1
            first_refused = first_refused or began
            world.move((again.reschedule_date - datetime.now(UTC)).total_seconds())
            continue
        except Exception as error:
            played.error, played.text = type(error).__name__, str(error)
            played.log_text += "".join(traceback.format_exception(error)) + repr(vars(error))
            delay = _retry_delay(task, error, try_number, context)
            if delay is None:
                played.state = "failed"
                return
            # Airflow below 3.3 counts the reschedules of each try separately; with a store, the store is read first.
            try_number, reschedules, first_refused = try_number + 1, 0, None
            world.move(delay)
        else:
            played.state, played.error, played.text = "success", "", ""
            played.log_text += repr(result)
            return
        finally:
            played.hung = played.hung or time.monotonic() - real > HANGS
            played.most_slot_seconds = max(played.most_slot_seconds, played.slot_seconds - slept)


def _retry_delay(task: Any, error: Exception, try_number: int, context: dict[str, Any]) -> float | None:
    """Return the seconds until Airflow's next attempt, None if there is none."""
    if isinstance(error, AirflowFailException) or try_number > task.retries:
        return None
    policy = getattr(task, "retry_policy", None)
    if policy is not None:
        decision = policy.evaluate(error, try_number, task.retries, context)
        if decision.action.name == "FAIL":
            return None
        if decision.retry_delay is not None:
            return float(decision.retry_delay.total_seconds())
    return _stock_delay(task, try_number)


def _stock_delay(task: Any, try_number: int) -> float:
    """Call Airflow's own backoff, with the attributes of a task instance that it reads."""
    now = datetime.now(UTC)
    names = ("retry_delay", "retry_exponential_backoff", "max_retry_delay")
    stand_in: Any = SimpleNamespace(
        retry_delay_override=None,
        task=SimpleNamespace(**{name: getattr(task, name) for name in names}),
        try_number=try_number,
        end_date=now,
        dag_id="dag",
        task_id="task",
        logical_date=START,
        log=logging.getLogger(__name__),
    )
    due: datetime = TaskInstance.next_retry_datetime(stand_in)
    return (due - now).total_seconds()


@contextmanager
def _environment(connections: dict[str, dict[str, Any]]) -> Iterator[None]:
    values = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(connection) for name, connection in connections.items()}
    with mock.patch.dict(os.environ, values):
        for name in [name for name in os.environ if name.lower().endswith(("_proxy", "_ca_bundle"))]:
            del os.environ[name]
        yield


@contextmanager
def _simulated_sleep(world: World, played: Played) -> Iterator[None]:
    """Let a sleep of the client set the clock forward; the servers' threads sleep in real time."""
    really, client = time.sleep, threading.current_thread()

    def sleep(seconds: float) -> None:
        if threading.current_thread() is not client:
            return really(seconds)
        played.slot_seconds += seconds
        world.move(seconds)

    with mock.patch.object(time, "sleep", sleep):
        yield


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        level = DEBUG if record.levelno < logging.INFO else ""
        self._lines.append(level + record.getMessage() + trace)


@contextmanager
def _captured_log() -> Iterator[list[str]]:
    """Collect what is logged, to the standard library's loggers and to Airflow's structlog, and print none of it."""
    lines: list[str] = []
    loggers = [logging.getLogger(name) for name in (None, "airflow.task", "uvicorn.error")]
    before = [(logger.handlers, logger.level) for logger in loggers]
    for logger in loggers:
        logger.handlers = []
        logger.setLevel(logging.DEBUG)
    loggers[0].addHandler(_Lines(lines))
    try:
        with capture_logs() as events:
            yield lines
    finally:
        lines += map(repr, events)
        for logger, (handlers, level) in zip(loggers, before, strict=True):
            logger.handlers = handlers
            logger.setLevel(level)


# ------------------------------------------------------------------------------------------------------------- verdicts


def too_early(row: Row, played: Played) -> bool:
    """Return whether a request was sent before the server allowed it."""
    dated = row.not_before and any(
        one.time < START + timedelta(seconds=row.not_before) for one in _after_first_update(played.requests)
    )
    refused = [one for one in played.requests if one.operation == "update" and one.status != 200]
    return bool(dated) or any(
        (later.time - one.time).total_seconds() < row.earliest
        for one, later in zip(played.requests, played.requests[1:], strict=False)
        if one in refused
    )


def _after_first_update(requests: Sequence[Seen]) -> Sequence[Seen]:
    first = next((index for index, one in enumerate(requests) if one.operation == "update"), len(requests))
    return requests[first + 1 :]


def verdict(row: Row, played: Played) -> str:
    """Return in a word or two whether what a client did was safe and correct; the worst comes first."""
    for words, so in (
        ("leaks the key", any(key in text for text in played.received for key in SECRETS.values())),
        ("hangs", played.hung),
        ("too early", too_early(row, played)),
        ("never ends", played.state == "running"),
        ("false success", played.state == "success" and not played.live),
        ("sent twice", max(sum(one.applied for one in played.requests), played.pushes, played.campaigns) > 1),
        ("repeats", not row.repeatable and len(played.updates) > 1),
        ("needless failure", played.state == "failed" and row.best == "success"),
        ("shows a key", "REST" in played.shown_keys()),
    ):
        if so:
            return words
    return "ok"


def plain(text: str) -> str:
    """Return an error's text as one line in which nothing differs from run to run."""
    text = re.sub(r"((?:127\.0\.0\.1|localhost)[:', ]+(?:port=)?)\d+", r"\1PORT", " ".join(text.split()))
    text = re.sub(r"\b[0-9a-f]{32}\b", "TOKEN", text)
    for key in sorted(SECRETS.values(), key=len, reverse=True):
        for form in (key, key.removeprefix("sandbox-")):
            text = text.replace(form, "KEY")
    return re.sub(r"0x[0-9a-f]+", "0x..", text.replace(sys.prefix, ""))
