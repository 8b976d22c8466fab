"""`Server`, the library (API section 9): starting, stopping, and what it is called with."""

import asyncio
import errno
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

import opencode
from opencode import Server
from opencode.errors import SettingsError, StoreError, Unavailable
from opencode.server import options
from opencode.server.gunicorn_conf import cannot_listen, has_ipv6_loopback
from opencode.server.listener import bind, listen
from tests.live.client import Client
from tests.live.server import ROOT, until
from tests.server.library import gate, server
from tests.sse import check_turn

UNDER_GEVENT = "OPENCODE_TEST_GEVENT" in os.environ


def test_it_serves_from_start_to_stop(tmp_path):
    own = server(tmp_path).start()
    try:
        client = Client(own)
        session = client.session()
        check_turn(client.turn(session, "hi"), after=0)
        assert own.url == f"http://localhost:{own.port}"
        assert own.wait(timeout_s=0.01) is False
    finally:
        own.stop()

    assert own.wait(timeout_s=0.0) is True
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", own.port), timeout=5)
    own.stop()  # once more does nothing


@pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no ::1")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_localhost_is_both_loopback_addresses(tmp_path, host):
    with server(tmp_path) as own:
        assert Client(own, host=host).call("GET", "/health").status == 200


def test_a_busy_port_is_an_error_that_names_the_fix(tmp_path):
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            SettingsError, match=rf"127\.0\.0\.1:{port}: Address already in use.*Server\(port={port + 1}\)"
        ):
            server(tmp_path, port=port, host="127.0.0.1").start()
    # Nothing of it is left: the store is free.
    with server(tmp_path) as own:
        assert Client(own).call("GET", "/health").status == 200


def test_an_address_that_is_not_this_machines_is_an_error_that_says_so(tmp_path):
    with pytest.raises(
        SettingsError, match=r"192\.0\.2\.1:0: .*an address of this machine.*Server\(host='localhost'\)"
    ):
        server(tmp_path, host="192.0.2.1").start()


@pytest.mark.parametrize(("port", "failure", "words"), [
    (80, OSError(errno.EACCES, "denied"), r"80: denied\. Ports below 1024.*--port 3001$"),
    (65_535, OSError(errno.EADDRINUSE, "in use"), r"65535: in use\. Stop what uses the port.*--port 3001$"),
    (3000, socket.gaierror(socket.EAI_NONAME, "unknown"), r"3000: unknown\. .*of this machine.*--host localhost$"),
])  # fmt: skip
def test_what_is_named_instead_may_be_had(port, failure, words):
    assert re.search(words, cannot_listen(f"here:{port}", port, failure, "--{} {}".format))


def test_a_store_that_cannot_be_opened_frees_the_port_again(tmp_path):
    with server(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "data" / "store.sqlite3")) as store, store:
        store.execute("UPDATE alembic_version SET version_num = '9999'")
    own = server(tmp_path, host="127.0.0.1")

    with pytest.raises(StoreError, match="newer"):
        own.start()

    with closing(socket.create_server(("127.0.0.1", own.port))):
        pass


def test_starting_twice_is_refused_and_starting_again_goes_on(tmp_path):
    own = server(tmp_path).start()
    session = Client(own).session()
    with pytest.raises(Unavailable, match="running already"):
        own.start()
    own.stop()

    with own:
        assert Client(own).get(session)["id"] == session


def test_stop_ends_streams_with_the_time_to_come_back_and_the_turn_goes_on_at_the_next_start(tmp_path):
    go, script = gate(tmp_path)
    own = server(tmp_path, script).start()
    client = Client(own)
    session = client.session()
    with client.post(session, "hi") as turn, client.follow(session, "?after=0") as follower:
        seen = turn.read_to("text")
        own.stop(timeout_s=0.05)
        seen += turn.rest()
        follower.rest()
        assert turn.ended
        assert follower.ended
        assert turn.told_to_come_back
        assert follower.told_to_come_back
    assert "done" not in [event.name for event in seen]

    go.touch()
    with own:
        with Client(own).follow(session, last_event_id=seen[-1].seq) as rest:
            seen += rest.read_to("done")
        assert seen[-1].data["status"] == "completed"
        assert [event.seq for event in seen] == list(range(1, len(seen) + 1))


def test_stop_gives_running_turns_their_time(tmp_path):
    go, script = gate(tmp_path)
    own = server(tmp_path, script).start()
    client = Client(own)
    with client.post(client.session(), "hi") as turn:
        seen = turn.read_to("text")
        stopping = threading.Thread(target=own.stop, args=(60.0,))
        stopping.start()
        until(lambda: _refuses(own.port), 30, "the listener to close")
        go.touch()
        seen += turn.rest()
        stopping.join()

    check_turn(seen, after=0)
    assert seen[-1].data["status"] == "completed"


