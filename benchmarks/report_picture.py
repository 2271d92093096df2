"""Take the picture of the README: the head of the sample's report.

`python -m benchmarks.report_picture` after `make demo`; it needs chromium.
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1280, 800


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/sample"))
    parser.add_argument("--out", type=Path, default=Path("docs/report.png"))
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"]
        )
        page = browser.new_page(
            viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light"
        )
        page.goto((given.run / "report.html").resolve().as_uri())
        page.screenshot(path=given.out)
        browser.close()


if __name__ == "__main__":
    main()
