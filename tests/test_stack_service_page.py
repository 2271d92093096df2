import json
import re
from pathlib import Path

import pytest
from conftest import copy_run
from photo_bytes import saved
from playwright.sync_api import expect, sync_playwright
from service_process import running_service

from embed.store.manifest import read_json

CHROMIUM = Path("/usr/bin/chromium")
PAGE_DIR = Path(__file__).parents[1] / "stack" / "service" / "page"
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TEXT = "Item Name: Green tea in bags\nValue: 12\nUnit: Ounce"
LONG = 60_000  # milliseconds, on a machine with much else to do

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no chromium here"),
]


@pytest.fixture(scope="module")
def url(processes, finished_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    run_dir = copy_run(finished_run, folder / "run")
    path = run_dir / "stack" / "manifest.json"
    path.write_text(json.dumps({**read_json(path), "chosen": "stacker"}))
    with running_service(processes, run_dir, folder) as running:
        yield running.url


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield found
        found.close()


@pytest.fixture
def page(browser, url):
    """The page, which must ask no other host and print nothing to the console."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(LONG)
    printed, asked = [], []
    page.on("console", lambda message: printed.append(message.text))
    page.on("pageerror", lambda error: printed.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    yield page
    page.close()
    # The browser itself writes a line for each answer that is an error.
    assert [line for line in printed if "status of 422" not in line] == []
    others = [one for one in asked if not one.startswith((url, f"blob:{url}"))]
    assert others == []


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "tea.jpg"
    path.write_bytes(saved("JPEG"))
    return path


def price_shown(page):
    shown = page.locator(".price")
    expect(shown).to_be_visible(timeout=LONG)
    return float(shown.inner_text().replace(",", ""))


@pytest.mark.quick
def test_the_files_of_the_page_name_no_other_host():
    files = [path for path in PAGE_DIR.iterdir() if path.is_file()]
    assert {path.suffix for path in files} >= {".html", ".css", ".js"}
    for path in files:
        addresses = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", path.read_text("utf-8"))
        assert set(addresses) <= {"http://www.w3.org"}, path


@pytest.mark.quick
def test_text_and_photo_give_a_price_and_then_what_moved_it(page, photo):
    page.get_by_label("Text").press_sequentially(TEXT)
    page.get_by_label("Photo", exact=True).set_input_files(photo)
    expect(page.get_by_alt_text("Photo: tea.jpg")).to_be_visible()
    with page.expect_response("**/price") as answered:
        page.get_by_role("button", name="Price it").click()
    answer = answered.value.json()
    assert price_shown(page) == pytest.approx(answer["price"], abs=0.006)
    low = answer["intervals"][0]["price_low"]
    expect(page.locator("#price-box")).to_contain_text(f"{low:,.2f} to ")
    expect(page.locator("#price-box")).to_contain_text("with a probability of")
    similar = page.get_by_role("region", name="Similar products")
    expect(similar.get_by_role("listitem")).to_have_count(5, timeout=LONG)
    moved = page.get_by_role("region", name="What moved it")
    rows = moved.get_by_role("table", name="The price, if this were left out")
    expect(rows.get_by_role("row").first).to_contain_text("%")
    expect(page.locator("#result")).to_be_focused()


@pytest.mark.quick
def test_the_table_columns_have_inputs_that_are_sent(
    browser, processes, table_run, tmp_path
):
    with running_service(processes, table_run, tmp_path) as running:
        page = browser.new_page()
        page.set_default_timeout(LONG)
        page.goto(running.url)
        page.get_by_label("Text").fill(TEXT)
        page.get_by_label("net weight").fill("1,5 kg")
        page.get_by_label("stars").fill("4.5")
        page.get_by_label("listed").fill("2024-03-31")
        page.get_by_label("brand").fill("New")
        options = page.locator("datalist option")
        assert [option.get_attribute("value") for option in options.all()] == [
            *("acme", "bolt", "crane & co"),
        ]
        with page.expect_response("**/price") as answered:
            page.get_by_role("button", name="Price it").click()
        lacks = [lack["reason"] for lack in answered.value.json()["placeholders"]]
        new = "column 'brand': 'New' is new or rare in the run"
        assert lacks == ["none given", new]
        expect(page.locator("#price-box")).to_contain_text(f"Not used: {new}.")
        moved = page.get_by_role("region", name="What moved it")
        expect(moved).to_contain_text("sizes and table columns", timeout=LONG)
        page.close()


def test_it_can_be_used_with_the_keyboard_alone(page):
    visited = []
    for _ in range(10):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.id")
        visited.append(focused)
        outline = page.evaluate(
            "getComputedStyle(document.activeElement.closest('.drop')"
            " || document.activeElement).outlineStyle"
        )
        assert outline == "solid", focused
        if focused == "example":
            page.keyboard.press("Enter")
            expect(page.get_by_label("Text")).to_be_focused()
        if focused == "submit":
            page.keyboard.press("Enter")
            break
    assert visited[-2:] == ["photo", "submit"]
    assert price_shown(page) > 0
    expect(page.locator("#price-box")).to_contain_text("Priced without a photo")


def test_a_broken_photo_is_an_error_beside_its_field(page, tmp_path, photo):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photo.read_bytes()[:300])
    field = page.get_by_label("Photo", exact=True)
    page.get_by_label("Text").fill(TEXT)
    field.set_input_files(broken)
    page.get_by_role("button", name="Price it").click()
    error = page.locator("#photo-error")
    expect(error).to_contain_text("The photo cannot be read", timeout=LONG)
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_be_focused()
    expect(page.locator(".price")).to_have_count(0)
    page.get_by_role("button", name="Remove the photo").click()
    expect(error).to_be_empty()
    page.get_by_role("button", name="Price it").click()
    assert price_shown(page) > 0


def test_a_photo_can_be_dropped_on_its_field(page, photo):
    dropped = page.evaluate_handle(
        """(bytes) => {
          const dropped = new DataTransfer();
          const file = new File([new Uint8Array(bytes)], "tea.jpg");
          dropped.items.add(file);
          return dropped;
        }""",
        list(photo.read_bytes()),
    )
    page.dispatch_event("#photo", "drop", {"dataTransfer": dropped})
    expect(page.get_by_alt_text("Photo: tea.jpg")).to_be_visible()
    with page.expect_response("**/price") as answered:
        page.get_by_role("button", name="Price it").click()
    missing = [one["field"] for one in answered.value.json()["placeholders"]]
    assert missing == ["text"]
    assert price_shown(page) > 0


def test_an_explanation_is_of_what_was_priced(page):
    held = []
    page.route("**/price", lambda route: held.append(route))
    page.get_by_label("Text").fill("Green tea")
    page.get_by_role("button", name="Price it").click()
    expect(page.get_by_role("button", name="Pricing…")).to_be_visible()
    page.get_by_label("Text").fill("Another thing")
    wait_until(page, lambda: held)
    with page.expect_request("**/price?explain=true") as explained:
        held[0].continue_()
    assert "Green tea" in explained.value.post_data
    assert "Another thing" not in explained.value.post_data
    expect(page.locator("#similar")).to_be_visible(timeout=LONG)


def test_a_new_question_ends_the_one_before(page):
    held, ended = [], []
    page.route("**/price", lambda route: held.append(route))
    page.on("requestfailed", lambda request: ended.append(request))
    page.get_by_label("Text").fill("Green tea")
    page.keyboard.press("Control+Enter")
    wait_until(page, lambda: held)
    page.get_by_label("Text").fill("Another thing")
    page.keyboard.press("Control+Enter")
    wait_until(page, lambda: len(held) == 2 and ended)
    assert "Green tea" in ended[0].post_data
    held[1].continue_()
    assert price_shown(page) > 0
    expect(page.locator("#form-error")).to_be_empty()


def wait_until(page, is_so):
    for _ in range(LONG // 20):
        if is_so():
            return
        page.wait_for_timeout(20)
    raise AssertionError("it never was so")


def test_nothing_to_price_is_said_without_asking_the_service(page):
    page.get_by_role("button", name="Price it").click()
    expect(page.locator("#text-error")).to_contain_text("Write a text")
    expect(page.get_by_label("Text")).to_be_focused()


def test_markup_in_a_text_is_shown_as_text(page):
    page.get_by_label("Text").fill("<img src=x onerror=console.error(1)> tea for two")
    page.keyboard.press("Control+Enter")
    assert price_shown(page) > 0
    expect(page.locator("#similar")).to_be_visible(timeout=LONG)
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen_and_can_be_read(page, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ratios = page.evaluate(CONTRASTS)
    assert len(ratios) > 5
    assert min(ratios.values()) >= 4.5, ratios


def test_everything_has_a_name_and_a_role(page):
    unnamed = page.evaluate(
        """[...document.querySelectorAll('input, textarea, button, a, img')]
        .filter((one) => !(one.labels && one.labels.length) && !one.textContent.trim()
          && !one.hasAttribute('alt')).map((one) => one.outerHTML)"""
    )
    assert unnamed == []
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.locator("h1").count() == 1
    assert page.locator("main").count() == 1
    assert page.locator("#price-box").get_attribute("aria-live") == "polite"
    for field in ("text", "photo"):
        described = page.locator(f"#{field}").get_attribute("aria-describedby").split()
        assert all(page.locator(f"#{one}").count() == 1 for one in described)
        assert f"{field}-error" in described


def test_the_list_of_endpoints_is_made_from_the_schema(page, url):
    page.goto(f"{url}/docs")
    for heading in ("POST /price", "POST /prices", "GET /health", "GET /metrics"):
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    expect(page.get_by_role("status")).to_be_empty()


def test_a_list_of_endpoints_that_cannot_be_made_is_said(page, url):
    page.route("**/openapi.json", lambda route: route.fulfill(body="no JSON"))
    page.goto(f"{url}/docs")
    expect(page.get_by_role("status")).to_contain_text("cannot be read")


# Of WCAG 2.1: contrast of each text with the first opaque ground behind it.
CONTRASTS = """
(() => {
  const rgb = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (one) => {
    const found = rgb(getComputedStyle(one).backgroundColor);
    const clear = found.length === 4 && found[3] === 0;
    return clear && one.parentElement ? ground(one.parentElement) : found;
  };
  const ratios = {};
  for (const one of document.querySelectorAll('body *')) {
    const own = [...one.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !one.checkVisibility()) continue;
    const [a, b] = [light(rgb(getComputedStyle(one).color)), light(ground(one))];
    const name = one.textContent.trim().slice(0, 30);
    ratios[name] = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }
  return ratios;
})()
"""
