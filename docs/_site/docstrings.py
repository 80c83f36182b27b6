"""Lets mkdocstrings read the package: docstrings with the marks of Sphinx, and arguments that a base class takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from griffe import Class, Extension, Module, Object, ParameterKind

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`(~?)([^`]+)`")


class Docstrings(Extension):
    """Replaces the marks of Sphinx by those of Markdown, and ``**kwargs`` by the arguments that it stands for."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite one object's docstring."""
        if obj.docstring is not None:
            text = _ROLE.sub(_reference, obj.docstring.value)
            obj.docstring.value = re.sub(r"(?m)^(.*?) ?::$", lambda match: f"{match[1]}:" if match[1] else "", text)

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Complete the signatures once every base class is known."""
        for item in _classes(pkg):
            own = item.members.get("__init__")
            rest = None if own is None else next((each for each in own.parameters if each.name == "kwargs"), None)
            if rest is None:
                continue
            del own.parameters["kwargs"]
            for base in item.mro():
                inherited = base.members.get("__init__")
                for parameter in [] if inherited is None else inherited.parameters:
                    if parameter.kind is ParameterKind.keyword_only and parameter.name not in own.parameters:
                        own.parameters.add(parameter)
            own.parameters.add(rest)


def _classes(module: Module) -> Iterator[Class]:
    yield from (item for item in module.classes.values() if not item.is_alias)
    for inner in module.modules.values():
        if not inner.is_alias:
            yield from _classes(inner)


def _reference(match: re.Match[str]) -> str:
    name = match[2].rpartition(".")[2] if match[1] else match[2]
    return f'<autoref optional identifier="{match[2]}"><code>{name}</code></autoref>'
