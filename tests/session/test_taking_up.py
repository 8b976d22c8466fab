"""Turns that lost their server: taken up from the last stored step, never a tool run twice on its own.

A crash is what `kill -9` leaves: the data folder as it is at one moment, copied while the server still runs.
"""

import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from opencode.provider.port import Text, ToolCall
from opencode.provider.scripted import Wait
from tests.session.story import OWNER, Story, each, eventually


class Crash:
    """Stories on copies of one another's data, as they were at a moment."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._stories: list[Story] = []

    def begin(self, steps, **settings) -> Story:
        life = self._place / f"life{len(self._stories)}"
        life.mkdir()
        if self._stories:
            shutil.copytree(self._place / f"life{len(self._stories) - 1}" / "data", life / "data")
        settings.setdefault("directory", self._place / "work")
        (self._place / "work").mkdir(exist_ok=True)
        self._stories.append(Story(life, steps, **settings))
        return self._stories[-1]

    def stop(self) -> None:
        for story in self._stories:
            story.stop()


@pytest.fixture
def lives(tmp_path):
    crash = Crash(tmp_path)
    yield crash
    crash.stop()


def events_of(story, session):
    return list(each(story.sessions.follow(OWNER, session.id, after=0, beat_s=0.5, live=False).chunks))


def finished(story, session):
    """All events, once the turn has ended."""

    def whole():
        told = events_of(story, session)
        return told if told and told[-1].name == "done" else None

    return eventually(whole)


def names(told):
    return [event.name for event in told]


def test_a_half_streamed_answer_is_asked_for_again_and_what_was_shown_is_void(lives):
    hold = threading.Event()
    first = lives.begin([[Text("half "), Text("an answer"), Wait(hold)]])
    session = first.session()
    first.send(session)
    eventually(lambda: names(events_of(first, session)).count("text") == 2)
    before = events_of(first, session)

    second = lives.begin([[Text("a whole answer")]])
    told = finished(second, session)

    assert told[: len(before)] == before
    assert [event.seq for event in told] == list(range(1, len(told) + 1))
    again = told[len(before)]
    assert (again.name, again.data["step"], again.data["attempt"]) == ("step", 1, 2)
    assert again.data["discards_from"] == next(event.seq for event in before if event.name == "step")
    assert told[-1].data["status"] == "completed"
    assert told[-1].data["events"] == len(told)
    _session, messages, _older = second.sessions.snapshot(OWNER, session.id, limit=10, before=None)
    assert messages[-1].content == "a whole answer"
    assert [(part["status"], part["content"]) for part in messages[-1].parts] == [
        ("interrupted", "half an answer"),
        ("completed", "a whole answer"),
    ]
    assert len(second.provider.requests[0].messages) == 1, "the model never sees the half answer again"
    hold.set()


def test_a_tool_that_was_running_is_not_run_again_and_those_behind_it_are(lives):
    go = lives.begin(
        [
            [
                ToolCall("a", "bash", {"command": "echo a >> ran; sleep 60"}),
                ToolCall("b", "write", {"path": "b", "content": "b"}),
            ]
        ]
    )
    session = go.session()
    go.send(session)
    ran = session.directory
    eventually((Path(ran) / "ran").exists)

    second = lives.begin([[], [Text("I see.")]])
    told = finished(second, session)

    results = [event.data for event in told if event.name == "tool_result"]
    assert [(result["tool"], result["is_error"]) for result in results] == [("bash", True), ("write", False)]
    assert "outcome is unknown" in results[0]["result"]
    assert (Path(ran) / "ran").read_text() == "a\n"
    assert (Path(ran) / "b").read_text() == "b"
    assert told[-1].data["status"] == "completed"


def test_a_server_that_dies_three_times_under_a_turn_gives_it_up(lives):
    hold = threading.Event()
    story = lives.begin([[Text("x"), Wait(hold)]])
    session = story.session()
    story.send(session)
    for life in (1, 2):
        eventually(lambda life=life, story=story: names(events_of(story, session)).count("text") == life)
        story = lives.begin([[Text("x"), Wait(hold)]])
    eventually(lambda: names(events_of(story, session)).count("text") == 3)

    last = lives.begin([[Text("x")]])
    told = finished(last, session)

    assert told[-2].data["code"] == "TURN_INTERRUPTED"
    assert told[-1].data["status"] == "failed"
    assert names(told).count("done") == 1
    hold.set()


def test_a_stop_hands_the_turn_back_without_counting_a_crash(lives):
    hold = threading.Event()
    story = lives.begin([[Text("x"), Wait(hold)]])
    session = story.session()
    turn = story.send(session)
    for life in range(1, 5):
        eventually(lambda life=life, story=story: names(events_of(story, session)).count("text") == life)
        story.stop(0.0)
        story = lives.begin([[Text("x"), Wait(hold)]])
    eventually(lambda: names(events_of(story, session)).count("text") == 5)
    hold.set()

    told = finished(story, session)

    assert told[-1].data["status"] == "completed"
    assert story.sessions.turn(OWNER, session.id, turn.id).crashes == 0


def test_a_permission_asked_before_the_crash_can_be_answered_after_it(lives):
    script = [[ToolCall("a", "bash", {"command": "echo ran > ran"})], [Text("done")]]
    first = lives.begin(script, permission={"bash": "ask"})
    session = first.session()
    first.send(session)
    asked = eventually(lambda: [event for event in events_of(first, session) if event.name == "permission_request"])

    second = lives.begin(script, permission={"bash": "ask"})
    second.sessions.answer(OWNER, session.id, asked[0].data["permission_id"], "once")
    told = finished(second, session)

    assert names(told).count("permission_request") == 1
    assert names(told).count("permission_reply") == 1
    assert told[-1].data["status"] == "completed"
    assert (Path(session.directory) / "ran").exists()


def edit(story, *statements):
    with closing(sqlite3.connect(story.services.settings.data_dir / "store.sqlite3", isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)


def test_the_time_for_an_answer_goes_on_over_a_crash(lives):
    script = [[ToolCall("a", "bash", {"command": "echo ran > ran"})], [Text("done")]]
    first = lives.begin(script, permission={"bash": "ask"})
    session = first.session()
    first.send(session)
    eventually(lambda: "permission_request" in names(events_of(first, session)))
    # An id begins with its time: this request was made long ago
    edit(first, "UPDATE permissions SET id = 'per_0000000000' || substr(id, 15)")

    second = lives.begin(script, permission={"bash": "ask"}, permission_timeout_s=3600)
    told = finished(second, session)

    assert [event.data["response"] for event in told if event.name == "permission_reply"] == ["reject"]
    assert not (Path(session.directory) / "ran").exists()


def test_a_turn_that_cannot_go_on_keeps_no_other_from_it(lives):
    hold = threading.Event()
    first = lives.begin([[Text("x"), Wait(hold)]])
    broken, well = first.session(), first.session()
    for session in (broken, well):
        turn = first.send(session)
        first.until(turn, "text")
    # The first one's message is gone, and it is to be given up
    edit(
        first,
        f"DELETE FROM messages WHERE session_id = '{broken.id}'",
        f"UPDATE turns SET crashes = 2 WHERE session_id = '{broken.id}'",
    )

    second = lives.begin([[Text("y")]])

    assert finished(second, well)[-1].data["status"] == "completed"
    hold.set()


def test_a_queued_turn_begins_at_the_next_start(lives):
    hold = threading.Event()
    first = lives.begin([[Text("x"), Wait(hold)]])
    session = first.session()
    first.send(session)
    eventually(lambda: "text" in names(events_of(first, session)))
    queued = first.send(session, "second", when_busy="queue")

    second = lives.begin([[Text("y")], [Text("z")]])
    eventually(lambda: second.sessions.turn(OWNER, session.id, queued.id).ended_at)

    told = events_of(second, session)
    assert names(told).count("done") == 2
    assert [event.seq for event in told] == list(range(1, len(told) + 1))
    hold.set()
