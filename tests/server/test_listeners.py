"""`Server.on`: what listeners hear, and that they break nothing (API section 9)."""

import threading

import pytest

from opencode.server.listeners import EVENTS, Listeners
from tests.live.client import Client
from tests.live.server import until
from tests.server.library import HELLO, server

TOOL = [[{"tool": "bash", "params": {"command": "echo hi"}}, {"usage": {"input": 5, "output": 2}}], *HELLO]


@pytest.fixture
def heard(tmp_path):
    """A running server, and what its listeners heard, as (event, data)."""
    events = []
    own = server(tmp_path, TOOL)
    for name in EVENTS:
        own.on(name, lambda event, name=name: events.append((name, event)))
    with own:
        yield own, events


def test_listeners_hear_a_session_and_its_turn(heard):
    own, events = heard
    client = Client(own)
    session = client.session()
    client.turn(session, "do it")
    client.call("DELETE", f"/api/session/{session}")
    own.stop()

    names = [name for name, _ in events if name != "request"]
    assert names == ["session_created", "message", "tool_call", "message", "turn_done", "session_deleted"]
    of = {name: event for name, event in events if name != "message"}
    user, assistant = (event for name, event in events if name == "message")
    assert (user.role, user.content, assistant.role, assistant.content) == (
        "user",
        "do it",
        "assistant",
        "Hello, world.",
    )
    assert user.message_id != assistant.message_id
    assert {event.session_id for name, event in events if name != "request"} == {session}
    assert of["session_created"].owner == "local"
    assert (of["tool_call"].tool, of["tool_call"].params) == ("bash", {"command": "echo hi"})
    assert (of["turn_done"].status, of["turn_done"].tokens) == ("completed", 17)


def test_a_request_is_heard_when_it_ends_a_stream_with_what_it_sent(heard):
    own, events = heard
    client = Client(own)
    session = client.session()
    turn = client.turn(session, "do it")
    client.call("GET", "/api/session/ses_x?ticket=s3cret&limit=5", headers={"X-Request-Id": "req-7"})
    own.stop()

    # The end of a stream may be reported after what came next: its last byte is read before it is closed.
    requests = {(event.method, event.route): event for name, event in events if name == "request"}
    created = requests["POST", "/api/session"]
    stream = requests["POST", "/api/session/<session_id>/message"]
    missing = requests["GET", "/api/session/<session_id>"]
    assert len(requests) == 3
    assert (created.method, created.route, created.status, created.owner) == ("POST", "/api/session", 200, "local")
    assert created.url == f"http://127.0.0.1:{own.port}/api/session"
    assert created.duration > 0
    assert stream.duration >= turn[-1].data["duration"]
    assert (stream.session_id, stream.events) == (session, len(turn))
    assert stream.turn_id == turn[0].data["turn_id"]
    assert stream.bytes > 100
    assert (missing.request_id, missing.status) == ("req-7", 404)
    assert missing.url.endswith("?ticket=…&limit=5")


def test_errors_of_turns_and_of_the_server_are_heard(tmp_path):
    events = []
    own = server(tmp_path, [[{"error": {"code": "PROVIDER_AUTH", "message": "no"}}]])
    own.on("error", events.append)
    with own:
        client = Client(own)
        client.turn(client.session(), "hi")
        own.app.view_functions["api.list_models"] = lambda: 1 / 0
        assert client.call("GET", "/api/models").status == 500
        own.services.log.close()
        session = client.session()
        answer = client.call("POST", f"/api/session/{session}/message", {"content": "x"})
        assert answer.status == 503
        own.stop()

    assert [event.code for event in events] == ["PROVIDER_AUTH", "INTERNAL_ERROR", "UNAVAILABLE"]
    assert [event.status for event in events[1:]] == [500, 503]


def test_a_failing_listener_is_logged_and_breaks_nothing(tmp_path, caplog):
    heard = threading.Event()
    own = server(tmp_path)
    own.on("session_created", lambda event: event.missing)
    own.on("session_created", heard.set)
    with own:
        Client(own).session()
        assert heard.wait(30)
    assert "no attribute 'missing'" in caplog.text


def test_a_slow_listener_holds_up_nobody(tmp_path):
    go = threading.Event()
    own = server(tmp_path)
    own.on("request", lambda: go.wait(60))
    with own:
        client = Client(own)
        for _ in range(5):
            assert client.call("GET", "/health").status == 200
        go.set()


def test_a_listener_gets_as_many_arguments_as_it_takes():
    listeners, seen = Listeners(), []
    listeners.on("error", lambda: seen.append("none"))
    listeners.on("error", seen.append)  # one of C's: it does not say
    listeners.on("error", lambda *all_of_it: seen.append(len(all_of_it)))
    listeners.on("error", lambda event, more=1: seen.append(more))
    listeners.on("error", lambda *, more=2: seen.append(more))

    listeners.tell("error", code="X")
    listeners.drain(30)

    assert sorted(map(str, seen)) == sorted(["none", "namespace(code='X')", "1", "1", "2"])


def test_more_than_can_wait_is_dropped_and_said(caplog):
    listeners, go, began = Listeners(), threading.Event(), threading.Event()
    listeners.on("error", lambda: (began.set(), go.wait(60)))
    listeners.tell("error")
    assert began.wait(30)

    for _ in range(10_001):
        listeners.tell("error")

    go.set()
    until(lambda: "dropped" in caplog.text, 30, "the warning")
    listeners.drain(60)


async def _coroutine(event):
    """As a listener of TypeScript may be."""


def test_what_cannot_be_heard_is_refused_at_once(tmp_path):
    own = server(tmp_path)
    with pytest.raises(ValueError, match="no event 'requests'; there are: request, session_created"):
        own.on("requests", print)
    for wrong in (_coroutine, 5):
        with pytest.raises(TypeError, match="plain function"):
            own.on("request", wrong)
