"""What the server answers when nothing goes wrong on purpose: one request in, one answer out.

Belongs here: authentication, the throttle, each operation, and the bodies of answers.
Does not belong here: sockets and HTTP framing (app.py, wire.py), faults (faults.py), the rules of a payload (rules.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime
from typing import Any, Literal
from urllib.parse import parse_qsl

from airflow_batch.sandbox.contract import Check, Contract
from airflow_batch.sandbox.errors import ERRORS, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, ErrorName, Operation, error_code
from airflow_batch.sandbox.keys import KeyKind, Keyring, is_foreign
from airflow_batch.sandbox.routes import Route
from airflow_batch.sandbox.rules import Refused, parse_body
from airflow_batch.sandbox.state import Campaigns, Clock
from airflow_batch.sandbox.throttle import TokenBucket

RetryAfter = int | Literal["computed", "http-date"] | None
JSON_TYPE = "application/json"


@dataclass(frozen=True)
class Call:
    """One request, read in full. `url` is the path and query as sent; `rest_keys` are all X-Authorization headers."""

    method: str
    url: str
    route: Route
    query: str
    rest_keys: tuple[str, ...]
    content_type: str
    user_agent: str
    body: bytes

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key the request carries."""
        return self.rest_keys if self.route.app_key is None else (*self.rest_keys, self.route.app_key)

    @property
    def is_foreign(self) -> bool:
        """Whether the request carries a key that is not one of a sandbox."""
        return any(is_foreign(key) for key in self.keys)


@dataclass(frozen=True)
class Answer:
    """What is sent back. `token` is the campaign asked for or created; `applied` says whether a write took effect.

    `error` is the documented error in the body, if it is one.
    """

    status: int
    body: bytes = b""
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] | None = None
    applied: bool = False
    token: str | None = None
    error: ErrorName | None = None


@dataclass(frozen=True)
class Throttle:
    """The throttle at one moment; `left` is how many requests would be answered at once."""

    rate: float
    burst: float
    left: float
    retry_after: RetryAfter


def to_json(value: Any) -> bytes:
    """Return a value as JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False).encode()


def error_body(contract: Contract, name: ErrorName, operation: Operation, message: str | None = None) -> bytes:
    """Return the body of a documented error; `message` defaults to the error's own text."""
    error = ERRORS[name]
    values = (error_code(name, operation), name, message or error.message)
    return to_json(dict(zip(contract.error_keys, values, strict=True)))


