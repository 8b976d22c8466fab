"""The pump by itself, over real sockets, log and store: what no client can bring about at will."""

import contextlib
import os
import socket
import threading
import time

import pytest

from opencode.bus.memory import MemoryBus
from opencode.server.sending import Sending
from opencode.server.tally import Tally
from opencode.server.waiting import framed
from opencode.session.log import EventLog
from opencode.storage.sql import open_store
from tests.contracts.stored import end, started_turn, stored_session, texts
from tests.session.story import DEADLINE_S, eventually

pytestmark = pytest.mark.skipif(not os.environ.get("OPENCODE_TEST_GEVENT"), reason="only in the run under gevent")

BEAT = b": beat\n\n"


class Reader(threading.Thread):
    """A stream at the pump, and its client's side of the socket."""

    def __init__(self, pump, log, session_id, after, *, takes, turn_id=None):
        super().__init__(daemon=True)
        self.takes = takes
        listener = socket.create_server(("127.0.0.1", 0))
        with listener:
            self.client = socket.create_connection(listener.getsockname(), timeout=DEADLINE_S)
            self.connection, _ = listener.accept()
        self.tally = Tally()
        environ = {"gunicorn.socket": Sending(self.connection, stall_s=5.0), "SERVER_PROTOCOL": "HTTP/1.1"}
        tail = log.tail(session_id)
        park = pump.place(environ, self.tally)
        self.chunks = log.follow(session_id, tail, after, beat_s=1, turn_id=turn_id, park=park)
        self.failure = None
        #: What its generator gave, as opposed to what the pump wrote.
        self.given = []
        self.start()

    def run(self):
        try:
            for chunk in self.chunks:
                self.given.append(chunk) if chunk.data else self.wait(chunk.data)
        except OSError as exc:
            self.failure = exc
        finally:
            self.chunks.close()

    def wait(self, sign):
        """Leave the generator where it is, as the worker does, or have it wait by itself."""
        more = threading.Event()
        if self.takes and sign.take(more.set):
            assert more.wait(DEADLINE_S)

    def take(self, size):
        data = b""
        while len(data) < size:
            data += self.client.recv(size - len(data)) or pytest.fail("the stream ended")
        return data

    def ended(self):
        self.join(DEADLINE_S)
        assert not self.is_alive()
        return self.failure

    def close(self):
        self.client.close()
        self.connection.close()


@pytest.fixture
def log(tmp_path):
    store = open_store(None, tmp_path)
    opened = EventLog(store, MemoryBus(), tail_bytes=400_000)
    yield opened
    opened.close_followers()
    opened.close()
    store.close()


@pytest.fixture
def pump(log):
    from opencode.server.pump import Pump

    return Pump(log, beat=BEAT, beat_s=3.0)


@pytest.fixture
def turn(log):
    return started_turn(log.append, stored_session(log._store))


@pytest.fixture(params=["waits", "put aside"])
def read(pump, log, turn, request):
    """Starts a reader, which waits at the pump when this returns."""
    takes = request.param == "put aside"
    with contextlib.ExitStack() as stack:

        def reader(**more):
            own = Reader(pump, log, turn.session_id, log.last_seq(turn.session_id), takes=takes, **more)
            stack.callback(own.close)
            eventually(lambda: waiting(pump) or not own.is_alive())
            return own

        yield reader


def waiting(pump):
    return sum(len(cohort.members) for group in pump._groups.values() for cohort in group.cohorts)


def say(log, turn, *contents):
    """Store pieces of text: their bytes as the pump writes them."""
    return framed(b"".join(log.append(texts(turn.session_id, *contents, turn=turn)).frames)).data


def whole_chunks(data):
    """What the whole ones of these chunks hold."""
    found = b""
    while b"\r\n" in data:
        size, _, rest = data.partition(b"\r\n")
        found += rest[: int(size, 16)] if len(rest) >= int(size, 16) + 2 else b""
        data = rest[int(size, 16) + 2 :]
    return found


def test_what_is_stored_is_written_without_waking_the_generator(read, log, turn):
    reader = read()

    sent = [say(log, turn, *contents) for contents in (["one"], ["two", "three"], ["four"])]

    assert reader.take(sum(map(len, sent))) == b"".join(sent)
    assert reader.given == []
    reader.client.close()
    reader.ended()
    assert reader.tally.events == 4


def test_a_deletion_in_the_same_turn_of_the_loop_as_an_event_ends_the_stream(read, log, turn):
    reader = read()

    # When both happen before the pump gets its turn
    log.tail(turn.session_id).extend(log.last_seq(turn.session_id) + 1, [b"id: 9\nevent: text\ndata: {}\n\n"])
    log.wake(turn.session_id)
    log.end(turn.session_id)

    # Then its generator gives what is left, and ends
    assert reader.ended() is None
    assert [chunk.data for chunk in reader.given] == [b"id: 9\nevent: text\ndata: {}\n\n"]


def test_a_stop_in_the_same_turn_of_the_loop_as_an_event_ends_the_stream(read, log, turn):
    reader = read()

    log.tail(turn.session_id).extend(log.last_seq(turn.session_id) + 1, [b"id: 9\nevent: text\ndata: {}\n\n"])
    log.close_followers()
    log.wake(turn.session_id)

    assert reader.ended() is None
    assert len(reader.given) == 1


def test_an_event_whose_ring_was_lost_is_written_at_the_next_beat(read, log, turn):
    reader = read()

    frame = b"id: 9\nevent: text\ndata: {}\n\n"
    log.tail(turn.session_id).extend(log.last_seq(turn.session_id) + 1, [frame])

    assert frame in reader.take(len(framed(frame).data))


def test_a_deletion_whose_ring_was_lost_ends_the_stream_at_the_next_beat(read, log, turn):
    reader = read()

    log.tail(turn.session_id).deleted = True

    assert reader.ended() is None


