"""The hook against the sandbox: each endpoint, each documented failure, and that no key is shown."""

from __future__ import annotations

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
    BatchApiError,
    BatchAuthenticationError,
    BatchConfigurationError,
    BatchConnectionError,
    BatchError,
    BatchMaintenanceError,
    BatchNotFoundError,
    BatchPayloadError,
    BatchRateLimitError,
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
    """A sandbox whose keys are searched for in pieces of six characters."""
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


def test_the_default_connection_of_a_hook_is_batch_default(batch, token):
    assert BatchHook().batch_conn_id == "batch_default"
    assert BatchHook().get_campaign(token)["campaign_token"] == token


def test_a_connection_may_be_a_uri(batch, token, monkeypatch):
    place = batch.url.removeprefix("http://")
    uri = f"batch://{quote(batch.app_key())}:{quote(batch.rest_key)}@{place}/http?timeout=%5B5%2C+5%5D"
    monkeypatch.setenv("AIRFLOW_CONN_BY_URI", uri)
    assert BatchHook("by_uri").get_campaign(token)["campaign_token"] == token


def test_the_session_is_created_once_and_sends_the_rest_key_only_to_the_host_of_the_connection(batch):
    session = BatchHook().get_conn()
    with BatchSandbox() as other:
        for server in (batch, other):
            session.get(f"{server.url}/1.1/{server.app_key()}/campaigns/list")
        assert [record.status for record in (*batch.requests, *other.requests)] == [200, 401]
    hook = BatchHook()
    assert hook.get_conn() is hook.get_conn()


def test_an_invalid_connection_is_refused_before_any_request(batch, connect):
    connect(batch.connection() | {"extra": {"retries": 3}})
    with pytest.raises(BatchConfigurationError, match="unknown extra 'retries'"):
        BatchHook().get_campaign("abc")
    assert batch.requests == ()


def test_a_hook_of_an_app_sees_only_the_campaigns_of_that_app(two_apps):
    token = two_apps.add_campaign(SUMMER, app="android")
    assert BatchHook(app="android").get_campaign(token)["name"] == "Summer sale"
    assert failure_of(BatchHook(app="ios").get_campaign, token, kind=BatchNotFoundError)
    assert [record.app for record in two_apps.requests] == ["android", "ios"]


@pytest.mark.parametrize("app", [None, "", "None", "windows"])
def test_an_app_must_be_named_where_the_connection_has_several(two_apps, app):
    with pytest.raises(BatchConfigurationError, match="knows the apps 'ios', 'android'"):
        BatchHook(app=app).get_campaign("abc")
    assert two_apps.requests == ()


@pytest.mark.parametrize("app", [None, "", "None"])
def test_an_app_that_renders_to_nothing_counts_as_no_app(batch, token, app):
    assert BatchHook(app=app).get_campaign(token)["campaign_token"] == token


def test_an_app_is_only_a_label_where_login_holds_the_only_key(batch, token):
    assert BatchHook(app="ios").get_campaign(token)["campaign_token"] == token


def test_a_connection_that_airflow_does_not_find_is_a_transient_error():
    error = failure_of(BatchHook("nowhere").get_campaign, "abc", kind=BatchConnectionError)
    assert "connection 'nowhere' does not exist" in str(error)


def test_an_error_names_the_app(two_apps):
    error = failure_of(BatchHook(app="ios").get_campaign, "abc", kind=BatchNotFoundError)
    assert "view of campaign 'abc' (app 'ios')" in str(error)


# --------------------------------------------------------------------------------------------------------- update, view


def test_update_campaign_changes_the_campaign_and_returns_the_status(batch, token):
    assert BatchHook().update_campaign(token, {"name": "Winter sale", "live": True}) == 200
    assert batch.campaign(token)["name"] == "Winter sale"
    assert batch.campaign(token)["live"] is True


def test_update_campaign_converts_the_payload_to_batchs_format(batch, token):
    moment = pendulum.datetime(2031, 6, 1, 9, tz="Europe/Paris")
    BatchHook().update_campaign(token, {"live": "False", "push_time": moment})
    assert batch.campaign(token)["push_time"] == "2031-06-01T07:00:00"
    assert batch.campaign(token)["live"] is False