class Service:
    """Batch's server without a socket. Not thread-safe: the caller holds a lock."""

    def __init__(self, keyring: Keyring, campaigns: Campaigns, contract: Contract, clock: Clock) -> None:
        self._keyring = keyring
        self._campaigns = campaigns
        self._contract = contract
        self._clock = clock
        self._bucket: TokenBucket | None = None
        self._retry_after: RetryAfter = None
        self._operations: dict[Operation, Callable[[Call, str, KeyKind], Answer]] = {
            "create": self._create,
            "update": self._update,
            "delete": self._delete,
            "view": self._view,
            "list": self._list,
            "stats": self._stats,
        }

    def set_throttle(self, rate: float | None, burst: float | None, retry_after: RetryAfter) -> None:
        """Start a full bucket (see throttle.py; `burst` defaults to 1). No `rate`: no throttle. Raises ValueError."""
        if retry_after not in (None, "computed", "http-date") and not isinstance(retry_after, int):
            raise ValueError("retry_after is None, a number of seconds, 'computed' or 'http-date'")
        self._retry_after = retry_after
        self._bucket = None if rate is None else TokenBucket(rate, 1 if burst is None else burst, self._now())

    @property
    def throttle(self) -> Throttle | None:
        """Return what the throttle is at this moment, or None where there is none. Takes nothing from it."""
        bucket = self._bucket
        if bucket is None:
            return None
        return Throttle(bucket.rate, bucket.burst, bucket.left(self._now()), self._retry_after)

    def answer(self, call: Call) -> Answer:
        """Answer one request, and change the campaigns where it asks for it."""
        try:
            if call.is_foreign:
                raise Refused("AUTHENTICATION_INVALID", "This is the sandbox: every key must begin with 'sandbox-'.")
            for check in self._contract.checks_order:
                _CHECKS[check](self, call)
            return self._operations[call.route.operation](call, *self._owner(call.route.app_key))
        except Refused as refused:
            body = error_body(self._contract, refused.error, call.route.operation, refused.message)
            status = ERRORS[refused.error].status
            return Answer(status, body, headers=refused.headers, token=call.route.token, error=refused.error)

    def _owner(self, app_key: str | None) -> tuple[str, KeyKind]:
        owner = None if app_key is None else self._keyring.owner(app_key)
        if owner is None:
            raise Refused(self._contract.unknown_app_key, "No app has this key. Check the key in the path.")
        return owner

    def _authenticate(self, call: Call) -> None:
        if len(call.rest_keys) != 1 or not self._keyring.is_rest_key(call.rest_keys[0]):
            raise Refused("AUTHENTICATION_INVALID", ERRORS["AUTHENTICATION_INVALID"].message)
        if call.route.app_key is not None:
            self._owner(call.route.app_key)

    def _throttle(self, call: Call) -> None:
        wait = 0.0 if self._bucket is None else self._bucket.take(self._now())
        if wait:
            header = self._retry_after_text(math.ceil(wait))
            headers = {"Retry-After": header} if header else None
            raise Refused("TOO_MANY_REQUESTS", ERRORS["TOO_MANY_REQUESTS"].message, headers)

    def _retry_after_text(self, seconds: int) -> str:
        if self._retry_after is None:
            return ""
        if self._retry_after == "http-date":
            # The header has whole seconds only: rounded down it would name a moment that is too early.
            moment = (self._clock() + timedelta(seconds=seconds, microseconds=999_999)).replace(microsecond=0)
            return format_datetime(moment, usegmt=True)
        return str(seconds if self._retry_after == "computed" else self._retry_after)

    def _route(self, call: Call) -> None:
        if call.route.wrong_method:
            raise Refused(self._contract.wrong_method, "This path exists, but not with this method.")
        if call.route.operation == "unknown":
            raise Refused("ROUTE_NOT_FOUND", ERRORS["ROUTE_NOT_FOUND"].message)

    def _payload(self, call: Call) -> dict[str, Any]:
        error = self._contract.content_type
        if error and call.content_type.partition(";")[0].strip().lower() != JSON_TYPE:
            raise Refused(error, f"Send the header Content-Type: {JSON_TYPE}.")
        return parse_body(call.body)

    def _create(self, call: Call, app: str, kind: KeyKind) -> Answer:
        dev_only = kind == "dev" and self._contract.dev_key_is_dev_only
        campaign = self._campaigns.create(self._payload(call), app=app, dev_only=dev_only)
        return Answer(201, to_json({"campaign_token": campaign.token}), applied=True, token=campaign.token)

    def _update(self, call: Call, app: str, kind: KeyKind) -> Answer:
        token = self._campaigns.find(call.route.token or "", app=app).token
        self._campaigns.update(token, self._payload(call), app=app)
        return Answer(200, self._contract.update_success_body.encode(), applied=True, token=token)

    def _delete(self, call: Call, app: str, kind: KeyKind) -> Answer:
        token = self._campaigns.delete(call.route.token or "", app=app).token
        return Answer(200, self._contract.delete_success_body.encode(), applied=True, token=token)

    def _view(self, call: Call, app: str, kind: KeyKind) -> Answer:
        if kind == "dev" and self._contract.dev_key_view:
            raise Refused(self._contract.dev_key_view, "A campaign can only be viewed with the app's Live key.")
        campaign = self._campaigns.find(call.route.token or "", app=app)
        return Answer(200, to_json(self._campaigns.view(campaign)), token=campaign.token)

    def _list(self, call: Call, app: str, kind: KeyKind) -> Answer:
        if kind == "dev" and self._contract.dev_key_list:
            raise Refused(self._contract.dev_key_list, "Campaigns can only be listed with the app's Live key.")
        query = dict(parse_qsl(call.query, keep_blank_values=True))
        page = self._campaigns.page(
            app,
            start=self._number(query, "from", default=0, least=0),
            limit=self._limit(query),
            live=self._flag(query, "live"),
            from_api=self._flag(query, "from_api"),
        )
        return Answer(200, to_json(page))

    def _stats(self, call: Call, app: str, kind: KeyKind) -> Answer:
        if kind == "dev" and self._contract.dev_key_stats:
            raise Refused(self._contract.dev_key_stats, "Stats can only be read with the app's Live key.")
        campaign = self._campaigns.find(call.route.token or "", app=app)
        body = {"campaign_token": campaign.token, "detail": self._campaigns.stats(campaign)}
        return Answer(200, to_json(body), token=campaign.token)

    def _number(self, query: Mapping[str, str], name: str, *, default: int, least: int) -> int:
        text = query.get(name, str(default))
        if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < least:
            raise Refused(self._contract.list_bad_value, f"'{name}' must be a number, {least} or more.")
        return int(text)

    def _limit(self, query: Mapping[str, str]) -> int:
        limit = self._number(query, "limit", default=LIST_LIMIT_DEFAULT, least=1)
        above = self._contract.list_limit_above_max
        if limit > LIST_LIMIT_MAX and above != "clamp":
            raise Refused(above, f"'limit' must be at most {LIST_LIMIT_MAX}.")
        return min(limit, LIST_LIMIT_MAX)

    def _flag(self, query: Mapping[str, str], name: str) -> bool | None:
        if name not in query:
            return None
        if query[name] not in ("true", "false"):
            raise Refused(self._contract.list_bad_value, f"'{name}' must be true or false.")
        return query[name] == "true"

    def _now(self) -> float:
        return self._clock().timestamp()


_CHECKS: Mapping[Check, Callable[[Service, Call], None]] = {
    "authentication": Service._authenticate,
    "throttle": Service._throttle,
    "route": Service._route,
}
