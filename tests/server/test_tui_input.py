"""`/tui/input`: every key and every command, over HTTP."""

import threading

import pytest

from opencode.provider.port import Text, ToolCall, Usage
from opencode.provider.scripted import Wait
from opencode.session.terminal_input import ACTING, EDITING
from tests.server.talk import create, follow, refused, say, stored, stream

ASKING = {"permission": {"bash": "ask"}}
CALLS = [[ToolCall("call_1", "bash", {"command": "echo hi"}), Usage(1, 1)], [Text("Done."), Usage(1, 1)]]


class Screen:
    """One screen, as somebody with a keyboard has it."""

    def __init__(self, client, query="", headers=None):
        self.client, self.query, self.headers = client, query, headers
        self.events = stream(client.get(f"/tui/events{query}", headers=headers))

    def input(self, **body):
        return self.client.post(f"/tui/input{self.query}", json=body, headers=self.headers)

    def press(self, *keys):
        for key in keys:
            assert self.input(type="keypress", key=key).json == {"success": True}, key

    def paste(self, text):
        assert self.input(type="text", text=text).json == {"success": True}

    def run(self, command, **arguments):
        return self.input(type="command", command=command, **arguments)

    @property
    def state(self):
        return self.client.get(f"/tui/state{self.query}", headers=self.headers).json

    @property
    def shown(self):
        state = self.state
        return f"{state['prompt'][: state['cursor']]}|{state['prompt'][state['cursor'] :]}"


@pytest.fixture
def screen(client):
    return Screen(client)


def without_screens(dump):
    """The store's rows but for those of screens: what is refused is told there."""
    return [line for line in dump.splitlines() if not line.startswith('INSERT INTO "screen')]


def selected(screen, **body):
    """The screen with a new session of these settings."""
    session_id = create(screen.client, **body)
    assert screen.run("session.select", session_id=session_id).json == {"success": True}
    return session_id


# Keys


def test_a_prompt_is_typed_and_mended_key_by_key(screen):
    screen.press("h", "x", "backspace", "é", " ", "!", "left", "left", "right", "delete")
    assert screen.shown == "hé |"
    screen.press("a", "b", "home", "T", "end", "c", "ctrl+a", "ctrl+e", "left", "ctrl+k")
    assert screen.shown == "Thé ab|"
    screen.press("ctrl+w", "x", "shift+enter", "tab", "y", "ctrl+u")
    assert screen.shown == "Thé x\n|"
    screen.press("up")
    assert screen.shown == "|Thé x\n"
    screen.press("down", "ctrl+c")
    assert screen.shown == "|"


def test_each_key_is_one_event_that_shows_the_prompt(screen):
    keys = [key for key in EDITING if key != "shift+enter"]
    screen.press("a", *keys)
    seen = [next(screen.events) for _ in range(len(keys) + 1)]
    assert {event.name for event in seen} == {"prompt"}
    assert seen[0].data == {"text": "a", "cursor": 1}
    assert seen[-1].data == {"text": screen.state["prompt"], "cursor": screen.state["cursor"]}


def test_an_unknown_key_is_refused_with_the_names_of_those_that_are_known(screen):
    error = refused(screen.input(type="keypress", key="f13"), 400, "INVALID_REQUEST", "f13", *ACTING, *EDITING)
    assert error["details"][0]["field"] == "key"


def test_an_unknown_command_is_refused_with_the_names_of_those_that_are_known(screen):
    refused(
        screen.run("session.explode"), 400, "INVALID_REQUEST", "session.new", "session.select", "session.delete",
        "session.list", "abort", "prompt.clear", "permission.reply", "model.select",
    )  # fmt: skip


def test_history_is_walked_with_up_and_down(screen):
    for text in ("one", "two"):
        screen.paste(text)
        screen.press("enter")
        screen.events.until("done")
    screen.press("d", "up", "up")
    assert screen.shown == "one|"
    screen.press("down", "down")
    assert screen.shown == "d|"


@pytest.mark.parametrize("keys", [["escape"], ["ctrl+c"]])
def test_a_running_turn_is_aborted_by_key(make_app, keys):
    screen = Screen(make_app([[Text("a"), Wait(threading.Event()), Usage(1, 1)]]).test_client())
    screen.press("g", "o", "enter")
    while screen.events.until("message")[-1].data["role"] != "assistant":
        pass

    screen.press(*keys)

    assert screen.events.until("done")[-1].data["status"] == "aborted"


