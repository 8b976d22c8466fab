"""`/tui`: shared terminal screens (API section 5)."""

import threading
from contextlib import closing

import pytest

from opencode.provider.port import Text, ToolCall, Usage
from opencode.provider.scripted import Repeat, Wait
from tests.server.talk import create, database, follow, refused, stored, stream, turn


def watch(client, query="", headers=None):
    return stream(client.get(f"/tui/events{query}", headers=headers))


def typed(client, text, query=""):
    return client.post(f"/tui/input{query}", json={"type": "text", "text": text})


def enter(client, query=""):
    return client.post(f"/tui/input{query}", json={"type": "keypress", "key": "enter"})


def numbers(events):
    """The numbers within the ids; all are of one life of the screen."""
    parts = [event.id.rpartition("-") for event in events]
    assert len({epoch for epoch, _, _ in parts}) == 1
    return [int(number) for _, _, number in parts]


def test_text_and_enter_drive_a_turn_that_the_screen_shows(make_app):
    call = ToolCall("call_1", "bash", {"command": "echo hi"})
    client = make_app([[Text("I look."), call, Usage(1, 1)], [Text("Done."), Usage(1, 1)]]).test_client()
    screen = watch(client)

    assert typed(client, "hello ").json == {"success": True}
    assert typed(client, "there").json == {"success": True}
    assert enter(client).json == {"success": True}
    events = screen.until("done")

    names = [event.name for event in events]
    assert names == [
        "prompt", "prompt", "session_created", "session_selected", "prompt",
        "message", "message", "tool_call", "tool_result", "message", "done",
    ]  # fmt: skip
    assert numbers(events) == sorted(set(numbers(events)))
    assert [event.data for event in events[:2]] == [
        {"text": "hello ", "cursor": 6}, {"text": "hello there", "cursor": 11},
    ]  # fmt: skip
    session_id = events[2].data["session_id"]
    assert events[3].data == {"session_id": session_id}
    assert events[4].data == {"text": "", "cursor": 0}
    user, answer = events[5].data, events[6].data
    assert user == {"type": "text", "content": "hello there", "session_id": session_id, "role": "user"}
    assert answer == {"type": "text", "content": "I look.", "session_id": session_id, "role": "assistant"}
    shown = events[7].data
    assert {name: shown[name] for name in ("tool", "params", "command", "session_id")} == {
        "tool": "bash", "params": {"command": "echo hi"}, "command": "echo hi", "session_id": session_id,
    }  # fmt: skip
    assert all(event.data["session_id"] == session_id for event in events[5:])
    # It is a session like any other.
    assert client.get(f"/api/session/{session_id}").json["messages"][0]["content"] == "hello there"


def test_a_second_prompt_goes_to_the_same_session(client):
    screen = watch(client)
    for text in ("one", "two"):
        typed(client, text)
        enter(client)
        screen.until("done")

    (session,) = client.get("/api/sessions").json["sessions"]
    assert session["message_count"] == 4


def test_any_number_of_people_see_the_same(client):
    screens = [watch(client) for _ in range(3)]
    typed(client, "hello")
    enter(client)

    seen = [screen.until("done") for screen in screens]

    assert seen[0] == seen[1] == seen[2]


def test_sessions_made_and_deleted_elsewhere_are_shown(client):
    screen = watch(client)
    session_id = create(client)
    client.delete(f"/api/session/{session_id}")

    events = [next(screen), next(screen)]

    assert [(event.name, event.data) for event in events] == [
        ("session_created", {"session_id": session_id}),
        ("session_deleted", {"session_id": session_id}),
    ]


