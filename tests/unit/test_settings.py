"""The settings of a connection: what is allowed, what is refused, and that no refusal shows a key."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest
from airflow.sdk import Connection

from airflow_batch._http.settings import DEFAULT_HOST, DEFAULT_TIMEOUT, EXTRA_KEYS, TOTAL_TIMEOUT, read_settings, redact
from airflow_batch.exceptions import BatchConfigurationError

REST = "RESTqwertzuiopasdf"
APP = "APPKyxcvbnmlkjhgfd"
IOS = "IOSKpoiuztrewqasdf"
ANDROID = "DROImnbvcxyasdfghj"
CANARIES = (REST, APP, IOS, ANDROID)
KEYS = {"login": APP, "password": REST}
API_KEYS = {"ios": IOS, "android": ANDROID}


def connection(extra=None, **fields):
    values = {"conn_type": "batch", **KEYS, **fields}
    if extra is not None:
        values["extra"] = extra
    return Connection.from_json(json.dumps(values), conn_id="my_batch")


def settings(extra=None, **fields):
    return read_settings(connection(extra, **fields))


def refusal(extra=None, **fields):
    with pytest.raises(BatchConfigurationError) as caught:
        settings(extra, **fields)
    return str(caught.value)


def assert_shows_no_key(text):
    pieces = {key[start : start + 6] for key in CANARIES for start in range(len(key) - 5)}
    assert [piece for piece in pieces if piece in text] == []


# --------------------------------------------------------------------------------------------------------- host and URI


def test_a_connection_with_two_keys_has_batchs_address_and_every_default():
    read = settings()
    assert read.base_url == DEFAULT_HOST == "https://api.batch.com"
    assert read.rest_key == REST
    assert read.api_key(None) == APP
    assert read.timeout == DEFAULT_TIMEOUT == (10.0, 30.0)
    assert read.requests_per_second is None
    assert list(read.api_keys) == [None]


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "https://batch.example"}, "https://batch.example"),
        ({"host": "https://batch.example/"}, "https://batch.example"),
        ({"host": "  https://batch.example  "}, "https://batch.example"),
        ({"host": "https://batch.example/eu/"}, "https://batch.example/eu"),
        ({"host": "https://batch.example:8443"}, "https://batch.example:8443"),
        ({"host": "https://batch.example", "port": 8443}, "https://batch.example:8443"),
        ({"host": "https://batch.example:8443", "port": 8443}, "https://batch.example:8443"),
        ({"host": "batch.example"}, "https://batch.example"),
        ({"host": "batch.example", "schema": "https"}, "https://batch.example"),
        ({"host": "batch.example", "schema": "HTTPS"}, "https://batch.example"),
        ({"host": "https://batch.example", "schema": "https"}, "https://batch.example"),
        ({"host": "127.0.0.1", "schema": "http", "port": 8765}, "http://127.0.0.1:8765"),
        ({"host": "::1", "schema": "http", "port": 8765}, "http://[::1]:8765"),
        ({"host": "[::1]:8765", "schema": "http"}, "http://[::1]:8765"),
        ({"port": 8443}, "https://api.batch.com:8443"),
    ],
)
def test_host_schema_and_port_make_the_base_url(fields, url):
    assert settings(**fields).base_url == url


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        (f"batch://{APP}:{REST}@", "https://api.batch.com"),
        (f"batch://{APP}:{REST}@batch.example", "https://batch.example"),
        (f"batch://{APP}:{REST}@batch.example:8443/https", "https://batch.example:8443"),
        (f"batch://{APP}:{REST}@localhost:8765/http", "http://localhost:8765"),
        (f"batch://{APP}:{REST}@http%3A%2F%2Flocalhost:8765", "http://localhost:8765"),
    ],
)
def test_a_connection_uri_gives_the_same_settings_as_the_form(uri, url):
    read = read_settings(Connection.from_uri(uri, conn_id="my_batch"))
    assert (read.base_url, read.rest_key, read.api_key(None)) == (url, REST, APP)


def test_a_connection_uri_can_have_every_extra_as_text():
    query = f"timeout={quote('[5, 20]')}&requests_per_second=2.5&api_keys={quote(json.dumps(API_KEYS))}"
    read = read_settings(Connection.from_uri(f"batch://:{REST}@/?{query}", conn_id="my_batch"))
    assert read.timeout == (5.0, 20.0)
    assert read.requests_per_second == 2.5
    assert [read.api_key("ios"), read.api_key("android")] == [IOS, ANDROID]


@pytest.mark.parametrize(
    "extra", [{"api_keys": "", "timeout": "", "requests_per_second": None}, "", "  ", "{}", {}], ids=repr
)
def test_empty_fields_and_extras_count_as_absent(extra):
    assert settings(extra, host="", schema="", port=None) == settings()


@pytest.mark.parametrize(
    "host",
    [
        *("ftp://batch.example", "https://", "https://batch example", "https://batch.example:port", "https://[::1"),
        *("https://user@batch.example", "https://batch.example?a=b", "https://batch.example#part"),
    ],
)
def test_a_host_that_is_not_a_base_url_is_refused(host):
    message = refusal(host=host)
    assert "'my_batch'" in message
    assert "host must be a base URL such as https://api.batch.com" in message


@pytest.mark.parametrize(
    ("fields", "place"), [({"schema": "http"}, "schema must be 'https'"), ({"port": 81}, "port must be 8443")]
)
def test_a_field_that_contradicts_the_host_is_refused(fields, place):
    assert place in refusal(host="https://batch.example:8443", **fields)


@pytest.mark.parametrize(
    "host",
    ["http://api.batch.com", "http://10.0.0.1", "http://localhost.example", "http://128.0.0.1", "http://0.0.0.0"],
)
def test_http_is_refused_except_on_loopback(host):
    assert "http:// would send the REST key unprotected" in refusal(host=host)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        *((f"http://{host}", True) for host in ("localhost", "LOCALHOST.", "127.0.0.1:1", "127.1.2.3", "[::1]")),
        *((host, False) for host in (None, "example.com", "0.0.0.0", "127.0.0.1.example.com", "::2", "10.0.0.1")),
    ],
)
def test_loopback_hosts_are_recognised(host, is_loopback):
    assert settings(host=host).is_loopback is is_loopback


# ---------------------------------------------------------------------------------------------------------------- extra


@pytest.mark.parametrize(
    ("timeout", "pair"),
    [
        (5, (5.0, 5.0)),
        (0.5, (0.5, 0.5)),
        ([5, 20], (5.0, 20.0)),
        ("7", (7.0, 7.0)),
        ("[1.5, 2]", (1.5, 2.0)),
        (60, (60.0, 60.0)),
    ],
)
def test_timeout_may_be_a_number_or_a_pair_or_either_as_text(timeout, pair):
    assert settings({"timeout": timeout}).timeout == pair


@pytest.mark.parametrize(
    "timeout",
    [
        0,
        -1,
        True,
        TOTAL_TIMEOUT + 1,
        [],
        [1],
        [1, 2, 3],
        [0, 5],
        [1, None],
        [1, "2"],
        {},
        "soon",
        "NaN",
        "Infinity",
        "1e999",
        [True, 1],
        "9" * 400,
    ],
)
def test_a_timeout_that_does_not_limit_a_request_is_refused(timeout):
    message = refusal({"timeout": timeout})
    assert "extra timeout must be seconds above 0 and up to 60, one number or [connect, read]" in message


@pytest.mark.parametrize(("burst", "read"), [(1, 1), ("20", 20), (None, 1), ("", 1)])
def test_a_burst_is_a_whole_number_also_as_text(burst, read):
    assert settings({"burst": burst}).burst == read


@pytest.mark.parametrize("burst", [0, -1, 1.5, "many", True, 1_001, [5]])
def test_a_burst_that_is_no_whole_number_in_range_is_refused(burst):
    assert "extra burst must be a whole number from 1 to 1000" in refusal({"burst": burst})


@pytest.mark.parametrize(("rate", "read"), [(2, 2.0), (0.5, 0.5), ("1.5", 1.5)])
def test_requests_per_second_may_be_a_number_or_its_text(rate, read):
    assert settings({"requests_per_second": rate}).requests_per_second == read


@pytest.mark.parametrize("rate", [0, -1, True, "fast", "Infinity", [1], {}, "9" * 400])
def test_requests_per_second_must_be_a_number_above_zero(rate):
    assert "extra requests_per_second must be a number above 0" in refusal({"requests_per_second": rate})


@pytest.mark.parametrize("extra", [{"retries": 3, "timeout": 5}, {"retries": "null"}, {"retries": '""'}])
def test_an_unknown_extra_is_named_with_those_that_are_allowed(extra):
    message = refusal(extra)
    assert "unknown extra 'retries'" in message
    assert all(name in message for name in EXTRA_KEYS)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("not json", "it is not JSON"),
        ("[1]", "it is a list"),
        ("1", "it is a int"),
        ('{"timeout": ' + "[" * 100_000 + "]" * 100_000 + "}", ""),
    ],
    ids=["text", "list", "number", "nested too deep"],
)
def test_an_extra_that_is_not_a_json_object_is_refused(text, found):
    with pytest.raises(BatchConfigurationError, match=re.escape(f"extra must be a JSON object; {found}")):
        read_settings(Connection(conn_id="my_batch", conn_type="batch", extra=text, **KEYS))


@pytest.mark.parametrize(
    ("given", "read"), [(True, True), (False, False), ("true", True), ("False", False), (" TRUE ", True)]
)
def test_dry_run_is_a_boolean_or_its_text(given, read):
    assert settings({"dry_run": given}).dry_run is read
    assert settings().dry_run is False


@pytest.mark.parametrize(("text", "read"), [("true", True), ("false", False), ("True", True)])
def test_dry_run_of_a_connection_uri_is_text(text, read):
    uri = f"batch://{APP}:{REST}@?dry_run={text}"
    assert read_settings(Connection.from_uri(uri, conn_id="my_batch")).dry_run is read


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        *(("yes", "'yes'"), ("1", "'1'"), (1, "1"), (0, "0"), (1.0, "1.0"), (None, "null"), ("", "''")),
        *((" ", "' '"), ("null", "'null'"), ([True], "a value of type list"), (API_KEYS, "a value of type dict")),
        (REST, "a longer text"),
    ],
)
def test_a_dry_run_that_is_no_boolean_is_refused_because_it_may_mean_that_nothing_may_be_written(given, shown):
    message = refusal({"dry_run": given})
    assert message == (
        f"Connection 'my_batch': extra dry_run must be true or false, not {shown}. Nothing is sent until it is."
    )


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        ('{"dry_run": true, "timeout": 5, "dry_run": false}', "'dry_run'"),
        (f'{{"api_keys": {{"ios": "{IOS}", "ios": "{ANDROID}"}}}}', "'ios'"),
        (f'{{"{IOS}": 1, "{IOS}": 2}}', "(a name with the form of a key)"),
    ],
)
def test_an_extra_that_is_there_twice_is_refused_because_one_of_them_may_mean_that_nothing_may_be_written(extra, name):
    message = refusal(extra)
    assert message == f"Connection 'my_batch': extra has {name} more than once. Nothing is sent until it is there once."


# ----------------------------------------------------------------------------------------------------------------- apps


def test_each_app_has_its_key_in_the_connections_order():
    read = settings({"api_keys": API_KEYS})
    assert list(read.api_keys) == ["ios", "android"]
    assert [read.api_key(app) for app in read.api_keys] == [IOS, ANDROID]


def test_login_is_ignored_where_api_keys_has_the_apps():
    assert settings({"api_keys": API_KEYS}, login=None) == settings({"api_keys": API_KEYS})


def test_an_app_is_only_a_label_where_login_has_the_only_key():
    assert settings().api_key("ios") == APP


@pytest.mark.parametrize(("app", "asked"), [("windows", "Unknown app 'windows'"), (None, "No app was named")])
def test_an_unknown_app_is_refused_and_the_known_apps_are_named(app, asked):
    with pytest.raises(BatchConfigurationError) as caught:
        settings({"api_keys": API_KEYS}).api_key(app)
    assert asked in str(caught.value)
    assert "'ios', 'android'" in str(caught.value)


@pytest.mark.parametrize("api_keys", [{}, [], [IOS], IOS, 5, True, {"": IOS}, {" ": IOS}])
def test_api_keys_without_names_of_apps_are_refused(api_keys):
    assert 'extra api_keys must be an object such as {"ios": "...", "android": "..."}' in refusal(
        {"api_keys": api_keys}
    )


# ----------------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"password": None}, "has no password"),
        ({"password": ""}, "has no password"),
        ({"login": None}, "has no login"),
        ({"login": ""}, "login must hold the app's Live, Dev or SDK API key"),
        ({"login": ""}, 'api_keys one key for each app, such as {"ios": "...", "android": "..."}'),
        ({"extra": {"api_keys": {"ios": ""}}}, "has no extra api_keys['ios']"),
        ({"extra": {"api_keys": {"ios": None}}}, "has no extra api_keys['ios']"),
    ],
)
def test_a_missing_key_is_named_with_what_the_field_must_hold(fields, place):
    message = refusal(**fields)
    assert place in message
    assert re.search("(it|login) must hold the", message)


BAD_KEYS = [
    f"{APP} ",
    f" {APP}",
    f"{APP}\n",
    f"{APP}\r\nX-Other: 1",
    f"{APP[:9]} {APP[9:]}",
    f"{APP}é",
    f"{APP}\x00",
    ".",
    "..",
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_cannot_be_sent_unchanged_is_refused_and_not_shown(key):
    for place in ("password", "login", "extra api_keys['ios']"):
        message = refusal(**({"extra": {"api_keys": {"ios": key}}} if place.startswith("extra") else {place: key}))
        assert f"{place} must be printable ASCII without spaces" in message
        assert_shows_no_key(message)


@pytest.mark.parametrize("fields", [{"login": REST}, {"extra": {"api_keys": {"ios": IOS, "android": REST}}}])
def test_the_same_key_in_two_places_is_refused_and_not_shown(fields):
    message = refusal(**fields)
    assert "one key in two places" in message
    assert_shows_no_key(message)


@pytest.mark.parametrize(
    "fields",
    [
        {"password": "sandbox-rest-key", "login": "sandbox-app-live"},
        {"password": "sandbox-rest-key"},
        {"login": "sandbox-app-live"},
        {"extra": {"api_keys": {"ios": IOS, "android": "sandbox-android-live"}}},
        {"login": "sandbox-app-live", "host": "https://batch.example"},
    ],
)
def test_a_sandbox_key_is_refused_for_a_host_that_is_not_loopback(fields):
    message = refusal(**fields)
    assert "Sandbox keys are only sent to this machine" in message
    assert "sandbox-rest-key" not in message
    assert "sandbox-app-live" not in message
    assert "sandbox-android-live" not in message


@pytest.mark.parametrize("host", ["http://127.0.0.1:8765", "https://localhost", "http://[::1]:8765"])
def test_a_connection_to_the_sandbox_is_recognised_by_its_keys(host):
    assert settings(host=host, password="sandbox-rest-key").is_sandbox
    assert not settings(host=host).is_sandbox


# -------------------------------------------------------------------------------------------------------- nothing shown

WRONG = {
    "host_with_credentials": {"host": f"https://{APP}:{REST}@batch.example"},
    "host_with_credentials_and_a_wrong_scheme": {"host": f"ftp://{APP}:{REST}@batch.example"},
    "host_with_credentials_and_a_space": {"host": f"https://{APP}:{REST}@batch example"},
    "host_with_credentials_and_a_wrong_port": {"host": f"https://{APP}:{REST}@batch.example:port"},
    "host_with_a_query": {"host": f"https://batch.example/?key={APP}"},
    "http": {"host": "http://api.batch.com"},
    "schema": {"host": "https://batch.example", "schema": "http"},
    "port": {"host": "https://batch.example:1", "port": 2},
    "no_password": {"password": ""},
    "no_login": {"login": ""},
    "space_in_password": {"password": f"{REST} {ANDROID}"},
    "line_end_in_login": {"login": f"{APP}\n"},
    "space_in_app_key": {"extra": {"api_keys": {"ios": f"{IOS} "}}},
    "app_key_is_a_list": {"extra": {"api_keys": {"ios": [IOS]}}},
    "app_key_is_an_object": {"extra": {"api_keys": {"ios": {"live": IOS}}}},
    "api_keys_is_a_key": {"extra": {"api_keys": IOS}},
    "api_keys_is_a_list": {"extra": {"api_keys": [IOS, ANDROID]}},
    "api_keys_is_broken_json": {"extra": {"api_keys": f'{{"ios": "{IOS}"'}},
    "api_keys_without_a_name": {"extra": {"api_keys": {"": IOS}}},
    "extra_is_broken_json": {"extra": f'{{"api_keys": {{"ios": "{IOS}"}}'},
    "api_keys_with_an_app_twice": {"extra": f'{{"api_keys": {{"ios": "{IOS}", "ios": "{ANDROID}"}}}}'},
    "extra_is_a_key": {"extra": f'"{IOS}"'},
    "unknown_extra": {"extra": {"ios": IOS, "api_key": ANDROID}},
    "a_key_as_the_name_of_an_extra": {"extra": {IOS: "ios"}},
    "api_keys_swapped_with_a_space": {"extra": {"api_keys": {IOS: "i os"}}},
    "api_keys_swapped_with_a_list": {"extra": {"api_keys": {IOS: ["ios"]}}},
    "timeout_is_a_key": {"extra": {"timeout": IOS}},
    "timeout_is_a_list_of_keys": {"extra": {"timeout": [IOS, ANDROID]}},
    "timeout_is_an_object": {"extra": {"timeout": {"ios": IOS}}},
    "rate_is_a_key": {"extra": {"requests_per_second": IOS}},
    "rate_is_a_list_of_keys": {"extra": {"requests_per_second": [IOS]}},
    "one_key_is_the_sandboxs": {"extra": {"api_keys": {"ios": IOS, "android": "sandbox-android-live"}}},
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG)
def test_a_refused_connection_shows_no_part_of_a_key_and_has_no_other_exception_as_its_context(fields):
    with pytest.raises(BatchConfigurationError) as caught:
        settings(**fields)
    assert_shows_no_key(f"{caught.value!s} {caught.value!r}")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize("api_keys", [API_KEYS, {IOS: "ios", ANDROID: "android"}], ids=["right", "swapped"])
def test_a_refused_app_shows_no_key(api_keys):
    for app in ("windows", None, IOS[:-1]):
        with pytest.raises(BatchConfigurationError) as caught:
            settings({"api_keys": api_keys}).api_key(app)
        assert_shows_no_key(str(caught.value))


def test_the_repr_of_the_settings_shows_no_key():
    assert_shows_no_key(f"{settings()!r} {settings({'api_keys': API_KEYS})!s}")


def test_the_secrets_to_mask_are_every_key():
    assert set(settings({"api_keys": API_KEYS}).secrets) == {REST, IOS, ANDROID}
    assert set(settings().secrets) == {REST, APP}


def test_redact_removes_keys_with_the_same_start_as_a_whole():
    secrets = ["sandbox-android-live", "sandbox-android-dev", "short"]
    text = "sandbox-android-dev, SANDBOX-ANDROID-LIVE, sandbox-android-de, sandbox-andr, sandbox-and, Short"
    assert redact(text, secrets) == "***, ***, ***, ***, sandbox-and, ***"


def test_redact_changes_nothing_where_there_is_no_key():
    assert redact("sandbox-and", []) == "sandbox-and"


def test_redact_removes_parts_of_a_key_that_overlap_as_a_whole():
    assert redact("say abcabcabcabcabcx", ["abcabcabcabcx"]) == "say ***"
