"""The hook against the sandbox: each endpoint, each documented failure, and keys that are never shown."""

from __future__ import annotations

import gc
import json
import logging
import socket
from datetime import UTC, datetime
from urllib.parse import quote

import pendulum
import pytest
from airflow import __version__ as airflow_version
from airflow.sdk import Connection
from airflow.sdk.log import redact

from airflow_batch import __version__
from airflow_batch._http.endpoints import CREATE
from airflow_batch._http.responses import MAX_SERVER_TEXT, Answer
from airflow_batch.exceptions import (
    ERRORS,
    BatchApiError,
    BatchApiMisuseError,
    BatchAuthenticationError,
    BatchConfigurationError,
    BatchConnectionError,
    BatchError,
    BatchMaintenanceError,
    BatchNotFoundError,
    BatchPayloadError,
    BatchRateLimitError,
    BatchRequestError,
    BatchResponseError,
    BatchServerError,
)
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.sandbox import BatchSandbox, Contract, Fault

CREATED = b'{"campaign_token": "abc"}'
SUMMER = {"name": "Summer sale", "live": False, "push_time": "2030-06-01T09:00:00"}
SECRET = {"rest": "Qx7v9Wz3Lk2p", "live": "Zp4t8Rm6Yc1d", "dev": "Hn5b3Vg9Tf7s"}


@pytest.fixture
def token(batch):
    return batch.add_campaign(SUMMER)


@pytest.fixture
def secretive(connect):
    """A sandbox whose keys are found wherever a piece of them is shown."""
    keys = {kind: f"sandbox-{SECRET[kind]}" for kind in ("live", "dev")}
    with BatchSandbox(rest_key=f"sandbox-{SECRET['rest']}", apps={"ios": keys}) as running:
        connect(running.connection())
        yield running


def assert_shows_no_key(text):
    pieces = [secret[start : start + 6] for secret in SECRET.values() for start in range(len(secret) - 5)]
    assert [piece for piece in pieces if piece in text] == []


def failure_of(call, *arguments, kind=BatchApiError):
    with pytest.raises(kind) as caught:
        call(*arguments)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


# ------------------------------------------------------------------------------------------------------- the connection


def test_a_hook_reads_no_connection_before_its_first_request(batch, connect):
    hook = BatchHook("made_later")
    connect(batch.connection(), "made_later")
    token = batch.add_campaign(SUMMER)
    assert batch.requests == ()
    assert hook.get_campaign(token)["name"] == "Summer sale"


def test_the_default_connection_is_batch_default(batch, token):
    assert BatchHook().batch_conn_id == "batch_default"
    assert BatchHook().get_campaign(token)["campaign_token"] == token


def test_a_connection_may_be_a_uri(batch, token, monkeypatch):
    place = batch.url.removeprefix("http://")
    uri = f"batch://{quote(batch.app_key())}:{quote(batch.rest_key)}@{place}/http?timeout=%5B5%2C+5%5D"
    monkeypatch.setenv("AIRFLOW_CONN_BY_URI", uri)
    assert BatchHook("by_uri").get_campaign(token)["campaign_token"] == token


def test_the_session_is_made_once_and_sends_the_rest_key_to_the_host_of_the_connection_only(batch):
    session = BatchHook().get_conn()
    with BatchSandbox() as other:
        for server in (batch, other):
            session.get(f"{server.url}/1.1/{server.app_key()}/campaigns/list")
        assert [record.status for record in (*batch.requests, *other.requests)] == [200, 401]
    hook = BatchHook()
    assert hook.get_conn() is hook.get_conn()


def test_a_wrong_connection_is_refused_before_anything_is_sent(batch, connect):
    connect(batch.connection() | {"extra": {"retries": 3}})
    with pytest.raises(BatchConfigurationError, match="unknown extra 'retries'"):
        BatchHook().get_campaign("abc")
    assert batch.requests == ()


@pytest.fixture
def two_apps(connect):
    with BatchSandbox(apps=("ios", "android")) as running:
        connect(running.connection("api_keys"))
        yield running


def test_each_app_has_its_own_campaigns(two_apps):
    token = two_apps.add_campaign(SUMMER, app="android")
    assert BatchHook(app="android").get_campaign(token)["name"] == "Summer sale"
    assert failure_of(BatchHook(app="ios").get_campaign, token, kind=BatchNotFoundError)
    assert [record.app for record in two_apps.requests] == ["android", "ios"]


