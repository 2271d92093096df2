"""The page of `pricestack review` in a browser: filters, keys, marks."""

import csv

import pytest
from test_stack_html_report_browser import HEADINGS, PHOTOS, WIDE_PARTS
from test_stack_html_report_browser import browser as browser
from test_stack_review import HOSTILE, suspect

from stack.review.page import render_page
from stack.review.review import Review
from stack.run import open_finished_run

pytestmark = pytest.mark.slow

SHOWN = """() => [...document.querySelectorAll('#list > li:not([hidden])')]
    .map(card => card.dataset.id)"""


@pytest.fixture(scope="module")
def address(finished_run, tmp_path_factory):
    finished = open_finished_run(finished_run)
    suspects = [
        suspect(row=0, sample_id="1", price=20.0),
        suspect(row=1, sample_id="=2", price=90.0, kind="decimal"),
        suspect(row=2, sample_id=HOSTILE, price=50.0, evidence=HOSTILE),
        suspect(row=3, sample_id="4", price=0.5, probability=0.2),
    ]
    found = Review(suspects=suspects, n_reviewed=40, level=90, with_units=False)
    path = tmp_path_factory.mktemp("page") / "review.html"
    path.write_bytes(render_page(finished, found, n_rows=200))
    return path.as_uri()


@pytest.fixture(params=[360, 1280])
def opened(request, browser, address):
    """The page at a width, in a browser without marks, with its complaints."""
    context = browser.new_context(viewport={"width": request.param, "height": 800})
    page = context.new_page()
    requests, complaints = [], []
    page.on("request", lambda asked: requests.append(asked.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(address)
    yield page, requests, complaints
    context.close()


def shown(page):
    return page.evaluate(SHOWN)


def test_the_page_fits_and_stays_at_home(opened, address):
    page, requests, complaints = opened
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(WIDE_PARTS) == []
    assert page.evaluate(HEADINGS) == [1, 2]
    photos = page.evaluate(PHOTOS)
    assert photos
    assert all(found > 0 and alt for found, alt in photos)
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [address]


def test_keys_mark_products_and_the_marks_are_saved_and_kept(opened, tmp_path):
    page, _, complaints = opened
    for key in "jwrljkku":  # the third is marked for later, then the second not at all
        page.keyboard.press(key)
    assert page.inner_text("#status") == "4 of 4 products shown, 2 marked."
    page.keyboard.press("j")
    page.keyboard.press("r")
    with page.expect_download() as download:
        page.keyboard.press("s")
    path = tmp_path / "marks.csv"
    download.value.save_as(path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    marks = {row["sample_id"]: row["mark"] for row in rows}
    assert marks["1"] == "wrong"
    assert list(rows[0].values()) == ["1", "wrong", "20.0", "5.0", "one piece or pack"]
    page.reload()
    assert page.inner_text("#status") == f"4 of 4 products shown, {len(rows)} marked."
    assert complaints == []


def test_a_button_marks_and_removes_the_mark(opened):
    page, _, _ = opened
    button = page.locator("#list > li").nth(1).locator("button[data-mark=wrong]")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    with page.expect_download() as download:
        page.click("#save")
    assert "'=2,wrong,90" in download.value.path().read_text()
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert page.inner_text("#status").endswith("0 marked.")


def test_products_are_filtered_searched_and_sorted(opened):
    page, _, _ = opened
    assert shown(page) == ["1", "=2", HOSTILE, "4"]
    page.select_option("#kind", "decimal")
    assert shown(page) == ["=2"]
    page.select_option("#kind", "")
    page.select_option("#suspicion", "medium")
    assert shown(page) == ["4"]
    page.select_option("#suspicion", "")
    page.fill("#search", "ONERROR")
    assert shown(page) == [HOSTILE]
    page.fill("#search", "no such product")
    assert shown(page) == []
    assert page.is_visible("#nothing")
    page.fill("#search", "")
    page.select_option("#sort", "money")
    assert shown(page) == ["=2", HOSTILE, "1", "4"]
    page.select_option("#marked", "wrong")
    assert shown(page) == []


def test_letters_typed_into_the_search_mark_nothing(opened):
    page, _, _ = opened
    page.keyboard.press("j")
    page.keyboard.press("/")
    page.keyboard.type("wrl")
    assert page.input_value("#search") == "wrl"
    assert page.inner_text("#status") == "0 of 4 products shown, 0 marked."
    page.keyboard.press("Escape")
    assert page.input_value("#search") == ""
    assert page.inner_text("#status") == "4 of 4 products shown, 0 marked."
