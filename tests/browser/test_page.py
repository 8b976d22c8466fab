"""The page, as one uses it: each sentence of what it promises, in a real browser."""

import re
import threading

import pytest
from playwright.sync_api import expect

from tests.live.client import Client
from tests.live.server import until

CODE = """\
# A heading

Some **bold** words, a [link](https://example.com/a) and a list:

- one
- two

```python
def halve(number):
    return number / 2
```
"""


@pytest.fixture
def gate():
    """What a model waits for; open at the latest when the test ends."""
    gate = threading.Event()
    yield gate
    gate.set()


def test_a_newcomer_is_told_what_this_is_and_begins_with_a_click(desk, wire):
    wire.script([[{"text": "A calculator."}]], prompt="What does this project do?")
    desk.open()

    expect(desk.page.get_by_role("heading", name="What shall be done?")).to_be_visible()
    expect(desk.page.locator("#home")).to_contain_text("openai/wire-model")
    desk.button(re.compile("What does this project do")).click()

    expect(desk.turns).to_have_count(1)
    expect(desk.turns.first).to_contain_text("A calculator.")
    assert desk.session().startswith("ses_")


def test_text_appears_as_it_comes_and_is_rendered_when_it_has_come(desk, wire, gate):
    prompt = wire.script([[{"text": "The *first* half, "}, {"wait": gate}, {"text": f"the second.\n\n{CODE}"}]])
    turn = desk.open().ask(prompt)

    expect(turn.locator(".text.plain")).to_have_text("The *first* half, ")
    expect(desk.button("Stop")).to_be_visible()
    gate.set()
    desk.ended()

    text = turn.locator(".text.prose")
    expect(text.locator("em")).to_have_text("first")
    expect(text.locator("h1")).to_have_text("A heading")
    expect(text.locator("li")).to_have_count(2)
    expect(text.get_by_role("link")).to_have_attribute("href", "https://example.com/a")
    keyword = text.locator("pre .k").first
    expect(keyword).to_have_text("def")
    assert keyword.evaluate("own => getComputedStyle(own).color") != text.evaluate(
        "own => getComputedStyle(own).color"
    ), "code has colours"


def test_a_turn_tells_its_model_tokens_and_time(desk, wire):
    prompt = wire.script([[{"text": "ok"}, {"usage": {"input": 1200, "output": 34}}]])
    turn = desk.open().ask(prompt)
    desk.ended()

    facts = re.compile(r"openai/wire-model · 1,234 tokens · \d+(\.\d)? s")
    expect(turn.locator(".facts")).to_have_text(facts)
    desk.page.reload()
    expect(desk.turns.first.locator(".facts")).to_have_text(facts)


def test_tool_calls_are_folded_and_show_their_output_while_it_comes(desk, wire, server):
    go = server.work / "go"
    go.unlink(missing_ok=True)
    command = "echo first; until [ -e go ]; do sleep 0.05; done; echo second"
    prompt = wire.script([[{"tool": "bash", "params": {"command": command}}], [{"text": "Done."}]])
    desk.open().ask(prompt)
    call = desk.tool("bash")

    expect(call.locator(".gist")).to_have_text(command)
    expect(call.locator(".body")).to_be_hidden()
    expect(call.locator(".state")).to_have_text("running")
    call.locator("summary").click()
    expect(call.locator(".output")).to_have_text("first\n")
    go.touch()
    desk.ended()

    expect(call.locator(".state")).to_have_text("done")
    expect(call.locator(".output")).to_contain_text("first\nsecond")
    expect(call.locator(".request")).to_have_text(f"$ {command}")


def test_changes_of_files_are_shown_as_coloured_diffs(desk, wire, server):
    (server.work / "poem.txt").write_text("roses\nviolets\n")
    edit = {"path": "poem.txt", "old_string": "violets", "new_string": "tulips"}
    prompt = wire.script(
        [
            [{"tool": "read", "params": {"path": "poem.txt"}}],
            [{"tool": "edit", "params": edit}],
            [{"text": "Changed."}],
        ]
    )
    desk.open().ask(prompt)
    desk.ended()

    call = desk.tool("edit")
    call.locator("summary").click()
    expect(call.locator(".removed")).to_have_text("-violets\n")
    expect(call.locator(".added")).to_have_text("+tulips\n")
    colours = [
        call.locator(own).evaluate("own => getComputedStyle(own).backgroundColor") for own in (".removed", ".added")
    ]
    assert len({*colours, "rgba(0, 0, 0, 0)"}) == 3
    desk.button("Changes").click()
    changes = desk.page.get_by_role("dialog", name="Changes in files")
    expect(changes.locator("summary")).to_have_text("poem.txt +1 \u22121")
    expect(changes.locator(".added")).to_have_text("+tulips\n")
    desk.page.keyboard.press("Escape")
    expect(changes).to_be_hidden()