@pytest.mark.parametrize("app", [None, "", "None", "windows"])
def test_an_app_must_be_named_where_there_are_several(two_apps, app):
    with pytest.raises(BatchConfigurationError, match="knows the apps 'ios', 'android'"):
        BatchHook(app=app).get_campaign("abc")
    assert two_apps.requests == ()


@pytest.mark.parametrize("app", [None, "", "None"])
def test_an_app_that_renders_to_nothing_counts_as_none(batch, token, app):
    assert BatchHook(app=app).get_campaign(token)["campaign_token"] == token


def test_an_app_is_a_label_where_login_holds_the_only_key(batch, token):
    assert BatchHook(app="ios").get_campaign(token)["campaign_token"] == token


def test_a_connection_that_cannot_be_found_is_transient_for_airflow_says_so_of_what_it_could_not_ask_too():
    error = failure_of(BatchHook("nowhere").get_campaign, "abc", kind=BatchConnectionError)
    assert "connection 'nowhere' does not exist" in str(error)


def test_a_failure_names_the_app(two_apps):
    error = failure_of(BatchHook(app="ios").get_campaign, "abc", kind=BatchNotFoundError)
    assert "view of campaign 'abc' (app 'ios')" in str(error)


# --------------------------------------------------------------------------------------------------------- update, view


def test_an_update_changes_the_campaign_and_returns_the_status(batch, token):
    assert BatchHook().update_campaign(token, {"name": "Winter sale", "live": True}) == 200
    assert batch.campaign(token)["name"] == "Winter sale"
    assert batch.campaign(token)["live"] is True


def test_an_update_goes_out_in_batchs_form(batch, token):
    moment = pendulum.datetime(2031, 6, 1, 9, tz="Europe/Paris")
    BatchHook().update_campaign(token, {"live": "False", "push_time": moment})
    assert batch.campaign(token)["push_time"] == "2031-06-01T07:00:00"
    assert batch.campaign(token)["live"] is False


# Four labels and a name of two characters are refused in the user's payload, but Batch may hold such a campaign.
def test_a_checked_payload_is_sent_as_it_is(batch, token):
    seen = {"name": "ab", "live": False, "labels": ["a", "b", "c", "d"]}
    bodies = []
    hook = BatchHook()
    answer = Answer(200, {}, CREATED, CREATE, "create", str)
    hook._request = lambda _, __, *, body: bodies.append(json.loads(body)) or answer
    hook.update_campaign(token, seen, checked=True)
    assert hook.create_campaign(seen, checked=True) == "abc"
    assert bodies == [seen, seen]


def test_the_hook_keeps_the_status_of_the_last_answer(batch, token):
    hook = BatchHook()
    assert (hook.last_status, hook.has_answered) == (None, False)
    batch.inject("429", "reset_before")
    for _ in range(2):
        failure_of(hook.get_campaign, token)
        assert (hook.last_status, hook.has_answered) == (429, True)
    hook.get_campaign(token)
    assert hook.last_status == 200


def test_a_request_without_an_answer_does_not_count_as_answered(batch, token):
    batch.inject("reset_before")
    hook = BatchHook()
    failure_of(hook.get_campaign, token)
    assert (hook.last_status, hook.has_answered) == (None, False)


def test_a_view_returns_the_campaign_as_batch_gives_it(batch, token):
    assert BatchHook().get_campaign(token) == batch.campaign(token)


def test_a_call_is_one_request_to_its_endpoint_and_a_test_of_the_connection_two_reads(batch, token):
    hook = BatchHook()
    hook.update_campaign(token, {"live": True})
    hook.get_campaign(token)
    hook.test_connection()
    assert [(record.method, record.path, record.query) for record in batch.requests] == [
        ("POST", f"/1.1/APP_KEY/campaigns/update/{token}", ""),
        ("GET", f"/1.1/APP_KEY/campaigns/{token}", ""),
        ("GET", "/1.1/APP_KEY/campaigns/list", "limit=1"),
        ("GET", f"/1.1/APP_KEY/campaigns/{token}", ""),
    ]


def test_a_request_says_who_sends_it(batch, token):
    BatchHook().get_campaign(token)
    assert batch.requests[0].user_agent == f"airflow-provider-batch/{__version__} apache-airflow/{airflow_version}"


