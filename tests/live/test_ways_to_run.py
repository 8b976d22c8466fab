"""`opencode serve`, gunicorn, `flask run` and the Procfile are one server."""

import json
import re
import socket
import sys

import pytest

from tests.live.client import Client, names
from tests.live.server import ROOT, Server, free_port, run, side_by_side
from tests.sse import check_turn

TOKEN = "ann-token-0123456789"
SCRIPT = {
    "loop": True,
    "turns": [
        [{"reasoning": "First I look. "}, {"text": "I look"}, {"text": " around."}, {"tool": "bash", "params": {"command": "echo 'h\u00e9llo from bash'"}}],
        [{"tool": "read", "params": {"path": "notes.txt"}}, {"usage": {"input": 100, "output": 20, "cached": 60}}],
        [{"tool": "edit", "params": {"path": "notes.txt", "old_string": "one", "new_string": "three"}}],
        [{"error": {"code": "PROVIDER_UNAVAILABLE", "message": "busy", "retryable": True, "retry_after_s": 0.01}}, {"text": "Changed.\nIt says \u201cthree\u201d\u2028now."}],
    ],
}  # fmt: skip


def beyond_loopback():
    """An address of this machine that is not loopback, if it has one; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return probe.getsockname()[0]


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    """All at once, since each of them needs its time to start."""
    home = tmp_path_factory.mktemp("ways")
    script = home / "script.json"
    script.write_text(json.dumps(SCRIPT))
    options = {"OPENCODE_MODEL": "scripted/script", "OPENCODE_SCRIPT": script}
    servers = {
        "opencode serve": Server.serve(home / "serve", **options),
        "gunicorn app:app": Server.gunicorn(home / "gunicorn", **options),
        "flask run": Server.flask(home / "flask", "--host", "0.0.0.0", **options),
        "Procfile": Server.procfile(home / "procfile", token=TOKEN, OPENCODE_AUTH_TOKENS=f"ann:{TOKEN}", **options),
        "gunicorn -b 0.0.0.0": Server.gunicorn(home / "wide", host="0.0.0.0", **options),
        "Procfile, no token": Server.procfile(home / "procfile-no-token", WEB_CONCURRENCY=4, **options),
    }
    with side_by_side(servers):
        yield servers


def masked(event):
    """The event without what differs from turn to turn: made ids and times."""
    data = json.dumps(event.data, sort_keys=True, ensure_ascii=False)
    data = re.sub(r'"(turn_id|message_id|call_id)": "(trn|msg|call)_\w+"', r'"\1": "\2_"', data)
    return event.id, event.name, re.sub(r'"duration": \d+', '"duration": 0', data)


def scripted_turn(server):
    (server.work / "notes.txt").write_text("one\ntwo\n")
    client = Client(server)
    session = client.session()
    events = client.turn(session, "go on")
    check_turn(events, after=0)
    assert (server.work / "notes.txt").read_text() == "three\ntwo\n"
    return events


@pytest.fixture(scope="module")
def expected(ways):
    """Once a server: the script's failure comes the first time that a conversation gets there."""
    return scripted_turn(ways["opencode serve"])


@pytest.mark.parametrize("way", ["gunicorn app:app", "flask run", "Procfile"])
def test_the_same_turn_gives_the_same_events_whatever_started_the_server(ways, expected, way):
    found = scripted_turn(ways[way])

    assert [masked(event) for event in found] == [masked(event) for event in expected]


def test_the_turn_that_is_compared_has_every_kind_of_event_in_its_order(expected):
    events = expected
    one_call = ["tool_call", "tool_result"]
    assert names(events, pieces=True) == [
        *["turn_start", "step", "reasoning", "text", "text", "tool_call", "tool_output", "tool_result"],
        *["step", *one_call, "step", *one_call, "step", "step", "text", "done"],
    ]
    output, result = (next(event for event in events if event.name == name) for name in ("tool_output", "tool_result"))
    assert output.data["content"] == result.data["result"] == "h\u00e9llo from bash\n"
    assert events[-2].data["content"] == "Changed.\nIt says \u201cthree\u201d\u2028now."
    assert events[-1].data["usage"] == {"input": 100, "output": 20, "cached": 60}


def test_a_platforms_port_opens_the_server_to_the_world_with_a_token_only(ways):
    server = ways["Procfile"]
    stranger = Client(server)
    stranger.headers = {}

    assert stranger.call("GET", "/health").status == 200
    assert stranger.call("GET", "/api/sessions").error["code"] == "UNAUTHORIZED"
    assert stranger.call("GET", "/api/sessions").headers["WWW-Authenticate"].startswith("Bearer")
    assert stranger.call("POST", "/api/session", {}).status == 401
    assert Client(server, token="ann-token-012345678").call("GET", "/api/sessions").status == 401
    assert Client(server).call("GET", "/api/sessions").status == 200
    assert TOKEN not in server.output()
    address = beyond_loopback()
    if address:
        assert Client(server, host=address).call("GET", "/api/sessions").status == 200
        stranger.host = address
        assert stranger.call("GET", "/api/sessions").status == 401


