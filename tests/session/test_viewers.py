"""In what order those who look at a screen see what is done to it and what happens in its session, and from where on."""

import json
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace

import pytest

from opencode.errors import SessionBusy
from opencode.provider.port import Text
from opencode.provider.scripted import Repeat, Wait
from opencode.session.prompt_changes import taken
from opencode.session.screen import ScreenName, ScreenPlace, place_of
from opencode.session.terminal_input import Command, TerminalInput
from opencode.session.tui import Screens
from tests.session.story import DEADLINE_S, OWNER, eventually

SCREEN = ScreenName(OWNER, "default")


class Viewer:
    """Takes what comes only when it is asked to."""

    def __init__(self, story, last_id=None):
        self.chunks = story.services.screens.follow(SCREEN, last_id, beat_s=DEADLINE_S)
        self.head = next(self.chunks)
        self.ids, self.events = [], []

    def until(self, name, **data):
        """Everything up to the next event that has this in it."""
        found = []
        while not found or found[-1][0] != name or not data.items() <= found[-1][1].items():
            if not self.events:
                self._take(next(self.chunks))
            found.append(self.events.pop(0))
        return found

    def _take(self, chunk):
        assert chunk is not None, "nothing came in time"
        for frame in chunk.split(b"\n\n")[:-1]:
            number, event, body = frame.split(b"\n")
            self.ids.append(number[4:].decode())
            self.events.append((event[7:].decode(), json.loads(body[6:])))

    def close(self):
        self.chunks.close()


@pytest.fixture
def look(play):
    opened = []

    def open_one(story, last_id=None):
        opened.append(Viewer(story, last_id))
        return opened[-1]

    yield open_one
    for viewer in opened:
        viewer.close()


def terminal(story):
    return TerminalInput(story.sessions, story.services.screens, lambda: None)


def press(story, *keys):
    for key in keys:
        terminal(story).press(SCREEN, key)


def select(story, session):
    terminal(story).run(SCREEN, Command("session.select", session_id=session.id))


def state(story):
    return story.services.screens.state(SCREEN)


def said(events):
    return [data["content"] for name, data in events if name == "message"]


def test_who_comes_back_after_another_session_was_selected_gets_the_rest_of_the_first_one_first(play, look):
    story = play([[Text("a"), Text("b")], [Text("c")]])
    first, second = story.session(), story.session()
    select(story, first)
    viewer = look(story)
    turn = story.send(first, "one")
    story.until_done(turn)
    viewer.until("message", content="a")
    place = viewer.ids[[data.get("content") for _, data in viewer.events].index("b") - len(viewer.events) - 1]
    select(story, second)
    story.tell(first, "unseen")
    story.tell(second, "two")

    live = viewer.until("done", session_id=second.id)
    back = look(story, place)

    assert back.until("done", session_id=second.id) == live
    assert [name for name, _ in live if name != "message"] == ["done", "session_selected", "done"]
    assert said(live) == ["b", "two", "a", "b"]
    assert back.ids == viewer.ids[-len(live) :]


def test_a_turn_that_is_ended_by_the_deletion_of_its_session_is_seen_to_its_end(play, look):
    story = play([[Text("a"), Wait(threading.Event())]])
    viewer = look(story)
    press(story, "g", "enter")
    viewer.until("message", content="a")
    place = viewer.ids[-1]
    session_id = state(story)["session_id"]

    story.sessions.delete(OWNER, session_id)
    press(story, "x")

    seen = viewer.until("prompt", text="x")
    assert [name for name, _ in seen] == ["done", "session_deleted", "prompt"]
    assert seen[0][1]["status"] == "aborted"
    # Who comes back after that misses what is deleted, and nothing else.
    assert [name for name, _ in look(story, place).until("prompt", text="x")] == ["session_deleted", "prompt"]


def test_a_viewer_that_is_too_slow_is_given_the_whole_state_and_goes_on(play, look):
    story = play([[Text("a")]])
    viewer = look(story)
    terminal(story).paste(SCREEN, "x" * 100_000)
    press(story, *["left"] * 12)

    ((name, whole),) = viewer.until("resync")
    assert (name, whole["cursor"]) == ("resync", 99_988)
    assert viewer.ids == [whole["last_event_id"]] == [state(story)["last_event_id"]]

    press(story, "ctrl+u")
    assert viewer.until("prompt") == [("prompt", {"text": "x" * 12, "cursor": 0})]


def test_a_viewer_reads_what_is_not_held_in_memory_from_the_store(play, look):
    story = play([[Text("a")]])
    viewer = look(story)
    terminal(story).paste(SCREEN, "x" * 30_000)
    press(story, *["left"] * 20)

    seen = viewer.until("prompt", cursor=29_980)

    assert [data["cursor"] for _, data in seen] == list(range(30_000, 29_979, -1))


@pytest.mark.parametrize("beyond", [(0, 1), (1, 1), (2, 3), (9, 0), (2, 10**9)])
def test_a_place_that_was_never_given_is_answered_with_the_whole_state(play, look, beyond):
    story = play([[Text("a")]])
    press(story, "x")
    session = story.session()
    story.sessions.update(OWNER, session.id, {"title": "one event"})
    select(story, session)
    epoch = story.services.screens.view(SCREEN).screen.id
    assert place_of(state(story)["last_event_id"], epoch) == ScreenPlace(3, 1)

    viewer = look(story, ScreenPlace(*beyond).event_id(epoch))

    assert [name for name, _ in viewer.until("resync")] == ["resync"]


