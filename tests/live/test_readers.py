"""Readers that stop for good are cut, over streams and over plain answers; one that is merely slow gets everything."""

import contextlib
import json
import select
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.live.client import Client, text_of
from tests.live.impatient import STALL_S, Impatient
from tests.live.server import Server, until
from tests.sse import check_log

#: Far more than all buffers on the way hold: the kernel lets a sender have 4 MB.
LINE, LINES = "x" * 8000, 2000
STOPPED = 4


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    home = tmp_path_factory.mktemp("impatient")
    (home / "script.json").write_text(json.dumps({"turns": [[{"text": LINE, "repeat": LINES}]], "loop": True}))
    worker = f"{Impatient.__module__}.{Impatient.__name__}"
    server = Server.gunicorn(
        home,
        *("-k", worker),
        OPENCODE_MODEL="scripted/script",
        OPENCODE_SCRIPT=home / "script.json",
        OPENCODE_RATE_LIMIT="off",
        OPENCODE_LOG_LEVEL="info",
    )
    with server:
        yield server


@pytest.fixture(scope="module")
def session(impatient):
    """With a log and a message of 16 MB each."""
    client = Client(impatient)
    session = client.session()
    started = client.call(
        "POST", f"/api/session/{session}/message", {"content": "go"}, {"Prefer": "respond-async"}, timeout=60
    )
    assert started.status == 202, started.data
    until(
        lambda: client.call("GET", "/api/sessions", timeout=60).json["sessions"][0]["status"] == "idle", 90, "its end"
    )
    return session


def request(server, path, accept):
    """A connection that has sent its request, and takes little at once."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", server.port))
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAccept: {accept}\r\n\r\n"
    connection.sendall(head.encode())
    return connection


def is_cut(connection):
    """Whether the other side has closed it, without reading anything."""
    poll = select.poll()
    poll.register(connection, 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))


def sockets(server):
    """The worker's open sockets."""
    found = 0
    for descriptor in Path(f"/proc/{server.workers()[-1]}/fd").iterdir():
        with contextlib.suppress(OSError):
            found += descriptor.readlink().name.startswith("socket:")
    return found


KINDS = {"stream": ("/api/session/{}/message?after=0", "text/event-stream"), "plain": ("/api/session/{}", "*/*")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_that_stops_for_good_is_cut_and_leaves_nothing_behind(impatient, session, kind):
    path, accept = KINDS[kind]
    before = sockets(impatient)
    stopped = [request(impatient, path.format(session), accept) for _ in range(STOPPED)]
    try:
        # Given readers to which the answer has begun to come, and who take no more than the first bytes
        for connection in stopped:
            assert connection.recv(12) == b"HTTP/1.1 200"
        assert sockets(impatient) > STOPPED
        assert not any(map(is_cut, stopped))

        # Then they are cut, and their sockets are gone with all that they held
        until(lambda: all(map(is_cut, stopped)), 15 * STALL_S, lambda: f"the cut of {list(map(is_cut, stopped))}")
        until(lambda: sockets(impatient) <= before, 30, lambda: f"{before} sockets again, and not {sockets(impatient)}")
    finally:
        for connection in stopped:
            connection.close()
    assert "Traceback" not in impatient.output()


def test_a_slow_reader_gets_everything_though_it_takes_longer_than_one_may_stand_still(impatient, session):
    pause, began = threading.Event(), time.monotonic()
    client = Client(impatient)
    with client.follow(session, "?after=0&until=end", receive_buffer=4096, timeout=60) as stream:
        # It takes a little, again and again, and the rest at once when that has gone on for long.
        events = [stream.next()]
        while time.monotonic() - began < 2.5 * STALL_S:
            events.append(stream.next())
            pause.wait(0.05)
        events += stream.rest()
        assert stream.ended

    check_log(events, after=0)
    assert text_of(events) == LINE * LINES
    assert len(events) > LINES