@pytest.mark.parametrize(
    ("button", "outcome"), [("Allow once", ("done", "it ran")), ("Reject", ("failed", "not allow"))]
)
def test_permissions_are_asked_for_and_answered_by_buttons(desk, client, wire, button, outcome):
    prompt = wire.script([[{"tool": "bash", "params": {"command": "echo it ran"}}], [{"text": "Well."}]])
    session = client.session(permission={"bash": "ask"})
    desk.open(session).ask(prompt)
    question = desk.page.get_by_role("group", name="May bash do this?")

    expect(question.locator(".request")).to_have_text("$ echo it ran")
    expect(desk.page.locator("#announcer")).to_contain_text("Permission needed: bash echo it ran")
    desk.page.reload()  # it is still asked for
    question.get_by_role("button", name=button).click()
    expect(question).to_have_count(0)
    desk.ended()

    call = desk.tool("bash")
    expect(call.locator(".state")).to_have_text(outcome[0])
    call.locator("summary").click()
    expect(call.locator(".output")).to_contain_text(outcome[1])


def test_what_is_always_allowed_is_not_asked_for_again(desk, client, wire):
    call = [{"tool": "bash", "params": {"command": "echo again"}}]
    prompt = wire.script([call, call, [{"text": "Twice."}]])
    desk.open(client.session(permission={"bash": "ask"})).ask(prompt)

    desk.button("Always this").click()
    desk.ended()

    expect(desk.tool("bash").locator(".state")).to_have_text(["done", "done"])


def test_a_turn_is_stopped_by_its_button_and_by_escape(desk, wire, gate):
    prompt = wire.script([[{"text": "On and on"}, {"wait": gate}]] * 2)
    turn = desk.open().ask(prompt)
    expect(turn).to_contain_text("On and on")
    desk.button("Stop").click()
    desk.ended()
    expect(turn.locator(".facts")).to_contain_text("Stopped")
    expect(turn).to_contain_text("On and on")

    turn = desk.ask("more")
    expect(turn).to_contain_text("On and on")
    desk.prompt.press("Escape")
    desk.ended()
    expect(turn.locator(".facts")).to_contain_text("Stopped")


def test_a_failed_turn_says_why_and_is_asked_again_by_a_click(desk, wire):
    refuse = {"status": 400, "type": "invalid_request_error", "message": "No such thing"}
    prompt = wire.script([[{"refuse": refuse}], [{"text": "Now it works."}]])
    turn = desk.open().ask(prompt)
    desk.ended()
    expect(turn.locator(".failure")).to_contain_text("PROVIDER_ERROR")
    expect(turn.locator(".failure")).to_contain_text("No such thing")
    desk.page.reload()
    expect(desk.turns.first.locator(".failure")).to_contain_text("No such thing")

    desk.turns.first.get_by_role("button", name="Ask this again").click()

    expect(desk.turns).to_have_count(2)
    expect(desk.turns.nth(1)).to_contain_text("Now it works.")
    expect(desk.turns.nth(1).locator(".bubble")).to_have_text(prompt)


def test_a_session_is_forked_from_an_answer(desk, wire):
    prompt = wire.script([[{"text": "one"}], [{"text": "two"}], [{"text": "another two"}]])
    desk.open().ask(prompt)
    desk.ended()
    source = desk.session()
    desk.ask("go on")
    desk.ended()

    desk.turns.first.get_by_role("button", name="Fork from this answer").click()
    desk.page.wait_for_url(lambda url: source not in url)
    expect(desk.turns).to_have_count(1)
    turn = desk.ask("go on")

    expect(turn).to_contain_text("another two")
    expect(desk.page.locator("#title")).to_contain_text("(fork)")


def test_a_new_session_takes_model_tools_and_directory(desk, client, server):
    (server.work / "inner").mkdir(exist_ok=True)
    desk.open()
    desk.button("New", exact=True).click()
    dialog = desk.page.get_by_role("dialog", name="New session")
    dialog.get_by_label("Model").select_option("demo/guide")
    dialog.get_by_label("Directory").fill(str(server.work / "inner"))
    dialog.get_by_label("Title").fill("A narrow one")
    dialog.get_by_label("edit").select_option("off")
    dialog.get_by_label("write").select_option("off")
    dialog.get_by_label("bash").select_option("ask")
    dialog.get_by_label("grep").select_option("allow")
    dialog.get_by_role("button", name="Create session").click()

    made = client.get(desk.session())
    assert (made["model"], made["title"]) == ("demo/guide", "A narrow one")
    assert made["directory"] == str((server.work / "inner").resolve())
    assert sorted(made["tools"]) == ["bash", "grep", "read"]
    assert made["permission"] == {"bash": "ask"}
    expect(desk.page.locator("#about")).to_have_text("demo/guide · inner · bash, read, grep")
    expect(desk.prompt).to_be_focused()


