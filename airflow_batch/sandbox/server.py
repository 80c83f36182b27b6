"""The sandbox as others use it: start it, seed it, break it, read what it was asked.

Belongs here: the public class, the loopback rule, uvicorn in a thread. Does not belong here: any behaviour of Batch.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Literal, Self

import uvicorn

from airflow_batch.sandbox.app import build_app
from airflow_batch.sandbox.contract import Contract, UpdateMode
from airflow_batch.sandbox.engine import Engine
from airflow_batch.sandbox.faults import Fault, FaultPlan
from airflow_batch.sandbox.keys import Apps, KeyKind, Keyring
from airflow_batch.sandbox.log import RequestRecord
from airflow_batch.sandbox.rules import Refused
from airflow_batch.sandbox.service import RetryAfter
from airflow_batch.sandbox.state import Campaign, Clock
from airflow_batch.sandbox.stats import checked_rows
from airflow_batch.sandbox.wire import SandboxProtocol

START_TIMEOUT = 10.0


class _Server(uvicorn.Server):
    """Uvicorn that reports when it is ready and, when asked to stop, does not wait for open connections."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._stopping = stopping
        self._loop: asyncio.AbstractEventLoop | None = None

    def end(self) -> None:
        """Let the server end; from another thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self.ready.set()

    async def main_loop(self) -> None:
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Uvicorn's own shutdown waits for the clients; a test needs the end at once.
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if self.server_state.tasks:
            await asyncio.wait(list(self.server_state.tasks))


def loopback(host: str) -> str:
    """Return the loopback address `host` stands for. Raises ValueError for any other host."""
    address = "127.0.0.1" if host == "localhost" else host
    try:
        is_loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ValueError(f"the sandbox binds loopback addresses only, not {host!r}")
    return address


class BatchSandbox:
    """A local Batch server. Use it in a `with` block, or call `start()` and `stop()`.

    host, port
        A loopback address; port 0 takes a free one. A sandbox that is started again keeps its port and its campaigns.
    rate, burst, retry_after
        The throttle: see `set_throttle`. No rate: no throttle.
    update_mode
        "merge", "strict" or "replace" (contract.py); None: the contract's, which is "merge".
    apps, rest_key
        The keys: names of apps (keys sandbox-NAME-live and sandbox-NAME-dev) or {name: {"live": KEY, "dev": KEY}}.
    seed
        Fixes the tokens, the random faults and the numbers in stats.
    clock
        Returns aware datetimes; default the real one. Called on the server's thread.
    date_offset
        By how much the Date header of every answer is ahead of the clock. May be set later, too.
    contract, faults
        What the server assumes, and the faults it starts with.
    on_record
        Called with each request's record on the server's thread.

    Raises ValueError for keys that do not begin with "sandbox-", a host that is not loopback, and values out of range.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        rate: float | None = None,
        burst: float | None = None,
        retry_after: RetryAfter = None,
        update_mode: UpdateMode | None = None,
        apps: Apps = ("app",),
        rest_key: str = "sandbox-rest-key",
        seed: int = 0,
        clock: Clock | None = None,
        date_offset: timedelta = timedelta(0),
        contract: Contract | None = None,
        faults: FaultPlan | None = None,
        on_record: Callable[[RequestRecord], None] | None = None,
    ) -> None:
        contract = contract or Contract()
        if update_mode is not None:
            contract = dataclasses.replace(contract, update_mode=update_mode)
        self._host = loopback(host)
        self._port = port
        self._keyring = Keyring.build(rest_key, apps)
        self._engine = Engine(
            keyring=self._keyring,
            contract=contract,
            plan=faults or FaultPlan(),
            seed=seed,
            clock=clock,
            on_record=on_record,
        )
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.date_offset = date_offset
        self.set_throttle(rate, burst, retry_after)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Serve in a thread; the sandbox answers when this returns. Raises OSError where the port is taken."""
        if self._thread is not None:
            raise RuntimeError("the sandbox is running already")
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.create_server((self._host, self._port), family=family)
        # asyncio does not set it on the connections of this listener; a kept-alive one then answers 40 ms late.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._port = listener.getsockname()[1]
        stopping = asyncio.Event()
        config = uvicorn.Config(
            build_app(self._engine, stopping),
            http=SandboxProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            date_header=False,
            server_header=False,
        )
        self._server = _Server(config, stopping)
        self._thread = threading.Thread(
            target=_serve, args=(self._server, listener), name=f"batch-sandbox-{self._port}", daemon=True
        )
        self._thread.start()
        if not self._server.ready.wait(START_TIMEOUT):
            self._server = self._thread = None
            raise RuntimeError("the sandbox did not start; see the log of uvicorn.error")

    def stop(self) -> None:
        """Drop every connection and end the thread. Does nothing where the sandbox is not running."""
        if self._server is not None and self._thread is not None:
            self._server.end()
            self._thread.join()
        self._server = self._thread = None

    @property
    def url(self) -> str:
        """The base URL, without a path. Raises RuntimeError before the first start where the port is not fixed."""
        if not self._port:
            raise RuntimeError("the sandbox has no port yet: start it first")
        return f"http://[{self._host}]:{self._port}" if ":" in self._host else f"http://{self._host}:{self._port}"

    @property
    def date_offset(self) -> timedelta:
        """By how much the Date header is ahead of the clock."""
        return self._engine.date_offset

    @date_offset.setter
    def date_offset(self, offset: timedelta) -> None:
        self._engine.date_offset = offset

    @property
    def rest_key(self) -> str:
        """The value X-Authorization must have."""
        return self._keyring.rest_key

    @property
    def apps(self) -> tuple[str, ...]:
        """The names of the apps, in the order they were given."""
        return tuple(self._keyring.apps)

    def app_key(self, app: str | None = None, kind: KeyKind = "live") -> str:
        """Return an app's key; default the first app's live key. Raises KeyError for an unknown app or kind."""
        return self._keyring.apps[app or self.apps[0]][kind]

    def connection(
        self, app_keys: Literal["login", "api_keys"] = "login", *, app: str | None = None, kind: KeyKind = "live"
    ) -> dict[str, Any]:
        """Return the Airflow connection as a dict; its JSON is what AIRFLOW_CONN_<ID> takes.

        "login": one app key (of `app`, default the first). "api_keys": the keys of all apps, by name, in extra.
        """
        connection: dict[str, Any] = {"conn_type": "batch", "host": self.url, "password": self.rest_key}
        if app_keys == "login":
            return {**connection, "login": self.app_key(app, kind), "extra": {}}
        return {**connection, "extra": {"api_keys": {name: self.app_key(name, kind) for name in self.apps}}}

    def add_campaign(
        self,
        definition: Mapping[str, Any],
        *,
        app: str | None = None,
        from_api: bool = True,
        dev_only: bool = False,
        complete: bool = False,
        created: datetime | None = None,
    ) -> str:
        """Put a campaign in place without any check and return its token. `app`: default the first.

        A definition with a `trigger` is that of a trigger automation; the API cannot make one here. `created` is aware;
        default the clock's now. Raises KeyError for an unknown app.
        """
        name = app or self.apps[0]
        self.app_key(name)
        with self._engine.lock:
            campaign = self._engine.campaigns.add(
                definition, app=name, from_api=from_api, dev_only=dev_only, complete=complete, created=created
            )
            return campaign.token

    def remove_campaign(self, token: str) -> None:
        """Take a campaign away, as if somebody had deleted it in the dashboard. Raises KeyError: unknown token."""
        with self._engine.lock:
            self._engine.campaigns.remove(self._find(token))

    def tokens(self, app: str | None = None) -> tuple[str, ...]:
        """Return the tokens of an app's campaigns, or of all, newest first; those a lagging list hides too."""
        with self._engine.lock:
            return tuple(campaign.token for campaign in self._engine.campaigns.all(app))

    def campaign(self, token: str) -> dict[str, Any]:
        """Return a campaign as view gives it, a copy. Raises KeyError for an unknown token."""
        with self._engine.lock:
            return self._engine.campaigns.view(self._find(token))

    def is_complete(self, token: str) -> bool:
        """Return whether a campaign is complete. Raises KeyError for an unknown token."""
        with self._engine.lock:
            return self._find(token).complete

    def pushes(self, token: str) -> int:
        """Return how many pushes a one-time campaign has sent; 0 for other kinds. Raises KeyError: unknown token."""
        with self._engine.lock:
            return self._find(token).pushes

    def complete(self, token: str) -> None:
        """Mark a campaign as complete, whatever its kind. Raises KeyError for an unknown token."""
        with self._engine.lock:
            self._find(token).complete = True

    def set_stats(self, token: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Decide what stats answers for a campaign, as `detail`: the rows as they are given, copied; [] is not sent.

        A row has a `date` as text; the rest is not checked. Until this is called the sandbox generates one row once a
        one-time campaign is sent. Raises KeyError for an unknown token, ValueError for rows that are not such objects.
        """
        taken = checked_rows(rows)
        with self._engine.lock:
            self._find(token).stats = taken

    def inject(self, *faults: Fault | str) -> None:
        """Append faults to the script; a text is read by `Fault.from_text`. Raises ValueError."""
        read = [Fault.from_text(fault) if isinstance(fault, str) else fault for fault in faults]
        with self._engine.lock:
            self._engine.faults.add(read)

    def clear_faults(self) -> None:
        """Forget every fault that is still to come, scripted and random."""
        with self._engine.lock:
            self._engine.faults.clear()

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The newest 10,000 requests, in order; `sequence` counts all of them."""
        return self._engine.log.records()

    def set_throttle(
        self, rate: float | None = None, burst: float | None = None, retry_after: RetryAfter = None
    ) -> None:
        """Throttle from now on, with a full bucket: `rate` requests a second, `burst` at once (default 1).

        `retry_after` is the header of a 429: None (absent), a number of seconds, "computed" (until the next request is
        answered) or "http-date" (the same as a date). No rate: no throttle. Raises ValueError.
        """
        with self._engine.lock:
            self._engine.service.set_throttle(rate, burst, retry_after)

    def _find(self, token: str) -> Campaign:
        try:
            return self._engine.campaigns.find(token)
        except Refused:
            raise KeyError(token) from None


def _serve(server: _Server, listener: socket.socket) -> None:
    asyncio.run(server.serve(sockets=[listener]))