def test_ctrl_c_clears_a_prompt_before_it_stops_a_turn(make_app):
    screen = Screen(make_app([[Text("a"), Wait(threading.Event()), Usage(1, 1)]]).test_client())
    screen.press("g", "enter", "x", "ctrl+c")
    session_id = screen.state["session_id"]
    assert screen.shown == "|"
    assert screen.client.get(f"/api/session/{session_id}").json["status"] == "running"


def test_escape_with_nothing_to_stop_says_so(screen):
    screen.press("escape")
    toast = next(screen.events)
    assert (toast.name, toast.data["level"]) == ("toast", "info")


def test_ctrl_n_begins_a_new_session(screen):
    screen.press("ctrl+n")
    first = screen.state["session_id"]
    screen.press("ctrl+n")
    assert first != screen.state["session_id"]
    assert [event.name for event in screen.events.until("session_selected")] == ["session_created", "session_selected"]


# A permission, by key


@pytest.mark.parametrize(
    ("key", "response", "result"), [("y", "once", "hi"), ("a", "always", "hi"), ("n", "reject", "did not allow")]
)
def test_a_whole_turn_is_driven_by_keys_alone_its_permission_included(make_app, key, response, result):
    screen = Screen(make_app(CALLS, permission={"bash": "ask"}).test_client())
    screen.press(*"say hi", "enter")
    asked = screen.events.until("permission_request")[-1].data
    assert screen.state["permissions"] == [
        {name: asked[name] for name in ("permission_id", "turn_id", "tool", "params", "call_id")}
    ]

    screen.press(key)

    seen = screen.events.until("done")
    (reply,) = [event.data for event in seen if event.name == "permission_reply"]
    (found,) = [event.data for event in seen if event.name == "tool_result"]
    assert (reply["response"], reply["permission_id"]) == (response, asked["permission_id"])
    assert result in found["result"]
    assert (screen.shown, screen.state["permissions"]) == ("|", [])
    assert seen[-1].data["status"] == "completed"


@pytest.mark.parametrize("key", ["y", "n", "a"])
def test_with_something_typed_or_nothing_asked_these_keys_are_typing(make_app, key):
    screen = Screen(make_app(CALLS, permission={"bash": "ask"}).test_client())
    screen.press(key)
    assert screen.shown == f"{key}|"
    screen.press("enter")
    screen.events.until("permission_request")
    screen.press("x", key)
    assert screen.shown == f"x{key}|"
    assert len(screen.state["permissions"]) == 1


def test_a_request_of_an_aborted_turn_waits_no_more(make_app):
    screen = Screen(make_app(CALLS, permission={"bash": "ask"}).test_client())
    screen.press("g", "enter")
    screen.events.until("permission_request")
    screen.press("escape")
    screen.events.until("done")
    assert screen.state["permissions"] == []
    screen.press("y")
    assert screen.shown == "y|"


def test_a_pending_permission_is_found_again_after_a_restart(make_app):
    app = make_app(CALLS, permission={"bash": "ask"})
    screen = Screen(app.test_client())
    screen.press("g", "enter")
    asked = screen.events.until("permission_request")[-1].data
    session_id = screen.state["session_id"]
    settings = app.extensions["opencode"].settings
    make_app.stop(app)

    again = Screen(make_app.again(settings, CALLS[1:]).test_client())
    assert again.state["session_id"] == session_id
    assert [one["permission_id"] for one in again.state["permissions"]] == [asked["permission_id"]]
    again.press("y")

    seen = again.events.until("done")
    assert [event.data["result"] for event in seen if event.name == "tool_result"] == ["hi\n"]


def test_a_token_without_the_scope_cannot_answer_by_key_or_command(make_app):
    app = make_app(CALLS, permission={"bash": "ask"}, auth_tokens=("ann:read+write:w-1", "ann:all-1"))
    writer = Screen(app.test_client(), headers={"Authorization": "Bearer w-1"})
    writer.press("g", "enter")
    writer.events.until("permission_request")

    refused(writer.input(type="keypress", key="y"), 403, "FORBIDDEN", "approve")
    refused(writer.run("permission.reply", response="once"), 403, "FORBIDDEN", "approve")

    assert len(writer.state["permissions"]) == 1
    Screen(app.test_client(), headers={"Authorization": "Bearer all-1"}).press("n")
    writer.events.until("done")


# Commands


def test_session_new_makes_and_selects_one(screen):
    assert screen.run("session.new", model="gpt-4").json == {"success": True}
    (session,) = screen.client.get("/api/sessions").json["sessions"]
    assert (session["id"], session["model"]) == (screen.state["session_id"], "gpt-4")


