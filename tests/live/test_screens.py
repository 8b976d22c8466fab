"""Shared screens on real servers: any of them serves any screen, and none dies with its server."""

import contextlib
import json
import threading

import pytest

from tests.databases import Valkey
from tests.live.client import Client, Stream
from tests.live.server import Server, side_by_side, until

WAIT_S = 60.0
#: What is done to a screen; the rest is what happens in its session.
OWN = {"prompt", "session_created", "session_selected", "session_deleted", "toast"}


class Screen:
    """One screen, as somebody at one server has it."""

    def __init__(self, server, name):
        self.client = Client(server)
        self.path = f"?tui={name}"

    def input(self, **body):
        answer = self.client.call("POST", f"/tui/input{self.path}", body, timeout=WAIT_S)
        assert answer.status == 200, answer.data

    def paste(self, text):
        self.input(type="text", text=text)

    def press(self, *keys):
        for key in keys:
            self.input(type="keypress", key=key)

    @property
    def state(self):
        return self.client.call("GET", f"/tui/state{self.path}", timeout=WAIT_S).json

    def look(self, last_id=None):
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        stream = Stream(self.client, "GET", f"/tui/events{self.path}", headers=headers, timeout=WAIT_S)
        until(lambda: self._has_begun(stream), WAIT_S, "the head of the stream")
        return stream

    @staticmethod
    def _has_begun(stream):
        """The place where a viewer begins is settled when the head is there."""
        stream._waiting += stream._parser.feed(stream.piece())
        return stream._parser.last_id


def read_to(stream, mark):
    """Events up to the first that `mark` accepts."""
    found = []
    while not found or not mark(found[-1]):
        event = stream.next()
        assert event is not None, found
        found.append(event)
    return found


def shows(text):
    return lambda event: event.name == "prompt" and event.data["text"] == text


def says(text):
    return lambda event: event.name == "message" and event.data["content"] == text


def ended(event):
    return event.name == "done"


def parted(events):
    """What was done to the screen, and what happened in its session: each by itself has one order for all."""
    told = [(event.name, event.data) for event in events]
    return [one for one in told if one[0] in OWN], [one for one in told if one[0] not in OWN]


def grows(events):
    numbers = [int(event.id.rpartition("-")[2]) for event in events]
    return numbers == sorted(set(numbers))


def options(home):
    """A model that says `one`, waits for the file `go`, and says `two`; what it was asked before counts for nothing."""
    home.mkdir(parents=True, exist_ok=True)
    step = [{"text": "one"}, {"wait_file": str(home / "go")}, {"text": "two"}]
    (home / "script.json").write_text(json.dumps({"turns": [step], "loop": True}))
    return {
        "OPENCODE_SCRIPT": home / "script.json",
        "OPENCODE_MODEL": "scripted/script",
        "OPENCODE_RATE_LIMIT": "off",
    }


@pytest.fixture(scope="module")
def bell():
    server = Valkey()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def shared(postgres, bell, tmp_path_factory):
    """What several servers are given, and the folder of the file that their model waits for."""
    home = tmp_path_factory.mktemp("screens")
    given = {"DATABASE_URL": postgres.url(postgres.database("template_store")), "REDIS_URL": bell.url}
    return home, {**options(home / "shared"), **given, "OPENCODE_LEASE_S": 3}


@pytest.fixture(scope="module")
def servers(shared):
    home, given = shared
    found = {name: Server.serve(home / name, work=home / "work", **given) for name in ("a", "b")}
    with side_by_side(found):
        yield found["a"], found["b"]


@pytest.fixture
def go(shared):
    """The file that the model waits for."""
    file = shared[0] / "shared" / "go"
    file.unlink(missing_ok=True)
    return file


def test_what_is_typed_at_one_server_is_seen_at_the_other_the_whole_turn_included(servers, go):
    at_a, at_b = (Screen(server, "both") for server in servers)
    go.touch()
    with at_a.look() as left, at_b.look() as right:
        at_a.paste("hel")
        at_b.paste("lo")
        read_to(right, shows("hello"))
        at_b.press("enter")
        here, there = read_to(left, ended), read_to(right, ended)

    assert parted(here)[0][:2] == [
        ("prompt", {"text": "hel", "cursor": 3}), ("prompt", {"text": "hello", "cursor": 5}),
    ]  # fmt: skip
    assert parted(here)[0][2:] == parted(there)[0]
    assert parted(here)[1] == parted(there)[1]
    assert [data["content"] for name, data in parted(here)[1] if name == "message"] == ["hello", "one", "two"]
    assert grows(here)
    assert grows(there)
    assert at_a.state == at_b.state


