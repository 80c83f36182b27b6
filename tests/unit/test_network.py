"""The tests connect to no host but this machine: pytest-socket refuses it here, tests/guard in processes they start."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_socket import SocketConnectBlockedError

GUARD = Path(__file__).resolve().parents[1] / "guard"
OTHER_HOST = "192.0.2.1"
"""An address that belongs to no host (RFC 5737)."""


@pytest.mark.filterwarnings("ignore:A test tried to use socket")
def test_a_connection_of_a_test_to_another_host_is_refused():
    with pytest.raises(SocketConnectBlockedError):
        socket.create_connection((OTHER_HOST, 443), timeout=0.1)


def test_a_connection_of_a_test_to_this_machine_is_accepted():
    with socket.create_server(("127.0.0.1", 0)) as server:
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, server.getsockname()[1]), timeout=5).close()


@pytest.mark.parametrize(
    ("call", "refused"),
    [
        (f"socket.create_connection(({OTHER_HOST!r}, 443), timeout=0.1)", True),
        ("socket.getaddrinfo('api.batch.invalid', 443)", True),
        ("server = socket.create_server(('127.0.0.1', 0)); socket.create_connection(server.getsockname())", False),
        ("socket.getaddrinfo('localhost', 443)", False),
        ("socket.getaddrinfo(socket.gethostname(), 443)", False),
    ],
)
def test_a_process_that_a_test_starts_reaches_only_this_machine(call, refused):
    done = subprocess.run(
        [sys.executable, "-c", f"import socket\n{call}"],
        env={"PYTHONPATH": str(GUARD)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ("may connect to this machine only" in done.stderr) is refused, done.stderr
    assert (done.returncode != 0) is refused, done.stderr