def test_an_update_is_json_by_its_content_type(connect):
    with BatchSandbox(contract=Contract(content_type="MALFORMED_JSON_BODY")) as batch:
        connect(batch.connection())
        assert BatchHook().update_campaign(batch.add_campaign(SUMMER), {"live": True}) == 200


WRONG_TOKENS = ["", "a/b", "a b", "..", "../list", "list", "create", "update", "delete", "stats", "a?b", None]


@pytest.mark.parametrize("wrong", WRONG_TOKENS)
def test_a_wrong_token_is_refused_before_anything_is_sent(batch, wrong):
    with pytest.raises(BatchPayloadError):
        BatchHook().update_campaign(wrong, {"live": False})
    with pytest.raises(BatchPayloadError):
        BatchHook().get_campaign(wrong)
    assert batch.requests == ()


@pytest.mark.parametrize("payload", [{}, None, {"name": "ab"}, {"live": "perhaps"}, {"custom": float("nan")}])
def test_a_wrong_payload_is_refused_before_anything_is_sent(batch, token, payload):
    with pytest.raises(BatchPayloadError):
        BatchHook().update_campaign(token, payload)
    assert batch.requests == ()


def test_a_number_that_json_cannot_write_is_refused_before_anything_is_sent(batch, token):
    with pytest.raises(BatchPayloadError):
        BatchHook().update_campaign(token, {"custom": 10**5000})
    assert batch.requests == ()


# ------------------------------------------------------------------------------------------------------------- failures


def update(token):
    return BatchHook().update_campaign(token, {"live": True})


def view(token):
    return BatchHook().get_campaign(token)


BOTH = pytest.mark.parametrize("call", [update, view])


@BOTH
@pytest.mark.parametrize("name", sorted({name for name, _ in ERRORS.values()}))
def test_a_documented_error_has_its_class(batch, token, call, name):
    batch.inject(Fault("answer", error=name))
    error = failure_of(call, token)
    assert type(error) is ERRORS[error.status_code, error.error_code][1]
    assert error.error_name == name
    assert error.endpoint == call.__name__
    assert error.may_have_been_applied is (call is update and name == "SERVER_ERROR")
    assert len(batch.requests) == 1


STATUSES = {
    400: BatchRequestError,
    401: BatchAuthenticationError,
    403: BatchApiMisuseError,
    404: BatchNotFoundError,
    409: BatchRequestError,
    429: BatchRateLimitError,
    500: BatchServerError,
    502: BatchServerError,
    503: BatchServerError,
    504: BatchServerError,
}
BODIES = {"empty": b"", "html": b"<html>no</html>", "array": b"[]", "cut": b'{"code": 2, "ty', "nested": b"[" * 100_000}


@BOTH
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
def test_the_status_decides_where_the_body_tells_nothing(batch, token, call, status, kind, body):
    if body is BODIES["nested"]:
        # Else what earlier tests have left may be collected in the depth of this body, where finalizers fail.
        gc.collect()
    batch.inject(Fault("answer", status=status, body=body))
    error = failure_of(call, token)
    assert type(error) is kind
    assert error.status_code == status
    assert len(batch.requests) == 1


def test_maintenance_is_known_by_its_code(batch, token):
    batch.inject("503;retry-after=120")
    error = failure_of(update, token, kind=BatchMaintenanceError)
    assert error.retry_after == 120.0
    assert not error.may_have_been_applied


def test_an_html_page_of_a_proxy_is_a_server_error(batch, token):
    batch.inject(Fault("html", status=503))
    assert "Something went wrong" in str(failure_of(update, token, kind=BatchServerError))


def test_a_throttled_request_is_not_repeated(connect):
    with BatchSandbox(rate=0.01, retry_after="computed") as batch:
        connect(batch.connection())
        token = batch.add_campaign(SUMMER)
        update(token)
        error = failure_of(update, token, kind=BatchRateLimitError)
        assert [record.status for record in batch.requests] == [200, 429]
    assert 90 < error.retry_after <= 100


def test_a_retry_after_date_is_read_by_the_servers_clock(connect):
    start = datetime(2040, 1, 1, tzinfo=UTC)
    with BatchSandbox(rate=0.05, retry_after="http-date", clock=lambda: start) as batch:
        connect(batch.connection())
        token = batch.add_campaign(SUMMER)
        update(token)
        assert failure_of(update, token, kind=BatchRateLimitError).retry_after == 20.0