def test_the_state_is_what_was_typed_and_the_active_session(client):
    assert client.get("/tui/state").json.items() >= {"prompt": "", "cursor": 0, "session_id": None}.items()
    typed(client, "é🎈")
    assert client.get("/tui/state").json.items() >= {"prompt": "é🎈", "cursor": 2, "session_id": None}.items()
    screen = watch(client)
    enter(client)
    screen.until("done")

    state = client.get("/tui/state").json

    assert (state["prompt"], state["cursor"]) == ("", 0)
    assert state["session_id"] == client.get("/api/sessions").json["sessions"][0]["id"]
    # And when that is deleted, there is none.
    client.delete(f"/api/session/{state['session_id']}")
    assert client.get("/tui/state").json["session_id"] is None


@pytest.mark.parametrize("text", [None, "  \n "])
def test_enter_on_an_empty_prompt_does_nothing(client, app, text):
    if text is not None:
        typed(client, text)
    before = stored(app)

    assert enter(client).json == {"success": True}

    assert stored(app) == before


def test_enter_while_a_turn_runs_is_refused_and_keeps_the_prompt(make_app):
    going = threading.Event()
    client = make_app([[Text("a"), Wait(going), Usage(1, 1)]]).test_client()
    screen = watch(client)
    typed(client, "first")
    enter(client)
    screen.until("message")
    screen.until("message")
    typed(client, "second")

    refused(enter(client), 409, "SESSION_BUSY")

    assert client.get("/tui/state").json["prompt"] == "second"
    going.set()
    screen.until("done")


def test_screens_have_names_and_are_apart(client):
    screen, other = watch(client, "?tui=left"), watch(client, "?tui=right")
    typed(client, "L", "?tui=left")
    typed(client, "R", "?tui=right")

    assert (next(screen).data["text"], next(other).data["text"]) == ("L", "R")
    assert client.get("/tui/state").json["prompt"] == ""


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 65, "é", "%0a"])
def test_a_name_of_another_form_is_refused(client, name):
    for response in (
        client.get(f"/tui/state?tui={name}"),
        client.get(f"/tui/events?tui={name}"),
        enter(client, f"?tui={name}"),
    ):
        refused(response, 400, "INVALID_REQUEST", "tui")


def test_a_screen_belongs_to_its_owner_under_its_name(make_app):
    client = make_app(auth_tokens=("anna:a-1", "bert:b-2")).test_client()
    anna, bert = ({"Authorization": f"Bearer {token}"} for token in ("a-1", "b-2"))
    screen = watch(client, headers=bert)

    client.post("/tui/input", json={"type": "text", "text": "secret"}, headers=anna)
    client.post("/tui/input", json={"type": "text", "text": "mine"}, headers=bert)
    create(client, anna)
    created = create(client, bert)

    assert [next(screen).data for _ in range(2)] == [{"text": "mine", "cursor": 4}, {"session_id": created}]
    assert client.get("/tui/state", headers=bert).json["prompt"] == "mine"


# Coming back


def test_who_comes_back_gets_what_was_missed(client):
    screen = watch(client)
    typed(client, "a")
    first = next(screen)
    screen.close()
    typed(client, "b")
    typed(client, "c")

    back = watch(client, headers={"Last-Event-ID": first.id})

    assert back.first_id == first.id
    assert [next(back).data["text"] for _ in range(2)] == ["ab", "abc"]


def test_who_comes_back_to_the_head_of_a_stream_misses_nothing(client):
    typed(client, "a")
    screen = watch(client)
    screen.close()
    typed(client, "b")

    assert next(watch(client, headers={"Last-Event-ID": screen.first_id})).data["text"] == "ab"


@pytest.mark.parametrize("last_id", ["tui_other-1", "1", "x", "-", "", "tui_other-" + "9" * 5000])
def test_an_unknown_epoch_is_answered_by_a_resync_with_the_whole_state(client, last_id):
    typed(client, "typed before")

    back = watch(client, headers={"Last-Event-ID": last_id})
    resync = next(back)
    typed(client, "!")

    assert resync.name == "resync"
    before = {"prompt": "typed before", "cursor": 12, "last_event_id": resync.id}
    assert resync.data == client.get("/tui/state").json | before
    assert next(back).data["text"] == "typed before!"


