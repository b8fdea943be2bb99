"""Take the pictures of docs/report.md: python docs/shoot_report.py runs/report/index.html.

The head and the results in light, the gallery in dark, as PNGs beside this file.
Needs a Chromium on PATH and playwright, which the `dev` extra brings.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1280, 1500


def main(page_file: Path) -> None:
    """Write report.png and, where the page has a gallery, report_dark.png."""
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None or not page_file.is_file():
        sys.exit(f"error: needs {page_file}, and one of {', '.join(NAMES)} on PATH.")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(page_file.resolve().as_uri())
        save(page.screenshot(), HERE / "report.png")
        page.emulate_media(color_scheme="dark", reduced_motion="reduce")  # no smooth scrolling
        if page.locator("#gallery").count():
            page.locator("#gallery").evaluate("section => section.scrollIntoView()")
            page.wait_for_timeout(500)  # lazy pictures
            save(page.screenshot(), HERE / "report_dark.png")
        browser.close()


def save(picture: bytes, path: Path) -> None:
    """Write a screenshot as it is, losslessly, and say its size."""
    Image.open(io.BytesIO(picture)).convert("RGB").save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/report/index.html"))
