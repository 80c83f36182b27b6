"""Starting, stopping and addressing a sandbox."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from datetime import datetime, timedelta

import pytest
import requests

from airflow_batch.sandbox import BatchSandbox, Fault


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
def test_a_sandbox_refuses_to_bind_an_address_that_is_not_loopback(host):
    with pytest.raises(ValueError, match="loopback"):
        BatchSandbox(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_a_sandbox_binds_a_loopback_address(make_sandbox, make_api, host):
    assert make_api(make_sandbox(host=host)).list().status_code == 200


def test_the_url_is_known_once_the_sandbox_runs(make_sandbox):
    with pytest.raises(RuntimeError, match="start"):
        _ = BatchSandbox().url

    assert make_sandbox().url.startswith("http://127.0.0.1:")


def test_a_port_that_is_in_use_is_an_error(sandbox):
    with pytest.raises(OSError, match="in use"):
        BatchSandbox(port=int(sandbox.url.rpartition(":")[2])).start()


def test_a_sandbox_stops_at_once_with_silent_connections_and_leaves_no_thread(make_api):
    threads = set(threading.enumerate())
    sandbox = BatchSandbox()
    sandbox.start()
    sandbox.inject(
        Fault("silence", times=2), Fault("drip", interval=30), Fault("late", times=2), Fault("delay", delay=30)
    )
    api = make_api(sandbox)
    clients = [threading.Thread(target=_ask, args=(api,)) for _ in range(6)]
    for client in clients:
        client.start()
    while len(sandbox.requests) < 6:
        time.sleep(0.005)

    start = time.monotonic()
    sandbox.stop()

    assert time.monotonic() - start < 1
    for client in clients:
        client.join(5)
    assert set(threading.enumerate()) == threads


def test_a_sandbox_stops_without_waiting_for_a_request_that_is_half_sent(make_api):
    sandbox = BatchSandbox()
    sandbox.start()
    host, port = sandbox.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(
            b"POST /1.1/sandbox-app-live/campaigns/create HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"
        )
        make_api(sandbox).list()
        start = time.monotonic()

        sandbox.stop()

    assert time.monotonic() - start < 1
    assert len(sandbox.requests) == 1


def _ask(api):
    with suppress(requests.exceptions.RequestException):
        api.create(timeout=60)


def test_a_late_change_is_not_applied_once_the_sandbox_has_stopped(make_api, definition):
    sandbox = BatchSandbox()
    sandbox.start()
    sandbox.inject(Fault("late", apply_after=30))
    with pytest.raises(requests.exceptions.ReadTimeout):
        make_api(sandbox).create(timeout=0.1)

    sandbox.stop()

    assert sandbox.tokens() == ()


def test_a_stopped_sandbox_refuses_connections_and_keeps_port_and_campaigns_when_started_again(
    sandbox, api, definition
):
    token, url = sandbox.add_campaign(definition), sandbox.url
    sandbox.stop()
    with pytest.raises(requests.exceptions.ConnectionError):
        api.list()

    sandbox.start()

    assert sandbox.url == url
    assert api.view(token).status_code == 200


def test_a_sandbox_may_be_stopped_twice_but_not_started_twice(sandbox):
    with pytest.raises(RuntimeError, match="running"):
        sandbox.start()
    sandbox.stop()
    sandbox.stop()


def test_connections_are_kept_alive(sandbox, api):
    with requests.Session() as session:
        session.headers.update(api.headers)
        url = f"{sandbox.url}/1.1/{api.app_key}/campaigns/list"
        with session.get(url, timeout=5, stream=True) as first:
            first_port = first.raw.connection.sock.getsockname()[1]
            first.json()
        with session.get(url, timeout=5, stream=True) as second:
            assert second.raw.connection.sock.getsockname()[1] == first_port


def test_bytes_that_are_not_http_get_400(sandbox, api):
    host, port = sandbox.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"\x16\x03\x01 not http\r\n\r\n")
        assert b" 400 " in connection.recv(4096)

    assert api.list().status_code == 200


def test_concurrent_requests_are_each_answered_and_numbered(sandbox, api):
    clients = [threading.Thread(target=_ask, args=(api,)) for _ in range(16)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()

    assert len(sandbox.tokens()) == 16
    assert [record.sequence for record in sandbox.requests] == list(range(1, 17))


def test_the_connection_has_the_key_of_one_app_as_login_or_those_of_all_apps(make_sandbox):
    sandbox = make_sandbox(apps=("ios", "android"))

    assert make_sandbox().connection()["extra"] == {}
    assert sandbox.connection(app="ios").items() >= {"login": "sandbox-ios-live", "host": sandbox.url}.items()
    assert sandbox.connection("api_keys") == {
        "conn_type": "batch",
        "host": sandbox.url,
        "password": "sandbox-rest-key",
        "extra": {"api_keys": {"ios": "sandbox-ios-live", "android": "sandbox-android-live"}},
    }
    assert sandbox.connection(app="android", kind="dev")["login"] == "sandbox-android-dev"


def test_app_key_returns_a_key_by_app_and_kind(make_sandbox):
    sandbox = make_sandbox(apps={"ios": {"live": "sandbox-one"}, "android": {}})

    assert sandbox.app_key() == "sandbox-one"
    assert sandbox.app_key("ios", "dev") == "sandbox-ios-dev"
    assert sandbox.app_key("android") == "sandbox-android-live"
    with pytest.raises(KeyError):
        sandbox.app_key("web")


def test_campaign_returns_a_copy(sandbox, definition):
    token = sandbox.add_campaign(definition)
    sandbox.campaign(token)["messages"].clear()
    definition["messages"][0] = {}

    assert sandbox.campaign(token)["messages"] == [{"language": "en", "body": "20 % off"}]


def test_an_unknown_token_or_app_raises_key_error(sandbox, definition):
    for call in (sandbox.campaign, sandbox.complete, sandbox.is_complete):
        with pytest.raises(KeyError):
            call("0" * 32)
    with pytest.raises(KeyError):
        sandbox.set_stats("0" * 32, [])
    with pytest.raises(KeyError):
        sandbox.add_campaign(definition, app="web")


def test_a_clock_without_a_zone_is_refused(definition):
    sandbox = BatchSandbox(clock=lambda: datetime(2030, 1, 1))

    with pytest.raises(ValueError, match="aware"):
        sandbox.add_campaign(definition)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "192.0.2.1"])
@pytest.mark.parametrize("path", ["/", "/sandbox/state", "/1.1/sandbox-app-live/campaigns/list"])
def test_a_host_header_of_another_machine_is_refused_so_that_no_web_page_reads_the_sandbox_by_dns_rebinding(
    sandbox, host, path
):
    response = requests.get(sandbox.url + path, headers={"Host": host}, timeout=5)

    assert (response.status_code, sandbox.requests) == (421, ())


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "127.1.2.3", "[::1]:8765", "[::1]"])
def test_a_host_header_of_this_machine_is_answered(sandbox, host):
    assert requests.get(f"{sandbox.url}/sandbox/state", headers={"Host": host}, timeout=5).status_code == 200


def test_the_date_header_can_differ_from_the_clock(make_sandbox, make_api, clock):
    sandbox = make_sandbox(date_offset=timedelta(minutes=10))
    dates = [make_api(sandbox).list().headers["Date"]]
    sandbox.date_offset = -timedelta(days=1)
    dates.append(make_api(sandbox).list().headers["Date"])

    assert dates == ["Tue, 01 Jan 2030 12:10:00 GMT", "Mon, 31 Dec 2029 12:00:00 GMT"]
