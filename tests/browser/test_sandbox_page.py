"""The page of the sandbox, in a real browser, against a real sandbox."""

from __future__ import annotations

import re

import pytest
import requests
from canary import APP_KEYS, REST_KEY, assert_free

from airflow_batch.sandbox import BatchSandbox

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

DEFINITION = {
    "name": "Summer sale",
    "live": False,
    "push_time": "2030-06-01T09:00:00",
    "messages": [{"language": "en", "body": "20 % off"}],
}
MARKUP = "<img src=x onerror=alert(1)>"
# The lowest contrast of a shown text and its background, by the formula of WCAG 2.
LEAST_CONTRAST = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour.slice(0, 3);
    }
  };
  const texts = [...document.querySelectorAll("body *")].filter((element) => element.checkVisibility()
    && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  const ratios = texts.map((element) => {
    const [a, b] = [light(parse(getComputedStyle(element).color).slice(0, 3)), light(behind(element))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.textContent];
  });
  return ratios.sort((a, b) => a[0] - b[0])[0];
}"""


@pytest.fixture
def start(request):
    """Return a function that starts a sandbox."""

    def start_one(**options):
        sandbox = BatchSandbox(**options)
        sandbox.start()
        request.addfinalizer(sandbox.stop)
        return sandbox

    return start_one


@pytest.fixture
def new_page(start, new_page):
    """An empty page that is closed before the sandboxes stop: an open page continues to send requests."""
    return new_page


@pytest.fixture
def sandbox(start):
    return start()


def send(sandbox, method, path, app=None, **options):
    headers = {"X-Authorization": sandbox.rest_key}
    url = f"{sandbox.url}/1.1/{sandbox.app_key(app)}/campaigns/{path}"
    return requests.request(method, url, headers=headers, timeout=10, **options)


def update(sandbox, token, **payload):
    return send(sandbox, "POST", f"update/{token}", json=payload)


def view(sandbox, token):
    return send(sandbox, "GET", token)


def watch(page, sandbox):
    """Open the sandbox's page and wait until it has had its first answer."""
    page.goto(sandbox.url)
    expect(page.locator("#link")).to_have_text("Live")
    return page


def campaigns(page):
    return page.locator("#campaigns tbody tr")


def log(page):
    return page.locator("#requests tbody tr")


def cells(row):
    return [text.strip() for text in row.locator("th, td").all_text_contents()]


def style_of_the_changed_row(page):
    """Wait for a row that flashes, in the page itself: it does not do so for long."""
    style = "(({animationName, backgroundColor}) => [animationName, backgroundColor])(getComputedStyle(row))"
    found = page.wait_for_function(
        f"() => {{ const row = document.querySelector('tr.changed'); return row && {style}; }}"
    )
    return found.json_value()


def press(page, selector, key):
    """Go to an element with Tab alone, as somebody without a mouse does, and press a key there."""
    page.evaluate("document.activeElement.blur()")
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            page.keyboard.press(key)
            return
    pytest.fail(f"{selector} is not reached with Tab")


def test_the_sandboxs_page_shows_a_change_of_a_campaign_at_once(page, sandbox):
    token = sandbox.add_campaign(DEFINITION)
    watch(page, sandbox)
    expect(campaigns(page).locator(".phase")).to_have_text("draft")

    update(sandbox, token, live=True)
    expect(campaigns(page).locator(".phase")).to_have_text("live")
    update(sandbox, token, live=False)
    expect(campaigns(page).locator(".phase")).to_have_text("stopped")


def test_a_row_of_the_sandboxs_page_shows_app_name_state_push_time_last_change_and_token(page, start):
    sandbox = start(apps=("ios", "android"))
    token = sandbox.add_campaign({**DEFINITION, "live": True, "recurrence": {}}, app="android")
    watch(page, sandbox)

    app, name, state, push_time, changed, shown = cells(campaigns(page).first)

    assert (app, name, state, push_time) == ("android", "Summer sale", "live", "2030-06-01 09:00:00, recurring")
    assert re.fullmatch(r"\d\d:\d\d:\d\d", changed)
    assert shown == token


