"""`/ws` under each server: gunicorn with gevent, and Werkzeug's threads."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.live.client import Client
from tests.live.server import Server, side_by_side, until
from tests.ws import CLOSE, TEXT, Peer, Raw, check_events, frame

WAYS = ["gunicorn app:app", "flask run"]
LINE = "{n} " + "x" * 4000 + "\n"
LINES = 5000


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    home = tmp_path_factory.mktemp("ws")
    script = home / "script.json"
    script.write_text(json.dumps({"loop": True, "turns": [[{"text": LINE, "repeat": LINES}]]}))
    options = {
        "OPENCODE_MODEL": "scripted/script",
        "OPENCODE_SCRIPT": script,
        "OPENCODE_RATE_LIMIT": "off",
        "OPENCODE_AUTH_TOKENS": "ann:a-secret",
        "OPENCODE_AUTH": "on",
        "token": "a-secret",
    }
    servers = {
        "gunicorn app:app": Server.gunicorn(home / "gunicorn", "--access-logfile", "-", **options),
        "flask run": Server.flask(home / "flask", **options),
    }
    with side_by_side(servers):
        yield servers


@pytest.mark.parametrize("way", WAYS)
def test_twenty_megabytes_reach_a_slow_reader_whole(ways, way):
    # Given a turn of more than any buffer on the way holds
    server = ways[way]
    client = Client(server)
    session = client.session()
    began = client.call("POST", f"/api/session/{session}/message", {"content": "go"}, {"Prefer": "respond-async"})
    assert began.status == 202
    until(lambda: client.get(session)["status"] == "idle", 100, "the turn to end")

    # When a reader with next to no buffer follows it from the beginning
    with Raw(server, headers=client.headers, receive_buffer=4096) as slow:
        slow.say("follow", session_id=session, after=0)
        seen = [slow.message()]
        while seen[-1]["type"] != "done":
            seen.append(slow.message())

    # Then it misses nothing
    check_events(seen, after=0)
    text = "".join(event["data"]["content"] for event in seen if event["type"] == "text")
    assert text == "".join(LINE.replace("{n}", str(n)) for n in range(1, LINES + 1))
    assert len(text) > 20_000_000


@pytest.mark.parametrize("way", WAYS)
def test_an_independent_client_speaks_with_it_and_several_follow_the_same(ways, way):
    server = ways[way]
    with Peer(server, token="a-secret") as peer, Peer(server, token="a-secret") as other:
        session = peer.session()
        other.say("follow", session_id=session)
        assert other.ping_through() == []
        peer.say("message", session_id=session, content="go")
        seen, beside = peer.to("text"), other.to("text")
        peer.say("abort", session_id=session)
        seen += peer.to("done")
        beside += other.to("done")
        assert peer.ping()
    check_events(seen, after=0)
    assert seen == beside
    assert seen[-1]["data"]["status"] in {"aborted", "completed"}
    assert peer.closed[0] == 1000


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer nope"}, 401),
        ({"Authorization": "Bearer a-secret", "Origin": "https://evil.example"}, 403),
        ({"Authorization": "Bearer a-secret", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Authorization": "Bearer a-secret", "Host": "bad host"}, 403),
        ({"Authorization": "Bearer a-secret", "Upgrade": "h2c"}, 426),
    ],
)
def test_who_may_not_come_in_is_refused_before_the_upgrade(ways, way, headers, status):
    raw = Raw(ways[way], headers=headers)
    try:
        assert raw.status == raw.body()["error"]["status"] == status
    finally:
        raw.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("closing", [frame(CLOSE, b"\x03\xe8"), frame(TEXT, b"{}", masked=False), b""])
def test_when_it_has_ended_nothing_is_answered_any_more(ways, way, closing):
    """Neither a second answer, nor a request that came right behind the first."""
    second = "GET /health HTTP/1.1\r\nX-Request-Id: smuggled\r\nHost: localhost"
    headers = {"Authorization": "Bearer a-secret", "X-Last": f"1\r\n\r\n{second}"}
    with Raw(ways[way], headers=headers) as raw:
        raw.send(closing)
        if not closing:
            raw.socket.shutdown(1)
        raw.close_code()
        assert b"HTTP/1.1" not in raw._data
    assert "smuggled" not in ways[way].output()


def test_the_access_logs_have_their_line_and_no_failure(ways):
    server = ways["gunicorn app:app"]
    with Raw(server, headers={"Authorization": "Bearer a-secret", "X-Request-Id": "a-websocket"}) as raw:
        raw.send(frame(CLOSE, b"\x03\xe8"))
        assert raw.close_code() == 1000
    server.says(r"GET /ws 101 .*\[a-websocket\]")
    server.says(r'"GET /ws HTTP/1.1" 101 ')
    for own in ways.values():
        assert "Traceback" not in own.output()
        assert "a-secret" not in own.output()


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_vanishes_leaves_no_socket_open(ways, way):
    """And the connections of others go on."""
    server = ways[way]
    process = server.workers()[-1] if way.startswith("gunicorn") else server.pid

    def sockets():
        links = [path.readlink() for path in Path(f"/proc/{process}/fd").iterdir() if path.is_symlink()]
        return sum(str(link).startswith("socket:") for link in links)

    with Peer(server, token="a-secret") as peer:
        session = peer.session()
        before = sockets()
        raws = []
        try:
            for _ in range(20):
                raws.append(Raw(server, headers={"Authorization": "Bearer a-secret"}))
                raws[-1].say("follow", session_id=session, after=0)
                raws[-1].say("ping")
                assert raws[-1].message() == {"type": "pong"}
            assert sockets() >= before + 20
        finally:
            for raw in raws:
                raw.close()
        until(lambda: sockets() <= before, 60, "the sockets to be closed")
        assert peer.ping_through() == []


# A crash and a stop, with a server of its own.


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    home = tmp_path_factory.mktemp("ws-own")
    steps = [[{"text": "one "}, {"wait_file": str(home / "go")}, {"text": "two"}]]
    (home / "script.json").write_text(json.dumps({"turns": steps, "loop": True}))
    with Server.serve(home, OPENCODE_MODEL="scripted/script", OPENCODE_SCRIPT=home / "script.json") as server:
        yield server


def test_after_a_crash_and_after_a_stop_it_is_followed_from_the_last_number(own):
    client = Client(own)
    go = own.home / "go"
    with Peer(own) as peer:
        session = peer.session()
        peer.say("message", session_id=session, content="x")
        seen = peer.to("text")

        # When the worker is killed
        first = own.workers()[-1]
        os.kill(first, signal.SIGKILL)
        assert peer.rest() == []

    # Then the next one has exactly the rest
    until(lambda: own.workers()[-1] != first, 60, "a new worker")
    own.ready()
    with Peer(own) as peer, Peer(own) as idle:
        peer.say("follow", session_id=session, after=seen[-1]["seq"])
        go.touch()
        seen += peer.to("done")
        check_events(seen, after=0)
        with client.follow(session, "?after=0&until=end") as stream:
            stored = stream.rest()
        assert [(event.seq, event.name, event.data) for event in stored] == [
            (event["seq"], event["type"], event["data"]) for event in seen
        ]

        # And a stop is said, to who follows and to who does not
        own.terminate()
        assert peer.rest() == idle.rest() == []
        assert peer.closed[0] == idle.closed[0] == 1012
    assert own.wait(60) == 0
    assert "Traceback" not in own.output()
