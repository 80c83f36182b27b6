"""Blocks every host but loopback, in this process. Importing it is enough; it cannot be undone.

An audit hook sees what any library does, C code too. A name that is not this machine's does not resolve, as on a
machine without a network.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from typing import Any

_OWN_NAMES = {"localhost", "ip6-localhost", socket.gethostname(), "", "0.0.0.0", "::"}


def _is_local(host: Any) -> bool:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if name is None or name in _OWN_NAMES:
        return True
    try:
        return ipaddress.ip_address(str(name).partition("%")[0]).is_loopback
    except ValueError:
        return False


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto"):
        address = args[1]
        if isinstance(address, tuple) and not _is_local(address[0]):
            raise PermissionError(f"the tests talk to loopback only, not to {address[0]!r}")
    elif event == "socket.getaddrinfo" and not _is_local(args[0]):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known (the tests talk to loopback only)")


sys.addaudithook(_audit)
