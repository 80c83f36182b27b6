"""YAML for calendars: text, and lists and mappings with line numbers. Nothing here depends on campaigns.

YAML 1.1, which PyYAML reads, takes ``on`` for true, ``2026-07-01 10:00:00`` for a moment in UTC, a token of digits for
a number, and allows a key twice. Here a scalar is the text as it is written, and ``reading.py`` interprets it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import yaml  # type: ignore[import-untyped]

from airflow_batch._values import short_list, short_repr
from airflow_batch.exceptions import BatchConfigurationError

MAX_SIZE = 10_000_000
"""Bytes of a file that is read."""
MAX_DEPTH = 50
"""Levels of lists and mappings within each other, aliases written out."""
MAX_VALUES = 500_000
"""Values and keys of a file, aliases and merge keys (``<<``) written out. Each takes PyYAML half a kilobyte."""
MAX_MISTAKES = 20
"""Mistakes that one message lists."""
MAX_PATH = 1_000
"""Characters of a path, from its end, that a message shows."""

_TAG = "tag:yaml.org,2002:"
_SCALARS = ("str", "int", "float", "bool", "null", "timestamp", "value", "merge")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_LONG = 1_000
"""Digits of a number that no JSON reader holds."""

Mistake = tuple[int | None, str]
"""The line, None where the file cannot be read at all, and what is wrong."""


class PlainText(str):
    """A scalar without quotes, which may be more than text."""


class _Placed:
    """The line of a list or a mapping, the lines of its items, its size and depth with aliases written out."""

    line: int
    lines: dict[Any, int]
    size: int
    depth: int


class YamlList(_Placed, list[Any]): ...


class YamlMapping(_Placed, dict[str, Any]): ...


def line_of(value: Any, path: Iterable[str | int]) -> int:
    """Return the line of the value at a path of keys and indices, or of the last part of it that is there."""
    line: int = getattr(value, "line", 1)
    for part in path:
        if part in getattr(value, "lines", ()):
            line, value = value.lines[part], value[part]
    return line


def json_value(value: Any) -> Any:
    """Return a value of the file as JSON has it: plain scalars that JSON knows are numbers and booleans, others text.

    So ``no``, the language, and ``10:30`` are text, and so is a date.
    """
    if isinstance(value, dict):
        return {name: json_value(item) for name, item in value.items()}
    if isinstance(value, list):
        return [json_value(item) for item in value]
    if not isinstance(value, PlainText):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    if match := _NUMBER.fullmatch(value):
        # Cut where Python would not read it any more: it is far beyond what JSON may hold all the same.
        return float(value) if match[2] or match[3] else int(value[:_LONG])
    return str(value)


def read_text(path: Path) -> str:
    """Return a file's text.

    :raises BatchConfigurationError: when it cannot be read, is too large, or is not UTF-8.
    """
    raw, line = b"", None
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SIZE + 1)
        if len(raw) <= MAX_SIZE:
            return raw.decode("utf-8-sig")
        found = f"larger than {MAX_SIZE // 1_000_000} MB, the most that is allowed."
    except FileNotFoundError:
        found = "there is no such file."
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        found = f"not UTF-8: the byte 0x{raw[error.start]:02x}. Save the file as UTF-8."
    except (OSError, ValueError) as error:  # ValueError: a NUL, or half a surrogate pair, in the name
        found = f"cannot be read: {getattr(error, 'strerror', None) or 'this cannot be the name of a file'}."
    raise file_error(path, [(line, found)])


def file_error(path: Path, mistakes: Iterable[Mistake]) -> BatchConfigurationError:
    """Return the error that names a file and its mistakes, one in each line."""
    name = str(path)[-MAX_PATH:]
    ordered = sorted(mistakes, key=lambda mistake: mistake[0] or 0)
    place = (name if name.isprintable() else repr(name)) + (": " if ordered[0][0] is None else ", ")

    def show(mistake: Mistake) -> str:
        line, found = mistake
        return found if line is None else f"line {line}: {found}"

    return BatchConfigurationError(
        place + short_list(ordered, MAX_MISTAKES, show=show, separator="\n", noun="mistakes.")
    )


def read_yaml(path: Path) -> tuple[Any, list[Mistake]]:
    """Return what a file holds, and the mistakes that are left out of it: keys that come twice or are no text.

    :raises BatchConfigurationError: when it cannot be read, is empty, not YAML, holds too much, or has a tag.
    """
    text = read_text(path)
    try:
        _check_measure(yaml.parse(text, Loader=_SafeLoader))
        loader = _Loader(text)
        root = loader.get_single_data()
    except yaml.reader.ReaderError as error:
        line = text.encode().count(b"\n", 0, error.position) + 1
        found = f"not YAML: {error.reason}. Only printable characters are allowed."
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        kind = "" if isinstance(error, yaml.constructor.ConstructorError) else "not YAML: "
        problem = (error.problem or "").replace("found unconstructable recursive node", "an alias that holds itself")
        found = kind + ", ".join(part[:200] for part in (error.context, problem) if part) + "."
    else:
        if root is not None:
            return root, loader.mistakes
        line, found = 1, "the file is empty. A mapping with timezone and campaigns is needed."
    raise file_error(path, [(line, found)])


def _check_measure(events: Iterable[Any]) -> None:
    """Refuse what is so deep or so much that composing it would end the process."""
    depth = -2  # the stream and the document
    for count, event in enumerate(events):
        name = type(event).__name__
        depth += name.endswith("StartEvent") - name.endswith("EndEvent")
        _check(event, count, depth)


def _check(place: Any, values: int, depth: int = 0) -> None:
    if values > MAX_VALUES:
        _refuse(place, f"too much. At most {MAX_VALUES:,} values and keys are allowed, aliases included")
    if depth > MAX_DEPTH:
        _refuse(place, f"nested too deep. At most {MAX_DEPTH} levels are allowed, aliases included")


def _refuse(place: Any, found: str) -> NoReturn:
    raise yaml.constructor.ConstructorError(problem=found, problem_mark=place.start_mark)


_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc]
    """Makes values with line numbers. All aliases of a value are one object."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.mistakes: list[Mistake] = []
        self._merged = 0

    def _scalar(self, node: Any) -> str | None:
        if node.tag == _TAG + "null" and not node.style:
            return None
        return node.value if node.style or node.tag == _TAG + "str" else PlainText(node.value)

    def _list(self, node: Any) -> YamlList:
        value = YamlList(self.construct_object(item) for item in node.value)
        value.lines = {index: item.start_mark.line + 1 for index, item in enumerate(node.value)}
        self._measure(value, node, value)
        return value

    def _mapping(self, node: Any) -> YamlMapping:
        own, merged = YamlMapping(), []
        own.lines = {}
        seen: dict[str, Any] = {}
        for key, value in node.value:
            line, name = key.start_mark.line + 1, key.value
            if not isinstance(name, str):
                self.mistakes.append((line, "a key that is not text. Is it a template without quotes?"))
            elif seen.setdefault(name, key) is not key:
                first = seen[name].start_mark.line + 1
                self.mistakes.append((line, f"the key {short_repr(name)} is in line {first} already. Keep one."))
            elif key.tag == _TAG + "merge":
                found = self.construct_object(value)
                merged += found if isinstance(found, list) else [found]
            else:
                own[name], own.lines[name] = self.construct_object(value), line
        for other in merged:
            if not isinstance(other, YamlMapping):
                _refuse(node, "the value of << is not a mapping, or not a list of mappings")
            self._merged += len(other)
            _check(node, self._merged)
            own.lines = other.lines | own.lines
            own.update({name: value for name, value in other.items() if name not in own})
        self._measure(own, node, [*own, *own.values()])
        return own

    def _measure(self, value: _Placed, node: Any, parts: list[Any]) -> None:
        value.line = node.start_mark.line + 1
        value.size = 1 + sum(getattr(part, "size", 1) for part in parts)
        value.depth = 1 + max((getattr(part, "depth", 0) for part in parts), default=0)
        _check(node, value.size, value.depth)

    def _value(self, node: Any) -> Any:
        name = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.ScalarNode) and name in _SCALARS:
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode) and name == "seq":
            return self._list(node)
        if isinstance(node, yaml.MappingNode) and name == "map":
            return self._mapping(node)
        _refuse(node, f"the tag {short_repr(node.tag.replace(_TAG, '!!'))} here. Text, lists and mappings are allowed")

    yaml_constructors: ClassVar[dict[str | None, Any]] = {None: _value}
