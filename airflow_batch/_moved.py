"""Old module paths, which work for one more release. Used by the modules that have moved; goes with them."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any


def moved(module: str, *places: str, **new_names: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module whose names are elsewhere now.

    :param places: Where they are; the first one that has a name counts.
    :param new_names: New names of those that were renamed.
    """

    def find(name: str) -> Any:
        new_name = new_names.get(name, name)
        for place in places if not name.startswith("__") else ():
            if hasattr(found := importlib.import_module(place), new_name):
                warnings.warn(
                    f"{module}.{name} is deprecated and goes with the next release. It is internal now, as "
                    f"{place}.{new_name}.",
                    DeprecationWarning,
                    stacklevel=2,
                )
                return getattr(found, new_name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return find
