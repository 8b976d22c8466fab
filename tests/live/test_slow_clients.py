"""Clients that send slowly, or never, hold no connection for long; those that are only a little slow are served."""

import contextlib
import http.client
import json
import socket
import threading
import time

import pytest

from tests.live.server import Server

LIMIT_S = 2
HEAD = "POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
LENGTH = f"{HEAD}Content-Length: 1000\r\n\r\n".encode()
CHUNKED = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()


@pytest.fixture(scope="module", params=["gunicorn", "flask"])
def short(request, tmp_path_factory):
    """A server of each kind that waits two seconds for a body."""
    make = getattr(Server, request.param)
    home = tmp_path_factory.mktemp(f"slow-{request.param}")
    with make(home, OPENCODE_BODY_TIMEOUT_S=LIMIT_S, OPENCODE_RATE_LIMIT="off") as server:
        yield server


def ended(server, head, drip):
    """Send `head`, then a `drip` every tenth of a second: what came back until the server closed."""
    answer = b""
    deadline = time.monotonic() + 60
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(head)
        stop = threading.Event()

        def send():
            with contextlib.suppress(OSError):
                while not stop.wait(0.1):
                    connection.sendall(drip)

        sender = threading.Thread(target=send)
        if drip:
            sender.start()
        try:
            with contextlib.suppress(ConnectionError):
                while piece := connection.recv(65_536):
                    answer += piece
                    assert time.monotonic() < deadline, answer
        finally:
            stop.set()
            if drip:
                sender.join()
    return answer


@pytest.mark.parametrize(
    ("head", "drip"),
    [(LENGTH, b""), (LENGTH, b" "), (CHUNKED, b""), (CHUNKED, b"1\r\n \r\n"), (CHUNKED + b"1;a=", b"b")],
    ids=["stalled", "dripping", "stalled chunks", "dripping chunks", "dripping size"],
)
def test_a_body_that_does_not_come_in_time_is_refused_and_its_connection_closed(short, head, drip):
    answer = ended(short, head, drip)

    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    error = json.loads(body)["error"]
    assert status == error["status"] == 408
    assert error["code"] == "INVALID_REQUEST"


PART = b"GET /api/sessions HTTP/1.1\r\nHost: localhost\r\n"
gunicorn_only = pytest.mark.parametrize("short", ["gunicorn"], indirect=True)


def test_headers_that_stall_are_cut_off(short):
    assert ended(short, PART, b"") == b""


@gunicorn_only
def test_headers_that_drip_are_cut_off(short):
    assert ended(short, PART, b"X-A: b\r\n") == b""


def said(connection):
    """The status line of an answer, after which the connection is read to the end of its body."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    with answer:
        answer.read()
        return answer.status


def send_in_pieces(connection, body):
    connection.sendall(f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode())
    for start in range(0, len(body), 5):
        connection.sendall(body[start : start + 5])


def test_a_body_that_comes_in_pieces_within_the_time_is_read(short):
    with socket.create_connection(("127.0.0.1", short.port), timeout=60) as connection:
        send_in_pieces(connection, json.dumps({"title": "slowly"}).encode())
        assert said(connection) == 200


@gunicorn_only
def test_the_time_is_each_requests_own_on_a_connection_that_stays_open(short):
    with socket.create_connection(("127.0.0.1", short.port), timeout=60) as connection:
        begun = time.monotonic()
        while time.monotonic() < begun + LIMIT_S * 1.5:
            send_in_pieces(connection, json.dumps({"title": "again"}).encode())
            assert said(connection) == 200


def test_many_slow_clients_do_not_hold_up_a_quick_one(short):
    with contextlib.ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", short.port), timeout=60)) for _ in range(100)
        ]
        for connection in slow:
            connection.sendall(LENGTH)
        with socket.create_connection(("127.0.0.1", short.port), timeout=60) as quick:
            quick.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert quick.recv(65_536).startswith(b"HTTP/1.1 200")
        for connection in slow:
            assert b" 408 " in connection.recv(65_536)
