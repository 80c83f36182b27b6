"""The keys of the sandbox: which are accepted, whose they are, and how a text is freed of them.

Belongs here: everything that compares, checks or masks a key. Does not belong here: routes and answers (service.py).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

PREFIX = "sandbox-"
KeyKind = Literal["live", "dev"]
KINDS: tuple[KeyKind, ...] = ("live", "dev")
Apps = Sequence[str] | Mapping[str, Mapping[str, str]]


def check_key(key: str, what: str) -> str:
    """Return `key`. Raises ValueError, which never shows the key, where it could be a real one or cannot be sent."""
    if not key.startswith(PREFIX):
        raise ValueError(f"{what} must begin with {PREFIX!r}: the sandbox takes no real key")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"{what} must be printable ASCII without spaces")
    return key


@dataclass(frozen=True)
class Keyring:
    """The company's REST key and the app keys, by app name and kind."""

    rest_key: str
    apps: Mapping[str, Mapping[KeyKind, str]]

    @classmethod
    def build(cls, rest_key: str, apps: Apps) -> Keyring:
        """Make the keyring of names (keys sandbox-NAME-live and -dev) or of {name: {"live": KEY, "dev": KEY}}.

        Raises ValueError for no app, a key without the prefix, or a key used twice.
        """
        if isinstance(apps, str):
            raise ValueError("apps is a sequence of names or a mapping, not one text")
        given: Mapping[str, Mapping[str, str]] = apps if isinstance(apps, Mapping) else {name: {} for name in apps}
        if not given:
            raise ValueError("at least one app is needed")
        built: dict[str, Mapping[KeyKind, str]] = {}
        for name, keys in given.items():
            if set(keys) - set(KINDS):
                raise ValueError(f"app {name!r}: keys are named 'live' and 'dev'")
            built[name] = {
                kind: check_key(keys.get(kind, f"{PREFIX}{name}-{kind}"), f"the {kind} key of app {name!r}")
                for kind in KINDS
            }
        ring = cls(check_key(rest_key, "the REST key"), built)
        if len(set(ring.all())) != len(ring.all()):
            raise ValueError("every key must differ from the others")
        return ring

    def all(self) -> list[str]:
        """Return every key, the REST key first."""
        return [self.rest_key, *(key for keys in self.apps.values() for key in keys.values())]

    def owner(self, app_key: str) -> tuple[str, KeyKind] | None:
        """Return the name of the app that has this key and the key's kind, or None."""
        for name, keys in self.apps.items():
            for kind, key in keys.items():
                if key == app_key:
                    return name, kind
        return None

    def is_rest_key(self, key: str) -> bool:
        """Return whether `key` is the company's REST key."""
        return secrets.compare_digest(key.encode(), self.rest_key.encode())

    def scrub(self, text: str, others: Iterable[str] = ()) -> str:
        """Return `text` with every known key, and the `others`, replaced by KEY."""
        # The longest first: one key may be the beginning of another.
        for key in sorted({*self.all(), *others} - {""}, key=len, reverse=True):
            text = text.replace(key, "KEY")
        return text


def is_foreign(key: str) -> bool:
    """Return whether a request's key is none of the sandbox's kind, so perhaps a real one."""
    return not key.startswith(PREFIX)
