"""Time and memory of one connection: what a peer that is silent, slow or gone gets (`opencode/server/ws_connection.py`)."""

import socket
import threading
import time

import pytest

from opencode.server.access import Caller
from opencode.server.ws_commands import Party, Talk
from opencode.server.ws_connection import Connection, Gone
from opencode.server.ws_following import Places
from tests.live.server import until
from tests.ws import CLOSE, PING, PONG, TEXT, Raw, frame


class Ends(Raw):
    """The client's end of a pair of sockets."""

    def __init__(self, connected):
        self.socket = connected
        self._data = b""
        self.status = 101


@pytest.fixture
def pair():
    """Makes connections with a thread that reads; gives each with its client."""
    made = []

    def make(**options):
        ours, theirs = socket.socketpair()
        for own in (ours, theirs):
            own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        theirs.settimeout(60)
        connection = Connection(ours, max_bytes=1000, **options)
        heard = []
        reader = threading.Thread(target=lambda: heard.extend(connection.messages()), daemon=True)
        reader.start()
        made.append((connection, ours, theirs, reader))
        return connection, Ends(theirs), heard, reader

    yield make
    for connection, ours, theirs, reader in made:
        connection.cut()
        reader.join(60)
        ours.close()
        theirs.close()
        assert not reader.is_alive()


def test_an_idle_connection_is_pinged_and_stays_as_long_as_it_answers(pair):
    connection, client, _heard, reader = pair(beat_s=0.05, silence_s=3.0)
    began = time.monotonic()
    pings = 0
    while time.monotonic() - began < 3.5:
        assert client.frame() == (PING, b"")
        client.send(frame(PONG))
        pings += 1
    assert pings >= 10
    assert reader.is_alive()
    connection.send(["still here"])
    found = client.frame()
    while found[0] == PING:
        found = client.frame()
    assert found == (TEXT, b"still here")


def test_a_peer_that_answers_nothing_is_told_and_cut(pair):
    _connection, client, _heard, reader = pair(beat_s=0.05, silence_s=0.3, close_s=0.2)

    reader.join(60)

    assert not reader.is_alive()
    found = [client.frame()]
    while found[-1][0] == PING:
        found.append(client.frame())
    assert found[-1] == (CLOSE, (1011).to_bytes(2, "big") + b"No answer to pings.")
    assert len(found) > 2


def test_a_peer_that_takes_nothing_is_cut_and_whoever_sends_learns_it(pair):
    connection, _client, _heard, reader = pair(beat_s=0.05, silence_s=0.5)

    with pytest.raises(Gone):
        connection.send(["x" * 4_000_000])

    reader.join(60)
    assert not reader.is_alive()
    with pytest.raises(Gone):
        connection.send(["more"])


def test_a_slow_reader_gets_everything_however_long_it_takes(pair):
    connection, client, _heard, _reader = pair(beat_s=60.0, silence_s=60.0)
    messages = [f"{n:06d}" + "x" * 10_000 for n in range(300)]
    sender = threading.Thread(target=connection.send, args=(messages,))
    sender.start()
    found = [client.frame()[1].decode() for _ in range(150)]
    assert sender.is_alive()
    found += [client.frame()[1].decode() for _ in range(150)]
    sender.join(60)

    assert found == messages


def test_senders_do_not_disturb_one_another(pair):
    connection, client, _heard, _reader = pair(beat_s=0.01, silence_s=60.0)
    senders = [
        threading.Thread(target=lambda n=n: [connection.send([f"{n} {m} " + "x" * 3000]) for m in range(100)])
        for n in range(4)
    ]
    for sender in senders:
        sender.start()
    found = []
    while len(found) < 400:
        opcode, payload = client.frame()
        if opcode == TEXT:
            assert payload.endswith(b" " + b"x" * 3000)
            found.append(tuple(map(int, payload.split()[:2])))
    for sender in senders:
        sender.join(60)
    for n in range(4):
        assert [m for own, m in found if own == n] == list(range(100))


def test_what_is_not_to_be_sent_any_more_is_decided_when_it_is_its_turn(pair):
    connection, client, _heard, _reader = pair(beat_s=60.0)
    left = threading.Event()
    blocking = threading.Thread(target=connection.send, args=(["x" * 1_000_000],))
    blocking.start()
    client.socket.recv(1, socket.MSG_PEEK)
    waiting = threading.Thread(target=connection.send, args=(["unwanted"],), kwargs={"unless": left.is_set})
    waiting.start()
    left.set()
    assert client.frame() == (TEXT, b"x" * 1_000_000)
    blocking.join(60)
    waiting.join(60)
    connection.send(["wanted"])
    assert client.frame() == (TEXT, b"wanted")


def test_after_our_close_the_peers_is_waited_for_but_not_for_long(pair):
    connection, client, heard, reader = pair(beat_s=0.5, close_s=30.0)
    connection.close(1012, "later")
    assert client.frame() == (CLOSE, (1012).to_bytes(2, "big") + b"later")
    client.send(frame(TEXT, b"too late") + frame(CLOSE, (1012).to_bytes(2, "big")))
    reader.join(20)
    assert not reader.is_alive()
    assert heard == []

    silent, other, _heard, reader = pair(beat_s=0.05, close_s=0.2)
    silent.close(1012)
    assert other.frame() == (CLOSE, (1012).to_bytes(2, "big"))
    reader.join(60)
    assert not reader.is_alive()


def test_what_a_peer_that_was_faulty_goes_on_sending_is_thrown_away(pair):
    connection, client, heard, reader = pair(beat_s=60.0, close_s=60.0)
    client.send(frame(3, b"wrong"))
    assert client.frame()[0] == CLOSE
    for _ in range(100):
        client.send(b"\0" * 65_536)
    client.socket.shutdown(socket.SHUT_WR)
    reader.join(30)
    assert not reader.is_alive()
    assert heard == []
    assert len(connection._protocol._proto._frame_decoder.buffer) < 65_536


def test_a_cut_wakes_who_reads_and_who_writes(pair):
    connection, _client, _heard, reader = pair(beat_s=60.0, silence_s=60.0)
    ended = threading.Event()

    def send():
        with pytest.raises(Gone):
            connection.send(["x" * 4_000_000])
        ended.set()

    writer = threading.Thread(target=send)
    writer.start()
    connection.cut()
    assert ended.wait(30)
    writer.join()
    until(lambda: not reader.is_alive(), 30, "the reader to end")


def test_a_server_that_stops_reading_first_still_says_that_it_stops(app):
    services, limits = app.extensions["opencode"], app.extensions["opencode-limits"]
    party = Party(Caller("local", frozenset({"read"})), ["address:x"], "a-request", lambda _sign_in: False)
    places = Places(lambda: limits.open_stream("local"))
    ours, theirs = socket.socketpair()
    theirs.settimeout(60)
    talk = Talk(Connection(ours, max_bytes=1000), party, services.sessions, limits, places)
    thread = threading.Thread(target=talk.run, args=(b"",))
    thread.start()
    try:
        services.log.close_followers()
        ours.shutdown(socket.SHUT_RD)
        opcode, payload = Ends(theirs).frame()
        assert (opcode, payload[:2]) == (CLOSE, (1012).to_bytes(2, "big"))
    finally:
        talk.cut()
        thread.join(60)
        ours.close()
        theirs.close()
