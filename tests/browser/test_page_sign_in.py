"""Coming in and going out: the printed link, the token form, a sign-in that is over."""

import pytest
from playwright.sync_api import expect

from tests.browser.desk import Desk
from tests.live.client import Client
from tests.live.server import Server

TOKEN = "page-token-0123456789abcdef"
READER = "reader-token-0123456789abcdef"


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A server that asks who comes."""
    home = tmp_path_factory.mktemp("closed")
    tokens = f"ann:{TOKEN},ann:read:{READER}"
    server = Server.serve(home, "--auth", token=TOKEN, OPENCODE_RATE_LIMIT="off", OPENCODE_AUTH_TOKENS=tokens)
    with server:
        yield server


@pytest.fixture
def guest(page, closed):
    return Desk(page, f"http://localhost:{closed.port}")


def try_to_sign_in(desk, token):
    desk.page.get_by_label("Token").fill(token)
    desk.button("Sign in").click()


def sign_in(desk, token=TOKEN):
    try_to_sign_in(desk, token)
    # Until it is gone it keeps the keyboard from the page behind it.
    expect(desk.page.locator("#sign-in")).to_have_count(0)


def test_the_printed_link_signs_in_once_and_leaves_no_trace_in_the_address(guest, closed, new_page):
    link = closed.says(r"sign in +(http://localhost:\d+/#code=\S+)")[1]
    guest.page.goto(link)

    expect(guest.page.get_by_role("heading", name="What shall be done?")).to_be_visible()
    assert "code" not in guest.page.url
    guest.page.reload()
    expect(guest.page.get_by_role("heading", name="What shall be done?")).to_be_visible()
    assert guest.page.evaluate("document.cookie") == ""

    late = new_page()
    late.goto(link)
    expect(late.get_by_role("dialog", name="Sign in")).to_contain_text("The code was used or its time is over.")


def test_a_token_signs_in_and_a_wrong_one_is_told(guest):
    guest.open()
    dialog = guest.page.get_by_role("dialog", name="Sign in")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_label("Token")).to_be_focused()
    guest.page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    try_to_sign_in(guest, "wrong")
    expect(dialog.get_by_role("alert")).to_contain_text("Unknown token")
    sign_in(guest)

    expect(dialog).to_be_hidden()
    turn = guest.ask("run echo hello")
    expect(turn).to_contain_text("hello")


def test_one_signs_out(guest, closed):
    guest.open()
    sign_in(guest)
    guest.button("Sign out").click()

    expect(guest.page.get_by_role("dialog", name="Sign in")).to_be_visible()
    assert guest.page.context.cookies() == []
    assert guest.page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]


def test_an_expired_sign_in_says_so_and_keeps_what_was_typed(guest, closed):
    session = Client(closed).session(title="Kept")
    guest.page.goto(f"{guest.address}/#/s/{session}")
    sign_in(guest)
    expect(guest.page.locator("#connection")).to_have_text("Live")
    guest.prompt.fill("run echo kept")
    guest.page.context.clear_cookies()
    guest.prompt.press("Enter")

    dialog = guest.page.get_by_role("dialog", name="Your sign-in has expired")
    expect(dialog).to_contain_text("what you typed is kept")
    expect(guest.page.locator("#prompt")).to_have_value("run echo kept")
    sign_in(guest)
    expect(guest.turns.first).to_contain_text("kept")
    guest.ended()
    expect(guest.turns).to_have_count(1)
    expect(guest.prompt).to_have_value("")


def test_what_is_typed_survives_a_reload(guest, closed):
    guest.open()
    sign_in(guest)
    guest.prompt.fill("not sent yet")
    guest.page.reload()
    expect(guest.prompt).to_have_value("not sent yet")


def test_what_a_token_may_not_do_is_told_and_kept(guest, closed):
    session = Client(closed).session(title="For reading")
    guest.page.goto(f"{guest.address}/#/s/{session}")
    sign_in(guest, READER)
    guest.prompt.fill("run pwd")
    guest.prompt.press("Enter")

    expect(guest.page.locator("#toasts")).to_contain_text("lacks the scope 'write'")
    expect(guest.prompt).to_have_value("run pwd")
