"""What a stream promises, whoever serves it: the pump, the plain generator, and the generator through TLS."""

import contextlib
import json
import re
import socket
import ssl
import threading
import time

import pytest
import trustme

from tests.live.client import Client, names, text_of
from tests.live.conftest import OPENAI_KEY
from tests.live.impatient import Impatient
from tests.live.server import Server, until
from tests.live.test_readers import is_cut, sockets
from tests.sse import check_log, check_turn, parse

TICKS = [{"text": "tick {n} ", "repeat": 40, "every_s": 0.02}]
#: More than the kernel holds for a reader, who may lag 4 MB behind.
FLOOD = [{"text": "x" * 8000, "repeat": 1000}]
BEAT = b": beat\n\n"
MANY = 500


def start(home, openai_wire, *, pump, certificate=None):
    home.mkdir()
    tls = []
    if certificate is not None:
        certificate.private_key_and_cert_chain_pem.write_to_path(home / "both.pem")
        tls = ["--certfile", home / "both.pem", "--keyfile", home / "both.pem"]
    return Server.gunicorn(
        home,
        *("-k", f"{Impatient.__module__}.{Impatient.__name__}", *map(str, tls)),
        OPENCODE_PUMP="on" if pump else "off",
        OPENCODE_MODEL="openai/wire-model",
        OPENCODE_RATE_LIMIT="off",
        OPENAI_API_KEY=OPENAI_KEY,
        OPENAI_BASE_URL=openai_wire.base_url,
    )


@pytest.fixture(scope="module")
def make(tmp_path_factory, openai_wire):
    """Makes a server whose streams are served in the given way."""
    home = tmp_path_factory.mktemp("pump")
    authority = trustme.CA()
    trust = ssl.create_default_context()
    authority.configure_trust(trust)

    def made(way, name):
        certificate = authority.issue_cert("127.0.0.1") if way == "tls" else None
        server = start(home / name, openai_wire, pump=way != "generator", certificate=certificate)
        server.tls = trust if certificate else None
        return server

    return made


@pytest.fixture(scope="module", params=["pump", "generator", "tls"])
def way(request):
    return request.param


@pytest.fixture(scope="module")
def server(way, make):
    with make(way, way) as server:
        yield server


only_pump = pytest.mark.parametrize("way", ["pump"], indirect=True)
not_tls = pytest.mark.parametrize("way", ["pump", "generator"], indirect=True)


def begin(client, session, prompt):
    """Start a turn that nobody looks at."""
    answer = client.call("POST", f"/api/session/{session}/message", {"content": prompt}, {"Prefer": "respond-async"})
    assert answer.status == 202, answer.data


def replayed(client, session):
    """The session's log, as the bytes of its events."""
    with client.follow(session, "?after=0&until=end") as stream:
        return split(stream.body())[1]


def split(body):
    """A body's head, and its events without beats."""
    head, blank, events = body.partition(b"\n\n")
    return head + blank, events.replace(BEAT, b"")


def bytes_to_done(stream):
    """The bytes of a stream up to its first `done`, from where nothing of it has been read."""
    data = b""
    while not re.search(rb"\nevent: done\ndata: .*\n\n", data):
        piece = stream.piece()
        assert piece, data[-500:]
        data += piece
    return data


def log_end(client, session):
    return client.get(session)["seq"]


def test_followers_at_different_places_get_the_same_bytes(server, openai_wire):
    client, prompt = Client(server), openai_wire.script([TICKS], loop=True)
    session = client.session()
    first = client.turn(session, prompt)
    middle, end = first[10].seq, first[-1].seq
    with contextlib.ExitStack() as stack:
        streams = {
            after: stack.enter_context(client.follow(session, f"?after={after}")) for after in (0, middle, end, end)
        }
        live = stack.enter_context(client.follow(session))
        streams[0].read_to("done")
        begin(client, session, prompt)
        late = stack.enter_context(client.follow(session, f"?after={end}"))
        seen = [split(bytes_to_done(stream))[1] for stream in (live, late, streams[end])]
        behind = split(bytes_to_done(streams[middle]))[1] + split(b"\n\n" + bytes_to_done(streams[middle]))[1]
        begun = streams[0].read_to("done")

    everything = replayed(client, session)
    second = everything[everything.index(b"id: %d\n" % (end + 1)) :]
    assert seen == [second] * 3
    assert behind == everything[everything.index(b"id: %d\n" % (middle + 1)) :]
    assert [event.seq for event in begun] == list(range(end + 1, end + 1 + len(begun)))


def test_a_reader_that_is_slow_meanwhile_loses_no_byte(server, openai_wire):
    # Given a follower whose buffers are full long before the turn is over
    client = Client(server)
    session = client.session()
    with client.follow(session, receive_buffer=4096, timeout=60) as slow:
        begin(client, session, openai_wire.script([FLOOD]))
        pause, data = threading.Event(), b""
        while log_end(client, session) == 0:  # it ends while the reader takes a little now and then
            data += slow.piece()
            pause.wait(0.01)

        # When it takes the rest
        while b"\nevent: done\n" not in data[-1000:]:
            data += slow.piece()

    assert split(data)[1] == replayed(client, session)
    assert text_of(parse(data)) == "x" * 8000 * 1000


def test_a_reader_that_stops_is_cut_while_another_gets_everything(server, openai_wire):
    client = Client(server)
    session = client.session()
    before, said = sockets(server), len(server.output())
    with client.follow(session, receive_buffer=4096) as stopped:
        with client.follow(session) as good:
            begin(client, session, openai_wire.script([FLOOD]))
            check_turn(good.read_to("done"), after=0)

        until(lambda: is_cut(stopped.socket), 60, "the cut of the reader that has stopped")
        # It is gone with all that it held; so is the other one, whose leaving shows at the next write.
        begin(client, session, openai_wire.script([[{"text": "x"}]]))
        until(lambda: sockets(server) <= before, 60, lambda: f"{before} sockets again, and not {sockets(server)}")
    assert "Traceback" not in server.output()[said:]


