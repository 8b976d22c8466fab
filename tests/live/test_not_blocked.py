"""gevent watches: nothing that a turn does stops the other streams for long."""

import re

import pytest

from tests.live.client import Client, names, text_of
from tests.sse import check_turn

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def quiet(guide):
    """No report of a blocked loop from before the test to its end."""
    before = len(guide.stderr())
    yield
    said = guide.stderr()[before:]
    assert not re.search(r"blocked|BlockingTime|Traceback", said), said


def test_the_guided_tour_shows_every_kind_of_event_and_blocks_nobody(guide):
    client = Client(guide)
    session = client.session()

    events = client.turn(session, "start")

    check_turn(events, after=0)
    assert {event.name for event in events} == {
        *("turn_start", "step", "reasoning", "text", "tool_call", "tool_output", "tool_result", "done")
    }
    assert events[-1].data["status"] == "completed"
    assert "return a / b" in (guide.work / "calculator.py").read_text()
    assert "+    return a / b" in client.call("GET", f"/api/session/{session}/diff").json["diff"]


def test_a_command_that_is_busy_and_talks_a_lot_blocks_nobody(guide):
    client = Client(guide)
    command = "python3 -c 'print(sum(range(20_000_000))); print(\"line of output\\n\" * 50_000)'"

    events = client.turn(client.session(), f"run {command}")

    check_turn(events, after=0)
    assert "tool_result" in names(events), text_of(events)


def test_a_search_through_many_files_blocks_nobody(guide):
    many = guide.work / "many"
    many.mkdir()
    for number in range(2000):
        (many / f"{number}.txt").write_text(f"some text\nneedle {number}\n" * 20)
    client = Client(guide)

    events = client.turn(client.session(tools=["grep", "glob", "list", "read"]), "search needle 77")

    check_turn(events, after=0)
    assert "tool_result" in names(events), text_of(events)
