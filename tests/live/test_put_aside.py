"""Streams that wait take up no place of gunicorn's, and whatever stands around the app, their answers come whole."""

import contextlib
import re

import pytest

from tests.live.client import Client
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