def test_a_changed_row_of_the_sandboxs_page_flashes_and_older_rows_do_not(page, sandbox):
    token = sandbox.add_campaign(DEFINITION)
    watch(page, sandbox)
    assert campaigns(page).first.get_attribute("class") is None

    update(sandbox, token, live=True)

    assert style_of_the_changed_row(page)[0] == "changed"
    expect(campaigns(page).first).to_have_class("")


def test_the_sandboxs_page_marks_a_change_without_motion_for_prefers_reduced_motion(new_page, sandbox):
    token = sandbox.add_campaign(DEFINITION)
    page = watch(new_page(reduced_motion="reduce"), sandbox)
    update(sandbox, token, live=True)

    assert style_of_the_changed_row(page) == ["none", "rgb(255, 246, 194)"]


def test_the_sandboxs_page_removes_a_deleted_campaign(page, sandbox):
    token = sandbox.add_campaign(DEFINITION)
    watch(page, sandbox)

    send(sandbox, "POST", f"delete/{token}")

    expect(campaigns(page)).to_have_count(0)
    expect(page.get_by_text("No campaigns yet.")).to_be_visible()


def test_the_sandboxs_page_shows_a_new_campaign_first(page, sandbox):
    sandbox.add_campaign(DEFINITION)
    watch(page, sandbox)

    send(sandbox, "POST", "create", json={**DEFINITION, "name": "Winter sale"})

    expect(campaigns(page).locator(".name")).to_have_text(["Winter sale", "Summer sale"])


def test_the_log_on_the_sandboxs_page_has_the_newest_request_first_and_explains_429(page, start):
    sandbox = start(rate=0.001, burst=1, retry_after=7)
    token = sandbox.add_campaign(DEFINITION)
    watch(page, sandbox)

    update(sandbox, token, live=True)
    view(sandbox, token)

    expect(log(page)).to_have_count(2)
    newest, oldest = (cells(row) for row in log(page).all())
    assert newest[0] == "2"
    assert newest[2:10] == ["app", "GET", "campaigns/…", "Summer sale", "429", "TOO_MANY_REQUESTS", "", "7"]
    assert oldest[2:10] == ["app", "POST", "campaigns/update/…", "Summer sale", "200", "", "applied", ""]


def test_a_429_on_the_sandboxs_page_has_its_own_colour(page, start):
    sandbox = start(rate=0.001, burst=1)
    token = sandbox.add_campaign(DEFINITION)
    for _ in range(2):
        view(sandbox, token)
    watch(page, sandbox)

    colours = page.evaluate("[...document.querySelectorAll('#requests .status')].map(e => getComputedStyle(e).color)")

    assert colours[0] != colours[1]


def test_the_sandboxs_page_shows_a_fault_with_its_delay_and_without_an_answer(page, sandbox):
    token = sandbox.add_campaign(DEFINITION)
    sandbox.inject("update:reset_after;delay=0.1")
    with pytest.raises(requests.exceptions.ConnectionError):
        update(sandbox, token, live=True)
    watch(page, sandbox)

    assert cells(log(page).first)[6:12] == ["no answer", "", "applied", "", "reset_after", "0.1 s"]


def test_the_header_of_the_sandboxs_page_shows_the_clock_and_the_throttle_with_its_counts(page, start):
    sandbox = start(rate=0.001, burst=2)
    token = sandbox.add_campaign(DEFINITION)
    sandbox.inject("500")
    for _ in range(4):
        view(sandbox, token)
    watch(page, sandbox)

    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", page.locator("#now").text_content())
    assert page.locator("#throttle").text_content() == "0.001 a second, burst 2, 0 left"
    shown = [page.locator(selector).text_content() for selector in ("#total", "#allowed", "#throttled", "#other")]
    assert shown == ["4", "2", "1", "1"]


def test_the_sandboxs_page_can_be_filtered_with_the_keyboard(page, start):
    sandbox = start(rate=0.001, burst=1)
    token = sandbox.add_campaign(DEFINITION)
    for _ in range(3):
        view(sandbox, token)
    watch(page, sandbox)

    press(page, "#only", "Space")
    expect(log(page).locator("visible=true").filter(has_text="429")).to_have_count(2)
    expect(log(page).filter(has_text="200")).to_be_hidden()
    press(page, "#only", "Space")

    expect(log(page).filter(has_text="200")).to_be_visible()


