"""What one sees when connections break, tabs are many and sessions long: nothing lost, nothing doubled."""

import re
import statistics
import threading

import pytest
from playwright.sync_api import expect

from tests.browser.cable import Cable
from tests.browser.desk import Desk
from tests.browser.long_talk import MESSAGES, SHORT
from tests.live.server import until


@pytest.fixture
def gate():
    """What a model waits for; open at the latest when the test ends."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def cable(server):
    with Cable(server.port) as cable:
        yield cable
        cable.pull()  # the page would hold it open


def numbered(first, count, pause_s=0.0):
    return [{"text": f"w{number} "} for number in range(first, first + count)] + [{"pause_s": pause_s}]


def words(first, count):
    return "".join(f"w{number} " for number in range(first, first + count)).strip()


def test_a_reload_in_the_midst_of_a_turn_goes_on_without_loss(desk, wire, gate, server):
    go = server.work / "reload"
    go.unlink(missing_ok=True)
    command = "echo begun; until [ -e reload ]; do sleep 0.05; done; echo ended"
    script = [
        [*numbered(0, 20), {"tool": "bash", "params": {"command": command}}],
        [*numbered(20, 20), {"wait": gate}, *numbered(40, 20)],
    ]
    desk.open().ask(wire.script(script))
    call = desk.tool("bash")
    expect(call.locator(".state")).to_have_text("running")

    desk.page.reload()
    call.locator("summary").click()
    expect(call.locator(".output")).to_have_text("begun\n")
    go.touch()
    text = desk.turns.first.locator(".text")
    expect(text.nth(1)).to_have_text(words(20, 20))
    desk.page.reload()
    expect(text.nth(1)).to_have_text(words(20, 20))
    gate.set()
    desk.ended()

    expect(text).to_have_text([words(0, 20), words(20, 40)])
    expect(desk.turns).to_have_count(1)
    expect(call).to_have_count(1)


def test_the_network_is_pulled_and_comes_back_with_nothing_lost_or_doubled(page, wire, gate, cable, client):
    desk = Desk(page, f"http://localhost:{cable.port}")
    prompt = wire.script([[*numbered(0, 30), {"wait": gate}, *numbered(30, 300)], [{"text": "after"}]])
    turn = desk.open().ask(prompt)
    session = desk.session()
    expect(turn.locator(".text")).to_have_text(words(0, 30))

    with page.expect_event("requestfailed", lambda request: "/message" in request.url):
        cable.pull()
    connection = page.locator("#connection")
    expect(connection).to_have_text(re.compile("^Offline"))
    gate.set()
    until(lambda: client.get(session)["status"] == "idle", 30, "the turn to end meanwhile")
    desk.prompt.fill("typed while offline")
    desk.prompt.press("Enter")
    expect(page.locator("#toasts")).to_contain_text("What you typed is kept")
    expect(desk.prompt).to_have_value("typed while offline")
    expect(turn.locator(".text")).to_have_text(words(0, 30))

    cable.plug_in()
    expect(connection).to_have_text(re.compile(r"^Caught up · \d+ events$"))
    expect(turn.locator(".text")).to_have_text(words(0, 330))
    expect(turn.locator(".facts")).to_contain_text("tokens")
    desk.prompt.press("Enter")
    expect(desk.turns).to_have_count(2)
    expect(desk.turns.nth(1)).to_contain_text("after")
    desk.ended()
    assert client.get(session)["message_count"] == 4, "sent once"


def test_two_tabs_stay_in_step(page, desk, wire, gate):
    prompt = wire.script([[{"text": "both "}, {"wait": gate}, {"text": "see it"}], [{"text": "and this"}]])
    desk.open().ask(prompt)
    other = Desk(page.context.new_page(), desk.address).open(desk.session())
    expect(other.turns.first.locator(".text")).to_have_text("both")
    expect(other.button("Stop")).to_be_visible()
    gate.set()
    for tab in (desk, other):
        expect(tab.turns.first.locator(".text")).to_have_text("both see it")
        tab.ended()

    other.ask("go on")
    expect(desk.turns.nth(1)).to_contain_text("and this")
    expect(desk.turns.nth(1).locator(".bubble")).to_have_text("go on")
    # The lists too: a session that is made in one tab stands in the other's.
    entries = desk.page.locator("#sessions a")
    other.open()
    title = wire.script([[{"text": "ok"}]], prompt="made in the other tab")
    other.ask(title)
    expect(entries.first).to_contain_text(title)


def test_a_deleted_session_closes_in_the_other_tab(desk, client):
    session = client.session(title="Soon gone")
    desk.open(session)
    client.call("DELETE", f"/api/session/{session}")

    expect(desk.page.locator("#toasts")).to_contain_text("does not exist any more")
    expect(desk.page.locator("#title")).to_have_text("OpenCode")


#: Opens a session from within the page; the milliseconds until its last message stands at the lower end of the window.
OPENING = """([id, text]) => new Promise(resolve => {
    const began = performance.now();
    const scroller = document.getElementById('scroller');
    location.hash = `#/s/${id}`;
    const look = () => {
        const last = document.querySelector('.turn:last-child .text');
        const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 2;
        if (last?.textContent.includes(text) && atEnd) resolve(performance.now() - began);
        else requestAnimationFrame(look);
    };
    look();
})"""


def test_a_session_of_ten_thousand_messages_opens_at_its_end_at_once(desk, long_talk, record_property):
    desk.open()

    def opened(session, last):
        desk.page.evaluate("location.hash = '#/'")
        expect(desk.turns).to_have_count(0)
        return desk.page.evaluate(OPENING, [session, f"answer {last}"])

    short = min(opened(SHORT, 60) for _ in range(3))
    long = min(opened(long_talk, MESSAGES) for _ in range(3))

    record_property("opening_ms", {"short": short, "long": long})
    # Under a second on a quiet machine, whatever its length; a busy one is as slow with a short one.
    assert long < max(1000, 3 * short), (short, long)


def test_a_long_session_scrolls_back_by_pages(desk, long_talk):
    desk.open(long_talk)
    expect(desk.turns.last).to_contain_text(f"answer {MESSAGES}")
    shown = desk.turns.count()
    assert shown < 60
    marked = desk.turns.first
    first = marked.locator(".bubble").text_content()

    for page in (1, 2):
        desk.page.locator("#scroller").evaluate("own => own.scrollTo(0, 300)")
        until(lambda page=page: desk.turns.count() >= shown * (page + 1), 30, "an older page")
    # What was read stays in sight: the view is not thrown to the beginning.
    assert desk.page.locator("#scroller").evaluate("own => own.scrollTop") > 300
    numbers = [int(text.rpartition(" ")[2]) for text in desk.page.locator(".bubble").all_text_contents()]
    assert numbers == list(range(numbers[0], MESSAGES, 2)), "each once, in order"
    assert int(first.rpartition(" ")[2]) in numbers
    expect(desk.turns.first.locator("strong").last).to_have_text("bold")


#: Watches the page while a turn streams: frames, changes of the document, and how long frames take.
WATCH = """() => {
    const seen = window.seen = {frames: 0, batches: 0, gaps: [], last: performance.now(), removed: 0};
    const frame = now => { seen.frames += 1; seen.gaps.push(now - seen.last); seen.last = now; requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
    new MutationObserver(records => {
        seen.batches += 1;
        for (const record of records) seen.removed += record.removedNodes.length;
    }).observe(document.querySelector('.turn:last-child .parts'), {childList: true, characterData: true, subtree: true});
}"""


def test_a_fast_stream_does_not_make_typing_stutter(desk, wire, gate, record_property):
    # 200 events a second, for four seconds.
    begin = threading.Event()
    script = [{"text": "go "}, {"wait": begin}]
    for number in range(80):
        script += [*numbered(number * 10, 10), {"pause_s": 0.05}]
    turn = desk.open().ask(wire.script([[*script, {"wait": gate}]]))
    text = turn.locator(".text")
    expect(text).to_have_text("go")
    desk.page.evaluate(WATCH)
    until(lambda: desk.page.evaluate("seen.frames") > 30, 30, "some frames")
    idle = statistics.median(desk.page.evaluate("seen.gaps.splice(0)"))

    begin.set()
    typed = "typing goes on while the answer streams " * 2
    desk.prompt.press_sequentially(typed, delay=20)
    expect(desk.prompt).to_have_value(typed)
    expect(text).to_have_text(f"go {words(0, 800)}")

    seen = desk.page.evaluate("seen")
    busy = statistics.median(seen["gaps"])
    record_property(
        "frames", {"idle_ms": idle, "streaming_ms": busy, "frames": seen["frames"], "batches": seen["batches"]}
    )
    assert seen["batches"] <= seen["frames"], "at most one change a frame, however many events come"
    assert seen["removed"] == 0, "text is appended, nothing is drawn anew"
    assert busy < 5 * idle + 50