def test_a_number_that_was_never_given_is_answered_by_a_resync(client):
    typed(client, "a")
    epoch = watch(client).first_id.rpartition("-")[0]

    for number in ("99", "9" * 5000):
        assert next(watch(client, headers={"Last-Event-ID": f"{epoch}-{number}"})).name == "resync"


def test_what_has_left_the_buffer_is_answered_by_a_resync(client):
    screen = watch(client)
    typed(client, "a")
    first = next(screen)
    for text in ("x" * 90_000, *[""] * 12):  # each shows the whole prompt
        typed(client, text)

    resync = next(watch(client, headers={"Last-Event-ID": first.id}))

    assert (resync.name, resync.data) == ("resync", client.get("/tui/state").json)


def test_what_happened_in_the_session_is_replayed_however_long_it_is(make_app):
    client = make_app([[Repeat(3000, "{n} "), Usage(1, 1)]]).test_client()
    screen = watch(client)
    typed(client, "count")
    first = next(screen)
    enter(client)
    seen = screen.until("done")

    back = watch(client, headers={"Last-Event-ID": first.id})

    assert back.until("done") == seen
    said = [event.data["content"] for event in seen if event.name == "message"]
    assert said == ["count", *(f"{number} " for number in range(1, 3001))]


def test_screens_end_with_a_time_to_come_back_when_the_server_stops(make_app):
    app = make_app()
    screen = watch(app.test_client())

    make_app.stop(app)

    assert screen.rest() == []
    assert screen.retry is not None
    assert 2000 <= screen.retry <= 10_000


def test_while_the_store_fails_a_key_is_refused_and_a_viewer_is_told_to_come_back(app, client):
    typed(client, "a")
    with closing(database(app)) as connection:
        connection.execute("ALTER TABLE screens RENAME TO away")
        refused(typed(client, "b"), 503, "UNAVAILABLE")
        refused(client.get("/tui/state"), 503, "UNAVAILABLE")
        refused(client.get("/tui/events"), 503, "UNAVAILABLE")
        connection.execute("ALTER TABLE away RENAME TO screens")

    assert client.get("/tui/state").json["prompt"] == "a"


# Input


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "type"),
        ({"type": "dance"}, "type"),
        ({"type": "text"}, "text"),
        ({"type": "text", "text": None}, "text"),
        ({"type": "text", "text": 1}, "text"),
        ({"type": "keypress"}, "key"),
        ({"type": "keypress", "key": "hyperspace"}, "key"),
        ({"type": "keypress", "key": ""}, "key"),
        ({"type": "keypress", "key": "ab"}, "key"),
        ({"type": "keypress", "key": "\x1b"}, "key"),
        ({"type": "keypress", "key": "enter", "text": "x"}, "text"),
        ({"type": "text", "text": "x", "session_id": "ses_1"}, "session_id"),
        ({"type": "command"}, "command"),
        ({"type": "command", "command": "session.explode"}, "command"),
        ({"type": "command", "command": "abort", "key": "enter"}, "key"),
    ],
)
def test_an_unknown_type_or_key_is_refused_by_name(client, body, field):
    error = refused(client.post("/tui/input", json=body), 400, "INVALID_REQUEST", field)
    assert field in {detail["field"] for detail in error["details"]}
    assert client.get("/tui/state").json["prompt"] == ""


def test_a_prompt_has_a_greatest_length(client):
    for _ in range(2):
        assert typed(client, "x" * 100_000).status_code == 200
    refused(typed(client, "x"), 400, "INVALID_REQUEST", "200000")
    refused(typed(client, "x" * 100_001), 400, "INVALID_REQUEST", "text")


def test_a_turn_that_was_started_elsewhere_leaves_the_screens_session_alone(client):
    session_id = create(client)
    turn(client, session_id)
    assert client.get("/tui/state").json["session_id"] is None
    assert follow(client, session_id, "?until=end").rest()
