"""Shared screens: a prompt, an active session, and what happens in it, for any number of people looking."""

import json
import sqlite3
import threading
from contextlib import closing

import pytest

from opencode.errors import InvalidRequest, SessionBusy
from opencode.provider.port import Text, ToolCall
from opencode.provider.scripted import Wait
from opencode.session.screen import ScreenName, ScreenPlace, place_of
from opencode.session.terminal_input import TerminalInput
from tests.session.story import DEADLINE_S, OWNER, eventually


class Looker(threading.Thread):
    """Somebody who looks at a screen from now on, or from an id on."""

    def __init__(self, screens, screen, last_id=None):
        super().__init__(daemon=True)
        self.frames = screens.follow(screen, last_id, beat_s=0.1)
        self.head = next(self.frames)
        self.ids, self.events = [], []
        self.start()

    def run(self):
        for data in self.frames:
            for frame in (data or b"").split(b"\n\n")[:-1]:
                number, event, body = frame.split(b"\n")
                self.ids.append(number[4:].decode())
                self.events.append((event[7:].decode(), json.loads(body[6:])))

    def sees(self, *names):
        eventually(lambda: len(self.events) >= len(names))
        assert [name for name, _data in self.events] == list(names)
        return [data for _name, data in self.events]


@pytest.fixture
def story(play):
    return play([[Text("Hel"), Text("lo"), ToolCall("c", "bash", {"command": "echo hi"})], [Text("bye")]] * 2)


def terminal(story):
    return TerminalInput(story.sessions, story.services.screens, lambda: None)


def press(story, *keys):
    for key in keys:
        terminal(story).press(screen_of(story), key)


def type_text(story, text):
    terminal(story).paste(screen_of(story), text)


def screen_of(_story, name="default"):
    return ScreenName(OWNER, name)


def state_of(story, screen=None):
    return story.services.screens.state(screen or screen_of(story))


def test_a_screen_is_one_for_its_owner_and_name(story):
    screens = story.services.screens
    names = [ScreenName(OWNER, "a"), ScreenName(OWNER, "b"), ScreenName("eve", "a")]

    ids = [screens.view(name).screen.id for name in names]

    assert ids == [screens.view(name).screen.id for name in names]
    assert len(set(ids)) == 3


def test_what_is_typed_is_seen_by_everyone_who_looks(story):
    screens, screen = story.services.screens, screen_of(story)
    lookers = [Looker(screens, screen) for _ in range(3)]

    type_text(story, "hel")
    type_text(story, "lo")

    for looker in lookers:
        assert looker.sees("prompt", "prompt") == [{"text": "hel", "cursor": 3}, {"text": "hello", "cursor": 5}]
    assert state_of(story, screen)["prompt"] == "hello"


def test_enter_creates_a_session_sends_the_prompt_and_shows_the_whole_turn(story):
    screens, screen = story.services.screens, screen_of(story)
    type_text(story, " do it ")
    looker = Looker(screens, screen)

    press(story, "enter")

    data = looker.sees(
        *("session_created", "session_selected", "prompt", "message", "message", "message"),
        *("tool_call", "tool_result", "message", "done"),
    )
    (session,) = story.sessions.page(OWNER, limit=2, cursor=None, query=None).sessions
    assert state_of(story, screen)["session_id"] == session.id == data[0]["session_id"] == data[1]["session_id"]
    assert data[2] == {"text": "", "cursor": 0}
    spoken = [(data[n]["role"], data[n]["content"]) for n in (3, 4, 5, 8)]
    assert spoken == [("user", "do it"), ("assistant", "Hel"), ("assistant", "lo"), ("assistant", "bye")]
    assert (data[6]["tool"], data[6]["command"]) == ("bash", "echo hi")
    assert {item["session_id"] for item in data[3:]} == {session.id}
    assert data[-1]["status"] == "completed"


def test_the_next_prompt_goes_to_the_same_session(story):
    screen = screen_of(story)
    for _ in range(2):
        type_text(story, "go")
        press(story, "enter")
        eventually(lambda: story.sessions.store.get(OWNER, state_of(story, screen)["session_id"]).status == "idle")

    assert len(story.messages(story.sessions.store.get(OWNER, state_of(story, screen)["session_id"]))) == 4


def test_enter_on_an_empty_prompt_does_nothing(story):
    screen = screen_of(story)
    type_text(story, "  \n")

    press(story, "enter")

    assert state_of(story, screen)["session_id"] is None
    assert story.sessions.page(OWNER, limit=2, cursor=None, query=None).sessions == []


def test_a_prompt_that_could_not_be_sent_is_kept(play):
    story = play([[Wait(threading.Event())]])
    screen = screen_of(story)
    type_text(story, "one")
    press(story, "enter")
    type_text(story, "two")

    with pytest.raises(SessionBusy):
        press(story, "enter")

    assert state_of(story, screen)["prompt"] == "two"


def test_a_prompt_has_a_limit(story):
    screen = screen_of(story)

    with pytest.raises(InvalidRequest, match="200000"):
        type_text(story, "x" * 200_001)
    assert state_of(story, screen)["prompt"] == ""


