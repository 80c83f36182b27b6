"""The question of an approval in the Airflow UI: what the approver reads, and that a campaign's text is only text.

The same tests make the pictures of the documents: PICTURES=1 pytest tests/browser/test_approval_page.py.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from canary import APP_KEYS, REST_KEY
from private_airflow import PrivateAirflow, wait_until

from airflow_batch.sandbox import BatchSandbox

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHECKOUT = Path(__file__).resolve().parents[2]
PICTURES = CHECKOUT / "docs" / "pictures" if os.environ.get("PICTURES") else None
# Milliseconds. Airflow's pages are several megabytes of JavaScript, and the machine may have other work.
PATIENCE = 120_000
EXAMPLE = ("approve_campaign.py", "launch_campaign.json")
ASK = """
from airflow.sdk import DAG
from airflow_batch.operators.approval import BatchCampaignApprovalOperator

with DAG("ask", schedule=None, params={"campaign": "", "payload": {}}, render_template_as_native_obj=True):
    BatchCampaignApprovalOperator(
        task_id="approve",
        campaign="{{ params.campaign }}",
        payload="{{ params.payload }}",
        timezone="Europe/Paris",
        app="ios",
    )
"""
SALE = {
    "name": "Summer sale",
    "live": False,
    "push_time": "2030-07-01T09:00:00",
    "targeting": {"segments": ["DORMANT"], "languages": ["en", "fr"]},
    "labels": ["SALE"],
    "messages": {
        "a": [
            {"language": "en", "title": "Summer sale", "body": "20 % off, until Sunday", "deeplink": "myapp://sale"},
            {"language": "fr", "title": "Soldes", "body": "-20 %, jusqu'à dimanche", "deeplink": "myapp://sale"},
        ],
        "b": [{"language": "en", "title": "Last days", "body": "Everything must go", "deeplink": "myapp://sale"}],
    },
}
PAYLOAD = {"live": True, "push_time": "2030-07-02T07:30:00", "labels": ["SALE", "VIP"]}
HOSTILE = (
    "</code><img src=x onerror=alert(1)> **bold** [click](https://evil.example/a) https://evil.example/b `` ` "
    "\n\n# Heading\n- item\u202e"
)


@pytest.fixture(scope="module")
def sandbox():
    # A picture shows the address, which must be the same in all of them.
    with BatchSandbox(rest_key=REST_KEY, apps={"ios": APP_KEYS}, port=8099 if PICTURES else 0) as running:
        yield running


@pytest.fixture(scope="module")
def airflow(browser, sandbox, tmp_path_factory):
    private = PrivateAirflow(
        tmp_path_factory.mktemp("airflow"),
        dags=[("ask.py", ASK), *(CHECKOUT / "dags_examples" / name for name in EXAMPLE)],
        connections={"batch_default": sandbox.connection("api_keys")},
    )
    private.env["PYTHONPATH"] += f":{CHECKOUT / 'tests' / 'guard'}"
    with private.running(timeout=300):
        yield private


@pytest.fixture
def page(new_page, airflow):
    """An empty page; its addresses begin at Airflow's."""
    page = new_page(viewport={"width": 1280, "height": 860}, base_url=airflow.url)
    page.set_default_timeout(PATIENCE)
    token = airflow.api("GET", "/auth/token")["access_token"]
    page.context.add_cookies([{"name": "_token", "value": token, "url": airflow.url}])
    # The UI requests this file, which the wheel of Airflow 3.3 lacks; the UI works without it.
    page.route("**/static/wasm/sqlparser_rs_wasm.js", lambda route: route.fulfill(content_type="text/javascript"))
    return page


def open_question(page, airflow, dag_id, conf, run_id):
    """Run a DAG, wait for the question, and open it."""
    run = airflow.trigger(dag_id, conf, run_id=run_id, timeout=300)
    waits = "SELECT 1 FROM task_instance WHERE run_id = ? AND state IN ('awaiting_input', 'deferred')"
    wait_until(lambda: airflow.query(waits, run))
    page.goto(f"/dags/{dag_id}/runs/{run}/tasks/approve/required_actions")
    sync_api.expect(page.get_by_role("button", name="Approve", exact=True)).to_be_visible(timeout=PATIENCE)


