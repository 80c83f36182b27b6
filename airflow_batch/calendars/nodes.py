"""YAML as a calendar needs it: every value knows its line, and text stays text. Nothing here knows about campaigns.

YAML 1.1, which PyYAML reads, takes ``on`` for true, ``2026-07-01 10:00:00`` for a moment in UTC, a token of digits for
a number, and lets a key come twice. So the file is only composed, not constructed: a value is the text that is written
there, and what it means is decided by who reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from airflow_batch.exceptions import BatchConfigurationError
from airflow_batch.payloads import shown

MAX_SIZE = 10_000_000
"""Bytes of a file that is read."""
MAX_DEPTH = 50
"""Levels of lists and objects within each other."""
MAX_VALUES = 500_000
"""Values and keys of a file, and what merge keys (``<<``) write again. Each takes PyYAML half a kilobyte."""

_TAG = "tag:yaml.org,2002:"
_SCALARS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge"))
MAX_PATH = 1_000
"""Characters of a path, from its end, that a message shows."""
_LONG = 1_000
"""Digits of a number that no JSON reader holds."""
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")


@dataclass(frozen=True, slots=True)
class Entry:
    """A value of the file and where it stands."""

    value: str | list[Entry] | dict[str, Entry] | None
    """Text for every scalar; None where nothing is written, or ``null`` or ``~``."""
    line: int
    """From 1."""
    plain: bool = False
    """Whether it is a scalar without quotes, which may be more than text."""
    keys: dict[str, int] = field(default_factory=dict)
    """The line of each key of a mapping."""


class CalendarFile:
    """A file of which errors can be told with their lines."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def refuse(self, line: int | None, found: str) -> NoReturn:
        """Raise the error about what was found in a line; None where the file cannot be read at all."""
        raise self.error(line, found)

    def error(self, line: int | None, found: str) -> BatchConfigurationError:
        """Return the error about what was found in a line."""
        name = str(self.path)[-MAX_PATH:]
        place = name if name.isprintable() else repr(name)
        return BatchConfigurationError(f"{place}{'' if line is None else f', line {line}'}: {found}")

    def root(self) -> Entry:
        """Return all of the file.

        :raises BatchConfigurationError: when it cannot be read, is too large, is not UTF-8 or not YAML, when a key
            comes twice, a tag is unknown, or it is nested too deep or holds too much.
        """
        import yaml  # type: ignore[import-untyped]

        text = self.text()
        if not text.strip():
            self.refuse(1, "the file is empty. A mapping with timezone and campaigns is needed.")
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            self._check_measure(yaml.parse(text, Loader=loader))
            node = yaml.compose(text, Loader=loader)
        except yaml.reader.ReaderError as error:
            line = text.encode().count(b"\n", 0, error.position) + 1
            raise self.error(line, f"not YAML: {error.reason}. Only printable characters are allowed.") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            why = ", ".join(part for part in (error.context, error.problem) if part)
            raise self.error(mark.line + 1 if mark else 1, f"not YAML: {why}.") from None
        if node is None:
            self.refuse(1, "the file holds comments only. A mapping with timezone and campaigns is needed.")
        return _Composer(self, yaml).entry(node)

    def _check_measure(self, events: Iterable[Any]) -> None:
        """Refuse what is so deep or so much that composing it would end the process."""
        depth = -2  # the stream and the document
        for count, event in enumerate(events):
            name = type(event).__name__
            if count > MAX_VALUES:
                self.refuse(event.start_mark.line + 1, f"too much. At most {MAX_VALUES:,} values and keys are allowed.")
            depth += name.endswith("StartEvent") - name.endswith("EndEvent")
            if depth > MAX_DEPTH:
                self.refuse(event.start_mark.line + 1, f"nested too deep. At most {MAX_DEPTH} levels are allowed.")

    def text(self) -> str:
        """Return the file's text.

        :raises BatchConfigurationError: when it cannot be read, is too large, or is not UTF-8.
        """
        try:
            with self.path.open("rb") as file:
                raw = file.read(MAX_SIZE + 1)
        except FileNotFoundError:
            raise self.error(None, "there is no such file.") from None
        except (OSError, ValueError) as error:  # ValueError: a NUL, or half a surrogate pair, in the name
            reason = getattr(error, "strerror", None) or "this cannot be the name of a file"
            raise self.error(None, f"cannot be read: {reason}.") from None
        if len(raw) > MAX_SIZE:
            self.refuse(None, f"larger than {MAX_SIZE // 1_000_000} MB, the most that is allowed.")
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise self.error(line, f"not UTF-8: the byte 0x{raw[error.start]:02x}. Save the file as UTF-8.") from None


