"""gevent watches: nothing that a turn does stops the other streams for long."""

import re
import shutil
import sys

from tests.live.client import Client, names, text_of
from tests.live.conftest import WATCH
from tests.live.server import ROOT, run
from tests.sse import check_turn

ATTEMPTS = 3


def blocked(said):
    """The reports of a blocked loop in what a server has written.

    Those on a monitor's own thread are none: once it has had to wait for a lock, it has a loop, which it never runs.
    """
    reports = re.findall(r"appears to be blocked\n.*?\nBlocked Stack.*?\n(.*?)\nInfo:", said, re.DOTALL)
    return [stack for stack in reports if "gevent/_monitor.py" not in stack]


def test_a_loop_that_is_blocked_is_seen(tmp_path):
    source = "import gevent, time; gevent.get_hub(); gevent.sleep(0.3); time.sleep(1)"

    done = run([sys.executable, "-c", source], tmp_path, **WATCH)

    assert blocked(done.stderr), done.stderr


def quietly(guide, play):
    """Play a turn, and again where gevent reports a blocked loop: what blocks does so each time, a busy machine not."""
    for attempt in range(ATTEMPTS):
        before = len(guide.stderr())
        events = play(attempt)
        said = guide.stderr()[before:]
        check_turn(events, after=0)
        assert "Traceback (most recent call last)" not in said, said
        if not blocked(said):
            return events
    raise AssertionError(blocked(said))


def test_the_guided_tour_shows_every_kind_of_event_and_blocks_nobody(guide):
    client = Client(guide)
    sessions = [client.session() for _ in range(ATTEMPTS)]

    def tour(attempt):
        shutil.copy(ROOT / "examples" / "calculator" / "calculator.py", guide.work)
        return client.turn(sessions[attempt], "start")

    events = quietly(guide, tour)

    assert {event.name for event in events} == {
        *("turn_start", "step", "reasoning", "text", "tool_call", "tool_output", "tool_result", "done")
    }
    assert events[-1].data["status"] == "completed"
    assert "return a / b" in (guide.work / "calculator.py").read_text()
    assert "+    return a / b" in client.call("GET", f"/api/session/{sessions[0]}/diff").json["diff"]


def test_a_command_that_is_busy_and_talks_a_lot_blocks_nobody(guide):
    client = Client(guide)
    command = "python3 -c 'print(sum(range(20_000_000))); print(\"line of output\\n\" * 50_000)'"

    events = quietly(guide, lambda _: client.turn(client.session(), f"run {command}"))

    assert "tool_result" in names(events), text_of(events)


def test_a_search_through_many_files_blocks_nobody(guide):
    many = guide.work / "many"
    many.mkdir()
    for number in range(2000):
        (many / f"{number}.txt").write_text(f"some text\nneedle {number}\n" * 20)
    client = Client(guide)

    tools = ["grep", "glob", "list", "read"]
    events = quietly(guide, lambda _: client.turn(client.session(tools=tools), "search needle 77"))

    assert "tool_result" in names(events), text_of(events)


def test_markdown_that_takes_long_blocks_nobody(guide):
    client = Client(guide)
    client.call("POST", "/api/render", {"texts": ["begin"]})  # its process starts
    for attempt in range(ATTEMPTS):
        before = len(guide.stderr())
        answer = client.call("POST", "/api/render", {"texts": ["[" * 90_000] * 10})
        assert answer.status == 200
        # Given up, or done on a fast machine.
        assert all(html is None or html.startswith("<p>") for html in answer.json["html"])
        found = blocked(guide.stderr()[before:])
        if not found:
            return
        assert attempt + 1 < ATTEMPTS, found
