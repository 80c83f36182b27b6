"""The least HTTP server that can answer the request benchmark: every POST gets 200 and ``{}``.

It runs in a process of its own, since a shared interpreter lock would charge the client for the server's work, and
decides nothing, since a slow answer would hide the differences between clients. It prints its port, and ends when its
standard input does, so that it ends with the process that started it.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@contextmanager
def running() -> Iterator[int]:
    """Start the server and yield its port."""
    command = [sys.executable, "-I", "-S", __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def _serve(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = b""
    while True:
        head, end, rest = data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if end else None
        if end and len(rest) >= (missing := int(length[1]) if length else 0):
            data = rest[missing:]
            connection.sendall(ANSWER)
            continue
        received = connection.recv(65536)
        if not received:
            return
        data += received


def _accept(server: socket.socket) -> None:
    while True:
        threading.Thread(target=_serve, args=(server.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listening,), daemon=True).start()
    print(listening.getsockname()[1], flush=True)
    sys.stdin.read()
    os._exit(0)