def test_keys_that_are_typed_at_both_servers_at_once_are_all_there(servers):
    screens = [Screen(server, "keys") for server in servers]
    with screens[0].look() as left, screens[1].look() as right:
        threads = [threading.Thread(target=one.press, args=["ab"[n]] * 20) for n, one in enumerate(screens)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shown = [
            read_to(stream, lambda event: event.name == "prompt" and event.data["cursor"] == 40)
            for stream in (left, right)
        ]

    assert sorted(screens[0].state["prompt"]) == sorted("ab" * 20)
    assert parted(shown[0]) == parted(shown[1])
    assert [data["cursor"] for _name, data in parted(shown[0])[0]] == list(range(1, 41))


def test_of_two_who_press_enter_at_two_servers_one_sends_the_prompt(servers, go):
    go.touch()
    for number in range(5):
        screens = [Screen(server, f"enter{number}") for server in servers]
        with screens[0].look() as stream:
            screens[0].paste(f"once {number}")
            threads = [threading.Thread(target=one.press, args=["enter"]) for one in screens]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            read_to(stream, ended)
        session_id = screens[1].state["session_id"]
        asked = [one["content"] for one in screens[1].client.get(session_id)["messages"] if one["role"] == "user"]
        assert asked == [f"once {number}"]
        with_it = screens[0].client.call("GET", f"/api/sessions?q=once%20{number}").json["sessions"]
        assert [one["id"] for one in with_it] == [session_id]


def test_a_session_that_is_deleted_at_one_server_leaves_the_screen_at_the_other(servers, go):
    go.touch()
    at_a, at_b = (Screen(server, "deleted") for server in servers)
    with at_b.look() as stream:
        at_a.paste("x")
        at_a.press("enter")
        read_to(stream, ended)
        session_id = at_b.state["session_id"]
        assert at_a.client.call("DELETE", f"/api/session/{session_id}").status == 200
        deleted = read_to(stream, lambda event: event.name == "session_deleted")[-1]
        assert deleted.data == {"session_id": session_id}
        at_a.paste("y")
        assert read_to(stream, shows("y"))
    assert at_b.state["session_id"] is None


def test_a_viewer_whose_server_is_killed_in_mid_turn_gets_everything_once_at_the_other(servers, go):
    a, b = servers
    at_a, at_b = Screen(a, "killed"), Screen(b, "killed")
    with at_a.look() as stream, at_b.look() as witness:
        at_a.paste("x")
        at_a.press("enter")
        seen = read_to(stream, says("one"))
        a.kill()
        try:
            at_b.paste("typed at b")
            go.touch()
            with at_b.look(seen[-1].id) as back:
                seen += read_to(back, ended)
                at_b.paste("!")
                seen += read_to(back, shows("typed at b!"))
            all_along = read_to(witness, shows("typed at b!"))
        finally:
            a.start().ready()

    assert parted(seen) == parted(all_along)
    assert grows(seen)
    said = [data["content"] for name, data in parted(seen)[1] if name == "message" and data["role"] == "assistant"]
    assert said[0] == "one"
    assert said[-1] == "two"
    with at_a.look(seen[-2].id) as again:  # and the first one, started anew, knows the place as well
        assert parted([again.next()]) == parted(seen[-1:])


def test_while_redis_is_away_a_screen_is_seen_a_little_later(servers, bell):
    at_a, at_b = (Screen(server, "away") for server in servers)
    with at_b.look() as stream:
        at_a.paste("with")
        read_to(stream, shows("with"))
        bell.kill()
        try:
            at_a.paste("out")
            read_to(stream, shows("without"))
        finally:
            bell.start()
        at_a.paste(" and with")
        read_to(stream, shows("without and with"))


def test_several_workers_of_one_server_are_one_screen(shared, go):
    home, given = shared
    go.touch()
    with Server.serve(home / "workers", "--workers", "2", work=home / "work", **given) as server:
        until(lambda: len(server.workers()) == 2, WAIT_S, "two workers")
        screen = Screen(server, "workers")
        with contextlib.ExitStack() as open_streams:
            streams = [open_streams.enter_context(screen.look()) for _ in range(8)]
            screen.press(*"to all")
            screen.press("enter")
            seen = [parted(read_to(stream, ended)) for stream in streams]
    assert seen == [seen[0]] * 8
    assert [data["text"] for name, data in seen[0][0] if name == "prompt"][-2:] == ["to all", ""]


def test_after_a_kill_of_the_embedded_server_its_screen_goes_on(tmp_path):
    given = options(tmp_path / "script")
    with Server.serve(tmp_path / "server", **given) as server:
        screen = Screen(server, "default")
        with screen.look() as stream:
            screen.paste("x")
            screen.press("enter")
            screen.paste("half a")
            seen = read_to(stream, says("one"))
        server.kill()
        server.start().ready()
        (tmp_path / "script" / "go").touch()
        with screen.look(seen[-1].id) as back:
            seen += read_to(back, ended)
            screen.paste(" line")
            seen += read_to(back, shows("half a line"))
        assert (screen.state["prompt"], screen.state["last_event_id"]) == ("half a line", seen[-1].id)
        with screen.look(seen[0].id) as again:
            replayed = read_to(again, shows("half a line"))

    assert "resync" not in {event.name for event in seen}
    assert grows(seen)
    assert parted([seen[0], *replayed]) == parted(seen)
