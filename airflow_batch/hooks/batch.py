"""BatchHook: connection handling, authentication and HTTP.

One method for each endpoint, and one HTTP request for each call (the list: for each page), without retry or sleep.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined,unused-ignore]
from airflow.sdk import BaseHook
from airflow.sdk.log import mask_secret

from airflow_batch._campaigns.payload import check_payload
from airflow_batch._http.endpoints import CREATE, DELETE, LIST, MAX_PAGE, STATS, UPDATE, VIEW, Endpoint
from airflow_batch._http.responses import (
    Answer,
    confirm_write,
    expect_campaign,
    expect_page,
    expect_stats,
    expect_token,
    failure,
    parse_http_date,
)
from airflow_batch._http.settings import BatchSettings, read_settings, show_name
from airflow_batch._values import check_token
from airflow_batch._values import rendered_or_none as rendered_or_none
from airflow_batch.exceptions import (
    BatchApiMisuseError,
    BatchAuthenticationError,
    BatchConfigurationError,
    BatchConnectionError,
    BatchError,
    BatchNotFoundError,
    BatchResponseError,
)
from airflow_batch.get_provider_info import UI_FIELD_BEHAVIOUR
from airflow_batch.results import with_open_rate

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_batch._http.transport import BatchSession

Hook = TypeVar("Hook", bound="BatchHook")
MAX_PAGES = 10_000
"""Pages after which reading a list that does not end is stopped."""


class BatchHook(BaseHook):
    """Talk to Batch's campaigns API (https://doc.batch.com/developer/api/mep/campaigns).

    :param batch_conn_id: Airflow connection of type ``batch``: ``password`` is the company REST API key, ``login`` the
        app API key, or extra ``api_keys`` one key for each app. It is read at the first request, not before.
    :param app: Name of the app, required when the connection has ``api_keys``; a label for messages otherwise.

    Each method raises a subclass of ``BatchApiError`` for each failed request and, before anything is sent,
    ``BatchPayloadError`` for a token or payload that cannot be sent and ``BatchConfigurationError`` for a wrong
    connection. If the connection's extra has ``dry_run: true``, the methods that write raise ``BatchReadOnlyError`` and
    send nothing.
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
        self.has_answered = False
        """Whether Batch has answered any request of this hook, a refusal included."""
        self.clock_offset = timedelta(0)
        """How far Batch's clock is ahead of the local clock, by the Date of the last answer; zero before the first.

        A Date header counts whole seconds, so a difference of about a second has no meaning.
        """
        self.time_limit: float | None = None
        """Seconds that each further request may take in all, None for the connection's own limits."""
        self._connection: Connection | None = None
        self._session: BatchSession | None = None

    @classmethod
    def from_connection(cls, connection: Connection, app: str | None = None) -> Self:
        """Return a hook of a connection that was read already: a trigger reads it asynchronously."""
        hook = cls(connection.conn_id, app)
        hook._connection = connection
        del connection  # Its repr shows the keys, and an error keeps the local variables.
        _ = hook.settings
        return hook

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the labels and placeholders of the connection form with the key names of Airflow 3.1."""
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    def with_settings(self, hook: Hook) -> Hook:
        """Share the settings that this hook has read with another hook of the same connection; return that hook."""
        hook.settings = self.settings
        return hook

    def get_conn(self) -> BatchSession:
        """Return the ``requests.Session``, made once. It authenticates requests to the connection's host only."""
        if self._session is None:
            from airflow_batch._http.transport import BatchSession

            self._session = BatchSession(self.settings)
        return self._session

    def batch_now(self) -> datetime:
        """Return the present moment by Batch's clock, in UTC. Compare Batch's times with it."""
        return datetime.now(UTC) + self.clock_offset

    @property
    def read_only_reason(self) -> str:
        """Why nothing may be written through the connection, such as ``connection 'batch_default' has dry_run``.

        Empty where writes are allowed.

        :raises BatchConfigurationError: when the connection is wrong.
        :raises BatchConnectionError: when it does not exist, or Airflow could not read it.
        """
        return self.settings.read_only_reason

    def create_campaign(self, payload: Mapping[str, Any], *, checked: bool = False) -> str:
        """Create a campaign and return its token.

        Batch has no idempotency key: a repeated request creates a second campaign. After an error whose
        ``may_have_been_applied`` is true, check :meth:`list_campaigns` before you create again.
        Source: https://doc.batch.com/developer/api/mep/campaigns/create

        :param checked: See :meth:`update_campaign`.
        :raises BatchResponseError: when the answer holds no token; the campaign may have been created.
        """
        payload = dict(payload) if checked else check_payload(payload)
        return expect_token(self._request(CREATE, "", body=json.dumps(payload, allow_nan=False).encode()))

    def update_campaign(self, campaign_token: str, payload: Mapping[str, Any], *, checked: bool = False) -> int:
        """Update a campaign and return the HTTP status of Batch's confirmation (it documents no body).

        ``payload`` is checked and sent in Batch's form (see :func:`airflow_batch._campaigns.payload.check_payload`).
        Source: https://doc.batch.com/developer/api/mep/campaigns/update

        :param checked: Send the payload as it is. For what Batch's view has shown, which is not the user's input.
        """
        token, payload = check_token(campaign_token), dict(payload) if checked else check_payload(payload)
        return confirm_write(self._request(UPDATE, token, body=json.dumps(payload, allow_nan=False).encode()))

    def delete_campaign(self, campaign_token: str) -> int:
        """Delete a campaign and return the HTTP status of Batch's confirmation (it documents no body).

        :raises BatchNotFoundError: for an unknown campaign.
        """
        return confirm_write(self._request(DELETE, check_token(campaign_token)))

    def get_campaign(self, campaign_token: str) -> dict[str, Any]:
        """Return a campaign as Batch's view endpoint gives it. Batch supports Live API keys only here.

        Source: https://doc.batch.com/developer/api/mep/campaigns/get-campaign

        :raises BatchApiMisuseError: for a key that may not read.
        """
        token = check_token(campaign_token)
        return expect_campaign(self._request(VIEW, token), token)

    def get_campaign_stats(self, campaign_token: str) -> dict[str, Any]:
        """Return a campaign's statistics as Batch documents them, with an ``open_rate`` added to each row and version.

        ``{"campaign_token": ..., "detail": [row, ...]}``: a row for each date of sending, with ``versions`` where the
        campaign is an A/B test; no row before anything was sent. The open rate is (direct_open + influenced_open) /
        sent, None where nothing was sent; another one that Batch shows is kept as ``open_rate_shown``. Batch supports
        Live API keys only here.
        Source: https://doc.batch.com/developer/api/mep/campaigns/get
        """
        stats = expect_stats(self._request(STATS, check_token(campaign_token)))
        return {**stats, "detail": [with_open_rate(row) for row in stats["detail"]]}

    def list_campaigns(self, live: bool | None = None, from_api: bool | None = None) -> Iterator[dict[str, Any]]:
        """Yield the campaigns, newest first, each once, with one request for each 100 of them.

        Each is an object with at least ``campaign_token``; :meth:`get_campaign` returns all of it. A campaign that is
        created meanwhile shifts the pages: it may be missed, but no campaign is yielded twice.
        Source: https://doc.batch.com/developer/api/mep/campaigns/list

        :param live: True for the running and the completed ones, False for the stopped ones and drafts, None for all.
        :param from_api: True for those created from the API, False for the dashboard's, None for all.
        """
        for page, _ in self.list_pages(live, from_api):
            yield from page

    def list_pages(
        self, live: bool | None = None, from_api: bool | None = None
    ) -> Iterator[tuple[list[dict[str, Any]], bool]]:
        """Yield what :meth:`list_campaigns` does page by page: after each request its campaigns, and if it is the last.

        A page may be shorter than 100, or empty: campaigns that an earlier page has shown are left out.
        """
        filters = {"live": live, "from_api": from_api}
        query = {name: str(value).lower() for name, value in filters.items() if value is not None}
        seen: set[str] = set()
        for number in range(MAX_PAGES):
            answer = self._request(LIST, "", query={**query, "from": number * MAX_PAGE, "limit": MAX_PAGE})
            page = expect_page(answer)
            new = {campaign["campaign_token"]: campaign for campaign in page if campaign["campaign_token"] not in seen}
            seen.update(new)
            # Nothing new on a page: the server counts pages differently, and the list would never end.
            is_last = len(page) < MAX_PAGE or not new
            yield list(new.values()), is_last
            if is_last:
                return
        raise BatchResponseError(
            f"Batch's {answer.subject} did not end after {MAX_PAGES:,} pages of {MAX_PAGE}.",
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
            first = ["This connection never writes (dry_run)."] if self.settings.dry_run else []
        except BatchError as error:
            answers, first = [(False, str(error))], []
        text = " ".join([*first, *(text for _, text in answers)])
        # Airflow tests under a temporary random id, which the user has never seen.
        for start, this in (("C", "This c"), ("c", "this c")):
            text = text.replace(f"{start}onnection {self.batch_conn_id!r}", f"{this}onnection")
        return all(accepted for accepted, _ in answers), text

    def _test_app(self, app: str | None) -> tuple[bool, str]:
        # The same settings and session: a test must not read the connection again.
        hook = self.with_settings(BatchHook(self.batch_conn_id, app))
        hook._session = self.get_conn()
        name = "the app API key" if app is None else f"the app API key of {show_name(app)}"
        where = self.settings.base_url
        try:
            campaigns = expect_page(hook._request(LIST, "", query={"limit": 1}))
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
        # The keys are masked before anything can fail, because any message may quote them.
        mask_secret(self._connection.password or "")
        if '"api_keys"' not in (self._connection.extra or ""):  # With api_keys, login is not a key.
            mask_secret(self._connection.login or "")
        problem = None
        try:
            settings = read_settings(self._connection)
        except BatchConfigurationError as error:
            problem = str(error)
        if problem is not None:
            # A new error: the local variables of the first one's frames hold keys, as does the repr of a connection.
            self._connection = None
            raise BatchConfigurationError(problem)
        for secret in settings.secrets:
            mask_secret(secret)
        if settings.is_sandbox:
            note = "Connection %r uses the Batch sandbox at %s: no push reaches anyone."
            self.log.warning(note, self.batch_conn_id, settings.base_url)
        return settings

    def _request(
        self, endpoint: Endpoint, token: str, *, body: bytes | None = None, query: Mapping[str, Any] | None = None
    ) -> Answer:
        """Send one request. Return the answer when it is a 2xx, raise its exception otherwise."""
        session = self.get_conn()
        self.requests_sent += 1
        answer = session.exchange(endpoint, token, self.app, body, query, self.time_limit)
        received = datetime.now(UTC)
        self.has_answered, self.last_status = True, answer.status
        self.clock_offset = (parse_http_date(answer.headers.get("Date")) or received) - received
        if 200 <= answer.status < 300:
            return answer
        raise failure(answer, received)