def test_sessions_that_come_and_go_are_shown_to_their_owner_only(story):
    screens = story.services.screens
    mine, hers = Looker(screens, screen_of(story)), Looker(screens, ScreenName("eve", "default"))

    session = story.session()
    story.sessions.delete(OWNER, session.id)
    other = story.sessions.create("eve")

    assert mine.sees("session_created", "session_deleted") == [{"session_id": session.id}] * 2
    assert hers.sees("session_created") == [{"session_id": other.id}]


def test_a_deleted_session_is_active_no_longer(story):
    screen = screen_of(story)
    type_text(story, "go")
    press(story, "enter")

    story.sessions.delete(OWNER, state_of(story, screen)["session_id"])

    assert state_of(story, screen)["session_id"] is None


def test_who_comes_back_with_the_last_id_gets_what_came_meanwhile(story):
    screens, screen = story.services.screens, screen_of(story)
    first = Looker(screens, screen)
    type_text(story, "a")
    first.sees("prompt")
    for letter in "bcd":
        type_text(story, letter)

    back = Looker(screens, screen, last_id=first.ids[0])

    assert [data["text"] for data in back.sees("prompt", "prompt", "prompt")] == ["ab", "abc", "abcd"]
    epoch = screens.view(screen).screen.id
    assert [place_of(event_id, epoch) for event_id in back.ids] == [ScreenPlace(number, 0) for number in (2, 3, 4)]
    assert back.head == f"id: {first.ids[0]}\n\n".encode()


@pytest.mark.parametrize("last_id", ["tui_other-1", "nonsense", "-5", "", "{epoch}-99999", "{epoch}--1"])
def test_an_id_that_says_nothing_is_answered_with_the_whole_state(story, last_id):
    screens, screen = story.services.screens, screen_of(story)
    type_text(story, "typed")
    epoch = screens.view(screen).screen.id

    looker = Looker(screens, screen, last_id=last_id.format(epoch=epoch))

    (state,) = looker.sees("resync")
    assert (state["prompt"], state["session_id"]) == ("typed", None)
    type_text(story, "!")
    assert looker.sees("resync", "prompt")[1]["text"] == "typed!"


def test_what_has_left_the_buffer_is_answered_with_the_whole_state(story):
    screens, screen = story.services.screens, screen_of(story)
    first = Looker(screens, screen)
    type_text(story, "x")
    first.sees("prompt")
    for _ in range(1100):
        type_text(story, "y")

    looker = Looker(screens, screen, last_id=first.ids[0])

    assert looker.sees("resync")[0]["prompt"] == "x" + "y" * 1100


def test_lookers_end_when_the_server_stops(story):
    looker = Looker(story.services.screens, screen_of(story))

    story.stop()

    looker.join(DEADLINE_S)
    assert not looker.is_alive()


def test_what_is_kept_of_a_screen_is_bounded_in_events(story):
    screens, screen = story.services.screens, screen_of(story)
    for _ in range(1100):
        press(story, "left")

    kept = story.sessions.store.screen_events(screens.view(screen).screen.id, 0)

    assert 900 < len(kept) <= 1000
    assert kept[-1].number == 1100


def test_what_is_kept_of_a_screen_is_bounded_in_bytes(story):
    screens, screen = story.services.screens, screen_of(story)
    first = Looker(screens, screen)
    type_text(story, "x" * 100_000)
    first.sees("prompt")
    for _ in range(30):
        press(story, "left")

    kept = story.sessions.store.screen_events(screens.view(screen).screen.id, 0)

    assert 500_000 < sum(len(event.body) for event in kept) <= 1024 * 1024
    assert Looker(screens, screen, last_id=first.ids[0]).sees("resync")[0]["prompt"] == "x" * 100_000


def test_an_event_that_is_larger_than_the_buffer_is_shown_all_the_same(story):
    screen = screen_of(story)
    looker = Looker(story.services.screens, screen)
    type_text(story, "\U0001f388" * 200_000)
    eventually(lambda: looker.events)
    type_text(story, "")
    assert looker.sees("prompt", "prompt")[1]["cursor"] == 200_000


def test_a_store_that_fails_under_a_turn_is_said_and_what_is_stored_later_is_shown(play):
    going = threading.Event()
    story = play([[Text("a"), Wait(going), ToolCall("c", "bash", {"command": "echo hi"})], [Text("b")]])
    looker = Looker(story.services.screens, screen_of(story))
    press(story, "g", "enter")
    eventually(lambda: any(data.get("content") == "a" for _, data in looker.events))
    with closing(sqlite3.connect(story.services.settings.data_dir / "store.sqlite3")) as connection:
        connection.execute("PRAGMA legacy_alter_table = ON")
        for table in ("events", "sessions"):
            connection.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
        going.set()
        try:
            eventually(lambda: any(data.get("code") == "STORE_UNAVAILABLE" for _, data in looker.events))
        finally:
            for table in ("events", "sessions"):
                connection.execute(f"ALTER TABLE {table}_away RENAME TO {table}")
    eventually(lambda: looker.events[-1][0] == "done")
    said = [data["message"] for name, data in looker.events if name == "error"]
    assert len(said) == 2
    # The relay is the same one, and goes on.
    press(story, "h", "enter")
    eventually(lambda: looker.events[-1][1].get("status") == "completed")