# Four labels and a name of two characters are refused in a user's payload, but Batch may have such a campaign.
def test_a_payload_that_was_checked_before_is_sent_unchanged(batch, token):
    seen = {"name": "ab", "live": False, "labels": ["a", "b", "c", "d"]}
    bodies = []
    hook = BatchHook()
    answer = Answer(200, {}, CREATED, CREATE, "create", str)
    hook._request = lambda _, __, *, body: bodies.append(json.loads(body)) or answer
    hook.update_campaign(token, seen, checked=True)
    assert hook.create_campaign(seen, checked=True) == "abc"
    assert bodies == [seen, seen]


def test_the_hook_keeps_the_status_of_the_last_response(batch, token):
    hook = BatchHook()
    assert (hook.last_status, hook.has_answered) == (None, False)
    batch.inject("429", "reset_before")
    for _ in range(2):
        failure_of(hook.get_campaign, token)
        assert (hook.last_status, hook.has_answered) == (429, True)
    hook.get_campaign(token)
    assert hook.last_status == 200


def test_a_request_without_a_response_leaves_has_answered_false(batch, token):
    batch.inject("reset_before")
    hook = BatchHook()
    failure_of(hook.get_campaign, token)
    assert (hook.last_status, hook.has_answered) == (None, False)


def test_get_campaign_returns_the_campaign_as_batch_sends_it(batch, token):
    assert BatchHook().get_campaign(token) == batch.campaign(token)


def test_each_method_sends_one_request_and_test_connection_sends_two_reads(batch, token):
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


def test_the_user_agent_names_the_provider_and_airflow(batch, token):
    BatchHook().get_campaign(token)
    assert batch.requests[0].user_agent == f"airflow-provider-batch/{__version__} apache-airflow/{airflow_version}"


def test_an_update_has_the_content_type_of_json(connect):
    with BatchSandbox(contract=Contract(content_type="MALFORMED_JSON_BODY")) as batch:
        connect(batch.connection())
        assert BatchHook().update_campaign(batch.add_campaign(SUMMER), {"live": True}) == 200


@pytest.mark.parametrize("wrong", ["", "../list", None])
def test_an_invalid_token_is_refused_before_any_request(batch, wrong):
    with pytest.raises(BatchPayloadError):
        BatchHook().update_campaign(wrong, {"live": False})
    with pytest.raises(BatchPayloadError):
        BatchHook().get_campaign(wrong)
    assert batch.requests == ()


@pytest.mark.parametrize(
    "payload", [{}, {"live": "perhaps"}, {"custom": 10**5000}], ids=["empty", "live", "huge number"]
)
def test_an_invalid_payload_is_refused_before_any_request(batch, token, payload):
    with pytest.raises(BatchPayloadError):
        BatchHook().update_campaign(token, payload)
    assert batch.requests == ()


# ------------------------------------------------------------------------------------------------------------- failures


def update(token):
    return BatchHook().update_campaign(token, {"live": True})


def view(token):
    return BatchHook().get_campaign(token)


BOTH = pytest.mark.parametrize("call", [update, view])


def test_a_503_with_code_2_is_a_maintenance_error(batch, token):
    batch.inject("503;retry-after=120")
    error = failure_of(update, token, kind=BatchMaintenanceError)
    assert error.retry_after == 120.0
    assert not error.may_have_been_applied


def test_the_hook_does_not_repeat_a_throttled_request(connect):
    with BatchSandbox(rate=0.01, retry_after="computed") as batch:
        connect(batch.connection())
        token = batch.add_campaign(SUMMER)
        update(token)
        error = failure_of(update, token, kind=BatchRateLimitError)
        assert [record.status for record in batch.requests] == [200, 429]
    assert 90 < error.retry_after <= 100


def test_a_retry_after_date_counts_from_the_date_of_the_server(connect):
    start = datetime(2040, 1, 1, tzinfo=UTC)
    with BatchSandbox(rate=0.05, retry_after="http-date", clock=lambda: start) as batch:
        connect(batch.connection())
        token = batch.add_campaign(SUMMER)
        update(token)
        assert failure_of(update, token, kind=BatchRateLimitError).retry_after == 20.0


