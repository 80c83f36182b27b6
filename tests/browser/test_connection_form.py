"""The connection form and a throttled run in the Airflow UI: a real browser, a real server.

What belongs here: what the UI shows of this provider, and that it shows no key. The same tests make the pictures of the
documents: PICTURES=1 pytest tests/browser/test_connection_form.py writes them into docs/pictures.
"""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path

import pytest
from canary import APP_KEYS, REST_KEY, assert_free
from private_airflow import PrivateAirflow

from airflow_batch.sandbox import BatchSandbox, Fault

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHECKOUT = Path(__file__).resolve().parents[2]
PICTURES = CHECKOUT / "docs" / "pictures" if os.environ.get("PICTURES") else None
# Milliseconds. Airflow's pages are several megabytes of JavaScript, and the machine may have other work.
PATIENCE = 120_000
AIRFLOW = tuple(map(int, version("apache-airflow").split(".")[:2]))
# Airflow 3.1 takes the extra fields from Flask forms alone, which this provider does not have.
HAS_EXTRA_FIELDS = AIRFLOW >= (3, 2)
APPS = json.dumps({"ios": APP_KEYS["live"]})
WRONG_KEY = "sandbox-canary-wrong-0d4c8be712"
MASK = "***"
MESSAGE = "[data-scope=toast][data-part=root]"
CAMPAIGN = {
    "name": "Summer sale",
    "live": False,
    "push_time": "2030-06-01T09:00:00",
    "messages": [{"language": "en", "body": "20 % off"}],
}


@pytest.fixture(scope="module")
def sandbox():
    # The pictures show the address, which must be the same in all of them.
    with BatchSandbox(rest_key=REST_KEY, apps={"ios": APP_KEYS}, port=8099 if PICTURES else 0) as running:
        running.add_campaign(CAMPAIGN)
        yield running


@pytest.fixture(scope="module")
def airflow(browser, sandbox, tmp_path_factory):
    example = (CHECKOUT / "dags_examples" / "summer_sale.py").read_text()
    (token,) = sandbox.tokens()
    private = PrivateAirflow(
        tmp_path_factory.mktemp("airflow"),
        dags=[("summer_sale.py", example.replace("545fce15f8b04d5b9b1d5c8e3a7c9d20", token))],
        connections={"batch_default": sandbox.connection("login")},
        config={"core.test_connection": "Enabled"},
    )
    private.env["PYTHONPATH"] += f":{CHECKOUT / 'tests' / 'guard'}"
    with private.running(timeout=300):
        yield private


@pytest.fixture(scope="module")
def throttled(airflow, sandbox):
    """A run of summer_sale whose first task is refused until the faults are cleared."""
    sandbox.inject(Fault("answer", status=429, headers={"Retry-After": "6"}, times=None))
    yield airflow.trigger("summer_sale", run_id="manual__summer", timeout=300)
    sandbox.clear_faults()


@pytest.fixture
def page(new_page, airflow):
    """An empty page; its addresses begin at Airflow's."""
    page = new_page(viewport={"width": 1280, "height": 860}, base_url=airflow.url)
    page.set_default_timeout(PATIENCE)
    # Without it, Airflow 3.1 redirects to its login page and does not return to the requested page.
    token = airflow.api("GET", "/auth/token")["access_token"]
    page.context.add_cookies([{"name": "_token", "value": token, "url": airflow.url}])
    # The UI requests this file, which the wheel of Airflow 3.3 lacks; the UI works without it.
    page.route("**/static/wasm/sqlparser_rs_wasm.js", lambda route: route.fulfill(content_type="text/javascript"))
    return page


@pytest.fixture
def picture(tmp_path):
    """Return a function that takes a picture of a page or a part of it."""

    def take(target, name, **options):
        folder = PICTURES or tmp_path
        folder.mkdir(exist_ok=True)
        target.screenshot(path=folder / f"{name}.png", animations="disabled", **options)

    return take


def expect(locator):
    return Patient(sync_api.expect(locator))


class Patient:
    """Playwright's expectations, with a longer timeout."""

    def __init__(self, expectation):
        self._expectation = expectation

    def __getattr__(self, name):
        check = getattr(self._expectation, name)
        return lambda *arguments: check(*arguments, timeout=PATIENCE)


def open_form(page, conn_id):
    """The form of a new connection of our type."""
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.get_by_label("Connection ID").fill(conn_id)
    form.get_by_label("Connection Type").fill("batch.com")
    form.page.get_by_role("option", name="Batch (batch.com)", exact=True).click()
    expect(form.get_by_label("Company REST API key")).to_be_visible()
    return form