def test_a_session_that_cannot_be_made_says_why(desk):
    desk.open()
    desk.button("New", exact=True).click()
    dialog = desk.page.get_by_role("dialog", name="New session")
    expect(dialog.get_by_label("Model")).to_be_enabled()
    dialog.get_by_label("Directory").fill("/etc")
    dialog.get_by_role("button", name="Create session").click()

    expect(dialog.get_by_role("alert")).to_contain_text("/etc")


def test_sessions_are_listed_and_found_by_title_and_message(desk, client, wire):
    prompt = wire.script([[{"text": "It is the heliotrope."}]])
    client.turn(client.session(title="About flowers"), prompt)
    client.session(title="About stones")
    asked = []
    desk.page.on("request", lambda request: asked.append(request.url))
    desk.open()
    entries = desk.page.get_by_role("navigation", name="Sessions").get_by_role("link")
    search = desk.page.get_by_role("searchbox", name="Search sessions")

    expect(entries.filter(has_text="About stones")).to_have_count(1)
    search.fill("heliotrope")
    expect(entries).to_have_text([re.compile("About flowers")])
    assert any("/api/sessions?" in url and "q=heliotrope" in url for url in asked)
    search.fill("no such thing")
    expect(desk.page.locator("#no-sessions")).to_have_text("Nothing found for “no such thing”.")
    search.fill("heliotrope")
    entries.first.click()
    expect(desk.page.locator("#title")).to_have_text("About flowers")
    expect(entries.first).to_have_attribute("aria-current", "page")


def test_a_session_is_renamed_and_deleted(desk, client):
    session = client.session(title="Old name")
    desk.open(session)
    desk.button("Rename this session").click()
    desk.page.get_by_label("Title").fill("New name")
    desk.button("Save").click()
    expect(desk.page.locator("#title")).to_have_text("New name")
    assert client.get(session)["title"] == "New name"

    desk.button("Delete this session").click()
    desk.button("Delete", exact=True).click()
    expect(desk.page.get_by_role("heading", name="What shall be done?")).to_be_visible()
    assert client.call("GET", f"/api/session/{session}").status == 404


def test_a_request_waits_while_another_turn_runs(desk, wire, gate):
    prompt = wire.script([[{"text": "first"}, {"wait": gate}], [{"text": "second"}]])
    desk.open().ask(prompt)
    expect(desk.turns.first).to_contain_text("first")
    desk.prompt.fill("and then")
    desk.prompt.press("Enter")

    expect(desk.page.get_by_role("list", name="Waiting requests")).to_contain_text("and then")
    expect(desk.prompt).to_have_value("")
    gate.set()
    expect(desk.turns).to_have_count(2)
    expect(desk.turns.nth(1)).to_contain_text("second")
    expect(desk.page.get_by_role("list", name="Waiting requests")).to_be_hidden()


def test_a_tab_has_one_stream_at_most_and_asks_nobody_else(desk, client):
    sessions = [client.session(title=f"stream {number}") for number in range(3)]
    streams, hosts = set(), set()

    def begun(request):
        hosts.add(request.url.split("/")[2])
        if request.headers.get("accept") == "text/event-stream":
            streams.add(request)

    def over(request):
        streams.discard(request)

    desk.page.on("request", begun)
    desk.page.on("requestfinished", over)
    desk.page.on("requestfailed", over)
    for session in sessions:
        desk.open(session)
        until(lambda: _told(desk, streams), 30, lambda: f"one stream, not {[own.url for own in streams]}")
    (stream,) = streams
    assert sessions[-1] in stream.url
    desk.open()
    until(lambda: desk.page.evaluate("1") and not streams, 30, "no stream where no session is open")

    assert hosts == {desk.address.split("/")[2]}
    assert desk.page.said == []


def _told(desk, streams):
    desk.page.evaluate("1")  # lets the browser's events come in
    return len(streams) == 1


def test_the_page_carries_its_policy(server, client):
    answer = client.call("GET", "/")

    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert Client(server).call("GET", "/", headers={"Host": "evil.example"}).status == 403