def test_the_sandboxs_page_says_when_no_request_matches_the_filter(page, sandbox):
    view(sandbox, sandbox.add_campaign(DEFINITION))
    watch(page, sandbox)

    page.get_by_label("Only refused and failed").check()

    expect(page.get_by_text("None of these requests was refused.")).to_be_visible()


def test_the_sandboxs_page_can_be_paused_with_the_keyboard_and_shows_everything_afterwards(page, sandbox):
    token = sandbox.add_campaign(DEFINITION)
    watch(page, sandbox)
    press(page, "#pause", "Enter")
    expect(page.locator("#link")).to_have_text("Paused")

    update(sandbox, token, live=True)
    page.wait_for_timeout(2500)
    assert campaigns(page).locator(".phase").text_content() == "draft"
    assert log(page).count() == 0
    press(page, "#pause", "Enter")

    expect(campaigns(page).locator(".phase")).to_have_text("live")
    expect(log(page)).to_have_count(1)


def test_tab_reaches_every_control_of_the_sandboxs_page_in_order_with_a_visible_focus(page, sandbox):
    sandbox.add_campaign(DEFINITION)
    watch(page, sandbox)
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("""() => {
          const at = document.activeElement, label = document.getElementById(at.getAttribute("aria-labelledby"));
          const { outlineStyle, outlineWidth } = getComputedStyle(at);
          return [at.id || label.textContent, outlineStyle, outlineWidth];
        }""")
        )

    assert reached == [[name, "solid", "3px"] for name in ("pause", "Campaigns", "only", "Requests")]


def test_the_sandboxs_page_shows_the_name_of_a_campaign_as_text_and_not_as_markup(page, sandbox):
    token = sandbox.add_campaign({**DEFINITION, "name": MARKUP})
    watch(page, sandbox)
    update(sandbox, token, live=True)
    expect(log(page)).to_have_count(1)

    assert campaigns(page).locator(".name").text_content() == MARKUP
    assert MARKUP in cells(log(page).first)
    expect(page.locator("#news")).to_contain_text(f"{MARKUP} is live")
    assert page.locator("img").count() == 0


def test_no_key_is_on_the_sandboxs_page(page, start):
    sandbox = start(apps={"ios": APP_KEYS}, rest_key=REST_KEY, rate=0.001, burst=3)
    sandbox.inject("echo", f"429;retry-after={REST_KEY}")
    token = sandbox.add_campaign({**DEFINITION, "name": f"Sale {REST_KEY}"})
    for path in (token, token, APP_KEYS["live"], f"{token}?k={REST_KEY}"):
        send(sandbox, "GET", path)
    watch(page, sandbox)
    expect(log(page)).to_have_count(4)

    assert_free(page.content(), "the page")
    assert "Sale KEY" in page.content()


def test_the_sandboxs_page_sends_only_reads_and_only_to_the_sandbox(page, sandbox):
    asked = []
    page.on("request", lambda request: asked.append((request.method, request.url.partition("?")[0])))
    watch(page, sandbox)

    # A browser shows the icon of a page that has one: it is empty, and asks for nothing.
    assert {(method, url) for method, url in asked if not url.startswith("data:")} == {
        ("GET", f"{sandbox.url}/"),
        ("GET", f"{sandbox.url}/sandbox/state"),
    }
    assert sandbox.requests == ()


def test_the_log_on_the_sandboxs_page_keeps_the_newest_500_requests(page, sandbox):
    with requests.Session() as session:
        for _ in range(498):
            session.get(f"{sandbox.url}/nowhere", timeout=10)
        watch(page, sandbox)
        for _ in range(5):
            session.get(f"{sandbox.url}/nowhere", timeout=10)
        expect(log(page).first.locator("th")).to_have_text("503")

    assert log(page).count() == 500
    assert log(page).last.locator("th").text_content() == "4"