def test_a_connection_that_says_nothing_does_not_hold_up_the_stop(tmp_path):
    with server(tmp_path) as own, socket.create_connection(("127.0.0.1", own.port), timeout=60) as idle:
        assert Client(own).call("GET", "/health").status == 200
        begun = time.monotonic()
        own.stop()
        assert time.monotonic() - begun < 30  # of the minute that a silent client is given
        assert idle.recv(1) == b""


def _refuses(port):
    with (
        suppress(ConnectionRefusedError, ConnectionResetError),
        socket.create_connection(("127.0.0.1", port), timeout=5),
    ):
        return False
    return True


def test_twenty_starts_and_stops_leave_no_thread_and_no_descriptor(tmp_path):
    def round_trip():
        with server(tmp_path) as own:
            client = Client(own)
            session = client.session()
            with client.follow(session, "?after=0"):  # one that is open when the server stops
                client.turn(session, "hi")
                own.stop()

    def left():
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    round_trip()
    until(lambda: not [own for own in threading.enumerate() if isinstance(own, threading.Timer)], 30, "timers to end")
    threads, descriptors = left()
    for _ in range(20):
        round_trip()

    # The limiter's clean-up runs on timers of hundredths of a second.
    until(lambda: left()[0] <= threads and left()[1] <= descriptors, 30, lambda: f"{left()}, {threading.enumerate()}")


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", b"GET /\x00 HTTP/9.9\r\n\r\n"])
def test_what_cannot_be_read_is_refused_in_the_same_envelope(tmp_path, sent):
    with server(tmp_path) as own, socket.create_connection(("127.0.0.1", own.port), timeout=30) as sock:
        sock.sendall(sent)
        with sock.makefile("rb") as reader:
            answer = reader.read()
    assert b'{"error":{"code":"INVALID_REQUEST"' in answer
    assert b"Werkzeug" not in answer


@pytest.mark.skipif(UNDER_GEVENT, reason="there it waits")
def test_one_connection_too_many_is_closed_and_the_others_go_on(app):
    (sock,) = bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    listener = listen(app, [sock], connections=1)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as first:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as second:
                assert second.recv(1) == b""
            first.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert first.recv(12) == b"HTTP/1.1 200"
    finally:
        listener.close()
        listener.end(30)


def test_auth_without_tokens_makes_one_and_says_it_once(tmp_path, capsys):
    with server(tmp_path, auth={"enabled": True}) as own:
        said = capsys.readouterr().err
        assert re.search(r"token of this server: (\S+)", said)[1] == own.token
        stranger = Client(own, token="wrong")
        assert stranger.call("GET", "/api/sessions").status == 401
        assert Client(own).call("GET", "/api/sessions").status == 200
        assert own.token not in capsys.readouterr().err


def _validate(token):
    """As the description's handler, which answers whether there is such a user; a name is the owner's."""
    if token == "broken":
        raise LookupError("the users cannot be reached")
    return {"right": True, "anns": "ann"}.get(token, False)


async def _validate_async(token):
    await asyncio.sleep(0)
    return _validate(token)


@pytest.mark.parametrize("handler", [_validate, _validate_async])
def test_a_handler_decides_over_each_request_and_stream(tmp_path, handler):
    with server(tmp_path, auth={"enabled": True, "handler": handler}, shared_shell=True) as own:
        assert own.token is None
        right, ann = (Client(own, token=token) for token in ("right", "anns"))
        session = right.session()
        events = right.turn(session, "hi")
        check_turn(events, after=0)

        with right.follow(session, "?after=0&until=end") as stream:
            assert (stream.status, stream.rest()) == (200, events)
        for refused in (Client(own), Client(own, token="wrong"), Client(own, token="broken")):
            assert refused.call("GET", "/api/sessions").error["code"] == "UNAUTHORIZED"
            assert refused.call("GET", f"/api/session/{session}/message").error["code"] == "UNAUTHORIZED"
        assert ann.call("GET", f"/api/session/{session}").error["code"] == "SESSION_NOT_FOUND"
        assert [own_session["id"] for own_session in ann.call("GET", "/api/sessions").json["sessions"]] == []
        assert [own_session["id"] for own_session in right.call("GET", "/api/sessions").json["sessions"]] == [session]


