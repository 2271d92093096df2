import itertools
import shutil

import pytest

from stack.html_report.page import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
)
WIDE_PARTS = """() => [...document.querySelectorAll('body *')]
    .filter(e => !e.closest('.table') && !e.closest('svg'))
    .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5)
    .map(e => e.outerHTML.slice(0, 80))"""
HEADINGS = "() => [...document.querySelectorAll('h1,h2,h3,h4')].map(e => +e.tagName[1])"
# A picture outside the window may not be decoded yet.
PHOTOS = """() => Promise.all([...document.images].map(async image => {
    await image.decode();
    return [image.naturalWidth, image.alt];
}))"""
CLIPPED = """() => [...document.querySelectorAll('svg')].flatMap(svg => {
    const box = svg.getBoundingClientRect();
    return [...svg.querySelectorAll('text')]
        .filter(text => {
            const at = text.getBoundingClientRect();
            return at.left < box.left - 1 || at.right > box.right + 1
                || at.top < box.top - 1 || at.bottom > box.bottom + 1;
        })
        .map(text => text.textContent);
})"""

OVERLAPPING = """() => [...document.querySelectorAll('svg')].flatMap(svg => {
    const boxes = [...svg.querySelectorAll('text')]
        .map(text => [text.textContent, text.getBoundingClientRect()]);
    return boxes.flatMap(([a, one], at) => boxes.slice(at + 1)
        .filter(([_, two]) => one.left + 1 < two.right && two.left + 1 < one.right
            && one.top + 1 < two.bottom && two.top + 1 < one.bottom)
        .map(([b, _]) => `${a} / ${b}`));
})"""


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=list(ARGUMENTS), timeout=120_000
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(finished_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(finished_run, path)
    return path.as_uri()


@pytest.fixture(params=[390, 1280])
def opened(request, browser, address):
    """The page at a width, with what it asked for and complained of."""
    page = browser.new_page(viewport={"width": request.param, "height": 800})
    requests, complaints = [], []
    page.on("request", lambda asked: requests.append(asked.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    yield page, requests, complaints
    page.close()


def test_the_page_fits_shows_all_and_stays_at_home(opened, address):
    page, requests, complaints = opened
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(WIDE_PARTS) == []
    assert page.evaluate(CLIPPED) == []
    assert page.evaluate(OVERLAPPING) == []
    photos = page.evaluate(PHOTOS)
    assert len(photos) > 20
    assert all(found > 0 and alt for found, alt in photos)
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [address]


def test_headings_go_down_one_step_at_a_time(opened):
    levels = opened[0].evaluate(HEADINGS)
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_print_is_dark_on_light_whatever_the_screen(opened):
    page = opened[0]
    page.emulate_media(media="print", color_scheme="dark")
    style = "getComputedStyle(document.querySelector('{}')).{}"
    assert page.evaluate(style.format("nav", "display")) == "none"
    assert page.evaluate(style.format("details", "display")) == "none"
    assert page.evaluate(style.format("body", "backgroundColor")) == (
        "rgb(255, 255, 255)"
    )
    assert page.evaluate(style.format("body", "color")) == "rgb(0, 0, 0)"