def test_a_write_that_failed_may_have_been_applied(batch, token):
    batch.inject("update:500;applied=true")
    assert failure_of(update, token, kind=BatchServerError).may_have_been_applied
    assert batch.campaign(token)["live"] is True


def test_an_unknown_campaign_is_not_found(batch):
    error = failure_of(view, "0" * 32, kind=BatchNotFoundError)
    assert "belongs to the app whose API key is used" in str(error)


# ---------------------------------------------------------------------------------------------- answers of another kind


@pytest.mark.parametrize("body", [b"", b"\r\n", b"{}", b'{"campaign_token": "x"}'])
@pytest.mark.parametrize("status", [200, 202])
def test_an_update_is_confirmed_by_nothing_or_an_object(batch, token, status, body):
    batch.inject(Fault("answer", "update", status=status, body=body, applied=True))
    assert update(token) == status


def test_an_update_may_be_confirmed_without_content(batch, token):
    batch.inject("update:204;applied=true")
    assert update(token) == 204


NO_CONFIRMATION = {
    "html": b"<html>Please log in</html>",
    "cut": b'{"live": tr',
    "array": b"[]",
    "error": {"code": 1, "type": "SERVER_ERROR", "message": "failed"},
}
NO_CAMPAIGN = {
    **NO_CONFIRMATION,
    "empty": b"",
    "null": b"null",
    "empty_object": b"{}",
    "live_is_text": {"campaign_token": "x", "live": "true"},
}


@pytest.mark.parametrize("body", NO_CONFIRMATION.values(), ids=NO_CONFIRMATION)
def test_an_update_is_not_confirmed_by_anything_else(batch, token, body):
    batch.inject(Fault("answer", "update", status=200, body=body))
    error = failure_of(update, token, kind=BatchResponseError)
    assert error.may_have_been_applied
    assert "check it before you repeat" in str(error)


def test_the_view_of_another_campaign_is_not_returned(batch, token):
    other = batch.campaign(batch.add_campaign(SUMMER))
    batch.inject(Fault("answer", "view", status=200, body=other))
    error = failure_of(view, token, kind=BatchResponseError)
    assert error.transient
    assert not error.may_have_been_applied


# A campaign always has live as a boolean: what has not is no campaign, and must not pass for one that is stopped.
@pytest.mark.parametrize("body", NO_CAMPAIGN.values(), ids=NO_CAMPAIGN)
def test_what_is_no_campaign_is_not_returned_as_one(batch, token, body):
    batch.inject(Fault("answer", "view", status=200, body=body))
    assert not failure_of(view, token, kind=BatchResponseError).may_have_been_applied


@pytest.mark.parametrize(("status", "kind"), [(200, BatchResponseError), (502, BatchServerError)])
def test_a_huge_body_is_refused(batch, token, status, kind):
    batch.inject(Fault("answer", status=status, body=b"x" * 10_000_000))
    error = failure_of(view, token, kind=kind)
    assert "too long" in str(error)
    assert len(str(error)) < 500


def test_a_hook_goes_on_after_a_huge_body(batch, token):
    hook = BatchHook()
    batch.inject(Fault("answer", status=502, body=b"x" * 10_000_000))
    failure_of(hook.get_campaign, token)
    assert hook.get_campaign(token)["campaign_token"] == token


# ------------------------------------------------------------------------------------------------------------ redirects


@BOTH
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["same", "other", "http", "//other.invalid{path}", "not a URL", ""])
def test_a_redirect_is_refused_and_not_followed(batch, token, call, status, location):
    batch.inject(Fault("redirect", status=status, location=location))
    error = failure_of(call, token, kind=BatchResponseError)
    assert error.status_code == status
    assert error.may_have_been_applied is (call is update)
    assert "correct the connection's host" in str(error)
    assert len(batch.requests) == 1


@BOTH
def test_a_redirect_to_another_server_does_not_reach_it(batch, token, call):
    with BatchSandbox() as other:
        batch.inject(Fault("redirect", status=307, location=f"{other.url}{{path}}"))
        failure_of(call, token, kind=BatchResponseError)
        assert other.requests == ()


