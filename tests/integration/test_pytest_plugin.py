"""The pytest plugin for users: each test starts another pytest, in an empty folder and without this suite's conftest.

Plugins load from `-p` here and not from entry points, so that it is the same wherever the package is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from textwrap import dedent

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLE = CHECKOUT / "docs" / "examples" / "testing"
PLUGIN = "airflow_batch.sandbox.pytest_plugin"


@pytest.fixture
def run_pytest(tmp_path):
    """Return a function that runs pytest on the text of a test file, and gives its exit code and output."""
    folder = tmp_path / "project"
    folder.mkdir()
    (tmp_path / "tmp").mkdir()

    def run(source=None, *arguments, env=None):
        if source is not None:
            (folder / "test_it.py").write_text(dedent(source))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TMPDIR": str(tmp_path / "tmp"), **(env or {})}
        command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", *arguments]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        return done.returncode, done.stdout + done.stderr

    run.folder = folder
    return run


def succeed(result):
    code, output = result
    assert code == 0, output
    return output


def test_the_fixture_batch_sandbox_is_a_running_sandbox_that_batch_default_leads_to(run_pytest):
    succeed(
        run_pytest("""
        import json, os, urllib.request

        def test_it(batch_sandbox):
            connection = json.loads(os.environ["AIRFLOW_CONN_BATCH_DEFAULT"])
            assert connection == batch_sandbox.connection()
            url = f"{connection['host']}/1.1/{connection['login']}/campaigns/list"
            request = urllib.request.Request(url, headers={"X-Authorization": connection["password"]})
            assert urllib.request.urlopen(request, timeout=10).read() == b"[]"
            assert [record.status for record in batch_sandbox.requests] == [200]
    """)
    )


def test_each_test_with_the_fixture_has_its_own_sandbox_and_leaves_nothing(run_pytest):
    succeed(
        run_pytest("""
        import os, threading

        URLS = []

        def test_first(batch_sandbox):
            batch_sandbox.add_campaign({"name": "Summer sale"})
            URLS.append(batch_sandbox.url)

        def test_between():
            assert "AIRFLOW_CONN_BATCH_DEFAULT" not in os.environ
            assert threading.active_count() == 1

        def test_second(batch_sandbox):
            assert batch_sandbox.tokens() == ()
    """)
    )


def test_the_marker_batch_sandbox_sets_connection_throttle_apps_and_clock(run_pytest):
    succeed(run_pytest(
        """
        import json, os, urllib.error, urllib.request
        from datetime import UTC, datetime

        import pytest

        NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)

        @pytest.mark.batch_sandbox(conn_id="batch_eu", rate=1, burst=2, apps=("ios", "android"), clock=lambda: NOON)
        def test_it(batch_sandbox):
            connection = json.loads(os.environ["AIRFLOW_CONN_BATCH_EU"])
            assert "AIRFLOW_CONN_BATCH_DEFAULT" not in os.environ
            assert set(connection["extra"]["api_keys"]) == {"ios", "android"}
            for _ in range(3):
                url = f"{batch_sandbox.url}/1.1/{connection['extra']['api_keys']['android']}/campaigns/list"
                request = urllib.request.Request(url, headers={"X-Authorization": connection["password"]})
                try:
                    urllib.request.urlopen(request, timeout=10)
                except urllib.error.HTTPError as error:
                    error.close()
            assert [record.status for record in batch_sandbox.requests] == [200, 200, 429]
            assert batch_sandbox.requests[0].time == NOON
        """,
        "--strict-markers",
    ))  # fmt: skip


def test_a_marker_on_a_test_has_precedence_over_that_of_its_module(run_pytest):
    succeed(
        run_pytest("""
        import pytest

        pytestmark = pytest.mark.batch_sandbox(apps=("ios", "android"), seed=1)

        @pytest.mark.batch_sandbox(apps=("web",))
        def test_it(batch_sandbox):
            assert batch_sandbox.apps == ("web",)
    """)
    )


@pytest.mark.parametrize(
    ("marker", "message"),
    [("rat=1", "unexpected keyword argument 'rat'"), ("1", "options by name"), ("rate=-1", "rate is a number")],
)
def test_the_error_for_an_invalid_marker_explains_it(run_pytest, marker, message):
    code, output = run_pytest(f"""
        import pytest

        @pytest.mark.batch_sandbox({marker})
        def test_it(batch_sandbox):
            pass
    """)

    assert code != 0
    assert message in output


def test_the_marker_batch_sandbox_is_listed_with_its_options(run_pytest):
    assert "batch_sandbox(conn_id='batch_default', **options)" in succeed(run_pytest("", "--markers"))


# 192.0.2.1 and 2001:db8::1 are addresses of documentation (RFC 5737, RFC 3849), .invalid is no domain (RFC 2606).
ATTEMPTS = {
    "connect": ("socket.create_connection(('192.0.2.1', 443), timeout=1)", "192.0.2.1"),
    "connect_ex": ("socket.socket().connect_ex(('192.0.2.1', 443))", "192.0.2.1"),
    "connect over IPv6": ("socket.socket(socket.AF_INET6).connect(('2001:db8::1', 443))", "2001:db8::1"),
    "a datagram": ("socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('192.0.2.1', 53))", "192.0.2.1"),
    "a message": ("socket.socket(type=socket.SOCK_DGRAM).sendmsg([b''], [], 0, ('192.0.2.1', 53))", "192.0.2.1"),
    "a name": ("socket.getaddrinfo('api.batch.invalid', 443)", "api.batch.invalid"),
    "a name as bytes": ("socket.getaddrinfo(b'api.batch.invalid', 443)", "api.batch.invalid"),
    "gethostbyname": ("socket.gethostbyname('api.batch.invalid')", "api.batch.invalid"),
    "gethostbyaddr": ("socket.gethostbyaddr('192.0.2.1')", "192.0.2.1"),
    "getnameinfo": ("socket.getnameinfo(('192.0.2.1', 443), 0)", "192.0.2.1"),
    "localhost of somebody else": ("socket.getaddrinfo('localhost.invalid', 443)", "localhost.invalid"),
    "requests": ("requests.get('https://api.batch.invalid/', timeout=1)", "api.batch.invalid"),
    "another thread": (
        "ThreadPoolExecutor().submit(socket.create_connection, ('192.0.2.1', 443), 1).result()",
        "192.0.2.1",
    ),
}


def test_every_connection_to_another_host_is_blocked_with_an_error_that_names_the_host(run_pytest):
    calls = "\n".join(f"    {name!r}: (lambda: {call}, {host!r})," for name, (call, host) in ATTEMPTS.items())
    succeed(
        run_pytest(f"""
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