def test_an_update_that_failed_with_a_500_may_have_been_applied(batch, token):
    batch.inject("update:500;applied=true")
    assert failure_of(update, token, kind=BatchServerError).may_have_been_applied
    assert batch.campaign(token)["live"] is True


def test_get_campaign_of_an_unknown_token_raises_not_found(batch):
    error = failure_of(view, "0" * 32, kind=BatchNotFoundError)
    assert "belongs to the app whose API key is used" in str(error)


# ---------------------------------------------------------------------------------------------- unexpected responses


def test_a_204_confirms_an_update(batch, token):
    batch.inject("update:204;applied=true")
    assert update(token) == 204


def test_the_view_of_another_campaign_is_an_unreadable_response(batch, token):
    other = batch.campaign(batch.add_campaign(SUMMER))
    batch.inject(Fault("answer", "view", status=200, body=other))
    error = failure_of(view, token, kind=BatchResponseError)
    assert error.transient
    assert not error.may_have_been_applied


# In every campaign, live is a boolean. Without one, the answer must not be taken for a stopped campaign.
def test_an_answer_that_is_no_campaign_is_not_returned_as_one(batch, token):
    batch.inject(Fault("answer", "view", status=200, body={"campaign_token": token, "live": "true"}))
    assert not failure_of(view, token, kind=BatchResponseError).may_have_been_applied


def test_a_hook_can_be_used_after_a_response_that_is_too_large(batch, token):
    hook = BatchHook()
    batch.inject(Fault("answer", status=502, body=b"x" * 10_000_000))
    failure_of(hook.get_campaign, token)
    assert hook.get_campaign(token)["campaign_token"] == token


# ------------------------------------------------------------------------------------------------------------ redirects


@BOTH
@pytest.mark.parametrize(
    ("status", "location"),
    [(301, "same"), (302, "other"), (303, "http"), (307, "//other.invalid{path}"), (308, "not a URL"), (307, "")],
)
def test_a_redirect_is_refused_and_not_followed(batch, token, call, status, location):
    batch.inject(Fault("redirect", status=status, location=location))
    error = failure_of(call, token, kind=BatchResponseError)
    assert error.status_code == status
    assert error.may_have_been_applied is (call is update)
    assert "correct the connection's host" in str(error)
    assert len(batch.requests) == 1


# ----------------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize("status", [401, 500])
def test_a_key_that_the_server_repeats_is_removed_from_the_error(secretive, status):
    token = secretive.add_campaign(SUMMER)
    secretive.inject(Fault("echo", status=status, times=None))
    for call in (update, view):
        error = failure_of(call, token)
        assert "X-Authorization *** with app key ***" in str(error)
        assert_shows_no_key(f"{error!s} {error!r} {vars(error)!r}")


@pytest.mark.parametrize("kind", ["rest", "live"])
@pytest.mark.parametrize("place", [MAX_SERVER_TEXT - 8, 64 * MAX_SERVER_TEXT - 16])
@pytest.mark.parametrize(("status", "form"), [(401, "message"), (200, "html")])
def test_a_key_is_removed_where_a_text_of_the_server_is_cut(secretive, status, form, place, kind):
    text = "." * place + f"sandbox-{SECRET[kind]}" + "." * 100
    body = {"message": text} if form == "message" else text.encode()
    secretive.inject(Fault("answer", "update", status=status, body=body))
    error = failure_of(update, secretive.add_campaign(SUMMER))
    assert_shows_no_key(f"{error!s} {error!r}")


def test_a_key_is_removed_from_the_error_in_every_spelling_of_urls_and_json(connect):
    key = 'sandbox-a/b+c"d\\e%'
    with BatchSandbox(rest_key=key) as batch:
        connect(batch.connection())
        token = batch.add_campaign(SUMMER)
        said = f"{key} {quote(key, safe='')} {quote(key)} " + key.replace("\\", "\\\\").replace('"', '\\"')
        batch.inject(Fault("answer", status=401, body=said))
        assert "saying '*** *** *** ***'" in str(failure_of(view, token))


def test_a_key_that_the_server_repeats_in_another_case_or_in_part_is_removed_from_the_error(secretive):
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
def test_no_local_variable_of_a_frame_that_raises_contains_a_key(secretive, fault):
    token = secretive.add_campaign(SUMMER)
    secretive.inject(Fault.from_text(fault), Fault.from_text(fault))
    for call in (update, view):
        assert_shows_no_key("".join(locals_of(failure_of(call, token))))