def test_the_sandboxs_page_sends_no_requests_in_a_hidden_tab(page, sandbox):
    asked = []
    watch(page, sandbox)
    hide = "hidden => { Object.defineProperty(document, 'hidden', {get: () => hidden, configurable: true});" \
           "document.dispatchEvent(new Event('visibilitychange')); }"  # fmt: skip
    page.evaluate(hide, True)
    page.wait_for_timeout(500)
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2500)
    assert asked == []

    with page.expect_request("**/sandbox/state?*"):
        page.evaluate(hide, False)


def test_the_sandboxs_page_shows_when_the_sandbox_does_not_answer_and_when_it_answers_again(page, sandbox, problems):
    watch(page, sandbox)
    sandbox.stop()
    expect(page.locator("#link")).to_have_text("The sandbox does not answer; asking again")

    sandbox.add_campaign(DEFINITION)
    sandbox.start()

    expect(campaigns(page)).to_have_count(1)
    expect(page.locator("#link")).to_have_text("Live")
    # The browser itself notes each request that found nobody.
    assert all("ERR_CONNECTION" in problem or "ERR_EMPTY" in problem for problem in problems)
    problems.clear()


def test_the_sandboxs_page_starts_again_for_another_sandbox_on_the_same_port(page, start, problems):
    first = start()
    token = first.add_campaign(DEFINITION)
    for _ in range(3):
        view(first, token)
    watch(page, first)
    first.stop()
    second = start(port=int(first.url.rpartition(":")[2]), seed=2)
    second.add_campaign({**DEFINITION, "name": "Winter sale"})
    for _ in range(5):
        send(second, "GET", "list")

    expect(campaigns(page).locator(".name")).to_have_text(["Winter sale"])
    expect(log(page).locator("th")).to_have_text(["5", "4", "3", "2", "1"])
    expect(log(page).locator("td:nth-child(5)")).to_have_text(["campaigns/list"] * 5)
    problems[:] = [problem for problem in problems if "ERR_CONNECTION" not in problem and "ERR_EMPTY" not in problem]


def test_the_sandboxs_page_announces_changes_to_screen_readers_in_few_words(page, start):
    sandbox = start(rate=0.001, burst=1)
    token = sandbox.add_campaign(DEFINITION)
    watch(page, sandbox)
    press(page, "#pause", "Enter")
    update(sandbox, token, live=True)
    view(sandbox, token)
    press(page, "#pause", "Enter")

    news = page.get_by_role("status")

    expect(news).to_have_text("2 new requests, 1 refused with 429. Summer sale is live.")


def test_the_tables_of_the_sandboxs_page_are_tables_to_a_screen_reader(page, sandbox):
    view(sandbox, sandbox.add_campaign(DEFINITION))
    watch(page, sandbox)

    for table, headings, row in (("Newest first.", 6, "Summer sale"), ("Newest first, at most 500.", 13, "1")):
        found = page.get_by_role("table", name=table, exact=True)
        expect(found.get_by_role("columnheader")).to_have_count(headings)
        expect(found.get_by_role("rowheader", name=row, exact=True)).to_have_count(1)
    expect(page.get_by_role("region", name="Campaigns").first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_of_the_sandboxs_page_has_enough_contrast_in_light_and_dark_mode(new_page, start, scheme):
    sandbox = start(rate=0.001, burst=2)
    token = sandbox.add_campaign({**DEFINITION, "live": True})
    sandbox.add_campaign(DEFINITION)
    sandbox.inject("html")
    for _ in range(4):
        view(sandbox, token)
    page = watch(new_page(color_scheme=scheme), sandbox)

    ratio, text = page.evaluate(LEAST_CONTRAST)

    assert ratio >= 4.5, text


def test_the_sandboxs_page_is_dark_in_dark_mode(new_page, sandbox):
    grounds = []
    for scheme in ("light", "dark"):
        page = watch(new_page(color_scheme=scheme), sandbox)
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    assert grounds == ["rgb(251, 251, 250)", "rgb(20, 23, 26)"]


def test_in_a_narrow_window_the_tables_of_the_sandboxs_page_scroll_and_not_the_page(new_page, sandbox):
    view(sandbox, sandbox.add_campaign({**DEFINITION, "name": "W" * 120}))
    page = watch(new_page(viewport={"width": 400, "height": 800}), sandbox)

    assert page.evaluate("document.documentElement.scrollWidth") <= 400