# ----------------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize("status", [401, 400, 404, 429, 500, 503])
def test_a_key_that_the_server_repeats_is_taken_out(secretive, status):
    token = secretive.add_campaign(SUMMER)
    secretive.inject(Fault("echo", status=status, times=None))
    for call in (update, view):
        error = failure_of(call, token)
        assert "X-Authorization *** with app key ***" in str(error)
        assert_shows_no_key(f"{error!s} {error!r} {vars(error)!r}")


@pytest.mark.parametrize("kind", ["rest", "live"])
@pytest.mark.parametrize(
    "place", [0, MAX_SERVER_TEXT - 15, MAX_SERVER_TEXT - 8, MAX_SERVER_TEXT, 64 * MAX_SERVER_TEXT - 16]
)
@pytest.mark.parametrize(
    ("status", "form"), [(401, "message"), (401, "html"), (401, "spaces"), (200, "html"), (200, "spaces")]
)
def test_a_key_is_taken_out_wherever_a_text_is_cut(secretive, status, form, place, kind):
    text = (" " if form == "spaces" else ".") * place + f"sandbox-{SECRET[kind]}" + "." * 100
    body = {"message": text} if form == "message" else text.encode()
    secretive.inject(Fault("answer", "update", status=status, body=body))
    error = failure_of(update, secretive.add_campaign(SUMMER))
    assert_shows_no_key(f"{error!s} {error!r}")


def test_a_key_in_any_spelling_of_urls_and_json_is_taken_out(connect):
    key = 'sandbox-a/b+c"d\\e%'
    with BatchSandbox(rest_key=key) as batch:
        connect(batch.connection())
        token = batch.add_campaign(SUMMER)
        said = f"{key} {quote(key, safe='')} {quote(key)} " + key.replace("\\", "\\\\").replace('"', '\\"')
        batch.inject(Fault("answer", status=401, body=said))
        assert "saying '*** *** *** ***'" in str(failure_of(view, token))


def test_wrong_keys_are_not_shown_either(secretive, connect):
    connect(secretive.connection() | {"password": f"sandbox-{SECRET['dev']}"})
    error = failure_of(view, "abc", kind=BatchAuthenticationError)
    assert_shows_no_key(f"{error!s} {error!r}")


def test_a_key_that_the_server_repeats_in_another_case_or_cut_is_taken_out(secretive):
    token = secretive.add_campaign(SUMMER)
    rest, app = f"sandbox-{SECRET['rest']}", f"sandbox-{SECRET['live']}"
    for said in (rest.upper(), app.lower(), f"{rest[:-3]} and {app[:12]}", f"{app}, {rest[:15]}"):
        secretive.inject(Fault("answer", status=401, body={"message": said}))
        error = failure_of(view, token)
        assert "***" in str(error)
        assert_shows_no_key(str(error).swapcase() + str(error))


def locals_of(error):
    """Yield the text of every local variable in this package's frames that raised an error."""
    trace = error.__traceback__
    while trace is not None:
        if "airflow_batch" in trace.tb_frame.f_code.co_filename:
            yield from map(repr, trace.tb_frame.f_locals.values())
        trace = trace.tb_next


@pytest.mark.parametrize("fault", ["401", "429", "html", "reset_before", "redirect", "echo"])
def test_no_local_variable_of_a_frame_that_raises_holds_a_key(secretive, fault):
    token = secretive.add_campaign(SUMMER)
    secretive.inject(Fault.from_text(fault), Fault.from_text(fault))
    for call in (update, view):
        assert_shows_no_key("".join(locals_of(failure_of(call, token))))


@pytest.mark.parametrize("wrong", [{"password": ""}, {"login": "a b"}, {"extra": {"retries": 3}}, {"extra": "{"}])
@pytest.mark.parametrize("read", [False, True], ids=["read by the hook", "read before"])
def test_no_local_variable_of_a_frame_that_refuses_a_connection_holds_a_key(secretive, connect, wrong, read):
    fields = {**secretive.connection(), **wrong}
    connect(fields)
    given = Connection(conn_id="x", **{**fields, "extra": json.dumps(fields.get("extra") or {})})
    error = failure_of(*((BatchHook.from_connection, given) if read else (view, "abc")), kind=BatchError)
    assert_shows_no_key("".join(locals_of(error)))


