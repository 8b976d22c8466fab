"""A real browser, Debian's Chromium by Playwright: `browser` is one for all these tests, `page` a fresh profile of it.

The tests here are live ones: they run once, plain, with a server of their own. In CI a missing browser is a failure.
"""

import os
import shutil
from pathlib import Path

import pytest

from scripts.browser import BY_HAND, find_chromium
from tests.browser.desk import Desk
from tests.browser.long_talk import LONG, put_long_talk
from tests.live.client import Client
from tests.live.provider import OpenAIByPrompt
from tests.live.server import ROOT, Server

#: Far above what anything takes on a quiet machine: only what never comes meets it.
PATIENCE_MS = 30_000
#: Each window has two hidden pages for its address bar, which cost as much as the tests: those two are off. The flag
#: takes the place of Playwright's, so what matters here of the features that it turns off is off, too.
NOT_NEEDED = (
    *("WebUIOmniboxPopup", "WebUIOmniboxAimPopup"),
    *("HttpsUpgrades", "HttpsFirstBalancedModeAutoEnable", "LensOverlay", "MediaRouter", "OptimizationHints"),
    *("NetworkTimeServiceQuerying", "PaintHolding", "PreconnectToSearch", "ThirdPartyStoragePartitioning"),
)


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

    flags = ["--disable-dev-shm-usage", f"--disable-features={','.join(NOT_NEEDED)}"]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")  # as root Chromium's own sandbox cannot work
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture(scope="package")
def wire():
    """The model of `server`: what it answers, each test says by its prompt."""
    with OpenAIByPrompt(api_key="sk-browser") as wire:
        yield wire


@pytest.fixture(scope="package")
def server(tmp_path_factory, wire):
    """One for all tests of the page: the example to work on, a model behind HTTP, and a session of 10,000 messages."""
    home = tmp_path_factory.mktemp("page")
    shutil.copytree(ROOT / "examples" / "calculator", home / "work", ignore=shutil.ignore_patterns("__pycache__"))
    put_long_talk(home / "data", home / "work")
    server = Server.serve(
        home,
        OPENCODE_MODEL="openai/wire-model",
        OPENCODE_RATE_LIMIT="off",
        OPENAI_API_KEY="sk-browser",
        OPENAI_BASE_URL=wire.base_url,
    )
    with server:
        yield server


@pytest.fixture
def client(server):
    return Client(server)


@pytest.fixture
def desk(page, server):
    """Somebody in front of the page."""
    return Desk(page, f"http://localhost:{server.port}")


@pytest.fixture
def new_page(browser):
    """Further pages, each in a profile of its own, made with what `browser.new_context` takes."""
    contexts = []

    def make(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        return _page_in(context)

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def long_talk():
    """The id of the session with 10,000 messages."""
    return LONG


@pytest.fixture
def page(browser):
    """A page in a profile of its own. What it logs and where it fails stands in `page.said`."""
    context = browser.new_context()
    page = _page_in(context)
    try:
        yield page
    finally:
        context.close()


def _page_in(context):
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.said = []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    return page
