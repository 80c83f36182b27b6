"""How one request is answered: with the service's answer, or with that of a fault.

Belongs here: carrying out each kind of fault. Does not belong here: choosing a fault (faults.py), bytes on the socket
(wire.py), what the usual answer is (service.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from airflow_batch.sandbox import wire
from airflow_batch.sandbox.contract import Contract
from airflow_batch.sandbox.engine import Exchange
from airflow_batch.sandbox.errors import error_for_status
from airflow_batch.sandbox.faults import Fault
from airflow_batch.sandbox.service import Answer, Call, error_body, to_json

HTML_PAGE = b"<!DOCTYPE html><html><head><title>Error</title></head><body><h1>Something went wrong</h1></body></html>"
HTML_TYPE = "text/html; charset=utf-8"
_BODILESS = (204, 304)


class Connection:
    """One request's connection: it can be waited on, and it ends when the client or the sandbox goes."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, stopping: asyncio.Event) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.transport = wire.transport_of(scope)
        self._stopping = stopping

    async def pause(self, seconds: float | None) -> bool:
        """Wait (None: for ever) while the client is there. Returns whether the wait ended by itself."""
        return await self._wait(seconds, self._gone, self._stopping.wait)

    async def pause_regardless(self, seconds: float) -> bool:
        """Wait whether the client is there or not. Returns False where the sandbox stops."""
        return await self._wait(seconds, self._stopping.wait)

    async def ended(self) -> None:
        """Wait until the connection is closed, so that the server adds no answer of its own."""
        await self._gone()

    async def _wait(self, seconds: float | None, *events: Callable[[], Awaitable[Any]]) -> bool:
        tasks = [asyncio.ensure_future(event()) for event in events]
        done, waiting = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return not done

    async def _gone(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass


async def respond(exchange: Exchange, connection: Connection) -> None:
    """Answer one request. The record is written before anything is sent, so a client that has an answer can read it."""
    fault = exchange.fault
    if fault is None:
        await _send(exchange, connection, exchange.work())
    elif fault.kind in ("reset_before", "reset_after"):
        await _reset(fault, exchange, connection)
    elif fault.kind in ("silence", "late"):
        await _say_nothing(fault, exchange, connection)
    else:
        usual = exchange.work() if fault.applies else None
        answer = shape(fault, exchange.call, usual, exchange.engine.contract)
        if fault.kind in ("truncate", "drip"):
            await _send_raw(fault, exchange, connection, answer)
        else:
            await _send(exchange, connection, answer, fault.delay)


async def _send(exchange: Exchange, connection: Connection, answer: Answer, delay: float = 0.0) -> None:
    exchange.record(answer)
    if delay and not await connection.pause(delay):
        connection.transport.abort()
        return await connection.ended()
    response = Response(answer.body, answer.status, _headers(exchange, answer))
    await response(connection.scope, connection.receive, connection.send)


async def _reset(fault: Fault, exchange: Exchange, connection: Connection) -> None:
    if fault.applies:
        exchange.work()
    exchange.record(None)
    await connection.pause(fault.delay)
    wire.reset(connection.transport)
    await connection.ended()


async def _say_nothing(fault: Fault, exchange: Exchange, connection: Connection) -> None:
    if fault.applies:
        exchange.work()
    exchange.record(None)
    await connection.pause(fault.seconds)
    connection.transport.abort()
    await connection.ended()
    if fault.kind == "late" and await connection.pause_regardless(fault.apply_after):
        exchange.work()
        exchange.record(None)


async def _send_raw(fault: Fault, exchange: Exchange, connection: Connection, answer: Answer) -> None:
    exchange.record(answer)
    await connection.pause(fault.delay)
    # An empty body cannot be cut short, so one byte is promised.
    length = max(1, len(answer.body)) if fault.kind == "truncate" else len(answer.body)
    head = wire.head(answer.status, {**_headers(exchange, answer), "content-length": str(length)}.items())
    if fault.kind == "truncate":
        connection.transport.write(head + answer.body[: len(answer.body) // 2])
        connection.transport.close()
    else:
        at_once, slowly = (head, answer.body) if fault.part == "body" else (b"", head + answer.body)
        connection.transport.write(at_once)
        await wire.drip(connection.transport, slowly, fault.interval, connection.pause)
    await connection.ended()


def _headers(exchange: Exchange, answer: Answer) -> dict[str, str]:
    own = {"Content-Type": answer.content_type} if answer.body else {}
    headers = {**exchange.common_headers(), **own, **(answer.headers or {})}
    # Lower case, so that a header a fault gives replaces the usual one whatever its spelling.
    return {name.lower(): value for name, value in headers.items()}


def shape(fault: Fault, call: Call, usual: Answer | None, contract: Contract) -> Answer:
    """Return what a fault sends. `usual` is the usual answer where the request did its work, else None."""
    base = usual or Answer(200)
    status = fault.sent_status or base.status
    answer = base if status == base.status else replace(base, status=status, headers=None)
    headers = dict(answer.headers or {})
    if fault.kind == "html":
        answer = replace(answer, body=HTML_PAGE, content_type=HTML_TYPE, error=None)
    elif fault.kind == "echo":
        message = f"Not accepted: X-Authorization {', '.join(call.rest_keys)} with app key {call.route.app_key}."
        name = fault.error or error_for_status(status) or "AUTHENTICATION_INVALID"
        answer = replace(answer, body=error_body(contract, name, call.route.operation, message), error=name)
    elif fault.kind == "redirect":
        answer = replace(answer, body=b"", error=None)
        headers["Location"] = _location(fault.location, call.url)
    elif usual is None or status != usual.status:
        documented = fault.error or error_for_status(status)
        body = error_body(contract, documented, call.route.operation) if documented else b""
        answer = replace(answer, body=body if status >= 400 or usual is None else usual.body, error=documented)
    if fault.body is not None:
        answer = replace(answer, body=_encoded(fault.body), error=None)
    if status in _BODILESS:
        answer = replace(answer, body=b"")
    return replace(answer, headers={**headers, **fault.headers})


def _encoded(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else to_json(body)


def _location(location: str, url: str) -> str:
    # .invalid is reserved (RFC 2606): a client that follows reaches no one.
    known = {"same": "{path}", "other": "https://other.invalid{path}", "http": "http://api.invalid{path}"}
    return known.get(location, location).replace("{path}", url)
