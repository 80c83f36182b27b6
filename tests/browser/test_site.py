"""The site of the documents in a real browser, opened from its folder: it requests no other host, and its search works.

``make docs`` makes the environment that builds it; without it these tests are skipped. With
SITE_PICTURES=FOLDER they keep a screenshot of each page.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

CHECKOUT = Path(__file__).resolve().parents[2]
PICTURES = os.environ.get("SITE_PICTURES")


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory):
    own = CHECKOUT / ".docs" / "bin" / "python"
    if not own.exists() and importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed: run make docs once")
    folder = tmp_path_factory.mktemp("site")
    python = str(own) if own.exists() else sys.executable
    command = [python, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr[-3000:]
    return folder


@pytest.fixture
def page(new_page):
    return new_page(viewport={"width": 1280, "height": 900})


def keep(page, name):
    if PICTURES:
        page.screenshot(path=Path(PICTURES, f"{name}.png"))


def test_the_start_page_of_the_site_shows_the_readme_and_its_links_lead_to_pages(site, page):
    page.goto((site / "index.html").as_uri())
    expect(page.get_by_role("heading", name="airflow-provider-batch")).to_be_visible()
    picture = page.get_by_role("img", name="A DAG run in Airflow")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 0
    keep(page, "start")
    page.get_by_role("main").get_by_role("link", name="BatchDeleteCampaignOperator").click()
    expect(page.get_by_role("heading", name="BatchDeleteCampaignOperator")).to_be_visible()
    expect(page.get_by_role("cell", name="missing_ok")).to_be_visible()


def test_a_page_of_the_reference_shows_signature_and_docstring(site, page):
    page.goto((site / "reference" / "hook.html").as_uri())
    expect(page.get_by_role("heading", name="get_campaign_stats")).to_be_visible()
    text = page.get_by_role("main").inner_text()
    assert "Return a campaign's statistics as Batch documents them" in text
    assert ":class:" not in text
    keep(page, "reference")


def test_the_search_of_the_site_finds_an_error_by_its_message(site, page):
    page.goto((site / "index.html").as_uri())
    search = page.get_by_role("textbox", name="Search")
    search.click()
    search.press_sequentially("TOO_MANY_REQUESTS")
    found = page.locator(".md-search-result").get_by_role("heading", name="BatchRateLimitError")
    expect(found.first).to_be_visible()
    keep(page, "search")
