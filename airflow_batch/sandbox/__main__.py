"""The sandbox from the shell: `python -m airflow_batch.sandbox`.

Belongs here: arguments, the ready line, a line for each request. Does not belong here: anything a test could want too.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from airflow_batch.sandbox.faults import Fault, FaultPlan
from airflow_batch.sandbox.keys import KINDS
from airflow_batch.sandbox.log import RequestRecord
from airflow_batch.sandbox.server import BatchSandbox
from airflow_batch.sandbox.service import RetryAfter
from airflow_batch.sandbox.state import Clock


def _retry_after(text: str) -> RetryAfter:
    named: dict[str, RetryAfter] = {"none": None, "computed": "computed", "http-date": "http-date"}
    return named[text] if text in named else int(text)


def _fault(text: str) -> Fault:
    try:
        return Fault.from_text(text)
    except ValueError as error:
        # argparse shows the text of this class only.
        raise argparse.ArgumentTypeError(str(error)) from error


def _clock(text: str) -> Clock:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError("a time needs a zone, such as Z at its end")
    return lambda: moment


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_batch.sandbox",
        description="A local Batch server. Prints one JSON line when it is ready, then one on stderr for each request.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--rate", type=float, help="requests a second; none: no throttle")
    parser.add_argument("--burst", type=float, help="requests at once (default 1)")
    parser.add_argument("--retry-after", type=_retry_after, help="seconds, computed, http-date or none (default)")
    parser.add_argument("--update-mode", choices=("merge", "strict", "replace"), default="merge")
    parser.add_argument("--app", action="append", metavar="NAME", help="an app (default: app); repeatable")
    parser.add_argument(
        "--campaign",
        action="append",
        default=[],
        metavar="[APP=]FILE",
        help="a definition as JSON, of that app (default: the first); repeatable",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        type=_fault,
        help="such as 'update:429;retry-after=6' or 'create:reset_after;times=2'; repeatable, in order",
    )
    parser.add_argument("--faults", type=Path, metavar="FILE", help="a script as JSON, before any --fault")
    parser.add_argument("--seed", type=int, default=0, help="fixes tokens and random faults")
    parser.add_argument(
        "--clock",
        type=_clock,
        metavar="MOMENT",
        help="such as 2030-01-31T09:00:00Z: time stands still there, so that the same requests give the same log",
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="append every request as a line of JSON")
    return parser


def _reporter(log: TextIO | None) -> Callable[[RequestRecord], None]:
    def report(record: RequestRecord) -> None:
        print(record, file=sys.stderr, flush=True)
        if log is not None:
            print(json.dumps(record.as_dict()), file=log, flush=True)

    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code, 0."""
    parser = _parser()
    options = parser.parse_args(arguments)
    log = options.log.open("a", encoding="utf-8") if options.log else None
    try:
        plan = FaultPlan.from_json(options.faults.read_text("utf-8")) if options.faults else FaultPlan()
        sandbox = BatchSandbox(
            host=options.host,
            port=options.port,
            rate=options.rate,
            burst=options.burst,
            retry_after=options.retry_after,
            update_mode=options.update_mode,
            apps=options.app or ("app",),
            seed=options.seed,
            clock=options.clock,
            faults=FaultPlan((*plan.script, *options.fault), plan.chances),
            on_record=_reporter(log),
        )
        tokens = [_add_campaign(sandbox, text) for text in options.campaign]
    except (OSError, ValueError) as error:
        parser.error(str(error))
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with sandbox:
        print(json.dumps(_ready(sandbox, tokens)), flush=True)
        stopped.wait()
    if log is not None:
        log.close()
    return 0


def _add_campaign(sandbox: BatchSandbox, text: str) -> str:
    app, separator, path = text.partition("=")
    if not separator or app not in sandbox.apps:
        return sandbox.add_campaign(_definition(Path(text)))
    return sandbox.add_campaign(_definition(Path(path)), app=app)


def _definition(path: Path) -> dict[str, Any]:
    try:
        definition = json.loads(path.read_text("utf-8"))
    except RecursionError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(definition, dict):
        raise ValueError(f"{path}: a definition is a JSON object")
    return definition


def _ready(sandbox: BatchSandbox, tokens: Sequence[str]) -> dict[str, object]:
    return {
        "url": sandbox.url,
        "rest_key": sandbox.rest_key,
        "app_keys": {app: {kind: sandbox.app_key(app, kind) for kind in KINDS} for app in sandbox.apps},
        "campaigns": list(tokens),
        "connection": sandbox.connection("login" if len(sandbox.apps) == 1 else "api_keys"),
    }


if __name__ == "__main__":
    sys.exit(main())