def test_login_is_not_masked_where_it_is_not_used_as_a_key(two_apps, connect):
    connect(two_apps.connection("api_keys") | {"login": "campaignlogin"})
    BatchHook(app="ios").get_conn()
    assert redact("the campaignlogin is live") == "the campaignlogin is live"


def test_every_key_is_masked_by_airflow_in_the_form_it_has_in_urls_too(connect):
    keys = ["sandbox-masked/rest+key", "sandbox-masked/ios+key"]
    connect(
        {"conn_type": "batch", "host": "http://127.0.0.1", "password": keys[0], "extra": {"api_keys": {"a": keys[1]}}}
    )
    BatchHook(app="a").get_conn()
    for key in keys:
        assert redact(f"{key} and {quote(key, safe='')} and {quote(key)}") == "*** and *** and ***"


def test_a_key_is_masked_by_airflow_though_the_connection_is_wrong(connect):
    connect({"conn_type": "batch", "password": "masked-password-1", "login": "masked-login-1", "extra": {"x": 1}})
    with pytest.raises(BatchConfigurationError):
        BatchHook().get_conn()
    assert redact("masked-password-1 masked-login-1") == "*** ***"


def test_no_log_line_shows_a_key(secretive, caplog, capfd):
    token = secretive.add_campaign(SUMMER)
    secretive.inject("update:429", "update:reset_before", "view:echo", "view:redirect")
    with caplog.at_level(logging.DEBUG):
        for call in (update, update, update, view, view, view):
            try:
                call(token)
            except BatchApiError as error:
                logging.getLogger("user").exception("failed", exc_info=error)
    assert "urllib3" in caplog.text
    printed = capfd.readouterr()
    assert_shows_no_key(caplog.text + printed.out + printed.err)


def test_the_log_warns_that_this_is_the_sandbox(batch, token, caplog, capfd):
    with caplog.at_level(logging.WARNING):
        view(token)
    printed = capfd.readouterr()
    assert "no push reaches anyone" in caplog.text + printed.out + printed.err


# ------------------------------------------------------------------------------------------------------ test_connection


def test_a_right_connection_passes_the_test(batch):
    accepted, text = BatchHook().test_connection()
    assert accepted is True
    assert text == f"Connected to {batch.url}; the app API key can list campaigns (there is none yet)."
    assert [record.operation for record in batch.requests] == ["list"]


def test_the_test_views_the_first_listed_campaign(batch, token):
    accepted, text = BatchHook().test_connection()
    assert accepted is True
    assert text == f"Connected to {batch.url}; the app API key can read campaigns."
    assert [record.operation for record in batch.requests] == ["list", "view"]


def test_a_key_that_can_list_but_not_view_passes_the_test_and_the_message_says_so(batch, token, connect):
    connect(batch.connection(kind="dev"))
    accepted, text = BatchHook().test_connection()
    assert accepted is True
    assert "the app API key can list campaigns, but not view them. Batch refused the view" in text
    assert "403" in text


@pytest.mark.parametrize("wrong", [{"login": ""}, {"extra": {"retries": 3}}, {"port": 1}, None])
def test_no_message_of_the_test_names_the_temporary_connection_id_of_airflow(batch, connect, wrong):
    if wrong is not None:
        connect(batch.connection() | wrong, "vqzhkqbgvx")
    accepted, text = BatchHook("vqzhkqbgvx").test_connection()
    assert accepted is False
    assert "this connection" in text.lower()
    assert "vqzhkqbgvx" not in text


def test_no_message_of_the_test_names_the_temporary_connection_id_of_airflow_within_a_sentence(two_apps, connect):
    connect(two_apps.connection("api_keys"), "vqzhkqbgvx")
    accepted, text = BatchHook("vqzhkqbgvx", app="windows").test_connection()
    assert accepted is False
    assert "Unknown app 'windows': this connection knows the apps 'ios', 'android'" in text


def test_the_test_tries_every_app(two_apps):
    for app in ("ios", "android"):
        two_apps.add_campaign(SUMMER, app=app)
    accepted, text = BatchHook().test_connection()
    assert accepted is True
    assert "'ios' can read" in text
    assert "'android' can read" in text
    assert [record.app for record in two_apps.requests] == ["ios", "ios", "android", "android"]


def test_the_test_tries_the_named_app_alone(two_apps):
    assert BatchHook(app="android").test_connection()[0] is True
    assert [record.app for record in two_apps.requests] == ["android"]