def extra_field(form, name):
    """A field among the extra ones, which are collapsed at first."""
    field = form.locator(f"[name=element_{name}]")
    if not field.is_visible():
        form.get_by_role("button", name="Extra Fields", exact=True).click()
    expect(field).to_be_visible()
    return field


def save(form):
    form.get_by_role("button", name="Save").click()
    expect(form).to_be_hidden()
    # A message stays for as long as the mouse rests on it.
    form.page.mouse.move(0, 0)
    expect(form.page.locator(MESSAGE)).to_have_count(0)


def add(page, sandbox, conn_id, rest_key=REST_KEY):
    """Make a connection to the sandbox through the form."""
    form = open_form(page, conn_id)
    # The Test of Airflow 3.3.1 and 3.3.2 refuses a stored connection that has no port (apache/airflow#73298).
    host, _, port = sandbox.url.rpartition(":")
    form.get_by_label("Base URL").fill(host)
    form.get_by_label("Port").fill(port)
    form.get_by_label("Company REST API key").fill(rest_key)
    if HAS_EXTRA_FIELDS:
        extra_field(form, "api_keys").fill(APPS)
    else:
        form.get_by_label("App API key").fill(APP_KEYS["live"])
    save(form)


def button(page, conn_id, name):
    return page.get_by_role("row").filter(has_text=conn_id).get_by_role("button", name=name)


def edit(page, conn_id):
    button(page, conn_id, "Edit Connection").click()
    form = page.get_by_role("dialog")
    expect(form.get_by_label("Company REST API key")).to_be_visible()
    return form


def press_test(page, conn_id):
    """Press Test; the message that Airflow then shows."""
    button(page, conn_id, "Test Connection").click()
    message = page.locator(MESSAGE).filter(has_text="Test Connection")
    expect(message).to_be_visible()
    return message


def colour(page, conn_id):
    return button(page, conn_id, "Test Connection").locator("svg").get_attribute("color")


def test_the_standard_fields_of_the_connection_form_have_batchs_names(page, picture):
    form = open_form(page, "batch_default")

    for label, placeholder in {
        "Base URL": "https://api.batch.com",
        "App API key": "Live, Dev or SDK key of one app (leave empty when extra has api_keys)",
        "Company REST API key": "sent as X-Authorization; Batch dashboard > Settings > General",
    }.items():
        field = form.get_by_label(label, exact=True)
        expect(field).to_be_visible()
        expect(field).to_have_attribute("placeholder", placeholder)
    expect(form.get_by_label("Company REST API key")).to_have_attribute("type", "password")
    assert form.get_by_label("Schema").count() == 0
    picture(form, "connection_form")


@pytest.mark.skipif(not HAS_EXTRA_FIELDS, reason="Airflow 3.1 shows the extra as JSON alone")
def test_each_extra_has_a_field_with_a_description_in_the_connection_form(page):
    form = open_form(page, "batch_default")

    for name in ("api_keys", "timeout", "requests_per_second"):
        assert extra_field(form, name).is_editable()
    for label, help_text in {
        "App API keys by app": 'JSON such as {"ios": "...", "android": "..."}',
        "Timeout in seconds": "A number, or [connect, read]",
        "Ceiling of requests per second": "left empty, the pace is found",
    }.items():
        expect(form.get_by_text(label)).to_be_visible()
        expect(form.get_by_text(help_text)).to_be_visible()


@pytest.mark.skipif(AIRFLOW < (3, 3), reason="Airflow 3.2 shows what is typed into an extra field")
def test_the_connection_form_hides_only_the_app_keys_of_the_extra_fields(page):
    form = open_form(page, "batch_default")

    expect(extra_field(form, "api_keys")).to_have_attribute("type", "password")
    for name in ("timeout", "requests_per_second"):
        expect(extra_field(form, name)).not_to_have_attribute("type", "password")


def test_the_test_button_is_green_for_valid_keys(page, sandbox, picture):
    add(page, sandbox, "batch_ios")
    page.set_viewport_size({"width": 1280, "height": 460})

    message = press_test(page, "batch_ios")

    expect(message).to_contain_text(f"Connected to {sandbox.url}")
    expect(message).to_contain_text("can read campaigns")
    picture(page, "connection_test_green")
    assert colour(page, "batch_ios") == "green"


