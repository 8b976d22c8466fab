"""For everybody: keyboards, screen readers, phones, light and dark."""

import re
import secrets
import threading

import pytest
from playwright.sync_api import expect

from tests.browser.desk import Desk, serious

PHONE = {"viewport": {"width": 375, "height": 667}, "has_touch": True, "is_mobile": True}


@pytest.fixture
def talk(client, wire):
    """A session that shows all that there is: text, code, tables, diffs, a failed call, a question."""
    name = f"for_all_{secrets.token_hex(4)}.txt"
    prompt = wire.script(
        [
            [
                {"reasoning": "Hm."},
                {
                    "text": "# One\n\n| a | b |\n|-|-|\n| 1 | 2 |\n\n> quoted\n\n```python\nx = 'y'  # z\n```\n\n[link](https://example.com)"
                },
                {"tool": "write", "params": {"path": name, "content": "a\n"}},
            ],
            [{"tool": "edit", "params": {"path": name, "old_string": "a", "new_string": "b"}}],
            [{"tool": "read", "params": {"path": "missing.txt"}}],
            [{"text": "Now a command."}, {"tool": "bash", "params": {"command": "echo hi"}}],
            [{"text": "Good."}],
        ]
    )
    session = client.session(title="All that there is", permission={"bash": "ask"})
    turn = client.call("POST", f"/api/session/{session}/message", {"content": prompt}, {"Prefer": "respond-async"})
    assert turn.status == 202
    yield session
    client.call("POST", f"/api/session/{session}/abort", {})


@pytest.mark.parametrize(("size", "scheme"), [({}, "light"), (PHONE, "dark")], ids=["desk-light", "phone-dark"])
def test_axe_finds_nothing_serious(new_page, server, talk, scheme, size):
    page = new_page(color_scheme=scheme, reduced_motion="reduce", **size)
    desk = Desk(page, f"http://localhost:{server.port}").open()
    expect(page.get_by_role("heading", name="What shall be done?")).to_be_visible()
    assert serious(page) == []

    desk.open(talk)
    expect(desk.button("Allow once")).to_be_visible()
    expect(page.locator(".prose table")).to_be_visible()
    for summary in page.locator("details > summary").all():
        summary.click()
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the window"

    desk.button("Changes").click()
    expect(page.locator(".changes .added").first).to_be_visible()
    assert serious(page) == []
    page.keyboard.press("Escape")
    if size:
        desk.button("Sessions").click()
        expect(page.get_by_role("link", name=re.compile("All that there is")).first).to_be_visible()
        assert serious(page) == []
    desk.button("New", exact=True).click()
    expect(page.get_by_label("Model")).to_be_enabled()
    assert serious(page) == []


def test_everything_is_done_by_the_keyboard_alone(desk, client, wire):
    prompt = wire.script([[{"tool": "bash", "params": {"command": "echo by keys"}}], [{"text": "Done."}]])
    page = desk.page
    desk.open(client.session(title="By keyboard", permission={"bash": "ask"}))
    expect(desk.prompt).to_be_focused()
    page.keyboard.type(prompt)
    page.keyboard.press("Enter")
    expect(desk.button("Allow once")).to_be_visible()
    tab_to(page, "Allow once", back=True)
    page.keyboard.press("Enter")
    desk.ended()

    tab_to(page, "bash", back=True)
    page.keyboard.press("Enter")
    expect(desk.tool("bash").locator(".output")).to_contain_text("by keys")
    tab_to(page, "Fork from this answer")
    page.keyboard.press("Enter")
    expect(page.locator("#title")).to_contain_text("(fork)")
    page.keyboard.press("Control+k")
    page.keyboard.type("By keyboard")
    expect(page.locator("#sessions a")).to_have_count(2)
    tab_to(page, "By keyboard")
    page.keyboard.press("Enter")
    page.keyboard.press("Alt+n")
    expect(page.get_by_role("dialog", name="New session")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Alt+p")
    expect(desk.prompt).to_be_focused()
    outline = page.locator("#composer").evaluate("own => getComputedStyle(own).boxShadow")
    assert outline != "none", "one sees where one is"


def tab_to(page, text, *, back=False):
    """Press Tab until what has the focus says so."""
    for _ in range(80):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        focused = page.evaluate("(own => (own.ariaLabel || '') + ' ' + own.textContent)(document.activeElement)")
        if text in focused[:200]:
            return
    raise AssertionError(f"no way to {text!r} by Tab")


def test_a_screen_reader_is_told_what_happens_and_where_things_are(desk, client, wire):
    gate = threading.Event()
    prompt = wire.script([[{"text": "It is "}, {"wait": gate}, {"text": "done now."}]])
    page = desk.page
    desk.open(client.session(title="Read aloud"))

    for role, name in (
        ("complementary", "Sessions"),
        ("navigation", "Sessions"),
        ("search", None),
        ("main", None),
        ("log", "Transcript"),
    ):
        expect(page.get_by_role(role, name=name)).to_have_count(1)
    expect(page.get_by_role("heading", level=1)).to_have_text("Read aloud")
    try:
        desk.ask(prompt)
        announcer = page.locator("#announcer[aria-live=polite]")
        expect(page.get_by_role("article", name=f"Request: {prompt}")).to_be_visible()
        expect(announcer).to_have_text("")
    finally:
        gate.set()
    expect(announcer).to_have_text("Answer complete. It is done now.")
    page.keyboard.press("Shift+Tab")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(desk.prompt).to_be_focused()


def test_on_a_phone_the_list_is_a_drawer(new_page, server, client):
    client.session(title="In the drawer")
    page = new_page(**PHONE)
    desk = Desk(page, f"http://localhost:{server.port}").open()
    entry = page.get_by_role("link", name=re.compile("In the drawer")).first

    expect(entry).to_be_hidden()
    desk.button("Sessions").click()
    expect(desk.button("Sessions")).to_have_attribute("aria-expanded", "true")
    entry.click()
    expect(page.locator("#title")).to_have_text("In the drawer")
    expect(entry).to_be_hidden()
    expect(desk.prompt).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_it_is_light_or_dark_as_the_system_until_one_chooses(new_page, server):
    def shade(page):
        return page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")

    pages = {scheme: new_page(color_scheme=scheme) for scheme in ("light", "dark")}
    for page in pages.values():
        Desk(page, f"http://localhost:{server.port}").open()
    assert shade(pages["light"]) > 200
    assert shade(pages["dark"]) < 60

    page = pages["dark"]
    page.get_by_role("button", name="Theme: as the system").click()
    assert shade(page) > 200
    page.reload()
    assert shade(page) > 200, "the choice is kept"
    page.get_by_role("button", name="Theme: light").click()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert shade(page) < 60