def test_its_app_is_for_any_wsgi_server(tmp_path):
    own = server(tmp_path)
    try:
        assert own.app.test_client().get("/health").status_code == 200
        assert own.app is own.app
    finally:
        own.stop()


# What it is called with


def test_keys_in_camel_case_mean_the_same():
    camel, _, _ = options.read(
        {
            "port": 3000,
            "host": "localhost",
            "cors": {"origin": ["https://a.example"], "allowedHeaders": ["Content-Type"], "credentials": True},
            "rateLimit": {"maxRequests": 5, "maxSessions": 2, "windowMs": 1000},
            "auth": {"enabled": True, "tokens": ["one", "two"]},
            "maxSteps": 7,
        }
    )
    snake, _, _ = options.read(
        {
            "port": 3000,
            "cors": {"origin": "https://a.example", "allowed_headers": ["Content-Type"], "credentials": True},
            "rate_limit": {"max_requests": 5, "max_sessions": 2, "window_ms": 1000},
            "auth": {"tokens": ["one", "two"]},
            "max_steps": 7,
        }
    )

    assert camel == snake
    assert camel.cors_origins == ("https://a.example",)
    assert (camel.rate_limit_max_requests, camel.rate_limit_max_sessions, camel.rate_limit_window_ms) == (5, 2, 1000)
    assert (camel.auth, camel.auth_tokens, camel.max_steps, camel.rate_limit) == (True, ("one", "two"), 7, True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prot": 1}, r"Server\(prot=…\) is not an option\. Did you mean 'port'"),
        ({"cors": {"origins": "*"}}, r"Server\(cors=\{'origins': …\}\).*Did you mean 'origin'"),
        ({"rateLimit": {"maxRequest": 1}}, r"maxRequest.*Did you mean 'max_requests'"),
        ({"auth": {"zzz": 1}}, r"There are: enabled, handler, tokens"),
        ({"cors": True}, r"Server\(cors=…\) must be a dict"),
        ({"auth": "yes"}, r"Server\(auth=…\) must be a dict.*True or False"),
        ({"auth": {"handler": 5}}, r"must be a function"),
        ({"port": 70_000}, r"Server\(port=…\) must be a whole number up to 65535.*not 70000"),
        ({"rate_limit": {"window_ms": 1}}, r"Server\(rate_limit=\{'window_ms': …\}\) must be milliseconds"),
        ({"host": "0.0.0.0", "auth": False}, r"auth=False with host='0\.0\.0\.0'.*Leave out auth=False"),
        ({"auth": {"tokens": ["a:x", "b:y"]}}, r"several owners"),
        ({"auth": {"tokens": [""]}}, r"entry 1"),
        ({"cors": {"origin": "*", "credentials": True}}, r"would lend every page"),
        ({"token": "s3cret"}, r"Server\(token=…\) is not an option.*auth=\{'tokens': "),
    ],
)
def test_a_wrong_option_is_refused_by_name_with_the_fix(given, words):
    with pytest.raises(SettingsError, match=words):
        Server(**given)


def test_a_secret_is_not_in_the_error_about_it():
    with pytest.raises(SettingsError) as caught:
        Server(auth={"tokens": [{"hunter2-secret": 1}]})

    assert "hunter2" not in str(caught.value)


def test_options_go_before_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENCODE_MAX_STEPS", "3")
    monkeypatch.setenv("PORT", "4000")

    settings, _, _ = options.read({"port": 5000, "directory": tmp_path})

    assert (settings.port, settings.max_steps) == (5000, 3)


# Within other programs


def _python(code, home):
    environ = {"PATH": os.defpath, "HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=home,
        env=environ,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_importing_the_package_loads_nothing_of_the_server(tmp_path):
    done = _python(
        "import sys, opencode; print(opencode.__version__, 'flask' in sys.modules);"
        "from opencode import Server; print('flask' in sys.modules)",
        tmp_path,
    )

    assert done.stdout.split() == [opencode.__version__, "False", "True"], done.stderr
    with pytest.raises(AttributeError, match="no attribute 'Sever'"):
        opencode.Sever  # noqa: B018 - that is the test


@pytest.mark.parametrize("patch", ["", "from gevent import monkey; monkey.patch_all()"])
def test_sigterm_stops_it_as_in_the_example(tmp_path, patch):
    done = _python(
        f"""{patch}
import os, signal, threading
from opencode import Server
server = Server(port=0, model="demo/guide")
signal.signal(signal.SIGTERM, lambda *_: server.stop())
server.start()
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
server.wait()
print("ended")
""",
        tmp_path,
    )

    assert (done.stdout, done.returncode) == ("ended\n", 0), done.stderr