def test_the_test_button_is_red_for_an_invalid_key_and_shows_batchs_reason_without_the_key(page, sandbox, picture):
    add(page, sandbox, "batch_wrong_key", rest_key=WRONG_KEY)
    page.set_viewport_size({"width": 1280, "height": 590})

    message = press_test(page, "batch_wrong_key")

    expect(message).to_contain_text("Wrong REST API key (password)")
    expect(message).to_contain_text("401 AUTHENTICATION_INVALID")
    picture(page, "connection_test_red")
    assert colour(page, "batch_wrong_key") == "red"
    assert WRONG_KEY not in page.content()


def test_the_connection_form_masks_the_keys_of_a_saved_connection(page, airflow, sandbox):
    add(page, sandbox, "batch_masked")

    form = edit(page, "batch_masked")

    assert form.get_by_label("Company REST API key").input_value() == MASK
    sent = json.dumps(airflow.api("GET", "/api/v2/connections/batch_masked"))
    assert REST_KEY not in sent
    if HAS_EXTRA_FIELDS:
        assert extra_field(form, "api_keys").input_value() == MASK
        assert_free(sent, "the answer of the API")


def test_a_change_of_another_field_of_the_connection_form_keeps_the_masked_keys(page, sandbox):
    add(page, sandbox, "batch_changed")
    form = edit(page, "batch_changed")
    form.get_by_label("Description").fill("Batch, for the summer")
    save(form)
    expect(page.get_by_role("row").filter(has_text="batch_changed")).to_contain_text("Batch, for the summer")

    message = press_test(page, "batch_changed")

    expect(message).to_contain_text(f"Connected to {sandbox.url}")


def test_the_grid_shows_a_throttled_task_as_up_for_reschedule(page, airflow, sandbox, throttled, picture):
    page.goto(f"/dags/summer_sale/runs/{throttled}")
    toggle = page.get_by_role("row").filter(has=page.get_by_role("link", name="toggle"))
    expect(toggle).to_contain_text("Up For Reschedule")
    picture(page, "throttled_grid", clip={"x": 64, "y": 0, "width": 1216, "height": 550})
    assert_free(page.content(), "the grid")
    sandbox.clear_faults()

    assert airflow.wait_for_run("summer_sale", throttled, timeout=300) == "success"
    expect(toggle).to_contain_text("Success")
    assert [attempt["try_number"] for attempt in airflow.tries("summer_sale", throttled, "toggle")] == [1]


def test_the_log_in_the_ui_says_why_a_task_was_rescheduled_and_shows_no_key(page, throttled):
    page.goto(f"/dags/summer_sale/runs/{throttled}/tasks/toggle")

    expect(page.get_by_text("Giving the worker slot back, without using a retry").first).to_be_visible()
    assert_free(page.content(), "the log")


def test_the_rendered_templates_in_the_ui_show_the_arguments_and_no_key(page, sandbox, throttled, picture):
    (token,) = sandbox.tokens()
    page.goto(f"/dags/summer_sale/runs/{throttled}/tasks/toggle/rendered_templates")

    for field, value in {"campaign": token, "live": "CampaignWindow("}.items():
        name = page.get_by_role("cell", name=field, exact=True)
        expect(page.get_by_role("row").filter(has=name)).to_contain_text(value)
    picture(page, "rendered_template", clip={"x": 64, "y": 0, "width": 1216, "height": 655})
    assert_free(page.content(), "the rendered templates")


@pytest.mark.skipif(not HAS_EXTRA_FIELDS, reason="Airflow 3.1 shows the extra as JSON alone")
def test_the_switch_of_the_connection_form_makes_a_connection_that_never_writes(page, airflow, sandbox):
    host, _, port = sandbox.url.rpartition(":")
    for conn_id, is_on in (("writes", False), ("never_writes", True)):
        form = open_form(page, conn_id)
        form.get_by_label("Base URL").fill(host)
        form.get_by_label("Port").fill(port)
        form.get_by_label("Company REST API key").fill(REST_KEY)
        extra_field(form, "api_keys").fill(APPS)
        if is_on:
            form.locator("label").filter(has=page.locator("[name=element_dry_run]")).click()
        save(form)
        assert stored_extra(airflow, conn_id).get("dry_run", False) is is_on
        never = "This connection never writes (dry_run). " if is_on else ""
        expect(press_test(page, conn_id)).to_contain_text(f"{never}Connected to")
        page.reload()

    form = edit(page, "never_writes")
    extra_field(form, "dry_run")
    form.locator("label").filter(has=page.locator("[name=element_dry_run]")).click()
    save(form)
    assert stored_extra(airflow, "never_writes")["dry_run"] is False


def stored_extra(airflow, conn_id):
    return json.loads(airflow.api("GET", f"/api/v2/connections/{conn_id}")["extra"])
