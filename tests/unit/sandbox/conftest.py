"""Fixtures for the tests of the sandbox: a clock that a test advances, sandboxes that end with their test, a client."""

from __future__ import annotations

import copy
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from airflow_batch.sandbox import BatchSandbox

DEFINITION = {
    "name": "Summer sale",
    "live": False,
    "push_time": "2030-06-01T09:00:00",
    "messages": [{"language": "en", "body": "20 % off"}],
}
TIMEOUT = 5


class Clock:
    """It is noon on 1 January 2030 until `advance` is called."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> None:
        self.now += timedelta(**duration)


class Api:
    """A plain client: each method sends one request and follows no redirect."""

    def __init__(self, sandbox: BatchSandbox, app: str | None = None, kind: str = "live") -> None:
        self.sandbox = sandbox
        self.app_key = sandbox.app_key(app, kind)
        self.headers = {"X-Authorization": sandbox.rest_key}

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        options = {"headers": self.headers, "timeout": TIMEOUT, "allow_redirects": False, **options}
        return requests.request(method, f"{self.sandbox.url}/1.1/{self.app_key}/{path}", **options)

    def create(self, definition: dict[str, Any] | None = None, **options: Any) -> requests.Response:
        return self.send("POST", "campaigns/create", json=definition or DEFINITION, **options)

    def update(self, token: str, payload: dict[str, Any], **options: Any) -> requests.Response:
        return self.send("POST", f"campaigns/update/{token}", json=payload, **options)

    def view(self, token: str, **options: Any) -> requests.Response:
        return self.send("GET", f"campaigns/{token}", **options)

    def delete(self, token: str, **options: Any) -> requests.Response:
        return self.send("POST", f"campaigns/delete/{token}", **options)

    def stats(self, token: str, **options: Any) -> requests.Response:
        return self.send("GET", f"campaigns/stats/{token}", **options)

    def list(self, **query: Any) -> requests.Response:
        return self.send("GET", "campaigns/list", params=query)

    def raw(
        self, body: bytes = b"{}", path: str = "campaigns/create", method: str = "POST", extra: str = "Accept: */*"
    ) -> bytes:
        """Send over a bare socket and return everything until the end of the connection."""
        host, port = self.sandbox.url.removeprefix("http://").split(":")
        lines = (
            f"{method} /1.1/{self.app_key}/{path} HTTP/1.1",
            f"Host: {host}",
            f"X-Authorization: {self.sandbox.rest_key}",
            f"Content-Length: {len(body)}",
            "Connection: close",
            extra,
        )
        received = b""
        with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
            while chunk := connection.recv(4096):
                received += chunk
        return received


def error_of(response: requests.Response) -> tuple[int, int, str]:
    """Return (HTTP status, code, name) of an error."""
    body = response.json()
    assert sorted(body) == ["code", "message", "type"]
    assert body["message"]
    return response.status_code, body["code"], body["type"]


@pytest.fixture
def definition() -> dict[str, Any]:
    return copy.deepcopy(DEFINITION)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_sandbox(clock: Clock) -> Iterator[Callable[..., BatchSandbox]]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(BatchSandbox(**{"clock": clock, **options}))


@pytest.fixture
def sandbox(make_sandbox: Callable[..., BatchSandbox]) -> BatchSandbox:
    return make_sandbox()


@pytest.fixture
def make_api() -> type[Api]:
    return Api


@pytest.fixture
def api(sandbox: BatchSandbox) -> Api:
    return Api(sandbox)


@pytest.fixture
def error() -> Callable[[requests.Response], tuple[int, int, str]]:
    return error_of