def test_session_select_shows_that_session_from_then_on(screen):
    first, second = selected(screen), selected(screen)
    say(screen.client, first).rest()
    say(screen.client, second).rest()
    seen = screen.events.until("done")
    assert [event.data["session_id"] for event in seen if event.name == "session_selected"] == [first, second]
    assert {event.data["session_id"] for event in seen if event.name in {"message", "done"}} == {second}


def test_selecting_a_session_shows_its_running_turn_from_the_start(make_app):
    going = threading.Event()
    screen = Screen(make_app([[Text("a"), Wait(going), Text("b"), Usage(1, 1)]]).test_client())
    session_id = create(screen.client)
    running = say(screen.client, session_id, "elsewhere")
    running.until("text")
    assert screen.run("session.select", session_id=session_id).status_code == 200
    going.set()
    said = [event.data["content"] for event in screen.events.until("done") if event.name == "message"]
    assert said == ["elsewhere", "a", "b"]


def test_selecting_the_active_session_again_shows_nothing_twice(make_app):
    going = threading.Event()
    screen = Screen(make_app([[Text("a"), Wait(going), Text("b"), Usage(1, 1)]]).test_client())
    screen.press("g", "enter")
    seen = [event for _ in range(2) for event in screen.events.until("message")]
    assert screen.run("session.select", session_id=screen.state["session_id"]).status_code == 200
    seen += screen.events.until("session_selected")
    going.set()
    seen += screen.events.until("done")
    assert [event.data["content"] for event in seen if event.name == "message"] == ["g", "a", "b"]


def test_a_turn_that_was_started_elsewhere_is_on_the_screen_too(screen):
    session_id = selected(screen)
    say(screen.client, session_id, "from elsewhere").rest()
    said = [event.data for event in screen.events.until("done") if event.name == "message"]
    assert (said[0]["role"], said[0]["content"]) == ("user", "from elsewhere")
    assert "".join(one["content"] for one in said[1:]) == "Hello, world."


@pytest.mark.parametrize("session_id", ["ses_missing", "'; --"])
def test_only_a_session_that_is_there_can_be_selected(screen, session_id):
    before = selected(screen)
    refused(screen.run("session.select", session_id=session_id), 404, "SESSION_NOT_FOUND", session_id)
    assert screen.state["session_id"] == before
    toast = screen.events.until("toast")[-1]
    assert (toast.data["level"], toast.data["code"]) == ("error", "SESSION_NOT_FOUND")


def test_another_owners_session_can_neither_be_selected_nor_deleted(make_app):
    client = make_app(auth_tokens=("anna:a-1", "bert:b-2")).test_client()
    anna, bert = ({"Authorization": f"Bearer {token}"} for token in ("a-1", "b-2"))
    hers = create(client, anna)
    screen = Screen(client, headers=bert)
    for command in ("session.select", "session.delete"):
        refused(screen.run(command, session_id=hers), 404, "SESSION_NOT_FOUND")
    assert client.get(f"/api/session/{hers}", headers=anna).status_code == 200


@pytest.mark.parametrize(
    ("command", "field"),
    [("session.select", "session_id"), ("session.delete", "session_id"), ("permission.reply", "response"),
     ("model.select", "model")],
)  # fmt: skip
def test_a_command_without_what_it_needs_is_refused_by_name(screen, app, command, field):
    before = without_screens(stored(app))
    error = refused(screen.run(command), 400, "INVALID_REQUEST", field)
    assert error["details"][0]["field"] == field
    assert without_screens(stored(app)) == before


def test_session_delete_takes_the_named_one_or_the_active_one(screen):
    other, active = create(screen.client), selected(screen)
    assert screen.run("session.delete", session_id=other).json == {"success": True}
    assert screen.state["session_id"] == active
    assert screen.run("session.delete").json == {"success": True}
    assert screen.state["session_id"] is None
    assert screen.client.get("/api/sessions").json["sessions"] == []


def test_session_list_shows_the_newest_sessions(screen):
    first, second = create(screen.client, title="one"), create(screen.client, title="two")
    assert screen.run("session.list").json == {"success": True}
    toast = screen.events.until("toast")[-1].data
    assert toast["sessions"] == [
        {"id": second, "title": "two", "status": "idle"},
        {"id": first, "title": "one", "status": "idle"},
    ]


def test_abort_and_prompt_clear(make_app):
    screen = Screen(make_app([[Text("a"), Wait(threading.Event()), Usage(1, 1)]]).test_client())
    screen.press("g", "enter", "x", "y")
    assert screen.run("prompt.clear").json == {"success": True}
    assert screen.shown == "|"
    assert screen.run("abort").json == {"success": True}
    assert screen.events.until("done")[-1].data["status"] == "aborted"


