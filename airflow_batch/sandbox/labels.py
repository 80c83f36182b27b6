"""How a row of the table of what is known is written, and how the switchable rows are read and checked.

Belongs here: the form of a row. Does not belong here: any row (contract.py, documented.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

Label = Literal["DOCUMENTED", "OBSERVED", "INFERRED", "UNKNOWN"]


@dataclass(frozen=True)
class Entry:
    """One row of the table: what the server does, how well it is known, and what would replace it."""

    name: str
    label: Label
    does: str
    why: str
    replaced_by: str
    choice: str = ""


@dataclass(frozen=True)
class Choice:
    """What is known about one field of `Contract`; the field's default and type say what it is and may be."""

    label: Label
    does: str
    why: str
    replaced_by: str = "a capture of the real answer"


def choices_of(contract: type) -> dict[str, tuple[Any, Choice]]:
    """Return the type and the `Choice` of every field of a class whose fields are all annotated with one."""
    hints = get_type_hints(contract, include_extras=True)
    return {name: (hint.__origin__, hint.__metadata__[0]) for name, hint in hints.items()}


def check_choices(contract: object) -> None:
    """Raise ValueError where a field has a value that its type does not name."""
    for name, (hint, _) in choices_of(type(contract)).items():
        allowed = _literals(hint)
        if allowed and getattr(contract, name) not in allowed:
            raise ValueError(f"{name}: {getattr(contract, name)!r} is not one of {allowed}")


def _literals(hint: Any) -> list[object]:
    if hint is bool:
        return [True, False]
    if hint is type(None):
        return [None]
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [] if get_origin(hint) is tuple else [value for part in get_args(hint) for value in _literals(part)]