CALLS = {{
{calls}
}}

@pytest.mark.parametrize("name", CALLS)
def test_it(batch_sandbox, name):
    call, host = CALLS[name]
    with pytest.raises(OSError, match="may talk to this machine only") as caught:
        call()
    assert repr(host) in str(caught.value)
    assert "Nothing was sent" in str(caught.value)
    assert "conn_id" in str(caught.value)
    """)
    )


def test_connections_to_this_machine_are_not_blocked(run_pytest):
    succeed(
        run_pytest("""
        import socket

        import pytest

        def test_it(batch_sandbox, tmp_path, monkeypatch):
            monkeypatch.chdir(tmp_path)  # a socket's path may have 107 characters
            with socket.create_server(("", 0)) as server:
                for host in ("127.0.0.1", "localhost", "LOCALHOST", "127.8.8.8", "0.0.0.0"):
                    socket.create_connection((host, server.getsockname()[1]), timeout=10).close()
            socket.getaddrinfo("::ffff:127.0.0.1", 80)
            socket.getaddrinfo("::1", 80)
            socket.getaddrinfo(None, 80)
            socket.getfqdn()
            with socket.socket(socket.AF_UNIX) as server:
                server.bind("socket")
                server.listen()
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect("socket")
    """)
    )


def test_other_hosts_are_blocked_only_in_tests_with_the_fixture(run_pytest):
    # A connection that is refused, or leads nowhere, was tried: nothing blocked it.
    succeed(
        run_pytest("""
        import socket

        import pytest

        def attempt():
            with socket.socket() as client:
                client.settimeout(0.05)
                client.connect(("192.0.2.1", 9))

        def test_before():
            with pytest.raises(OSError) as caught:
                attempt()
            assert "this machine only" not in str(caught.value)

        def test_with(batch_sandbox):
            with pytest.raises(OSError, match="this machine only"):
                attempt()

        def test_after():
            with pytest.raises(OSError) as caught:
                attempt()
            assert "this machine only" not in str(caught.value)
    """)
    )


def test_a_failing_test_shows_the_blocked_host_although_the_code_ignored_the_error(run_pytest):
    code, output = run_pytest("""
        import contextlib, socket

        def test_it(batch_sandbox):
            with contextlib.suppress(OSError):
                socket.create_connection(("192.0.2.1", 443), timeout=1)
            assert batch_sandbox.requests
    """)

    assert code == 1
    assert re.search(r"-+ Captured batch_sandbox call -+\n.*not to '192\.0\.2\.1'", output), output


def test_a_request_through_a_proxy_to_another_host_is_blocked(run_pytest):
    succeed(run_pytest(
        """
        import pytest
        import requests

        def test_it(batch_sandbox):
            with pytest.raises(requests.exceptions.ConnectionError, match="not to 'api.batch.invalid'"):
                requests.get("http://api.batch.invalid/", timeout=5)
        """,
        env=dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:9"),
    ))  # fmt: skip


def test_a_test_run_without_the_fixture_loads_neither_airflow_nor_a_web_server(run_pytest):
    succeed(
        run_pytest("""
        import sys

        def test_it():
            assert "airflow_batch.sandbox.pytest_plugin" in sys.modules
            heavy = {"airflow", "starlette", "uvicorn", "requests", "asyncio", "airflow_batch.sandbox.server"}
            assert not heavy & set(sys.modules)
    """)
    )


def test_the_tests_in_the_documents_run_in_an_empty_folder(run_pytest):
    shutil.copytree(EXAMPLE, run_pytest.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))

    output = succeed(run_pytest(None, env={"PYTHONPATH": str(CHECKOUT / "tests" / "guard")}))

    assert "3 passed" in output


def test_pytest_finds_the_plugin_by_its_entry_point():
    (found,) = entry_points(group="pytest11", name="batch_sandbox")
    assert found.value == "airflow_batch.sandbox.pytest_plugin"