def test_a_state_in_mid_turn_is_a_place_to_follow_on_from(play, look):
    going = threading.Event()
    story = play([[Repeat(50, "{n} "), Wait(going), Text("end")]])
    viewer = look(story)
    press(story, "g", "enter")
    viewer.until("message", content="50 ")
    place = state(story)["last_event_id"]
    going.set()

    assert said(look(story, place).until("done")) == ["end"]


def test_with_its_last_viewer_a_screen_listens_to_nothing_any_more(play, look):
    story = play([[Text("a")]])
    topics = set(story.sessions.bus.topics())
    viewers = [look(story), look(story)]
    press(story, "g", "enter")
    for viewer in viewers:
        viewer.until("done")
    eventually(lambda: len(story.sessions.bus.topics()) == len(topics) + 2)

    for viewer in viewers:
        viewer.close()

    assert set(story.sessions.bus.topics()) == topics


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def late(play):
    """A story whose screens have a clock of their own."""
    story, clock = play([[Text("a")]]), Clock()
    screens = Screens(story.sessions, story.sessions.bus, story.sessions.log.closing, clock=clock)
    story.services = replace(story.services, screens=screens)
    return story, clock


def asked(story, statement):
    with closing(sqlite3.connect(story.services.settings.data_dir / "store.sqlite3", isolation_level=None)) as store:
        return store.execute(statement).fetchall()


def test_that_somebody_looks_is_said_again_once_a_minute(late, look):
    story, clock = late
    viewer = look(story)
    ((looker, until),) = asked(story, "SELECT looker, until FROM screen_lookers")
    asked(story, "UPDATE screen_lookers SET until = 1")
    for seconds, expected in ((59, 1), (2, until)):
        clock.now += seconds
        press(story, "x")
        viewer.until("prompt")
        press(story, "y")
        viewer.until("prompt")
        eventually(lambda at_least=expected: asked(story, "SELECT until FROM screen_lookers")[0][0] >= at_least)
        assert (asked(story, "SELECT until FROM screen_lookers") == [(1,)]) is (expected == 1)
    assert [row[0] for row in asked(story, "SELECT looker FROM screen_lookers")] == [looker]


def test_who_looks_at_a_screen_that_is_gone_is_to_come_back(late, look):
    story, clock = late
    viewer = look(story)
    asked(story, "PRAGMA foreign_keys = ON")
    asked(story, "DELETE FROM screens")
    clock.now += 61
    story.sessions.bus.ring(f"screen:{viewer.head[4:].decode().rpartition('-')[0]}")

    assert list(viewer.chunks) == []
    assert [name for name, _ in look(story, viewer.head[4:].strip().decode()).until("resync")] == ["resync"]


# What could not be sent


def test_what_could_not_be_sent_stands_in_the_prompt_as_before_and_not_in_the_history(play, look):
    story = play([[Wait(threading.Event())]])
    press(story, "o", "enter")
    viewer = look(story)
    press(story, "t", "w", "left")

    with pytest.raises(SessionBusy):
        press(story, "enter")

    seen = viewer.until("toast")
    assert [data for name, data in seen if name == "prompt"][-1] == {"text": "tw", "cursor": 1}
    assert seen[-1][1]["code"] == "SESSION_BUSY"
    press(story, "up")
    assert state(story)["prompt"] == "o"
    press(story, "down")
    assert state(story)["prompt"] == "tw"


def test_an_enter_that_may_make_no_session_takes_nothing(play):
    story = play([[Text("a")]])
    press(story, "x")

    def refuse(_sender, **_about):
        raise SessionBusy("no more sessions")

    with story.sessions.session_creating.connected_to(refuse), pytest.raises(SessionBusy):
        press(story, "enter")

    assert state(story)["prompt"] == "x"


def test_who_presses_enter_while_another_server_does_sends_nothing_twice_and_leaves_no_session(play):
    story = play([[Text("a")]])
    press(story, "x")
    other = story.session()

    def be_faster(_sender, **_about):
        story.sessions.store.change_screen(SCREEN.owner, SCREEN.name, taken((other.id, 0)))

    with story.sessions.session_created.connected_to(be_faster):
        press(story, "enter")

    assert (state(story)["prompt"], state(story)["session_id"]) == ("", other.id)
    assert [own.id for own in story.sessions.page(OWNER, limit=9, cursor=None, query=None).sessions] == [other.id]
    assert story.messages(other) == []


# The store fails


def test_a_session_is_made_also_where_no_screen_can_show_it(play, caplog):
    story = play([[Text("a")]])
    press(story, "x")
    with closing(sqlite3.connect(story.services.settings.data_dir / "store.sqlite3")) as connection:
        connection.execute("ALTER TABLE screens RENAME TO away")
        session = story.session()
        connection.execute("ALTER TABLE away RENAME TO screens")

    assert "screens do not show" in caplog.text
    assert story.sessions.store.get(OWNER, session.id) == session
    assert state(story)["prompt"] == "x"


def test_a_viewer_whose_store_fails_is_to_come_back_and_misses_nothing(play, look):
    story = play([[Text("a")]])
    press(story, "x")
    place = state(story)["last_event_id"]
    press(story, "y")
    store = story.services.settings.data_dir / "store.sqlite3"
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("ALTER TABLE screen_events RENAME TO away")
        failed = story.services.screens.follow(SCREEN, place, beat_s=DEADLINE_S)
        assert list(failed) == []
        connection.execute("ALTER TABLE away RENAME TO screen_events")

    assert look(story, place).until("prompt") == [("prompt", {"text": "xy", "cursor": 2})]