class _Composer:
    """Turns PyYAML's nodes into entries; what an alias repeats becomes one entry."""

    def __init__(self, file: CalendarFile, yaml: Any) -> None:
        self.file, self.yaml = file, yaml
        self.done: dict[Any, Entry] = {}
        self.open: set[Any] = set()
        self.merged = 0

    def entry(self, node: Any) -> Entry:
        line = node.start_mark.line + 1
        if node in self.open:
            self.file.refuse(line, "an alias of something that it stands in itself, which would never end.")
        if node not in self.done:
            self.open.add(node)
            self.done[node] = self._read(node, line)
            self.open.remove(node)
        return self.done[node]

    def _read(self, node: Any, line: int) -> Entry:
        if isinstance(node, self.yaml.ScalarNode) and node.tag in _SCALARS:
            if node.tag == _TAG + "null" and not node.style:
                return Entry(None, line)
            return Entry(node.value, line, plain=not node.style and node.tag != _TAG + "str")
        if isinstance(node, self.yaml.SequenceNode) and node.tag == _TAG + "seq":
            return Entry([self.entry(item) for item in node.value], line)
        if isinstance(node, self.yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, line)
        tag = shown(node.tag.replace(_TAG, "!!"))
        self.file.refuse(line, f"the tag {tag}. Text, lists and mappings are allowed.")

    def _mapping(self, node: Any, line: int) -> Entry:
        own: dict[str, Entry] = {}
        keys: dict[str, int] = {}
        merged: list[Entry] = []
        for key, value in node.value:
            at = key.start_mark.line + 1
            if not isinstance(key, self.yaml.ScalarNode):
                self.file.refuse(at, "a key that is no text. Does a template without quotes stand there?")
            if key.value in keys:
                self.file.refuse(
                    at, f"the key {shown(key.value)} again, which stands in line {keys[key.value]}. Keep one."
                )
            keys[key.value] = at
            entry = self.entry(value)
            if key.tag == _TAG + "merge":
                merged += entry.value if isinstance(entry.value, list) else [entry]
            else:
                own[key.value] = entry
        for entry in merged:
            if not isinstance(entry.value, dict):
                self.file.refuse(entry.line, "something else than a mapping as the value of <<.")
            self.merged += len(entry.value)
            if self.merged > MAX_VALUES:
                self.file.refuse(line, f"more than {MAX_VALUES:,} keys by <<. Merge smaller mappings.")
            for name, value in entry.value.items():
                if name not in own:
                    own[name], keys[name] = value, entry.keys[name]
        return Entry(own, line, keys=keys)


def json_value(entry: Entry) -> Any:
    """Return an entry as JSON has it: plain scalars that JSON knows are numbers, booleans and null, all others text.

    So ``no``, the language, and ``10:30`` are text, and so is a date.
    """
    if isinstance(entry.value, dict):
        return {name: json_value(value) for name, value in entry.value.items()}
    if isinstance(entry.value, list):
        return [json_value(item) for item in entry.value]
    if entry.value is None or not entry.plain:
        return entry.value
    if entry.value.lower() in ("true", "false"):
        return entry.value.lower() == "true"
    if match := _NUMBER.fullmatch(entry.value):
        # Cut where Python would not read it any more: it is far beyond what JSON may hold all the same.
        return float(entry.value) if match[2] or match[3] else int(entry.value[:_LONG])
    return entry.value