@pytest.fixture
def picture(tmp_path):
    """Return a function that takes a picture of a page."""

    def take(page, name, **options):
        folder = PICTURES or tmp_path
        folder.mkdir(exist_ok=True)
        page.screenshot(path=folder / f"{name}.png", animations="disabled", **options)

    return take


def edit(sandbox, token):
    """Somebody gives the campaign another text."""
    url = f"{sandbox.url}/1.1/{sandbox.app_key()}/campaigns/update/{token}"
    campaign = {**sandbox.campaign(token), "messages": [{"language": "en", "body": "Nothing must go"}]}
    body = {name: value for name, value in campaign.items() if name in ("name", "live", "push_time", "messages")}
    headers = {"Content-Type": "application/json", "X-Authorization": REST_KEY}
    with build_opener(ProxyHandler({})).open(Request(url, data=json.dumps(body).encode(), headers=headers)) as answer:
        assert answer.status == 200


def test_the_approver_answers_in_the_page_and_an_edit_meanwhile_is_named_in_the_log(page, airflow, sandbox, picture):
    open_question(page, airflow, "approve_campaign", {}, "manual__summer")
    sync_api.expect(page.get_by_text("Everything must go")).to_be_visible(timeout=PATIENCE)
    picture(page, "approval")

    edit(sandbox, airflow.xcom("approve_campaign", "manual__summer", "create")["campaign_token"])
    page.get_by_role("button", name="Approve", exact=True).click()
    assert airflow.wait_for_run("approve_campaign", "manual__summer", timeout=300) == "failed"

    page.goto("/dags/approve_campaign/runs/manual__summer/tasks/launch")
    refusal = page.get_by_text("messages changed since the approval").first
    sync_api.expect(refusal).to_be_visible(timeout=PATIENCE)
    page.keyboard.press("w")  # wraps long lines
    # What follows in the log are the paths of this machine.
    end = refusal.evaluate("element => element.getBoundingClientRect().bottom")
    picture(page, "approval_refused", clip={"x": 0, "y": 0, "width": 1280, "height": end + 4})


def test_the_approver_reads_each_version_and_the_differences_by_the_payload(page, airflow, sandbox, picture):
    page.set_viewport_size({"width": 1280, "height": 1400})
    open_question(page, airflow, "ask", {"campaign": sandbox.add_campaign(SALE), "payload": PAYLOAD}, "manual__sale")
    for text in (
        *("Summer sale", "2030-07-02 07:30:00 UTC", "2030-07-02 09:30:00 Europe/Paris", "DORMANT", "VIP"),
        *("20 % off, until Sunday", "-20 %, jusqu'à dimanche", "Everything must go", "myapp://sale"),
        *("Changes by the payload", "2030-07-01T09:00:00"),
    ):
        sync_api.expect(page.get_by_text(text).first).to_be_visible(timeout=PATIENCE)
    picture(page, "approval_payload")


def test_a_text_of_a_campaign_is_shown_as_text(page, airflow, sandbox):
    campaign = {**SALE, "name": f"Sale {HOSTILE}"[:120], "messages": [{"language": "en", "body": HOSTILE}]}
    conf = {"campaign": sandbox.add_campaign(campaign), "payload": {"labels": ["<b>x</b>"]}}
    open_question(page, airflow, "ask", conf, "manual__hostile")
    sync_api.expect(page.get_by_text("onerror=alert(1)").first).to_be_visible(timeout=PATIENCE)
    sync_api.expect(page.get_by_text("\\u202e").first).to_be_visible(timeout=PATIENCE)
    assert page.locator("a[href*=evil]").count() == 0
    assert page.locator("img[src=x]").count() == 0
    assert page.get_by_role("heading", name="Heading", exact=True).count() == 0
    assert page.locator("strong", has_text="bold").count() == 0
