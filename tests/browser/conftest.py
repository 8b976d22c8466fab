"""A real browser, Debian's Chromium by Playwright: `browser` is one for all these tests, `page` a fresh profile of it.

The tests here are live ones: they run once, plain, with a server of their own. In CI a missing browser is a failure.
"""

import os
from pathlib import Path

import pytest

from scripts.browser import BY_HAND, find_chromium

#: Far above what anything takes on a quiet machine: only what never comes meets it.
PATIENCE_MS = 30_000


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.live)


# Of the package: Playwright keeps an event loop in this thread while it runs, which others' tests shall not meet.
@pytest.fixture(scope="package")
def browser():
    chromium = find_chromium()
    if chromium is None:
        message = f"there is no Chromium. {BY_HAND}"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    # As root Chromium's own sandbox cannot work.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*flags, "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture
def page(browser):
    """A page in a profile of its own. What it logs and where it fails stands in `page.said`."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.said = []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    try:
        yield page
    finally:
        context.close()
