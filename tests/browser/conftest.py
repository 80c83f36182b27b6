"""A browser for the tests of web pages. They are skipped where playwright or a Chromium is missing.

    pip install playwright; apt-get install chromium

What belongs here: the browser, and what no page may do: write an error to its console, request another host.
"""

from __future__ import annotations

import ipaddress
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

try:
    from playwright.sync_api import expect, sync_playwright
except ImportError:
    sync_playwright = None
else:
    # A busy machine is no failure of the page.
    expect.set_options(timeout=15_000)

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)


def is_loopback(url):
    parts = urlsplit(url)
    if parts.scheme in ("about", "blob", "data", "file") or parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


# Not for the session: playwright keeps an event loop running in this thread, and other tests call asyncio.run in it.
@pytest.fixture(scope="module")
def browser():
    if sync_playwright is None:
        pytest.skip("playwright is not installed")
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = next(filter(None, map(shutil.which, CHROMIUMS)), own if Path(own).exists() else None)
        if path is None:
            pytest.skip("no Chromium is installed")
        running = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def problems():
    """What went wrong in the pages of the test, which fails for it; a test that expects a problem takes it out."""
    found = []
    yield found
    assert not found, found


@pytest.fixture
def new_page(browser, problems):
    """Return a function that opens an empty page; its options are those of a browser context, such as color_scheme."""
    contexts = []

    def note(kind, text):
        problems.append(f"{kind}: {text}")

    def guard(route):
        if is_loopback(route.request.url):
            route.continue_()
        else:
            note("asked for", route.request.url)
            route.abort()

    def open_page(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        context.route("**/*", guard)
        page = context.new_page()
        page.on("console", lambda message: note("console", message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: note("error", error))
        page.on("dialog", lambda dialog: (note("dialog", dialog.message), dialog.dismiss()))
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def page(new_page):
    """An empty page."""
    return new_page()
