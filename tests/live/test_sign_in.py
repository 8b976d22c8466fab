"""Signing a browser in, and keeping what lets in out of every log, whatever serves."""

import sys

import pytest

from tests.live.client import Client
from tests.live.server import Server, free_port, run, side_by_side, until

WAYS = ["opencode serve", "gunicorn", "flask run"]


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    """All at once; each asks for a token, has none, and writes an access log."""
    home = tmp_path_factory.mktemp("sign-in")
    options = {"OPENCODE_AUTH": "on", "OPENCODE_LOG_LEVEL": "debug"}
    servers = {
        "opencode serve": Server.serve(home / "serve", "--auth"),
        "gunicorn": Server.gunicorn(home / "gunicorn", "--access-logfile", "-", "--log-level", "debug", **options),
        "flask run": Server.flask(home / "flask", **options),
    }
    with side_by_side(servers):
        yield servers


def sent_back(answer):
    """The cookie of an answer as a browser sends it back."""
    assert answer.status == 200, answer.data
    return answer.headers["Set-Cookie"].partition(";")[0]


@pytest.mark.parametrize("way", WAYS)
def test_the_link_that_is_printed_signs_in_once(ways, way):
    server = ways[way]
    code = server.says(r"#code=([\w.-]+)")[1]
    client = Client(server)
    origin = {"Origin": f"http://127.0.0.1:{server.port}"}

    answer = client.call("POST", "/api/login", {"code": code}, origin)

    assert answer.json == {"owner": "default", "scopes": ["approve", "read", "write"]}
    cookie = {"Cookie": sent_back(answer)}
    assert client.call("GET", "/api/sessions", headers=cookie).status == 200
    assert client.call("POST", "/api/session", {}, cookie).error["code"] == "FORBIDDEN"
    assert client.call("POST", "/api/session", {}, {**cookie, **origin}).status == 200
    assert client.call("POST", "/api/login", {"code": code}, origin).status == 401
    assert client.call("POST", "/api/logout", {}, {**cookie, **origin}).status == 200
    assert client.call("GET", "/api/sessions", headers=cookie).status == 401
    assert server.output().count(code) == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_ticket_opens_a_stream_and_is_written_nowhere(ways, way):
    server = ways[way]
    token = server.says(r"(?:with the token|The token of this server:) (\S{20,})")[1]
    client = Client(server, token=token)
    session = client.session()
    path = f"/api/session/{session}/message"
    ticket = client.call("POST", "/api/ticket", {"path": path}).json["ticket"]
    client.headers = {}

    with client.follow(session, f"?until=end&after=0&ticket={ticket}") as follower:
        assert follower.rest() == []
    refused = client.call("GET", f"/api/sessions?ticket={ticket}")
    assert refused.status == 401
    assert ticket not in refused.data.decode()
    if way != "flask run":  # whose request lines may be that long
        # What cannot be read is refused, and logged, by the server under us.
        assert client.call("GET", f"{path}?x={'a' * 9000}&ticket={ticket}").status == 414

    until(lambda: "GET /api/sessions 401" in server.output(), 30, "the request to be logged")
    if way != "opencode serve":
        until(lambda: "ticket=***" in server.output(), 30, "the address to be logged")
    assert ticket not in server.output()


@pytest.mark.parametrize("way", WAYS)
def test_no_token_is_written_to_a_log(ways, way):
    server = ways[way]
    token = server.says(r"(?:with the token|The token of this server:) (\S{20,})")[1]

    assert Client(server, token=token).call("GET", "/api/models").status == 200
    assert Client(server, token=f"{token}-wrong").call("GET", "/api/models").status == 401

    until(lambda: "GET /api/models 401" in server.output(), 30, "the request to be logged")
    assert f"{token}-wrong" not in server.output()
    if way != "flask run":  # whose log is where the token is printed, once
        assert token not in server.stderr()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "value", "form"),
    [
        ("OPENCODE_PUBLIC_URL", "box.example", "https://name[:port]"),
        ("OPENCODE_CORS_ORIGINS", "https://app.example/page", "https://name[:port], by comma"),
    ],
)
def test_a_malformed_address_stops_the_start_with_the_form_that_it_should_have(tmp_path, way, name, value, form):
    port = str(free_port())
    command = {
        "opencode serve": ["opencode", "serve", str(tmp_path), "--port", port],
        "gunicorn": ["gunicorn", "-b", f"127.0.0.1:{port}", "app:app"],
        "flask run": ["flask", "run", "--port", port],
    }[way]

    refused = run([sys.executable, "-m", *command], tmp_path, seconds=60.0, **{name: value})

    assert refused.returncode != 0
    assert f"{name} must be {form}" in refused.stderr
    assert value in refused.stderr
