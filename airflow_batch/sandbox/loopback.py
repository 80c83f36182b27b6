"""Blocks every host but this machine for the duration of a test, so that a test reaches nothing real by mistake.

Belongs here: which hosts are this machine, and the block. Does not belong here: when it is on (pytest_plugin.py).
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Each event with the place of the host, or of the address that begins with it, in its arguments.
_EVENTS = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
    "socket.getnameinfo": 0,
}
_blocking: list[Callable[[str], None]] = []
_is_installed = False


class BlockedHostError(PermissionError):
    """A test tried to reach a host that is not this machine. Nothing was sent."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"This test may talk to this machine only (fixture batch_sandbox), not to {host!r}. Nothing was sent. "
            "Give the task a connection to the sandbox (conn_id of the marker batch_sandbox), or replace what it calls."
        )
        self.host = host


def is_local(host: Any) -> bool:
    """Return whether a host, a name or an address as text or bytes, is this machine. No name server is asked."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    # Airflow resolves its own host name. To connect to 0.0.0.0 or :: is to connect to this machine.
    if name in (None, "", "0.0.0.0", "::") or str(name).lower() in ("localhost", socket.gethostname().lower()):
        return True
    try:
        address = ipaddress.ip_address(str(name).partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


@contextmanager
def loopback_only(note: Callable[[str], None]) -> Iterator[None]:
    """Block every other host in this process, its threads and forked children; each that is tried is given to `note`.

    Unix sockets and what is connected already stay. An attempt raises BlockedHostError, whichever library makes it.
    """
    global _is_installed
    if not _is_installed:
        # An audit hook cannot be removed: it stays and does nothing while `_blocking` is empty.
        sys.addaudithook(_audit)
        _is_installed = True
    _blocking.append(note)
    try:
        yield
    finally:
        _blocking.remove(note)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if not _blocking or event not in _EVENTS:
        return
    address = args[_EVENTS[event]]
    host = address[0] if isinstance(address, tuple) else address
    is_unix = event in ("socket.connect", "socket.sendto", "socket.sendmsg") and not isinstance(address, tuple)
    if is_unix or is_local(host):
        return
    blocked = BlockedHostError(host.decode("ascii", "replace") if isinstance(host, bytes) else str(host))
    for note in list(_blocking):
        note(str(blocked))
    raise blocked