@pytest.mark.parametrize("wrong", [{"password": ""}, {"login": "a b"}, {"extra": {"retries": 3}}, {"extra": "{"}])
@pytest.mark.parametrize("read", [False, True], ids=["read by the hook", "read before"])
def test_no_local_variable_of_a_frame_that_refuses_a_connection_contains_a_key(secretive, connect, wrong, read):
    fields = {**secretive.connection(), **wrong}
    connect(fields)
    given = Connection(conn_id="x", **{**fields, "extra": json.dumps(fields.get("extra") or {})})
    error = failure_of(*((BatchHook.from_connection, given) if read else (view, "abc")), kind=BatchError)
    assert_shows_no_key("".join(locals_of(error)))


def test_login_is_not_masked_where_it_is_not_used_as_a_key(two_apps, connect):
    connect(two_apps.connection("api_keys") | {"login": "campaignlogin"})
    BatchHook(app="ios").get_conn()
    assert redact("the campaignlogin is live") == "the campaignlogin is live"


def test_airflow_masks_every_key_also_as_it_is_written_in_urls(connect):
    keys = ["sandbox-masked/rest+key", "sandbox-masked/ios+key"]
    connect(
        {"conn_type": "batch", "host": "http://127.0.0.1", "password": keys[0], "extra": {"api_keys": {"a": keys[1]}}}
    )
    BatchHook(app="a").get_conn()
    for key in keys:
        assert redact(f"{key} and {quote(key, safe='')} and {quote(key)}") == "*** and *** and ***"


def test_airflow_masks_the_keys_of_an_invalid_connection(connect):
    connect({"conn_type": "batch", "password": "masked-password-1", "login": "masked-login-1", "extra": {"x": 1}})
    with pytest.raises(BatchConfigurationError):
        BatchHook().get_conn()
    assert redact("masked-password-1 masked-login-1") == "*** ***"


def test_the_log_warns_that_the_connection_leads_to_the_sandbox(batch, token, caplog, capfd):
    with caplog.at_level(logging.WARNING):
        view(token)
    printed = capfd.readouterr()
    assert "no push reaches anyone" in caplog.text + printed.out + printed.err


# ------------------------------------------------------------------------------------------------------ test_connection


def test_connection_accepts_a_valid_connection(batch):
    accepted, text = BatchHook().test_connection()
    assert accepted is True
    assert text == f"Connected to {batch.url}; the app API key can list campaigns (there is none yet)."
    assert [record.operation for record in batch.requests] == ["list"]


def test_connection_views_the_first_listed_campaign(batch, token):
    accepted, text = BatchHook().test_connection()
    assert accepted is True
    assert text == f"Connected to {batch.url}; the app API key can read campaigns."
    assert [record.operation for record in batch.requests] == ["list", "view"]


def test_connection_accepts_a_key_that_can_list_but_not_view_and_says_so(batch, token, connect):
    connect(batch.connection(kind="dev"))
    accepted, text = BatchHook().test_connection()
    assert accepted is True
    assert "the app API key can list campaigns, but not view them. Batch refused the view" in text
    assert "403" in text


@pytest.mark.parametrize("wrong", [{"login": ""}, {"extra": {"retries": 3}}, {"port": 1}, None])
def test_no_message_of_test_connection_names_airflows_temporary_connection_id(batch, connect, wrong):
    if wrong is not None:
        connect(batch.connection() | wrong, "vqzhkqbgvx")
    accepted, text = BatchHook("vqzhkqbgvx").test_connection()
    assert accepted is False
    assert "this connection" in text.lower()
    assert "vqzhkqbgvx" not in text


def test_no_sentence_of_test_connection_names_airflows_temporary_connection_id(two_apps, connect):
    connect(two_apps.connection("api_keys"), "vqzhkqbgvx")
    accepted, text = BatchHook("vqzhkqbgvx", app="windows").test_connection()
    assert accepted is False
    assert "Unknown app 'windows': this connection knows the apps 'ios', 'android'" in text