def test_idle_streams_beat_and_busy_ones_do_not(read, log, turn):
    idle = read()
    began = time.monotonic()
    beat = framed(BEAT).data

    assert idle.take(2 * len(beat)) == 2 * beat
    assert time.monotonic() - began > 2.0

    # Given events more often than beats are due
    expected = b""
    began = time.monotonic()
    pause = threading.Event()
    while time.monotonic() - began < 3.2:
        expected += say(log, turn, "busy")
        pause.wait(0.2)
    assert idle.take(len(expected)) == expected


def test_a_client_that_leaves_is_released_at_once_with_all_that_was_held_for_it(read, pump, log):
    reader = read()

    began = time.monotonic()
    reader.client.close()

    assert isinstance(reader.ended(), ConnectionResetError)
    assert time.monotonic() - began < 5.0  # by beats it would be the second one, after six
    assert waiting(pump) == 0
    assert pump._groups == {}
    assert not any(pump._slots)
    assert log._bus._ears == {}


def test_a_client_that_has_closed_its_sending_side_is_served_and_its_leaving_seen(read, log, turn):
    reader = read()
    reader.client.shutdown(socket.SHUT_WR)
    beat = framed(BEAT).data
    assert reader.take(len(beat)) == beat

    sent = say(log, turn, "still there")
    data = reader.take(len(sent))
    while sent not in data:
        data += reader.take(1)
    reader.client.close()

    assert isinstance(reader.ended(), OSError)


def test_a_client_that_has_perhaps_left_is_asked_more_than_once(log, turn):
    from opencode.server.pump import Pump

    # Given beats that are far apart, and a client whose refusal is late: it has closed one direction only
    pump = Pump(log, beat=BEAT, beat_s=600.0)
    reader = Reader(pump, log, turn.session_id, log.last_seq(turn.session_id), takes=True)
    try:
        eventually(lambda: waiting(pump))
        reader.client.shutdown(socket.SHUT_WR)

        beat = framed(BEAT).data
        assert reader.take(4 * len(beat)) == 4 * beat
    finally:
        log.close_followers()
        reader.ended()
        reader.close()


@pytest.mark.parametrize("what", ["closed", "tick"])
def test_who_is_woken_is_written_to_by_nobody_else(read, pump, log, turn, what):
    # Given a follower that is woken, and whose client closes, or whose beat is due, before it goes on
    reader = read()
    (cohort,) = next(iter(pump._groups.values())).cohorts
    (follower,) = cohort.members.values()
    watch = pump._hub.loop.io(follower.fd, 1)
    pump._wake(follower)
    if what == "closed":
        reader.client.shutdown(socket.SHUT_WR)
        pump._readable(follower, watch)
    else:
        follower.beaten_at -= 60
        pump._look_at(iter([follower]))
    watch.close()

    # Then the pump has written nothing, and what comes next is as ever
    assert follower.length == 0
    assert b"next" in reader.take(len(say(log, turn, "next"))) + reader.take(len(framed(BEAT).data))


def test_what_a_socket_does_not_take_goes_on_from_the_exact_byte(read, log, turn):
    reader = read()
    reader.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    reader.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    sent = b"".join(whole_chunks(say(log, turn, f"{number} " + "x" * 60_000)) for number in range(4))

    # Then the pump's last write is whole, and what follows is given by the generator
    data = b""
    while len(whole_chunks(data)) + sum(len(chunk.data) for chunk in reader.given) < len(sent):
        data += reader.client.recv(8192)
    assert reader.given
    assert whole_chunks(data) + b"".join(chunk.data for chunk in reader.given) == sent


def test_the_end_of_its_turn_is_the_generators_to_give(read, log, turn):
    reader = read(turn_id=turn.id)
    say(log, turn, "before")

    committed = log.append(end(turn))

    assert reader.ended() is None
    assert b"".join(chunk.data for chunk in reader.given) == b"".join(committed.frames)


def test_a_follower_whose_events_are_nowhere_does_not_stop_the_loop(read, log, turn):
    # Given a tail that is ahead of what it and the store hold, as while a session is being deleted
    tail = log.tail(turn.session_id)
    tail.extend(tail.last_seq + 1, [b"id: 9\nevent: text\ndata: {}\n\n"])
    tail.extend(tail.last_seq + 5, [b"id: 14\nevent: text\ndata: {}\n\n"])

    reader = read()
    (place,) = tail.places
    place.seq -= 3
    log.wake(turn.session_id)

    # Then others go on, and its end is seen
    log.end(turn.session_id)
    assert reader.ended() is None


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"gunicorn.socket": object(), "SERVER_PROTOCOL": "HTTP/1.1"},
        {"gunicorn.socket": Sending(None, stall_s=1.0), "SERVER_PROTOCOL": "HTTP/1.0"},
        {"gunicorn.socket": Sending(None, stall_s=1.0), "SERVER_PROTOCOL": "HTTP/2.0"},
        {"gunicorn.socket": Sending(None, stall_s=1.0), "SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_METHOD": "HEAD"},
    ],
    ids=["another server", "TLS", "HTTP/1.0", "HTTP/2", "HEAD"],
)
def test_what_the_pump_cannot_write_to_stays_with_the_generator(pump, environ):
    assert pump.place(environ, Tally()) is None


def test_followers_at_many_places_each_get_what_they_lack(pump, log, turn, read):
    readers = [read()]
    sent = []
    for number in range(5):
        sent.append(say(log, turn, f"piece {number}"))
        readers.append(read())
    last = say(log, turn, "last")

    for number, reader in enumerate(readers):
        expected = b"".join([*sent[number:], last])
        assert reader.take(len(expected)) == expected
