"""Make the pictures of the page in docs/images: `python -m scripts.screenshots [FOLDER]`.

A server on a copy of the example, the guided tour in it, and Chromium at the size of a desk and of a phone, light and
dark.
"""

import os
import re
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from scripts.browser import BY_HAND, find_chromium
from scripts.tui_screenshot import served_example

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"
SIZES = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 780}}
_PATIENCE_MS = 60_000


def wait_until_up(url: str) -> None:
    """Wait for the server to answer."""
    deadline = time.monotonic() + _PATIENCE_MS / 1000
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310 - our own server
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def ask(page: Page, request: str) -> None:
    """Send a request, and wait until its turn stands still: ended, or with a question."""
    page.get_by_role("textbox", name="Your request").fill(request)
    page.keyboard.press("Enter")
    page.locator(".turn.working").wait_for()


def answer_all(page: Page) -> None:
    """Say yes to whatever is asked, until the turn ends."""
    button = page.get_by_role("button", name="Allow once")
    while page.locator(".turn.working").count():
        if button.count():
            button.first.click(timeout=_PATIENCE_MS)
        page.wait_for_timeout(100)


def tour(page: Page) -> None:
    """Sessions to look at: a talk, the tour, and at its end a question."""
    for request in ("list the files", "read README.md"):
        page.goto(page.url.partition("#")[0])
        ask(page, request)
        answer_all(page)
        page.goto("about:blank")
        page.go_back()
    page.goto(page.url.partition("#")[0])
    ask(page, "start")
    answer_all(page)
    ask(page, "run python3 calculator.py 7 / 2")
    page.get_by_role("button", name="Allow once").wait_for()


def picture(browser: Browser, url: str, name: str, path: Path, before: Callable[[Page], None]) -> None:
    size, theme = name.split("-")
    context = browser.new_context(
        viewport=SIZES[size], color_scheme=theme, device_scale_factor=1 if size == "desk" else 2,  # type: ignore[arg-type] # texts of ours
        reduced_motion="reduce",
    )  # fmt: skip
    context.set_default_timeout(_PATIENCE_MS)
    page = context.new_page()
    page.goto(url)
    expect(page.get_by_role("button", name="Allow once")).to_be_visible(timeout=_PATIENCE_MS)
    before(page)
    page.wait_for_timeout(700)
    page.screenshot(path=path / f"{name}.png")
    context.close()


def at_the_fix(page: Page) -> None:
    """With the edit of the tour unfolded."""
    edit = page.locator(".call", has=page.locator(".tool-name", has_text=re.compile("^edit$"))).first
    edit.locator("summary").click()
    edit.evaluate("element => element.scrollIntoView({block: 'center'})")


def main() -> None:
    chromium = find_chromium()
    if chromium is None:
        sys.exit(f"There is no Chromium. {BY_HAND}")
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with (
        tempfile.TemporaryDirectory() as home,
        served_example(Path(home)) as url,
        sync_playwright() as playwright,
    ):
        wait_until_up(url)
        browser = playwright.chromium.launch(executable_path=chromium, args=[*flags, "--disable-dev-shm-usage"])
        page = browser.new_page()
        page.set_default_timeout(_PATIENCE_MS)
        page.goto(url)
        tour(page)
        address = page.url
        picture(browser, address, "desk-light", folder, at_the_fix)
        picture(browser, address, "desk-dark", folder, lambda _page: None)
        picture(browser, address, "phone-light", folder, at_the_fix)
        picture(browser, address, "phone-dark", folder, lambda _page: None)
        browser.close()
    print(f"wrote {', '.join(sorted(own.name for own in folder.glob('*.png')))} to {folder}")


if __name__ == "__main__":
    main()
