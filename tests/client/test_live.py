"""The client against real servers: connections that are cut, servers that are killed and stopped under a turn."""

import json
import threading

import pytest

from opencode.client import ApiError, Client, Done, PermissionRequest, Text, Unreachable
from tests.client.peer import CuttingProxy
from tests.live.server import Server

pytestmark = pytest.mark.live

PATIENCE_S = 90.0


def script(home, turns, *, loop=True):
    home.mkdir(parents=True, exist_ok=True)
    path = home / "script.json"
    path.write_text(json.dumps({"loop": loop, "turns": turns}))
    return {"OPENCODE_SCRIPT": path, "OPENCODE_MODEL": "scripted/script", "OPENCODE_RATE_LIMIT": "off"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("client")
    with Server.serve(home, **script(home, [[{"text": "tick {n} ", "repeat": 60, "every_s": 0.01}]])) as server:
        yield server


@pytest.fixture
def client(server):
    with Client(f"http://127.0.0.1:{server.port}", patience_s=PATIENCE_S) as client:
        yield client


def ticks(count):
    return "".join(f"tick {number} " for number in range(1, count + 1))


def check_whole(events):
    """One whole turn, each event once and in its place."""
    first = events[0].seq
    assert [event.seq for event in events] == list(range(first, first + len(events)))
    assert events[0].name == "turn_start"
    assert [event.name for event in events].count("done") == 1
    assert isinstance(events[-1], Done)
    assert events[-1].events == len(events)


def test_a_session_from_its_creation_to_its_end(client):
    session = client.create_session(title="A tale", tools=["read"], system="Be brief.")
    client.update_session(session.session_id, title="Another tale")
    answer = client.ask(session.session_id, "hi")
    fork = client.fork_session(session.session_id)

    detail = client.get_session(session.session_id)
    assert (detail.title, detail.tools, detail.system) == ("Another tale", ["read"], "Be brief.")
    assert (answer.status, answer.message.content) == ("completed", ticks(60))
    assert [message.role for message in client.messages(fork.session_id)] == ["user", "assistant"]
    assert client.diff(session.session_id) == ""
    assert client.get_turn(session.session_id, answer.turn_id) == answer
    assert client.models().default == "scripted/script"
    assert client.health().status == "ok"
    assert [event.name for event in client.replay(session.session_id, after=detail.seq - 1)] == ["done"]

    client.delete_session(session.session_id)
    with pytest.raises(ApiError) as caught:
        client.get_session(session.session_id)
    assert caught.value.code == "SESSION_NOT_FOUND"


def test_all_pages_of_sessions_are_gone_through(client):
    made = [client.create_session(title=f"page of a book {number}").session_id for number in range(5)]

    found = [session.id for session in client.sessions(query="page of a book")]
    page = client.list_sessions(limit=2, query="page of a book")

    assert found == made[::-1]
    assert [session.id for session in page.sessions] == found[:2]
    after = client.list_sessions(limit=2, query="page of a book", cursor=page.next_cursor)
    assert [session.id for session in after.sessions] == found[2:4]


def test_a_turn_through_connections_that_are_cut_is_whole(server, client):
    session = client.create_session().session_id

    # Some bytes: within the head of the answer, within an event, and later on.
    with CuttingProxy(server.port, [40, 900, 2500]) as proxy, Client(proxy.url, patience_s=PATIENCE_S) as cut:
        turn = cut.turn(session, "hi")
        events = list(turn)

    check_whole(events)
    assert turn.text == ticks(60)
    assert proxy.count >= 4
    assert client.get_session(session).message_count == 2


def test_an_answer_that_is_lost_creates_nothing_twice(server, client):
    # Whatever is asked first is done, and its answer cut off in its first line.
    with CuttingProxy(server.port, [10]) as proxy, Client(proxy.url, patience_s=PATIENCE_S) as cut:
        made = cut.create_session(title="made once").session_id

    assert proxy.count >= 2
    assert [own.id for own in client.sessions(query="made once")] == [made]


def test_followers_see_every_event_of_two_turns_once(server, client):
    session = client.create_session().session_id
    with CuttingProxy(server.port, [1500]) as proxy, Client(proxy.url, patience_s=PATIENCE_S) as cut:
        following = cut.follow(session, after=0)
        with following:
            accepted = [client.start_turn(session, "hi", when_busy="queue") for _ in range(2)]
            events = []
            while sum(isinstance(event, Done) for event in events) < 2:
                events.append(next(following))

    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert "".join(event.content for event in events if isinstance(event, Text)) == ticks(60) * 2
    with client.take_up(session, accepted[1].turn_id) as second:
        check_whole(list(second))


def test_a_turn_that_waits_in_the_queue_is_streamed_from_its_start(client):
    session = client.create_session().session_id
    first = client.start_turn(session, "hi")

    with client.turn(session, "and then", when_busy="queue") as turn:
        events = list(turn)

    check_whole(events)
    assert events[0].content == "and then"
    assert turn.turn_id != first.turn_id


def test_a_busy_session_refuses_a_second_turn_when_it_is_started(client):
    session = client.create_session().session_id
    with client.turn(session, "hi") as turn:
        next(turn)
        with pytest.raises(ApiError) as caught:
            client.turn(session, "me too")
        assert caught.value.code == "SESSION_BUSY"
        assert turn.abort()
        events = list(turn)

    assert events[-1].status == "aborted"
    assert turn.abort() is False


def test_the_same_key_joins_the_same_turn(client):
    session = client.create_session().session_id
    with client.turn(session, "hi", key="k") as first, client.turn(session, "hi", key="k") as second:
        assert list(first) == list(second)
    with pytest.raises(ApiError) as caught:
        client.turn(session, "something else", key="k")
    assert caught.value.code == "IDEMPOTENCY_CONFLICT"


def test_permissions_are_asked_for_and_answered(tmp_path):
    turns = [[{"tool": "bash", "params": {"command": "echo done"}}], [{"text": "fine"}]]
    with Server.serve(tmp_path, **script(tmp_path, turns)) as server:
        client = Client(f"http://127.0.0.1:{server.port}")
        with client:
            session = client.create_session(permission={"bash": "ask"}).session_id
            with client.turn(session, "hi") as turn:
                for event in turn:
                    if isinstance(event, PermissionRequest):
                        assert event.params == {"command": "echo done"}
                        client.answer_permission(session, event.permission_id, "once")
                        client.answer_permission(session, event.permission_id, "once")
                        with pytest.raises(ApiError) as caught:
                            client.answer_permission(session, event.permission_id, "reject")

    assert caught.value.code == "PERMISSION_ANSWERED"
    assert turn.text == "fine"
    assert turn.done.status == "completed"


def test_a_server_that_is_killed_and_started_again_loses_no_event(tmp_path):
    gate = tmp_path / "gate"
    turns = [[{"text": "tick {n} ", "repeat": 20}, {"wait_file": str(gate)}, {"text": "end"}]]
    server = Server.serve(tmp_path, **script(tmp_path, turns))
    with server, Client(f"http://127.0.0.1:{server.port}", patience_s=PATIENCE_S) as client:
        session = client.create_session().session_id
        with client.turn(session, "hi") as turn:
            events = []
            while not (events and isinstance(events[-1], Text)):
                events.append(next(turn))
            server.kill()
            gate.touch()
            starter = threading.Thread(target=server.start)
            starter.start()
            events += list(turn)
            starter.join(30)

        check_whole(events)
        assert turn.done.status == "completed"
        assert turn.text == ticks(20) + "end"  # the half answer of the dead server is void
        assert client.messages(session)[-1].content == turn.text


def test_a_server_that_is_stopped_and_started_again_goes_on_with_the_turn(tmp_path):
    gate = tmp_path / "gate"
    turns = [[{"text": "one "}, {"wait_file": str(gate)}, {"text": "two"}]]
    server = Server.gunicorn(tmp_path, "--graceful-timeout", "3", **script(tmp_path, turns))
    with server, Client(f"http://127.0.0.1:{server.port}", patience_s=PATIENCE_S) as client:
        session = client.create_session().session_id
        with client.turn(session, "hi") as turn:
            events = []
            while not (events and isinstance(events[-1], Text)):
                events.append(next(turn))
            server.terminate()
            server.wait()
            gate.touch()
            server.start()
            events += list(turn)

    check_whole(events)
    assert turn.done.status == "completed"
    assert turn.text == "one two"


def test_limits_are_waited_out(tmp_path):
    settings = script(tmp_path, [[{"text": "hi"}]]) | {
        "OPENCODE_RATE_LIMIT": "on",
        "OPENCODE_RATE_LIMIT_MAX_SESSIONS": 1,
        "OPENCODE_RATE_LIMIT_WINDOW_MS": 2000,
    }
    with Server.serve(tmp_path, **settings) as server:
        url = f"http://127.0.0.1:{server.port}"
        with Client(url, patience_s=PATIENCE_S) as patient, Client(url, patience_s=0) as hasty:
            patient.create_session()
            with pytest.raises(ApiError) as caught:
                hasty.create_session()
            assert caught.value.code == "RATE_LIMIT_EXCEEDED"
            assert caught.value.retry_after_s >= 1
            assert patient.create_session().session_id


def test_a_token_is_needed_where_one_is_asked_for(tmp_path):
    with Server.serve(
        tmp_path, "--auth", OPENCODE_AUTH_TOKENS="s3cret", **script(tmp_path, [[{"text": "hi"}]])
    ) as server:
        url = f"http://127.0.0.1:{server.port}"
        with Client(url, "s3cret") as client, Client(url) as stranger:
            assert client.ask(client.create_session().session_id, "hi").message.content == "hi"
            with pytest.raises(ApiError) as caught:
                stranger.create_session()
    assert caught.value.code == "UNAUTHORIZED"
    assert not isinstance(caught.value, Unreachable)
