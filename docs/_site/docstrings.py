"""Lets mkdocstrings read the docstrings, which use the marks of Sphinx: roles such as ``:class:`` and ``::`` blocks."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`(~?)([^`]+)`")


class SphinxMarks(Extension):
    """Replaces the marks of Sphinx in every docstring by those of Markdown."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Read one object's docstring."""
        if obj.docstring is not None:
            text = _ROLE.sub(_reference, obj.docstring.value)
            obj.docstring.value = re.sub(r"(?m)^(.*?) ?::$", lambda match: f"{match[1]}:" if match[1] else "", text)


def _reference(match: re.Match[str]) -> str:
    name = match[2].rpartition(".")[2] if match[1] else match[2]
    return f'<autoref optional identifier="{match[2]}"><code>{name}</code></autoref>'