@pytest.mark.parametrize("way", ["gunicorn -b 0.0.0.0", "Procfile, no token"])
def test_beyond_loopback_a_token_is_made_and_printed_where_none_is_set(ways, way):
    server = ways[way]
    token = server.says(r"with the token (\S{20,}) \(new at each start; OPENCODE_AUTH_TOKENS sets lasting ones\)")[1]

    assert Client(server).call("GET", "/health").status == 200
    assert Client(server).call("GET", "/api/sessions").status == 401
    assert Client(server, token=token).call("GET", "/api/sessions").status == 200
    assert f"Authorization: Bearer {token}" in server.stdout()
    # The requests are logged, and with them nothing secret.
    server.says("GET /api/sessions 200")
    assert token not in server.stderr()


def test_the_made_token_of_one_server_does_not_open_another(ways):
    tokens = {re.search(r"with the token (\S+)", ways[way].output())[1] for way in ("gunicorn -b 0.0.0.0", "Procfile, no token")}  # fmt: skip

    assert len(tokens) == 2


def test_workers_that_the_platform_asks_for_are_reduced_with_a_word(ways):
    server = ways["Procfile, no token"]

    server.says("WEB_CONCURRENCY is reduced to 1: several workers cannot share the embedded store")
    assert len(server.workers()) == 1


def test_flask_run_on_all_addresses_answers_its_own_machine_only(ways):
    server = ways["flask run"]
    near = Client(server)
    forwarded = near.call("GET", "/api/sessions", headers={"X-Forwarded-For": "192.0.2.7"})

    assert near.call("GET", "/api/sessions").status == 200
    assert forwarded.error["code"] == "FORBIDDEN"
    assert "OPENCODE_AUTH_TOKENS" in forwarded.error["message"]
    address = beyond_loopback()
    if address:
        far = Client(server, host=address)
        refused = far.call("POST", "/api/session", {})
        assert (refused.status, refused.error["code"]) == (403, "FORBIDDEN")
        assert "its own machine" in refused.error["message"]
        assert far.call("GET", "/health").status == 200


def test_the_banner_says_where_what_and_how(ways):
    server = ways["opencode serve"]
    said = server.stdout()

    assert re.search(rf"address +http://localhost:{server.port}\n", said)
    assert f"directory  {server.work}" in said
    assert "model      scripted/script (OPENCODE_MODEL or --model names it)" in said
    assert "access     this machine only, no token needed" in said
    assert f"curl -N http://localhost:{server.port}/api/session/$S/message" in said


def test_localhost_is_both_loopback_addresses(ways):
    if not socket.has_ipv6:
        pytest.skip("this Python has no IPv6")
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no ::1")

    server = ways["opencode serve"]
    with socket.create_connection(("::1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /api/sessions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("way", ["opencode serve", "gunicorn app:app", "Procfile"])
def test_asked_to_end_it_ends_its_streams_in_order_and_leaves_with_zero(ways, way):
    """After all tests that need these servers: they are gone then."""
    server = ways[way]
    client = Client(server)
    session = client.session()
    with client.follow(session) as follower:
        server.terminate()
        assert follower.rest() == []
        assert follower.ended
        assert follower.told_to_come_back
    # honcho tells what became of its children; it has no code of its own for a good end.
    assert server.wait(10) in ({0} if way != "Procfile" else {0, -15, 143})


# What is refused at start.


def test_several_workers_are_refused(tmp_path):
    refused = run([sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{free_port()}", "app:app"], tmp_path)

    assert refused.returncode != 0
    assert "Error: 2 workers cannot share the embedded store. Start one" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("command", "environ"),
    [
        (["-m", "opencode", "serve", "--no-auth", "--host", "0.0.0.0"], {}),
        (["-m", "opencode", "serve", "--host", "::"], {"OPENCODE_AUTH": "off"}),
        (["-m", "gunicorn", "app:app"], {"OPENCODE_AUTH": "off", "PORT": "1"}),
    ],
    ids=["serve --no-auth", "serve with OPENCODE_AUTH=off", "gunicorn with OPENCODE_AUTH=off"],
)
def test_nobody_may_listen_beyond_loopback_with_auth_expressly_off(tmp_path, command, environ):
    port = str(free_port())
    command = [sys.executable, *command, *(["--port", port] if "serve" in command else [])]
    refused = run(command, tmp_path, cwd=ROOT, **(environ | ({"PORT": port} if "PORT" in environ else {})))

    assert refused.returncode != 0
    assert re.search(r"anyone who reaches it could run commands here|let anyone who reaches it run commands", refused.stderr)  # fmt: skip
    assert "listen at localhost" in refused.stderr
    assert "Traceback" not in refused.stderr
