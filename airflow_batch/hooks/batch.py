"""The hook: the only room that knows the connection, the auth header and HTTP.

One method for each endpoint, one HTTP request for each call: no retry, no sleep. When to try again is Airflow's
business (``policies/retry.py``), what a campaign may hold is that of ``campaigns.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

from airflow.sdk import BaseHook
from airflow.sdk.log import mask_secret

from airflow_batch import __version__
from airflow_batch.campaigns import check_token
from airflow_batch.exceptions import (
    BatchAmbiguousError,
    BatchApiError,
    BatchApiMisuseError,
    BatchAuthenticationError,
    BatchConfigurationError,
    BatchConnectionError,
    BatchError,
    BatchNotFoundError,
    BatchResponseError,
)
from airflow_batch.get_provider_info import UI_FIELD_BEHAVIOUR
from airflow_batch.hooks.answers import (
    Answer,
    Endpoint,
    confirm_write,
    expect_campaign,
    expect_json,
    expect_page,
    expect_stats,
    expect_token,
    failure,
    parse_http_date,
)
from airflow_batch.hooks.settings import BatchSettings, read_settings
from airflow_batch.payloads import check_payload, shown
from airflow_batch.results import with_open_rate

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_batch.hooks.transport import BatchSession

CREATE = Endpoint("create", "POST", "create", writes=True)
UPDATE = Endpoint("update", "POST", "update/{token}", writes=True)
DELETE = Endpoint("delete", "POST", "delete/{token}", writes=True)
VIEW = Endpoint("view", "GET", "{token}", writes=False)
STATS = Endpoint("stats", "GET", "stats/{token}", writes=False)
LIST = Endpoint("list", "GET", "list", writes=False)
Hook = TypeVar("Hook", bound="BatchHook")
MAX_PAGE = 100
MAX_PAGES = 10_000
"""After which a list that does not end is given up."""
"""Campaigns in one request of the list (https://doc.batch.com/developer/api/mep/campaigns/list)."""


class BatchHook(BaseHook):
    """Talk to Batch's campaigns API (https://doc.batch.com/developer/api/mep/campaigns).

    :param batch_conn_id: Airflow connection of type ``batch``: ``password`` is the company REST API key, ``login`` the
        app API key, or extra ``api_keys`` one key for each app. It is read at the first request, not before.
    :param app: Name of the app, required when the connection has ``api_keys``.
    """

    conn_name_attr = "batch_conn_id"
    default_conn_name = "batch_default"
    conn_type = "batch"
    hook_name = "Batch (batch.com)"

    def __init__(self, batch_conn_id: str = default_conn_name, app: str | None = None) -> None:
        super().__init__()
        self.batch_conn_id = batch_conn_id
        self.app = rendered_or_none(app)
        self.requests_sent = 0
        self._last_date: tuple[str | None, datetime] = None, datetime.now(UTC)

    @classmethod
    def of_connection(cls, connection: Connection, app: str | None = None) -> Self:
        """Return a hook of a connection that was read already, as a trigger reads it: the async way.

        :raises BatchConfigurationError: when the connection is wrong.
        """
        hook = cls(connection.conn_id, app)
        hook.settings = hook._understood(connection)
        return hook

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the labels and placeholders of the connection form, as Airflow 3.1 and 3.2 spell them."""
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    def lend_settings(self, hook: Hook) -> Hook:
        """Make another hook of this connection use what this one has read; return it."""
        hook.settings = self.settings
        return hook

    def get_conn(self) -> BatchSession:
        """Return the ``requests.Session`` that carries the auth header. It is made once and reused.

        :raises BatchConfigurationError: when the connection is wrong.
        """
        return self._session

    @property
    def clock_offset(self) -> timedelta:
        """How far Batch's clock is ahead of ours, from the Date of the last answer; zero before the first.

        A Date header counts whole seconds, so differences of about a second mean nothing.
        """
        header, received = self._last_date
        moment = parse_http_date(header)
        return timedelta(0) if moment is None else moment - received

    def batch_now(self) -> datetime:
        """Return the present moment on Batch's clock, in UTC. Compare Batch's times with it."""
        return datetime.now(UTC) + self.clock_offset

    def create_campaign(self, payload: Mapping[str, Any]) -> str:
        """Create a campaign and return its token.

        There is no idempotency key: a request that is repeated makes a second campaign. So after an error whose
        ``may_have_been_applied`` is true, look (:meth:`list_campaigns`) before you create again.
        Source: https://doc.batch.com/developer/api/mep/campaigns/create

        :raises BatchPayloadError: before anything is sent, for a payload that cannot be sent.
        :raises BatchResponseError: when the answer holds no token; the campaign may have been created.
        :raises BatchApiError: one of its other subclasses, for each failed request.
        """
        body = json.dumps(check_payload(payload), allow_nan=False).encode()
        subject = self._subject(CREATE)
        answer = self._request(CREATE, subject, body=body)
        return expect_token(answer, CREATE, subject, self._scrub)

    def update_campaign(self, campaign_token: str, payload: Mapping[str, Any]) -> int:
        """Update a campaign and return the HTTP status of Batch's confirmation (it documents no body).

        ``payload`` goes out in Batch's form (see :func:`airflow_batch.payloads.check_payload`).
        Source: https://doc.batch.com/developer/api/mep/campaigns/update

        :raises BatchPayloadError: before anything is sent, for a token or payload that cannot be sent.
        :raises BatchApiError: one of its subclasses, for each failed request.
        """
        body = json.dumps(check_payload(payload), allow_nan=False).encode()
        token = check_token(campaign_token)
        subject = self._subject(UPDATE, token)
        answer = self._request(UPDATE, subject, token=token, body=body)
        confirm_write(answer, UPDATE, subject, self._scrub)
        return answer.status

    def delete_campaign(self, campaign_token: str) -> int:
        """Delete a campaign and return the HTTP status of Batch's confirmation (it documents no body).

        :raises BatchApiError: one of its subclasses, for each failed request; an unknown campaign is
            ``BatchNotFoundError``.
        """
        token = check_token(campaign_token)
        subject = self._subject(DELETE, token)
        answer = self._request(DELETE, subject, token=token)
        confirm_write(answer, DELETE, subject, self._scrub)
        return answer.status

    def get_campaign(self, campaign_token: str) -> dict[str, Any]:
        """Return a campaign as Batch's view endpoint gives it. Batch supports Live API keys only here.

        Source: https://doc.batch.com/developer/api/mep/campaigns/get-campaign

        :raises BatchApiMisuseError: for a key that may not read.
        :raises BatchApiError: one of its other subclasses, for each failed request.
        """
        token = check_token(campaign_token)
        subject = self._subject(VIEW, token)
        answer = self._request(VIEW, subject, token=token)
        return expect_campaign(answer, VIEW, subject, self._scrub)

    def get_campaign_stats(self, campaign_token: str) -> dict[str, Any]:
        """Return a campaign's statistics as Batch documents them, with an ``open_rate`` added to each row and version.

        ``{"campaign_token": ..., "detail": [row, ...]}``: a row for each date of sending, with ``versions`` where the
        campaign is an A/B test; no row before anything was sent. The open rate is (direct_open + influenced_open) /
        sent, None where nothing was sent. Batch supports Live API keys only here.
        Source: https://doc.batch.com/developer/api/mep/campaigns/get

        :raises BatchApiError: one of its subclasses, for each failed request.
        """
        token = check_token(campaign_token)
        subject = self._subject(STATS, token)
        answer = self._request(STATS, subject, token=token)
        stats = expect_stats(answer, STATS, subject, self._scrub)
        return {**stats, "detail": [with_open_rate(row) for row in stats["detail"]]}

    def list_campaigns(
        self, live: bool | None = None, from_api: bool | None = None, page_size: int = MAX_PAGE
    ) -> Iterator[dict[str, Any]]:
        """Yield the campaigns, newest first, each once, with one request for each page.

        Each is an object with at least ``campaign_token``; view the campaign for all of it. A campaign that is created
        meanwhile shifts the pages: it may be missed, but none is given twice.
        Source: https://doc.batch.com/developer/api/mep/campaigns/list

        :param live: True for the running and the completed ones, False for the stopped ones and drafts, None for all.
        :param from_api: True for those created from the API, False for the dashboard's, None for all.
        :param page_size: Campaigns in one request, 1 to 100.
        :raises BatchConfigurationError: before anything is sent, for a page size out of range.
        :raises BatchApiError: one of its subclasses, for each failed request.
        """
        if isinstance(page_size, bool) or not isinstance(page_size, int) or not 1 <= page_size <= MAX_PAGE:
            raise BatchConfigurationError(f"page_size must be 1 to {MAX_PAGE}, not {shown(page_size)}.")
        filters = {"live": live, "from_api": from_api}
        query = {name: str(value).lower() for name, value in filters.items() if value is not None}
        return self._pages(query, page_size)

    def _pages(self, query: Mapping[str, str], page_size: int) -> Iterator[dict[str, Any]]:
        subject = self._subject(LIST)
        seen: set[str] = set()
        start = 0
        for _ in range(MAX_PAGES):
            answer = self._request(LIST, subject, query={**query, "from": start, "limit": page_size})
            page = expect_page(answer, LIST, subject, self._scrub)
            known = len(seen)
            for campaign in page:
                if campaign["campaign_token"] not in seen:
                    seen.add(campaign["campaign_token"])
                    yield campaign
            # A page of which all is known already: the server does not count as we do, and would never end.
            if len(page) < page_size or len(seen) == known:
                return
            start += page_size
        raise BatchResponseError(
            f"Batch's {subject} did not end after {MAX_PAGES:,} pages of {page_size}.",
            status_code=answer.status,
            endpoint=LIST.name,
        )

    def test_connection(self) -> tuple[bool, str]:
        """Try the connection with one cheap read for each app key; nothing is written.

        Airflow calls this for the Test button. The answer is (accepted, what to tell the user).
        """
        try:
            apps: list[str | None] = [self.app] if self.app else list(self.settings.api_keys)
            answers = [self._test_app(app) for app in apps]
        except BatchError as error:
            return False, str(error)
        return all(accepted for accepted, _ in answers), " ".join(text for _, text in answers)

    def _test_app(self, app: str | None) -> tuple[bool, str]:
        hook = self if app == self.app else self._for_app(app)
        name = "the app API key" if app is None else f"the app API key of {app!r}"
        where = self.settings.base_url
        subject = hook._subject(LIST)
        try:
            answer = hook._request(LIST, subject, query={"limit": 1})
            expect_json(answer, LIST, subject, list, self._scrub)
        except BatchApiMisuseError:
            return True, f"Keys accepted by {where}; {name} cannot read campaigns, so writes cannot be checked."
        except BatchAuthenticationError as error:
            return False, f"Wrong REST API key (password), or {name} is not of the same company. {error}"
        except BatchNotFoundError as error:
            return False, f"Batch does not know {name} (login, or extra api_keys). {error}"
        except BatchConnectionError as error:
            return False, f"{where} cannot be reached. {error}"
        return True, f"Connected to {where}; {name} can read campaigns."

    def _for_app(self, app: str | None) -> BatchHook:
        # The same settings and session: a Test must not read the connection again.
        hook = self.lend_settings(BatchHook(self.batch_conn_id, app))
        hook._session = self._session
        return hook

    @cached_property
    def settings(self) -> BatchSettings:
        """What the connection says, read once.

        :raises BatchConfigurationError: when the connection is wrong.
        """
        return self._understood(self.get_connection(self.batch_conn_id))

    def _understood(self, connection: Connection) -> BatchSettings:
        # Before anything else can fail: a message of ours or of another may quote a field.
        for field in (connection.password, connection.login):
            if field:
                mask_secret(field)
        settings = read_settings(connection)
        for secret in settings.secrets:
            for form in _forms(secret):
                mask_secret(form)
        if settings.is_sandbox:
            self.log.warning(
                "Connection %r uses the Batch sandbox at %s: no push reaches anyone.",
                self.batch_conn_id,
                settings.base_url,
            )
        return settings

    @cached_property
    def _session(self) -> BatchSession:
        from airflow import __version__ as airflow_version

        from airflow_batch.hooks.transport import open_session

        settings = self.settings
        return open_session(
            {
                "X-Authorization": settings.rest_key,
                "Content-Type": "application/json",
                "Accept": "application/json",
                "User-Agent": f"airflow-provider-batch/{__version__} apache-airflow/{airflow_version}",
            },
            [form for secret in settings.secrets for form in _forms(secret)],
            from_environment=not settings.is_loopback,
        )

    def _subject(self, endpoint: Endpoint, token: str | None = None) -> str:
        target = f" of campaign {token!r}" if token else ""
        return f"{endpoint.name}{target}" + (f" (app {self.app!r})" if self.app else "")

    def _request(
        self,
        endpoint: Endpoint,
        subject: str,
        *,
        token: str = "",
        body: bytes | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Send one request and return the answer when it is a 2xx; else raise what it stands for."""
        from airflow_batch.hooks.transport import ExchangeError, exchange

        settings = self.settings
        path = endpoint.path.format(token=quote(token, safe=""))
        url = f"{settings.base_url}/1.1/{quote(settings.api_key(self.app), safe='')}/campaigns/{path}"
        problem: BatchApiError
        self.requests_sent += 1
        try:
            answer = exchange(self.get_conn(), endpoint.method, url, body=body, query=query, timeout=settings.timeout)
        except ExchangeError as error:
            problem = _no_answer(error.reason, error.sent, endpoint, subject, settings)
        else:
            self._last_date = answer.headers.get("Date"), datetime.now(UTC)
            if 200 <= answer.status < 300:
                return answer
            problem = failure(answer, endpoint, subject, self._scrub, datetime.now(UTC))
        # Outside of the handler: an error of this provider has no foreign context that could hold the URL.
        raise problem

    def _scrub(self, text: str) -> str:
        from airflow_batch.hooks.transport import redact

        return redact(text, [form for secret in self.settings.secrets for form in _forms(secret)])


def rendered_or_none(value: str | None) -> str | None:
    """Return an ``app`` as a template rendered it; None where that is nothing, or the text of None."""
    return None if value in (None, "", "None") else value


def _forms(secret: str) -> set[str]:
    """Return the ways a key may be written in a URL or a JSON text."""
    in_json = json.dumps(secret)[1:-1]
    return {secret, quote(secret, safe=""), quote(secret), in_json, in_json.replace("/", "\\/")}


def _no_answer(
    reason: str, sent: bool, endpoint: Endpoint, subject: str, settings: BatchSettings
) -> BatchConnectionError | BatchAmbiguousError:
    if not sent:
        return BatchConnectionError(
            f"Nothing was sent for the {subject}: connecting to {settings.base_url} failed: {reason}.",
            endpoint=endpoint.name,
        )
    applied = " It may have been applied." if endpoint.writes else ""
    return BatchAmbiguousError(
        f"No answer to the {subject}: {reason}.{applied}",
        endpoint=endpoint.name,
        may_have_been_applied=endpoint.writes,
    )