def test_an_abort_ends_the_posted_stream_and_keeps_its_connection(server, openai_wire):
    client = Client(server)
    session = client.session()
    with (
        client.follow(session) as follower,
        client.post(session, openai_wire.script([[{"text": "so far"}, {"silence": True}]])) as stream,
    ):
        events = stream.read_to("text")
        assert client.call("POST", f"/api/session/{session}/abort", {}).json["aborted"]
        events += stream.rest()
        assert stream.ended
        assert events[-1].data["status"] == "aborted"
        assert follower.read_to("done") == events

        # Then the connection serves the next request, and the next stream
        stream.request(client, "GET", "/health")
        assert json.loads(stream.body())["status"] == "ok"
        stream.request(client, "GET", f"/api/session/{session}/message?after=0&until=end")
        assert split(stream.body())[1] == replayed(client, session)


def test_a_request_that_is_sent_during_a_stream_is_answered_after_it(server, openai_wire):
    client = Client(server)
    with client.post(client.session(), openai_wire.script([TICKS])) as stream:
        stream.read_to("text")
        stream.socket.sendall(f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n\r\n".encode())

        assert names(stream.rest())[-1] == "done"

        assert stream._until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")


@not_tls
def test_a_client_that_only_listens_from_now_on_is_served_on(server, openai_wire):
    client = Client(server)
    session, prompt = client.session(), openai_wire.script([TICKS], loop=True)
    with client.follow(session) as stream:
        stream.socket.shutdown(socket.SHUT_WR)
        pause = threading.Event()
        for _ in range(2):
            pause.wait(1.2)
            begin(client, session, prompt)
            events = stream.read_to("done")
            assert events[-1].data["status"] == "completed"


def test_http_1_0_has_no_chunks(server, openai_wire):
    client = Client(server)
    session = client.session()
    with client.post(session, openai_wire.script([TICKS]), version="1.0") as stream:
        assert not stream.is_chunked
        body = stream.body()

    assert split(body)[1] == replayed(client, session)


def test_a_session_that_is_deleted_in_the_midst_of_a_turn_ends_its_streams(server, openai_wire):
    client = Client(server)
    session = client.session()
    with client.follow(session) as follower, client.post(session, openai_wire.script([TICKS * 50])) as stream:
        stream.read_to("text")
        assert client.call("DELETE", f"/api/session/{session}").json == {"success": True}
        posted, followed = stream.rest(), follower.rest()
        assert stream.ended
        assert follower.ended
    assert posted[-1].name == "done"
    assert names(followed)[-2:] == ["done", "session_deleted"]
    check_log(followed[:-1], after=0)


def test_a_number_of_another_store_gets_a_resync_and_what_comes(server, openai_wire):
    client = Client(server)
    session = client.session()
    prompt = openai_wire.script([TICKS], loop=True)
    turn = client.turn(session, prompt)
    with client.follow(session, last_event_id=99_999) as stream:
        resync = stream.next()
        begin(client, session, prompt)
        events = stream.read_to("done")

    assert (resync.name, resync.data) == ("resync", {"seq": turn[-1].seq})
    check_turn(events, after=turn[-1].seq)


def open_streams(client):
    """As the server counts them."""
    found = re.search(r"^opencode_open_streams (\S+)$", client.call("GET", "/metrics").data.decode(), re.MULTILINE)
    return float(found[1])


@only_pump
def test_who_leaves_is_released_long_before_a_beat_would_tell(server):
    client = Client(server)
    session = client.session()
    before, streams = sockets(server), open_streams(client)
    for _ in range(MANY // 100):
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(client.follow(session))
            assert sockets(server) >= 100
        # A beat comes after 13 s, and a generator notices at the second one.
        until(lambda: sockets(server) <= before, 10, lambda: f"{before} sockets again, and not {sockets(server)}")
    until(lambda: open_streams(client) <= streams, 10, lambda: f"{streams} open streams, not {open_streams(client)}")


def test_an_idle_stream_beats_every_fifteen_seconds(server):
    client = Client(server)
    with client.follow(client.session(), timeout=60) as stream:
        began, data = time.monotonic(), b""
        while BEAT not in data:
            data += stream.piece()
        waited_s = time.monotonic() - began
    # The ticker is a second wide, and the machine may be busy.
    assert 10 < waited_s < 25


def test_a_stop_ends_every_stream_with_a_whole_body(way, make, openai_wire):
    with make(way, f"{way}-stop") as server, contextlib.ExitStack() as stack:
        client, said = Client(server), len(server.output())
        session = client.session()
        followers = [stack.enter_context(client.follow(session)) for _ in range(50)]
        posted = stack.enter_context(client.post(session, openai_wire.script([TICKS])))
        events = posted.read_to("text")

        server.terminate()

        events += posted.rest()
        assert posted.ended
        check_turn(events, after=0)
        for follower in followers:
            assert follower.rest() == events
            assert follower.ended
            assert follower.told_to_come_back
        assert server.wait() == 0
        assert "Traceback" not in server.output()[said:]


def test_a_kept_connection_does_not_hold_up_a_stop(make):
    # Given a stream whose client keeps its connection when it has ended
    with make("pump", "kept") as server:
        client = Client(server)
        with client.follow(client.session()) as stream:
            server.terminate()
            assert stream.rest() == []
            # Then the server closes it, and does not wait for a next request
            assert stream.socket.recv(1) == b""
        assert server.wait() == 0