def test_permission_reply_answers_the_one_that_waits_or_the_named_one(make_app):
    screen = Screen(make_app(CALLS, permission={"bash": "ask"}).test_client())
    refused(screen.run("permission.reply", response="once"), 404, "NOT_FOUND", "waiting")
    screen.press("g", "enter")
    asked = screen.events.until("permission_request")[-1].data
    refused(screen.run("permission.reply", response="once", permission_id="per_missing"), 404, "NOT_FOUND")
    assert screen.run("permission.reply", response="reject").json == {"success": True}
    screen.events.until("done")
    named = {"permission_id": asked["permission_id"]}
    assert screen.run("permission.reply", response="reject", **named).json == {"success": True}
    refused(screen.run("permission.reply", response="once", **named), 409, "PERMISSION_ANSWERED")


def test_model_select_is_for_the_active_session_and_for_those_made_later(screen):
    session_id = selected(screen)
    assert screen.run("model.select", model="gpt-4").json == {"success": True}
    assert screen.client.get(f"/api/session/{session_id}").json["model"] == "gpt-4"
    screen.press("ctrl+n")
    state = screen.state
    assert state["model"] == "gpt-4"
    assert screen.client.get(f"/api/session/{state['session_id']}").json["model"] == "gpt-4"
    refused(screen.run("model.select", model="nonsense"), 400, "INVALID_REQUEST", "nonsense")
    assert screen.state["model"] == "gpt-4"


# Limits, and more than one at the keyboard


def test_sessions_made_on_a_screen_count_against_the_limit(make_app):
    screen = Screen(make_app(rate_limit=True, rate_limit_max_sessions=2).test_client())
    screen.press("ctrl+n")
    assert screen.run("session.new").status_code == 200
    for response in (screen.input(type="keypress", key="ctrl+n"), screen.run("session.new")):
        refused(response, 429, "RATE_LIMIT_EXCEEDED", "OPENCODE_RATE_LIMIT_MAX_SESSIONS")


def test_two_who_type_on_one_screen_are_one_prompt(client):
    ann, bob = Screen(client), Screen(client)
    ann.press("a")
    bob.press("b", "left")
    ann.press("c")
    assert ann.shown == bob.shown == "ac|b"
    assert [next(ann.events) for _ in range(4)] == [next(bob.events) for _ in range(4)]


def test_two_who_press_enter_at_once_send_the_prompt_once(app):
    screen = Screen(app.test_client())
    screen.paste("go")
    barrier = threading.Barrier(4)

    def enter():
        barrier.wait()
        app.test_client().post("/tui/input", json={"type": "keypress", "key": "enter"})

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    screen.events.until("done")
    (session,) = app.test_client().get("/api/sessions").json["sessions"]
    assert session["message_count"] == 2


def test_a_state_says_where_to_follow_on_from(client):
    first = Screen(client)
    first.press("a")
    place = first.state["last_event_id"]
    first.press("b")
    later = stream(client.get(f"/tui/events?after={place}"))
    assert next(later).data["text"] == "ab"
    # As in a session's stream, what a browser remembers goes before its stale address.
    newer = stream(client.get(f"/tui/events?after={place}", headers={"Last-Event-ID": first.state["last_event_id"]}))
    first.press("c")
    assert next(newer).data["text"] == "abc"


def test_a_screen_that_nobody_looks_at_makes_room_for_another(client):
    for number in range(60):
        client.post(f"/tui/input?tui=s{number}", json={"type": "text", "text": str(number)})
    assert client.get("/tui/state?tui=s59").json["prompt"] == "59"
    assert client.get("/tui/state?tui=s0").json["prompt"] == ""


def test_where_people_look_at_all_screens_there_is_no_other(client):
    looking = [Screen(client, f"?tui=s{number}") for number in range(50)]
    for screen in looking:
        screen.press("x")
        next(screen.events)
    refused(client.get("/tui/state?tui=more"), 400, "INVALID_REQUEST", "50")
    looking[7].events.close()
    assert client.get("/tui/state?tui=more").status_code == 200


def test_the_session_of_a_screen_is_like_any_other(screen):
    session_id = selected(screen, **ASKING)
    screen.paste("hi")
    screen.press("enter")
    screen.events.until("done")
    assert [event.name for event in follow(screen.client, session_id, "?until=end")][-1] == "done"
