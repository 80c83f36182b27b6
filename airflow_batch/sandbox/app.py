"""The ASGI application: Batch's routes under /1.1, the page at /, and a small control plane under /sandbox.

Belongs here: reading a request into a Call, and the control plane. Does not belong here: answers (service.py,
delivery.py).
"""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_batch.sandbox.delivery import Connection, respond
from airflow_batch.sandbox.engine import Engine
from airflow_batch.sandbox.faults import FaultPlan
from airflow_batch.sandbox.loopback import is_local
from airflow_batch.sandbox.page import HEADERS, PAGE, snapshot
from airflow_batch.sandbox.routes import resolve
from airflow_batch.sandbox.service import Call

_NUMBER = re.compile(r"\d{1,15}", re.ASCII)
_PORT = re.compile(r":\d*$", re.ASCII)


def build_app(engine: Engine, stopping: asyncio.Event) -> ASGIApp:
    """Return the application. `stopping` ends every wait, so that a silent connection does not hold up the end.

    The page and what is under /sandbox answer GET only, need no key and show none; they are not in the request log.
    /sandbox/faults alone takes a POST, which adds faults.
    A Host header that names another machine gets a 421, so that no web page reads the sandbox by DNS rebinding.
    """

    async def page(request: Request) -> HTMLResponse:
        return HTMLResponse(PAGE, headers=HEADERS)

    async def state(request: Request) -> JSONResponse:
        after = request.query_params.get("after", "")
        return JSONResponse(snapshot(engine, after=int(after) if _NUMBER.fullmatch(after) else 0))

    async def requests(request: Request) -> JSONResponse:
        return JSONResponse({"requests": [record.as_dict() for record in engine.log.records()]})

    async def campaigns(request: Request) -> JSONResponse:
        return JSONResponse({"campaigns": engine.overview()})

    async def faults(request: Request) -> JSONResponse | PlainTextResponse:
        return await _add_faults(engine, request)

    async def batch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            call = await _read(Request(scope, receive))
        except ClientDisconnect:
            return
        await respond(engine.open(call), Connection(scope, receive, send, stopping))

    # Everything that is not the control plane goes to one place: unknown paths get Batch's 404 and are logged too.
    routes = Starlette(
        routes=[
            Route("/", page),
            Route("/sandbox/state", state),
            Route("/sandbox/requests", requests),
            Route("/sandbox/campaigns", campaigns),
            Route("/sandbox/faults", faults, methods=["POST"]),
            Mount("/", app=batch),
        ]
    )

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        host = _PORT.sub("", Request(scope).headers.get("host", "")).strip("[]") if scope["type"] == "http" else ""
        status = HTTPStatus.MISDIRECTED_REQUEST
        refusal = PlainTextResponse("The sandbox answers to this machine's own names only.\n", status)
        await (routes if is_local(host) else refusal)(scope, receive, send)

    return guarded


async def _add_faults(engine: Engine, request: Request) -> JSONResponse | PlainTextResponse:
    # A web page cannot send this type to another origin without a permission, which the sandbox does not give.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return PlainTextResponse("Send the faults as application/json.\n", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    try:
        plan = FaultPlan.from_json((await request.body()).decode())
        if plan.chances:
            raise ValueError("faults: chances are set when the sandbox starts")
    except ValueError as error:
        return PlainTextResponse(f"{error}\n", HTTPStatus.BAD_REQUEST)
    with engine.lock:
        engine.faults.add(plan.script)
    return JSONResponse({"added": len(plan.script)})


async def _read(request: Request) -> Call:
    raw_path = request.scope["raw_path"].decode("ascii")
    query = request.scope["query_string"].decode("ascii", "replace")
    return Call(
        method=request.method,
        url=f"{raw_path}?{query}" if query else raw_path,
        route=resolve(request.method, raw_path),
        query=query,
        rest_keys=tuple(request.headers.getlist("x-authorization")),
        content_type=request.headers.get("content-type", ""),
        user_agent=request.headers.get("user-agent", ""),
        body=await request.body(),
    )