def test_connection_checks_the_key_of_every_app(two_apps):
    for app in ("ios", "android"):
        two_apps.add_campaign(SUMMER, app=app)
    accepted, text = BatchHook().test_connection()
    assert accepted is True
    assert "'ios' can read" in text
    assert "'android' can read" in text
    assert [record.app for record in two_apps.requests] == ["ios", "ios", "android", "android"]


def test_connection_checks_only_the_named_app(two_apps):
    assert BatchHook(app="android").test_connection()[0] is True
    assert [record.app for record in two_apps.requests] == ["android"]


def test_connection_rejects_one_invalid_app_key_and_names_its_app(two_apps, connect):
    connection = two_apps.connection("api_keys")
    connection["extra"]["api_keys"]["android"] = "sandbox-wrong"
    connect(connection)
    accepted, text = BatchHook().test_connection()
    assert accepted is False
    assert "'ios' can list" in text
    assert "the app API key of 'android' is not of the same company" in text


def test_connection_rejects_an_invalid_rest_key(secretive, connect):
    connect(secretive.connection() | {"password": f"sandbox-{SECRET['dev']}"})
    accepted, text = BatchHook().test_connection()
    assert accepted is False
    assert text.startswith("Wrong REST API key (password)")
    assert_shows_no_key(text)


@pytest.mark.parametrize(
    ("error", "words"),
    [("AUTHENTICATION_INVALID", "is not of the same company"), ("ROUTE_NOT_FOUND", "Batch does not know")],
)
def test_connection_rejects_an_invalid_app_key_whether_batch_answers_401_or_404(connect, error, words):
    with BatchSandbox(contract=Contract(unknown_app_key=error)) as batch:
        connect(batch.connection() | {"login": f"sandbox-{SECRET['dev']}"})
        accepted, text = BatchHook().test_connection()
    assert accepted is False
    assert words in text
    assert_shows_no_key(text)


def test_connection_accepts_a_key_that_cannot_read_and_says_so(connect):
    with BatchSandbox(contract=Contract(dev_key_list="API_MISUSE")) as batch:
        connect(batch.connection(kind="dev"))
        accepted, text = BatchHook().test_connection()
    assert accepted is True
    assert "the app API key cannot read campaigns, so writes cannot be checked" in text


def test_connection_rejects_a_host_that_cannot_be_reached(batch, connect):
    with socket.create_server(("127.0.0.1", 0)) as server:
        unused = f"http://127.0.0.1:{server.getsockname()[1]}"
    connect(batch.connection() | {"host": unused})
    accepted, text = BatchHook().test_connection()
    assert accepted is False
    assert text.startswith(f"{unused} cannot be reached.")


def test_connection_rejects_a_host_name_that_does_not_resolve(connect):
    connect({"conn_type": "batch", "host": "https://no-such-host.invalid", "password": "rest-key", "login": "app-key"})
    accepted, text = BatchHook().test_connection()
    assert accepted is False
    assert text.startswith("https://no-such-host.invalid cannot be reached.")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("429", "429"),
        ("500", "500"),
        ("html", "502"),
        ("redirect", "302"),
        ("reset_before", "No answer"),
        ("200;body={}", "JSON array"),
    ],
)
def test_connection_gives_the_reason_of_every_other_failure(batch, fault, words):
    batch.inject(fault)
    accepted, text = BatchHook().test_connection()
    assert accepted is False
    assert words in text


def test_connection_rejects_an_incomplete_connection_without_a_request(batch, connect):
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
def test_the_error_for_swapped_keys_says_to_check_both_and_shows_no_key(batch, connect, swapped):
    connect({**batch.connection(), **swapped(batch.rest_key, batch.app_key())})
    with pytest.raises(BatchAuthenticationError, match=r"connection's password .* and the app API key") as caught:
        BatchHook().get_campaign("abc")
    assert batch.rest_key not in str(caught.value)
    assert batch.app_key() not in str(caught.value)


def test_the_error_for_a_404_says_to_check_whether_the_keys_are_swapped(connect):
    with BatchSandbox(contract=Contract(unknown_app_key="ROUTE_NOT_FOUND")) as sandbox:
        connect({**sandbox.connection(), "login": "sandbox-other"})
        with pytest.raises(BatchNotFoundError, match="no REST API key stands in its place"):
            BatchHook().get_campaign("abc")
