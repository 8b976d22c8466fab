"""Streams: who leaves, who comes back, who reads slowly, and what a stop or a crash does to them."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.live.client import Client, names, text_of
from tests.live.server import Server, until
from tests.sse import check_log, check_turn

TICKS = [{"text": "tick {n} ", "repeat": 40, "every_s": 0.02}]
TICKED = "".join(f"tick {n} " for n in range(1, 41))


def status(client, session):
    return client.get(session)["status"]


def idle(client, session):
    until(lambda: status(client, session) == "idle", 20, "the turn to end")


def log_of(client, session):
    with client.follow(session, "?after=0&until=end") as stream:
        events = stream.rest()
    check_log(events, after=0)
    return events


def test_the_first_bytes_come_long_before_the_turn_is_over(client, openai_wire, tmp_path):
    go = tmp_path / "go"
    prompt = openai_wire.script([[{"text": "early"}, {"wait_file": str(go)}, {"text": " late"}]])

    with client.post(client.session(), prompt) as stream:
        early = stream.read_to("text")
        go.touch()
        events = early + stream.rest()

    check_turn(events, after=0)
    assert text_of(early) == "early"
    assert text_of(events) == "early late"


def test_a_client_that_leaves_stops_nothing_and_comes_back_to_exactly_the_rest(client, openai_wire):
    session = client.session()
    with client.post(session, openai_wire.script([TICKS])) as stream:
        seen = stream.read_to("text")
    with client.follow(session, last_event_id=seen[-1].seq) as stream:
        seen += [stream.next() for _ in range(5)]
    # A browser reconnects with both: what it has seen goes before the address.
    with client.follow(session, "?after=1", last_event_id=seen[-1].seq) as stream:
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        seen += stream.read_to("done")

    check_turn(seen, after=0)
    assert text_of(seen) == TICKED
    assert seen == log_of(client, session)


def test_a_turn_runs_on_when_nobody_looks(client, openai_wire):
    session = client.session()
    client.post(session, openai_wire.script([TICKS])).close()

    until(lambda: client.get(session)["messages"], 10, "the turn to begin")
    idle(client, session)

    events = log_of(client, session)
    check_turn(events, after=0)
    assert events[-1].data["status"] == "completed"
    assert client.get(session)["messages"][-1]["content"] == TICKED


def test_followers_see_the_same_each_from_where_it_asked(client, openai_wire):
    session = client.session()
    with client.follow(session) as live, client.follow(session, "?after=0") as second:
        posted = client.turn(session, openai_wire.script([TICKS], loop=True))
        with client.follow(session, "?after=10") as late:
            assert live.read_to("done") == second.read_to("done") == posted
            assert late.read_to("done") == posted[10:]
            # And they stay for the next turn.
            again = client.turn(session, posted[0].data["content"])
            assert live.read_to("done") == late.read_to("done") == again
    check_turn(again, after=len(posted))


def test_a_slow_reader_gets_everything_in_order(client, openai_wire):
    # Given more than any buffer on the way holds, and a reader that takes nothing until it is over
    line = "x" * 4000 + " {n}\n"
    prompt = openai_wire.script([[{"text": line, "repeat": 1000}]])
    session = client.session()
    with client.post(session, prompt, receive_buffer=4096) as slow:
        first = slow.read_to("turn_start")
        idle(client, session)

        # Then the turn was not held up, and nothing is lost
        events = first + slow.rest()

    check_turn(events, after=0)
    assert text_of(events) == "".join(line.replace("{n}", str(n)) for n in range(1, 1001))
    assert slow.ended


def test_a_connection_can_be_used_again_after_its_stream(client, openai_wire):
    session = client.session()
    prompt = openai_wire.script([[{"text": "hello"}]], loop=True)
    with client.post(session, prompt) as stream:
        check_turn(stream.rest(), after=0)
        stream.request(client, "GET", "/health")
        assert b'"status":"ok"' in stream.body()
        stream.request(client, "GET", f"/api/session/{session}/message?after=0&until=end")
        assert names(stream.rest()) == ["turn_start", "step", "text", "done"]


def test_http_1_0_gets_a_plain_body_that_ends_with_the_connection(client, openai_wire):
    prompt = openai_wire.script([[{"text": "hello"}]])
    with client.post(client.session(), prompt, version="1.0") as stream:
        assert "transfer-encoding" not in stream.headers
        events = stream.rest()
        assert stream.socket.recv(1) == b""

    check_turn(events, after=0)


def test_an_answer_in_one_piece_waits_for_the_end(client, openai_wire):
    session = client.session()
    answer = client.call(
        "POST",
        f"/api/session/{session}/message",
        {"content": openai_wire.script([TICKS])},
        {"Accept": "application/json"},
    )

    assert answer.status == 200
    assert answer.json["message"]["content"] == TICKED


def test_an_abort_kills_all_that_a_command_has_started(client, server, openai_wire):
    # Given a command with a child in the background, both of which only a signal ends
    numbers = server.work / "numbers"
    command = f"sleep 987 & echo $$ $! > {numbers}.new && mv {numbers}.new {numbers}; echo started; sleep 986"
    prompt = openai_wire.script([[{"tool": "bash", "params": {"command": command}}], [{"text": "never said"}]])
    session = client.session()
    with client.post(session, prompt) as stream:
        events = stream.read_to("tool_output")
        pids = [int(pid) for pid in until(numbers.exists, 10, "the command to start") and numbers.read_text().split()]
        assert all(lives(pid) for pid in pids)

        # When the turn is aborted
        assert client.call("POST", f"/api/session/{session}/abort", {}).json == {"success": True, "aborted": True}

        # Then they are gone, and the log ends visibly
        events += stream.rest()
    assert not any(lives(pid) for pid in pids)
    check_turn(events, after=0)
    assert names(events)[-2:] == ["tool_result", "done"]
    assert events[-2].data["is_error"]
    assert events[-1].data["status"] == "aborted"
    assert client.call("POST", f"/api/session/{session}/abort", {}).json == {"success": True, "aborted": False}


def test_an_abort_closes_the_providers_stream(client, openai_wire):
    prompt = openai_wire.script([[{"text": "so far"}, {"silence": True}]])
    session = client.session()
    openai_wire.hung_up.clear()
    with client.post(session, prompt) as stream:
        stream.read_to("text")
        began = time.monotonic()
        assert client.call("POST", f"/api/session/{session}/abort", {}).json["aborted"]
        assert names(stream.rest()) == ["done"]
    assert openai_wire.hung_up.wait(5)
    assert time.monotonic() - began < 5
    assert client.get(session)["messages"][-1]["content"] == "so far"


def test_a_deleted_session_ends_its_streams(client, openai_wire):
    session = client.session()
    with client.follow(session) as follower, client.post(session, openai_wire.script([[{"silence": True}]])) as stream:
        stream.read_to("step")
        assert client.call("DELETE", f"/api/session/{session}").json == {"success": True}
        posted, followed = stream.rest(), follower.rest()
    assert names(posted)[0] == "done"
    assert names(followed) == ["turn_start", "step", "done", "session_deleted"]
    assert followed[-1].id is None
    assert client.call("GET", f"/api/session/{session}").error["code"] == "SESSION_NOT_FOUND"


# A crash and a stop, with a server of their own: first the one, then the other.


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """`opencode serve`, whose model says one word, waits for the file `go`, and says the other."""
    home = tmp_path_factory.mktemp("own")
    steps = [[{"text": "one "}, {"wait_file": str(home / "go")}, {"text": "two"}]]
    (home / "script.json").write_text(json.dumps({"turns": steps, "loop": True}))
    with Server.serve(home, OPENCODE_MODEL="scripted/script", OPENCODE_SCRIPT=home / "script.json") as server:
        yield server


@pytest.fixture
def go(own):
    go = own.home / "go"
    yield go
    go.unlink(missing_ok=True)


def test_a_killed_worker_is_replaced_and_the_turn_comes_to_a_visible_end(own, go):
    # Given a turn in the midst of its answer
    client = Client(own)
    session = client.session()
    with client.post(session, "begin") as stream:
        seen = stream.read_to("text")
        first = own.workers()[-1]

        # When its worker is killed
        os.kill(first, signal.SIGKILL)

    # Then a new one goes on with the same log: what was seen stands, and it has one end
    until(lambda: own.workers()[-1] != first, 20, "a new worker")
    go.touch()
    own.ready()
    with client.follow(session, last_event_id=seen[-1].seq) as stream:
        rest = stream.read_to("done")
    events = seen + rest
    check_turn(events, after=0)
    assert events == log_of(client, session)
    if events[-1].data["status"] == "failed":
        assert events[-2].data["code"] == "TURN_INTERRUPTED"
    else:
        again = next(event for event in rest if event.name == "step")
        assert again.data["discards_from"] == 2
        assert client.get(session)["messages"][-1]["content"] == "one two"
    assert status(client, session) == "idle"

    # And it works: the next turn is as good as any.
    check_turn(client.turn(client.session(), "and now"), after=0)


def test_asked_to_end_during_a_turn_the_server_lets_it_end_and_then_goes(own, go):
    client = Client(own)
    session, watched = client.session(), client.session()
    with client.post(session, "begin") as stream, client.follow(watched) as bystander:
        events = stream.read_to("text")

        # When it is asked to end, it listens no more, and the turn goes on
        own.terminate()
        until(lambda: refuses(own), 10, "the listener to close")
        go.touch()

        # Then the turn has its end, and who only looks is told when to come back
        events += stream.rest()
        assert stream.ended
        assert bystander.rest() == []
        assert bystander.ended
        assert bystander.told_to_come_back
    check_turn(events, after=0)
    assert text_of(events) == "one two"
    assert own.wait(10) == 0
    assert "Traceback" not in own.output()


def lives(pid):
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def refuses(server):
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
    except OSError:
        return True
    return False
