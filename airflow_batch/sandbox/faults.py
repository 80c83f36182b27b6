"""What goes wrong on purpose, as data: scripted faults, and random ones that a seed repeats.

Belongs here: what a fault is, how it is written as text or JSON, which one a request gets. Nothing is sent here.
Does not belong here: how a fault is carried out on the socket (delivery.py).
"""

from __future__ import annotations

import dataclasses
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from airflow_batch.sandbox.errors import ERRORS, OPERATIONS, ErrorName, Operation

Kind = Literal[
    "answer",
    "delay",
    "reset_before",
    "reset_after",
    "late",
    "silence",
    "lag",
    "truncate",
    "html",
    "redirect",
    "drip",
    "echo",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
_APPLIED_BY_DEFAULT: frozenset[Kind] = frozenset({"delay", "reset_after", "lag", "truncate", "drip"})
_APPLIED_FIXED: frozenset[Kind] = frozenset({"reset_before", "reset_after", "late", "lag"})
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding"})
_STATUS_BY_DEFAULT: Mapping[Kind, int] = {"html": 502, "redirect": 302, "echo": 401}


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. Durations are real seconds, but those of a lag are seconds of the sandbox's clock.

    kind
        answer: send `status` (or the documented `error`), `body` and `headers` instead of the answer.
        delay: answer as usual, `delay` seconds late.
        reset_before, reset_after: a TCP reset once the request is read, before or after the change is applied.
        late: no answer; the connection is kept open for `seconds` or until the client leaves, and the change is applied
        `apply_after` seconds after that.
        silence: no answer; the connection is closed after `seconds`, or never.
        lag: a created campaign appears in the list only after `seconds`, after `calls` list calls, or both. A request
        can get a lag and another fault.
        truncate: Content-Length promises the whole body, half of it is sent, the connection is closed.
        html: an HTML page instead of JSON.
        redirect: a Location header: "same" (this request again), "other" (another host, https), "http" (another
        host, http), or a URL in which {path} stands for the path and query of the request.
        drip: one byte each `interval` seconds, of `part` "all" (headers and body) or "body".
        echo: the message of the error repeats the REST key and the app key of the request.
    operation, app, token
        Which requests: create, update, delete, view, list, stats, unknown or any; an app's name; a campaign's token.
    times
        How many requests get it; None: all of them, until `clear_faults()`.
    status, body, headers
        What is sent. Status: 200 to 599. Body: bytes and text as they are, anything else as JSON; None is the
        documented error body of the status. For kinds that answer as usual these replace parts of the usual answer.
    delay
        Seconds before anything is sent or reset, for every kind.
    applied
        Whether the request also does its work; None: as is usual for the kind (delay, truncate, drip: yes; others: no).

    Raises ValueError for a fault that cannot be carried out.
    """

    kind: Kind
    operation: Operation | Literal["any"] = "any"
    _: dataclasses.KW_ONLY
    times: int | None = 1
    app: str | None = None
    token: str | None = None
    status: int | None = None
    error: ErrorName | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    seconds: float | None = None
    apply_after: float = 0.0
    calls: int | None = None
    applied: bool | None = None
    location: str = "same"
    interval: float = 1.0
    part: Literal["all", "body"] = "all"

    def __post_init__(self) -> None:
        durations = (self.delay, self.seconds or 0, self.apply_after, self.interval)
        for problem, wrong in (
            (f"kind is one of {', '.join(KINDS)}", self.kind not in KINDS),
            (f"operation is any or one of {', '.join(OPERATIONS)}", self.operation not in ("any", *OPERATIONS)),
            (f"error is one of {', '.join(ERRORS)}", self.error is not None and self.error not in ERRORS),
            ("times is 1 or more", self.times is not None and self.times < 1),
            ("an answer needs a status or an error", self.kind == "answer" and not (self.status or self.error)),
            ("give a status or an error, not both", self.status is not None and self.error is not None),
            ("status is 200 to 599", self.status is not None and not 200 <= self.status <= 599),
            ("a delay needs delay", self.kind == "delay" and self.delay <= 0),
            ("a lag needs seconds or calls", self.kind == "lag" and self.seconds is None and self.calls is None),
            ("only creates lag", self.kind == "lag" and self.operation not in ("any", "create")),
            (f"applied cannot be chosen for {self.kind}", self.applied is not None and self.kind in _APPLIED_FIXED),
            ("part is all or body", self.part not in ("all", "body")),
            ("durations are 0 or more", not all(_is_duration(value) for value in durations)),
            ("headers are latin-1", not all(map(_is_latin_1, (*self.headers, *self.headers.values())))),
            ("the framing headers are the server's", any(name.lower() in _FRAMING for name in self.headers)),
            ("headers are one line each", not all(map(str.isprintable, (*self.headers, *self.headers.values())))),
        ):
            if wrong:
                raise ValueError(f"fault: {problem}")

    @property
    def name(self) -> str:
        """The name in the request log: the kind, with the status of an answer."""
        return f"{self.kind} {self.sent_status}" if self.kind == "answer" else self.kind

    @property
    def applies(self) -> bool:
        """Whether the request does its work before anything is sent."""
        return self.kind in _APPLIED_BY_DEFAULT if self.applied is None else self.applied

    @property
    def sent_status(self) -> int | None:
        """The status that is sent, or None for that of the usual answer."""
        if self.error is not None:
            return ERRORS[self.error].status
        return self.status or _STATUS_BY_DEFAULT.get(self.kind)

    def fits(self, operation: Operation, app: str | None, token: str | None) -> bool:
        """Return whether a request can get this fault."""
        if self.kind == "lag" and operation != "create":
            return False
        return self.operation in ("any", operation) and self.app in (None, app) and self.token in (None, token)

    @classmethod
    def from_text(cls, text: str) -> Fault:
        """Read `[operation:]kind[;field=value]...`, where a status or an error's name stands for an answer.

        A field with a hyphen is a header. `times=all` means every request. Examples: `update:429;retry-after=6`,
        `503;times=2`, `create:reset_after`, `list:drip;interval=0.1;part=body`. Raises ValueError.
        """
        head, *options = text.split(";")
        operation, _, what = head.rpartition(":")
        values: dict[str, Any] = {"operation": operation or "any", "headers": {}}
        if what.isdigit():
            values |= {"kind": "answer", "status": int(what)}
        elif what in ERRORS:
            values |= {"kind": "answer", "error": what}
        else:
            values["kind"] = what
        for option in options:
            name, separator, value = option.partition("=")
            if not separator:
                raise ValueError(f"fault: {option!r} is not field=value")
            if "-" in name:
                values["headers"][name] = value
            else:
                values[name] = _read(name, value)
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Fault:
        """Make a fault of JSON values that have the names of the fields. Raises ValueError."""
        known = {item.name for item in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"fault: unknown field {', '.join(unknown)}; a header in text has a hyphen")
        if "kind" not in values:
            raise ValueError("fault: kind is missing")
        try:
            return cls(**{**values, "headers": {name: str(value) for name, value in values.get("headers", {}).items()}})
        except (AttributeError, TypeError) as error:
            raise ValueError(f"fault: a field has the wrong type ({error})") from error


_NUMBERS = {"times": int, "status": int, "calls": int, "delay": float, "seconds": float, "apply_after": float,
            "interval": float}  # fmt: skip


def _read(name: str, value: str) -> Any:
    if name == "times" and value == "all":
        return None
    if name == "applied":
        if value not in ("true", "false"):
            raise ValueError("fault: applied is true or false")
        return value == "true"
    return _NUMBERS[name](value) if name in _NUMBERS else value


def _is_duration(seconds: float) -> bool:
    return 0 <= seconds < math.inf


def _is_latin_1(text: str) -> bool:
    return all(char <= "\xff" for char in text)


@dataclass(frozen=True)
class FaultPlan:
    """The faults a sandbox starts with.

    `script`: used up in order, each by the first requests that fit it. `chances`: the text of a fault (see
    `Fault.from_text`) to its probability for each request that fits; they add up to 1 at most. Raises ValueError.
    """

    script: Sequence[Fault] = ()
    chances: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for text in self.chances:
            Fault.from_text(text)
        # Written so that NaN, with which every comparison is false, is refused.
        if not (all(chance >= 0 for chance in self.chances.values()) and sum(self.chances.values()) <= 1 + 1e-9):
            raise ValueError("chances are 0 or more and add up to 1 at most")

    @classmethod
    def from_json(cls, text: str) -> FaultPlan:
        """Read a JSON array of faults (each an object or a text), or {"script": [...], "chances": {...}}.

        Raises ValueError.
        """
        try:
            data = json.loads(text)
            if isinstance(data, list):
                data = {"script": data}
            if not isinstance(data, dict) or set(data) - {"script", "chances"}:
                raise ValueError("a fault file holds an array, or an object with script and chances")
            script = [Fault.from_text(item) if isinstance(item, str) else Fault.from_dict(item)
                      for item in data.get("script", [])]  # fmt: skip
            return cls(tuple(script), data.get("chances", {}))
        except (AttributeError, RecursionError, TypeError) as error:
            raise ValueError(f"fault file: {error}") from error


class Faults:
    """The faults still to come. The same seed and the same requests get the same faults."""

    def __init__(self, plan: FaultPlan, seed: int) -> None:
        self._random = random.Random(f"faults {seed}")
        self._script: list[list[Any]] = []
        self._chances = [(Fault.from_text(text), chance) for text, chance in plan.chances.items()]
        self.add(plan.script)

    def add(self, faults: Sequence[Fault]) -> None:
        """Append faults to the script."""
        self._script += [[fault, fault.times] for fault in faults]

    def clear(self) -> None:
        """Forget the script and the random faults."""
        self._script.clear()
        self._chances.clear()

    def take(self, operation: Operation, app: str | None, token: str | None) -> tuple[Fault, ...]:
        """Return what goes wrong with one request: one lag and one other fault at most, those of the script first."""
        # Drawn for every request, so that the script does not move what comes after it.
        drawn = self._draw() if self._chances else None
        taken: dict[bool, Fault] = {}
        for item in self._script:
            fault, left = item
            if (fault.kind == "lag") not in taken and left != 0 and fault.fits(operation, app, token):
                taken[fault.kind == "lag"] = fault
                item[1] = None if left is None else left - 1
        self._script = [item for item in self._script if item[1] != 0]
        if drawn is not None and (drawn.kind == "lag") not in taken and drawn.fits(operation, app, token):
            taken[drawn.kind == "lag"] = drawn
        return tuple(taken[is_lag] for is_lag in sorted(taken))

    def _draw(self) -> Fault | None:
        point = self._random.random()
        for fault, chance in self._chances:
            if point < chance:
                return fault
            point -= chance
        return None
