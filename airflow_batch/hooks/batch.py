"""BatchHook: connection handling, authentication and HTTP.

One method for each endpoint, and one HTTP request for each call (the list: for each page), without retry or sleep.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined,unused-ignore]
from airflow.sdk import BaseHook
from airflow.sdk.log import mask_secret

from airflow_batch import __version__
from airflow_batch._campaigns.reference import check_token
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
    expect_page,
    expect_stats,
    expect_token,
    failure,
    parse_http_date,
)
from airflow_batch.hooks.settings import BatchSettings, read_settings, show_name
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
Result = TypeVar("Result")
MAX_PAGE = 100
"""Campaigns in one request of the list (https://doc.batch.com/developer/api/mep/campaigns/list)."""
MAX_PAGES = 10_000
"""Pages after which reading a list that does not end is stopped."""


class BatchHook(BaseHook):
    """Talk to Batch's campaigns API (https://doc.batch.com/developer/api/mep/campaigns).

    :param batch_conn_id: Airflow connection of type ``batch``: ``password`` is the company REST API key, ``login`` the
        app API key, or extra ``api_keys`` one key for each app. It is read at the first request, not before.
    :param app: Name of the app, required when the connection has ``api_keys``; a label for messages otherwise.
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
        self.last_status: int | None = None
        """HTTP status of the last answer, None before the first one."""
        self.time_limit: float | None = None
        """Seconds that each further request may take in all, None for the connection's own limits."""
        self._connection: Connection | None = None
        self._last_date: tuple[str | None, datetime] = None, datetime.now(UTC)

    @classmethod
    def of_connection(cls, connection: Connection, app: str | None = None) -> Self:
        """Return a hook of a connection that was read already: a trigger reads it asynchronously.

        :raises BatchConfigurationError: when the connection is wrong.
        """
        hook = cls(connection.conn_id, app)
        hook._connection = connection
        del connection  # Its repr shows the keys, and an error keeps the local variables.
        _ = hook.settings
        return hook

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the labels and placeholders of the connection form with the key names of Airflow 3.1."""
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    def lend_settings(self, hook: Hook) -> Hook:
        """Share the settings that this hook has read with another hook of the same connection; return that hook."""
        hook.settings = self.settings
        return hook

    def get_conn(self) -> BatchSession:
        """Return the ``requests.Session``, which is made once. It authenticates requests to the connection's host only.

        :raises BatchConfigurationError: when the connection is wrong.
        """
        return self._session

    @property
    def has_answered(self) -> bool:
        """Whether Batch has answered any request of this hook, a refusal included."""
        return self.last_status is not None

    @property
    def clock_offset(self) -> timedelta:
        """How far Batch's clock is ahead of the local clock, by the Date of the last answer; zero before the first.

        A Date header counts whole seconds, so a difference of about a second has no meaning.
        """
        header, received = self._last_date
        moment = parse_http_date(header)
        return timedelta(0) if moment is None else moment - received

    def batch_now(self) -> datetime:
        """Return the present moment by Batch's clock, in UTC. Compare Batch's times with it."""
        return datetime.now(UTC) + self.clock_offset

    def create_campaign(self, payload: Mapping[str, Any], *, checked: bool = False) -> str:
        """Create a campaign and return its token.

        Batch has no idempotency key: a repeated request creates a second campaign. After an error whose
        ``may_have_been_applied`` is true, check :meth:`list_campaigns` before you create again.
        Source: https://doc.batch.com/developer/api/mep/campaigns/create

        :param checked: See :meth:`update_campaign`.
        :raises BatchPayloadError: before anything is sent, for a payload that cannot be sent.
        :raises BatchResponseError: when the answer holds no token; the campaign may have been created.
        :raises BatchApiError: one of its other subclasses, for each failed request.
        """
        return self._call(CREATE, expect_token, body=_encode(payload, checked))

    def update_campaign(self, campaign_token: str, payload: Mapping[str, Any], *, checked: bool = False) -> int:
        """Update a campaign and return the HTTP status of Batch's confirmation (it documents no body).

        ``payload`` is checked and sent in Batch's form (see :func:`airflow_batch.payloads.check_payload`).
        Source: https://doc.batch.com/developer/api/mep/campaigns/update

        :param checked: Send the payload as it is. For what Batch's view has shown, which is not the user's input.
        :raises BatchPayloadError: before anything is sent, for a token or payload that cannot be sent.
        :raises BatchApiError: one of its subclasses, for each failed request.
        """
        return self._call(UPDATE, confirm_write, check_token(campaign_token), body=_encode(payload, checked))

    def delete_campaign(self, campaign_token: str) -> int:
        """Delete a campaign and return the HTTP status of Batch's confirmation (it documents no body).

        :raises BatchApiError: one of its subclasses, for each failed request; an unknown campaign is
            ``BatchNotFoundError``.
        """
        return self._call(DELETE, confirm_write, check_token(campaign_token))

    def get_campaign(self, campaign_token: str) -> dict[str, Any]:
        """Return a campaign as Batch's view endpoint gives it. Batch supports Live API keys only here.

        Source: https://doc.batch.com/developer/api/mep/campaigns/get-campaign

        :raises BatchApiMisuseError: for a key that may not read.
        :raises BatchApiError: one of its other subclasses, for each failed request.
        """
        token = check_token(campaign_token)
        return self._call(VIEW, partial(expect_campaign, token=token), token)

    def get_campaign_stats(self, campaign_token: str) -> dict[str, Any]:
        """Return a campaign's statistics as Batch documents them, with an ``open_rate`` added to each row and version.

        ``{"campaign_token": ..., "detail": [row, ...]}``: a row for each date of sending, with ``versions`` where the
        campaign is an A/B test; no row before anything was sent. The open rate is (direct_open + influenced_open) /
        sent, None where nothing was sent. Batch supports Live API keys only here.
        Source: https://doc.batch.com/developer/api/mep/campaigns/get

        :raises BatchApiError: one of its subclasses, for each failed request.
        """
        stats = self._call(STATS, expect_stats, check_token(campaign_token))
        return {**stats, "detail": [with_open_rate(row) for row in stats["detail"]]}

    def list_campaigns(
        self, live: bool | None = None, from_api: bool | None = None, page_size: int = MAX_PAGE
    ) -> Iterator[dict[str, Any]]:
        """Yield the campaigns, newest first, each once, with one request for each page.

        Each is an object with at least ``campaign_token``; :meth:`get_campaign` returns all of it. A campaign that is
        created meanwhile shifts the pages: it may be missed, but no campaign is yielded twice.
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
        seen: set[str] = set()
        start = 0
        for _ in range(MAX_PAGES):
            page = self._call(LIST, expect_page, query={**query, "from": start, "limit": page_size})
            known = len(seen)
            for campaign in page:
                if campaign["campaign_token"] not in seen:
                    seen.add(campaign["campaign_token"])
                    yield campaign
            # Nothing new on a page: the server counts pages differently, and the list would never end.
            if len(page) < page_size or len(seen) == known:
                return
            start += page_size
        raise BatchResponseError(
            f"Batch's {self._subject(LIST)} did not end after {MAX_PAGES:,} pages of {page_size}.",
            status_code=self.last_status,
            endpoint=LIST.name,
        )

    def test_connection(self) -> tuple[bool, str]:
        """Try the connection with one or two cheap reads for each app key; nothing is written.

        Airflow calls this for the Test button. The answer is (accepted, message for the user).
        """
        try:
            apps: list[str | None] = [self.app] if self.app else list(self.settings.api_keys)
            answers = [self._test_app(app) for app in apps]
        except BatchError as error:
            answers = [(False, str(error))]
        text = " ".join(text for _, text in answers)
        # Airflow tests under a temporary random id, which the user has never seen.
        for start, this in (("C", "This c"), ("c", "this c")):
            text = text.replace(f"{start}onnection {self.batch_conn_id!r}", f"{this}onnection")
        return all(accepted for accepted, _ in answers), text

    def _test_app(self, app: str | None) -> tuple[bool, str]:
        hook = self if app == self.app else self._for_app(app)
        name = "the app API key" if app is None else f"the app API key of {show_name(app)}"
        where = self.settings.base_url
        try:
            campaigns = hook._call(LIST, expect_page, query={"limit": 1})
        except BatchApiMisuseError:
            return True, f"Keys accepted by {where}; {name} cannot read campaigns, so writes cannot be checked."
        except BatchAuthenticationError as error:
            return False, f"Wrong REST API key (password), or {name} is not of the same company. {error}"
        except BatchNotFoundError as error:
            return False, f"Batch does not know {name} (login, or extra api_keys). {error}"
        except BatchConnectionError as error:
            return False, f"{where} cannot be reached. {error}"
        if not campaigns:
            return True, f"Connected to {where}; {name} can list campaigns (there is none yet)."
        try:
            hook.get_campaign(campaigns[0]["campaign_token"])
        except BatchError as error:
            return True, f"Connected to {where}; {name} can list campaigns, but not view them. {error}"
        return True, f"Connected to {where}; {name} can read campaigns."

    def _for_app(self, app: str | None) -> BatchHook:
        # The same settings and session: a test must not read the connection again.
        hook = self.lend_settings(BatchHook(self.batch_conn_id, app))
        hook._session = self._session
        return hook

    @cached_property
    def settings(self) -> BatchSettings:
        """The connection's settings, read once.

        :raises BatchConfigurationError: when the connection is wrong.
        :raises BatchConnectionError: when it does not exist, or Airflow could not read it.
        """
        if self._connection is None:
            with suppress(AirflowNotFoundException):
                self._connection = self.get_connection(self.batch_conn_id)
        if self._connection is None:
            # Airflow says "not defined" for what it could not ask, too, and a stop must not fail for good for that.
            raise BatchConnectionError(
                f"Nothing was sent: connection {self.batch_conn_id!r} does not exist, or Airflow could not read it. "
                "Create it under Admin > Connections, in the environment or in the secrets backend."
            )
        _mask_fields(self._connection)
        problem = None
        try:
            settings = read_settings(self._connection)
        except BatchConfigurationError as error:
            problem = str(error)
        if problem is not None:
            # A new error: the local variables of the first one's frames hold keys.
            raise BatchConfigurationError(problem)
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
            settings.base_url,
            settings.rest_key,
            {
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Cache-Control": "no-cache",
                "User-Agent": f"airflow-provider-batch/{__version__} apache-airflow/{airflow_version}",
            },
            [form for secret in settings.secrets for form in _forms(secret)],
            from_environment=not settings.is_loopback,
        )

    def _subject(self, endpoint: Endpoint, token: str = "") -> str:
        target = f" of campaign {token!r}" if token else ""
        return f"{endpoint.name}{target}" + (f" (app {show_name(self.app)})" if self.app else "")

    def _call(self, endpoint: Endpoint, read: Callable[..., Result], token: str = "", **request: Any) -> Result:
        """Send one request and return what ``read`` makes of the answer."""
        subject = self._subject(endpoint, token)
        answer = self._request(endpoint, subject, token=token, **request)
        return read(answer, endpoint, subject, self._scrub)

    def _request(
        self,
        endpoint: Endpoint,
        subject: str,
        *,
        token: str = "",
        body: bytes | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Send one request. Return the answer when it is a 2xx, raise its exception otherwise."""
        from airflow_batch.hooks.transport import ExchangeError, exchange

        problem: BatchApiError
        self.settings.api_key(self.app)
        self.requests_sent += 1
        try:
            answer = exchange(
                self.get_conn(),
                endpoint.method,
                self._url(endpoint, token),
                body=body,
                query=query,
                timeout=self.settings.timeout,
                time_limit=self.time_limit,
            )
        except ExchangeError as error:
            problem = _no_answer(error.reason, error.sent, endpoint, subject, self.settings)
        else:
            self._last_date, self.last_status = (answer.headers.get("Date"), datetime.now(UTC)), answer.status
            if 200 <= answer.status < 300:
                return answer
            problem = failure(answer, endpoint, subject, self._scrub, datetime.now(UTC))
        # Outside of the handler: an error of this provider has no foreign context that could hold the URL.
        raise problem

    def _url(self, endpoint: Endpoint, token: str) -> str:
        """Return a request's URL. It holds the app API key, so no local variable of the caller may."""
        key, path = self.settings.api_key(self.app), endpoint.path.format(token=quote(token, safe=""))
        return f"{self.settings.base_url}/1.1/{quote(key, safe='')}/campaigns/{path}"

    def _scrub(self, text: str) -> str:
        from airflow_batch.hooks.transport import redact

        return redact(text, [form for secret in self.settings.secrets for form in _forms(secret)])


def rendered_or_none(value: str | None) -> str | None:
    """Return a rendered ``app``; None where it rendered to nothing or to the text ``None``."""
    return None if value in (None, "", "None") else value


def _encode(payload: Mapping[str, Any], checked: bool) -> bytes:
    return json.dumps(dict(payload) if checked else check_payload(payload), allow_nan=False).encode()


def _mask_fields(connection: Connection) -> None:
    """Mask the keys before anything can fail, because any message may quote them. With api_keys, login is not a key."""
    mask_secret(connection.password or "")
    if '"api_keys"' not in (connection.extra or ""):
        mask_secret(connection.login or "")


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
