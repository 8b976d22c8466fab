"""Streams that wait take up no place of gunicorn's, and whatever stands around the app, their answers come whole."""

import contextlib
import re
import socket

import pytest

from tests.live.client import Client, Stream
from tests.live.conftest import OPENAI_KEY
from tests.live.server import ROOT, Server, until
from tests.sse import check_turn

PLACES = 3
#: Of a WSGI application around ours that makes new bytes of each chunk, so that the pump's sign is lost.
AROUND = """
from opencode.server.factory import create_app

app = create_app()
inner = app.wsgi_app
app.wsgi_app = lambda environ, start_response: (bytes(bytearray(chunk)) for chunk in inner(environ, start_response))
"""
#: Of gunicorn's hooks, what is said when an answer has ended.
HOOKS = """
from opencode.server.gunicorn_conf import *

def post_request(worker, req, environ, resp):
    worker.log.info("ended %s %d", environ["PATH_INFO"], resp.sent)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("aside")
    (home / "conf.py").write_text(HOOKS)
    access = ("--access-logfile", home / "access", "--access-logformat", "%(U)s %(B)s")
    flags = ("-c", home / "conf.py", "--worker-connections", PLACES, *access)
    with Server.gunicorn(home, *map(str, flags), OPENCODE_RATE_LIMIT="off") as server:
        yield server


def test_streams_that_wait_hold_up_no_request(server):
    client = Client(server)
    session = client.session()
    with contextlib.ExitStack() as stack:
        followers = [stack.enter_context(client.follow(session)) for _ in range(PLACES)]

        # Though there are as many as gunicorn serves at once
        assert client.call("GET", "/health").status == 200
        events = client.turn(session, "hello")

        for follower in followers:
            assert follower.read_to("done") == events
    check_turn(events, after=0)


def test_a_stream_is_logged_once_when_it_has_ended(server):
    client = Client(server)
    session = client.session()
    path = f"/api/session/{session}/message"
    with client.follow(session) as follower:
        client.turn(session, "hello")
        follower.read_to("done")
        client.turn(session, "once more")
        follower.read_to("done")
        # Of the two turns, but not of the stream
        until(lambda: len(lines(server, path)) == 2, 30, lambda: f"two lines of {lines(server, path)}")

    until(lambda: len(lines(server, path)) == 3, 30, lambda: f"three lines of {lines(server, path)}")
    assert server.output().count(f"ended {path} ") == 3


def lines(server, path):
    return [line for line in (server.home / "access").read_text().splitlines() if line.startswith(path)]


def test_a_kept_connection_serves_stream_after_stream(server):
    client = Client(server)
    session = client.session()
    turns = []
    with client.post(session, "first") as stream:
        turns.append(stream.rest())
        for number in range(20):
            stream.request(client, "POST", f"/api/session/{session}/message", body=b'{"content": "%d"}' % number)
            turns.append(stream.rest())
            assert stream.ended
    for number, events in enumerate(turns):
        check_turn(events, after=turns[number - 1][-1].seq if number else 0)


def test_an_application_around_ours_that_loses_the_sign_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "around.py").write_text(AROUND)
    server = Server.gunicorn(tmp_path, "--pythonpath", str(tmp_path), PYTHONPATH=str(ROOT))
    server.command[-1] = "around:app"
    with server:
        client = Client(server)
        session = client.session()
        with client.follow(session) as follower:
            for number in range(2):
                events = client.turn(session, f"turn {number}")
                assert follower.read_to("done") == events
        assert re.search(r"Traceback|ERROR", server.output()) is None


def request(client, path, *lines, method="GET"):
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{client.port}", *lines, "", ""]).encode()


@pytest.mark.parametrize(
    "body", [b"no size", b"2\r\nab!!", b"0\r\nno trailer\r\n\r\n"], ids=["size", "chunk", "trailer"]
)
def test_a_body_that_cannot_be_read_ends_the_connection_after_its_stream(server, body):
    # Given a stream whose request has a body, which nobody reads meanwhile
    client, said = Client(server), len(server.output())
    session = client.session()
    path = f"/api/session/{session}/message"
    with Stream(client, "GET", path, headers={"Transfer-Encoding": "chunked"}) as stream:
        stream.socket.sendall(body + request(client, "/health"))
        client.call("DELETE", f"/api/session/{session}")

        assert [event.name for event in stream.rest()] == ["session_deleted"]

        # Then where the next request begins is unknown
        with contextlib.suppress(ConnectionResetError):
            assert stream.socket.recv(1) == b""
    assert client.call("GET", "/health").status == 200
    assert re.search(r"Traceback|ERROR", server.output()[said:]) is None


class Proxied(Stream):
    """Through a proxy that says before the first request whose connection it is."""

    said = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n"

    def request(self, *args, **options):
        self.socket.sendall(self.said)
        self.said = b""
        super().request(*args, **options)


def test_after_a_stream_the_client_is_who_the_proxy_said(tmp_path):
    access = ("--access-logfile", str(tmp_path / "access"), "--access-logformat", "%(h)s %(U)s")
    tokens = {"token": "its-only-token", "OPENCODE_AUTH_TOKENS": "its-only-token"}
    with Server.gunicorn(tmp_path, "--proxy-protocol", "auto", *access, **tokens) as server:
        client = Client(server)
        session = client.session()
        with Proxied(client, "GET", f"/api/session/{session}/message") as stream:
            client.call("DELETE", f"/api/session/{session}")
            stream.rest()
            stream.request(client, "GET", "/api/models")
            stream.body()

            # Nor can the client itself say so
            stream.socket.sendall(Proxied.said.replace(b"203.0.113.7", b"198.51.100.9") + request(client, "/health"))
            assert stream.socket.recv(4096).startswith(b"HTTP/1.1 400")
        assert "203.0.113.7 /api/models\n" in (tmp_path / "access").read_text()


def test_a_stream_that_the_stop_cuts_is_logged_too(tmp_path, openai_wire):
    (tmp_path / "conf.py").write_text(HOOKS)
    access = ("--access-logfile", tmp_path / "access", "--access-logformat", "%(U)s")
    wire = {
        "OPENCODE_MODEL": "openai/wire-model",
        "OPENAI_API_KEY": OPENAI_KEY,
        "OPENAI_BASE_URL": openai_wire.base_url,
    }
    with Server.gunicorn(tmp_path, "-c", str(tmp_path / "conf.py"), *map(str, access), **wire) as server:
        # Given a reader that has stopped while more was to be sent than the kernel holds for it
        client = Client(server)
        session = client.session()
        path = f"/api/session/{session}/message"
        with client.follow(session, receive_buffer=4096):
            client.turn(session, openai_wire.script([[{"text": "x" * 8000, "repeat": 1000}]]))
            server.terminate()

            assert server.wait() == 0
        assert (tmp_path / "access").read_text().splitlines().count(path) == 2
        assert server.output().count(f"ended {path} ") == 2
        assert "Traceback" not in server.output()


def test_who_is_let_in_just_before_the_stop_is_answered(tmp_path):
    with Server.gunicorn(tmp_path, OPENCODE_RATE_LIMIT="off") as server, contextlib.ExitStack() as stack:
        # Given more than a server does in the second in which it closes its listeners
        client, waiting = Client(server), []
        head = ("Connection: close", "Content-Type: application/json", "Content-Length: 0")
        for _ in range(400):
            waiting.append(stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30)))
            waiting[-1].sendall(request(client, "/api/session", *head, method="POST"))
        server.terminate()

        for own in waiting:
            with contextlib.suppress(ConnectionResetError):  # it was not let in any more
                assert b"".join(iter(lambda own=own: own.recv(4096), b"")).startswith(b"HTTP/1.1 ")
        assert server.wait() == 0
        assert re.search(r"Traceback|ERROR", server.output()) is None
