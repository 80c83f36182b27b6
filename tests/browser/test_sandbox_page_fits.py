"""The page of the sandbox on a laptop: nothing that matters is cut off."""

from __future__ import annotations

import pytest
import requests

from airflow_batch.sandbox import BatchSandbox

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CLIENT = "airflow-provider-batch/0.1.0 apache-airflow/3.3.2 python/3.11"


@pytest.fixture
def sandbox():
    """A sandbox of many campaigns with long names, and a throttled request."""
    with BatchSandbox() as running:
        for number in range(60):
            token = running.add_campaign({"name": f"The long name of campaign number {number}", "live": False})
        running.inject("update:429;retry-after=6")
        headers = {"X-Authorization": running.rest_key, "User-Agent": CLIENT}
        url = f"{running.url}/1.1/{running.app_key()}/campaigns/update/{token}"
        requests.post(url, json={"live": True}, headers=headers, timeout=5)
        yield running


@pytest.mark.parametrize("width", [1280, 1920])
def test_the_requests_are_on_the_first_screen_and_none_of_their_columns_is_cut_off(sandbox, new_page, width):
    page = new_page(viewport={"width": width, "height": 800})
    page.goto(sandbox.url)
    first = page.locator("#requests tbody tr").first
    first.wait_for()

    assert page.evaluate("(e => e.scrollWidth - e.clientWidth)(document.querySelector('#requests .scroll'))") == 0
    box = first.bounding_box()
    assert box["y"] + box["height"] <= 800


def test_a_narrow_window_leaves_the_client_out(sandbox, new_page):
    page = new_page(viewport={"width": 1024, "height": 800})
    page.goto(sandbox.url)
    page.locator("#requests tbody tr").first.wait_for()

    shown = page.locator("#requests thead th").filter(visible=True).all_inner_texts()
    assert shown[-2:] == ["Fault", "Delay"]
