"""What HTTP servers do not do by themselves: resets, broken-off and slow answers, on the raw transport.

Belongs here: everything that touches uvicorn's protocol or the socket. Does not belong here: which fault does what
(delivery.py).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class SandboxProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1 protocol that hands its transport to the application and writes no access log."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # The access log would hold the key in the path.
        self.access_log = False
        self.app_state = {**self.app_state, "transport": transport}


def transport_of(scope: Any) -> asyncio.Transport:
    """Return the transport of the connection a request came on."""
    transport: asyncio.Transport = scope["state"]["transport"]
    return transport


def reset(transport: asyncio.Transport) -> None:
    """Reset the connection: the client gets a TCP RST, not an orderly end."""
    connection = transport.get_extra_info("socket")
    if connection is not None and not transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return the status line and the headers of an answer after which the connection is closed."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers), "Connection: close"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def drip(
    transport: asyncio.Transport, data: bytes, interval: float, pause: Callable[[float], Awaitable[bool]]
) -> None:
    """Write `data` byte by byte, then close. `pause` waits and returns False where there is no one left to write to."""
    for position in range(len(data)):
        if position and not await pause(interval):
            break
        transport.write(data[position : position + 1])
    transport.close()
