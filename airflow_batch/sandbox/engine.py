"""The running sandbox without HTTP: the service, its faults and its log, under one lock.

Belongs here: what has to happen together and once, whichever thread asks.
Does not belong here: sockets (server.py), the way an answer travels (delivery.py).
"""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from airflow_batch.sandbox.contract import Contract
from airflow_batch.sandbox.faults import Fault, FaultPlan, Faults
from airflow_batch.sandbox.keys import Keyring
from airflow_batch.sandbox.log import RequestLog, RequestRecord, digest
from airflow_batch.sandbox.routes import METHODS, mask_path, mask_query
from airflow_batch.sandbox.service import Answer, Call, Service
from airflow_batch.sandbox.state import Campaigns, Clock

HEADER_MAX = 200


def utc_clock(clock: Clock | None) -> Clock:
    """Return a clock that gives aware UTC datetimes; None is the real one. It raises ValueError for a naive time."""

    def now() -> datetime:
        moment = clock() if clock is not None else datetime.now(UTC)
        if moment.tzinfo is None:
            raise ValueError("the clock must return aware datetimes")
        # A plain datetime, also where the clock gives a subclass whose UTC is another object (pendulum).
        return datetime.fromtimestamp(moment.timestamp(), UTC)

    return now


class Engine:
    """Everything a sandbox knows. Its methods may be called from any thread."""

    def __init__(
        self,
        *,
        keyring: Keyring,
        contract: Contract,
        plan: FaultPlan,
        seed: int,
        clock: Clock | None,
        on_record: Callable[[RequestRecord], None] | None,
    ) -> None:
        # A page that polls detects by it that another sandbox uses this one's port.
        self.run = uuid.uuid4().hex
        self.lock = threading.RLock()
        self.keyring = keyring
        self.contract = contract
        self.clock = utc_clock(clock)
        self.date_offset = timedelta(0)
        # Tokens and faults draw apart, so that a fault does not change the tokens.
        self.campaigns = Campaigns(contract, self.clock, random.Random(f"tokens {seed}"))
        self.service = Service(keyring, self.campaigns, contract, self.clock)
        self.faults = Faults(plan, seed)
        self.log = RequestLog(on_record)

    def open(self, call: Call) -> Exchange:
        """Start one request: give it its number and the faults it gets."""
        with self.lock:
            owner = self.keyring.owner(call.route.app_key or "")
            app = owner[0] if owner else None
            # A foreign key is refused whatever the script says: no fault may repeat or outlive it.
            taken = () if call.is_foreign else self.faults.take(call.route.operation, app, call.route.token)
            return Exchange(self, call, taken, self.log.next_sequence(), self.clock())

    def overview(self) -> list[dict[str, Any]]:
        """Return every campaign as view gives it, newest first, with its app and whether it is complete."""
        with self.lock:
            return [
                {"app": campaign.app, "complete": campaign.complete, "campaign": self.campaigns.view(campaign)}
                for campaign in self.campaigns.all()
            ]


@dataclass
class Exchange:
    """One request on its way: what it asks for, what goes wrong with it, what was done."""

    engine: Engine
    call: Call
    faults: tuple[Fault, ...]
    sequence: int
    arrived: datetime
    answer: Answer | None = None

    @property
    def fault(self) -> Fault | None:
        """The fault that changes how the request is answered, if any."""
        return next((fault for fault in self.faults if fault.kind != "lag"), None)

    def work(self) -> Answer:
        """Do what the request asks for and return the usual answer."""
        with self.engine.lock:
            answer = self.answer = self.engine.service.answer(self.call)
            for lag in self.faults:
                if lag.kind == "lag" and answer.applied and answer.token:
                    campaign = self.engine.campaigns.find(answer.token)
                    self.engine.campaigns.hide(campaign, seconds=lag.seconds, calls=lag.calls)
            return answer

    def record(self, sent: Answer | None) -> None:
        """Record what is sent (None: the connection is dropped) and whether the change has been applied so far."""
        engine, call = self.engine, self.call
        headers = {name.lower(): value for name, value in (sent.headers or {}).items()} if sent else {}
        retry_after = headers.get("retry-after")
        with engine.lock:
            owner = engine.keyring.owner(call.route.app_key or "")
            token = self.answer.token if self.answer and self.answer.token else call.route.token
            record = RequestRecord(
                sequence=self.sequence,
                time=self.arrived,
                method=call.method if call.method in METHODS else "OTHER",
                operation=call.route.operation,
                app=owner[0] if owner else None,
                key_kind=owner[1] if owner else None,
                path=mask_path(call.url.partition("?")[0], engine.campaigns.knows),
                query=mask_query(call.query),
                campaign_token=token if token is not None and engine.campaigns.knows(token) else None,
                status=sent.status if sent else None,
                error=sent.error if sent else None,
                retry_after=None if retry_after is None else engine.keyring.scrub(retry_after, call.keys)[:HEADER_MAX],
                delay=self.fault.delay if self.fault else 0.0,
                fault="+".join(fault.name for fault in self.faults) or None,
                applied=self.answer is not None and self.answer.applied,
                body_digest=digest(call.body),
                user_agent=engine.keyring.scrub(call.user_agent, call.keys)[:HEADER_MAX],
            )
        engine.log.put(record)

    def common_headers(self) -> dict[str, str]:
        """Return the headers every answer has: the date, by the sandbox's clock and its offset."""
        moment = self.engine.clock() + self.engine.date_offset
        return {"Date": format_datetime(moment.replace(microsecond=0), usegmt=True)}