def test_one_wrong_app_key_fails_the_test_and_is_named(two_apps, connect):
    connection = two_apps.connection("api_keys")
    connection["extra"]["api_keys"]["android"] = "sandbox-wrong"
    connect(connection)
    accepted, text = BatchHook().test_connection()
    assert accepted is False
    assert "'ios' can list" in text
    assert "the app API key of 'android' is not of the same company" in text


def test_a_wrong_rest_key_fails_the_test(secretive, connect):
    connect(secretive.connection() | {"password": f"sandbox-{SECRET['dev']}"})
    accepted, text = BatchHook().test_connection()
    assert accepted is False
    assert text.startswith("Wrong REST API key (password)")
    assert_shows_no_key(text)


@pytest.mark.parametrize(
    ("error", "told"),
    [("AUTHENTICATION_INVALID", "is not of the same company"), ("ROUTE_NOT_FOUND", "Batch does not know")],
)
def test_a_wrong_app_key_fails_the_test_however_batch_says_so(connect, error, told):
    with BatchSandbox(contract=Contract(unknown_app_key=error)) as batch:
        connect(batch.connection() | {"login": f"sandbox-{SECRET['dev']}"})
        accepted, text = BatchHook().test_connection()
    assert accepted is False
    assert told in text
    assert_shows_no_key(text)


def test_a_key_that_may_not_read_passes_the_test_with_a_word_of_it(connect):
    with BatchSandbox(contract=Contract(dev_key_list="API_MISUSE")) as batch:
        connect(batch.connection(kind="dev"))
        accepted, text = BatchHook().test_connection()
    assert accepted is True
    assert "the app API key cannot read campaigns, so writes cannot be checked" in text


def test_a_host_that_cannot_be_reached_fails_the_test(batch, connect):
    with socket.create_server(("127.0.0.1", 0)) as server:
        unused = f"http://127.0.0.1:{server.getsockname()[1]}"
    connect(batch.connection() | {"host": unused})
    accepted, text = BatchHook().test_connection()
    assert accepted is False
    assert text.startswith(f"{unused} cannot be reached.")


def test_a_host_that_is_not_known_fails_the_test(connect):
    connect({"conn_type": "batch", "host": "https://no-such-host.invalid", "password": "rest-key", "login": "app-key"})
    accepted, text = BatchHook().test_connection()
    assert accepted is False
    assert text.startswith("https://no-such-host.invalid cannot be reached.")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("429", "429"),
        ("500", "500"),
        ("html", "502"),
        ("redirect", "302"),
        ("reset_before", "No answer"),
        ("200;body={}", "JSON array"),
    ],
)
def test_whatever_else_goes_wrong_fails_the_test_with_its_reason(batch, fault, told):
    batch.inject(fault)
    accepted, text = BatchHook().test_connection()
    assert accepted is False
    assert told in text


def test_a_connection_that_is_wrong_fails_the_test(batch, connect):
    connect(batch.connection() | {"login": ""})
    accepted, text = BatchHook().test_connection()
    assert accepted is False
    assert "has no login" in text
    assert batch.requests == ()


@pytest.mark.parametrize(
    "swapped",
    [
        lambda rest, app: {"password": app, "login": rest},
        lambda rest, app: {"password": app, "login": app + "2"},
        lambda rest, app: {"password": rest, "login": rest + "2"},
    ],
    ids=["both", "app key as password", "REST key as login"],
)
def test_a_key_in_the_place_of_the_other_gets_a_hint_and_is_not_shown(batch, connect, swapped):
    connect({**batch.connection(), **swapped(batch.rest_key, batch.app_key())})
    with pytest.raises(BatchAuthenticationError, match="are the two swapped") as caught:
        BatchHook().get_campaign("abc")
    assert batch.rest_key not in str(caught.value)
    assert batch.app_key() not in str(caught.value)


def test_where_batch_answers_a_wrong_app_key_with_404_the_hint_is_there_too(connect):
    with BatchSandbox(contract=Contract(unknown_app_key="ROUTE_NOT_FOUND")) as sandbox:
        connect({**sandbox.connection(), "login": "sandbox-other"})
        with pytest.raises(BatchNotFoundError, match="no REST API key stands in its place"):
            BatchHook().get_campaign("abc")
