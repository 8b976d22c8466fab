"""What gunicorn refuses by itself, before the app sees it, wears the same envelope."""

import contextlib
import json
import socket

import pytest

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"


def send(server, data):
    """The whole answer to raw bytes: status, headers, body; the connection must be closed after it."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=15) as connection:
        # The server may answer and close before it has read everything.
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65_536):
                answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    assert first.startswith("HTTP/1.1 "), answer
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, body


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"NONSENSE\r\n\r\n", 400, id="no request line"),
        pytest.param(b"GET / HTTP/9.9\r\n" + HOST + b"\r\n", 400, id="unknown version"),
        pytest.param(b"G\x00T / HTTP/1.1\r\n" + HOST + b"\r\n", 400, id="bad method"),
        pytest.param(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, id="line too long"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"X-Long: " + b"a" * 9000 + b"\r\n\r\n", 431, id="header too large"),
        pytest.param(
            b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: a\r\n" % n for n in range(150)) + b"\r\n",
            431,
            id="too many headers",
        ),
        pytest.param(b"GET /api/sessions HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400, id="two Hosts"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"X Y: a\r\n\r\n", 400, id="bad header name"),
        pytest.param(
            b"POST /api/session HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
            400,
            id="two lengths",
        ),
        pytest.param(
            b"POST /api/session HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
            400,
            id="bad chunk",
        ),
        pytest.param(
            b"POST /api/session HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            400,
            id="length and chunks",
        ),
    ],
)  # fmt: skip
def test_a_refusal_of_gunicorns_wears_the_envelope(server, data, status):
    found, headers, body = send(server, data)

    assert found == status
    assert headers["content-type"].startswith("application/json")
    assert int(headers["content-length"]) == len(body)
    error = json.loads(body)["error"]
    assert error["status"] == status
    assert error["code"] == "INVALID_REQUEST"
    assert error["message"]
    assert "Traceback" not in error["message"]


def test_a_refusal_says_close_and_closes(server):
    _, headers, _ = send(server, b"NONSENSE\r\n\r\n")

    assert headers["connection"] == "close"


def test_what_was_sent_is_not_reflected_as_markup(server):
    _, headers, body = send(server, b"GET /<script>alert(1)</script> HTTP/9.9\r\n\r\n")

    assert headers["content-type"].startswith("application/json")
    assert b"<script>" not in body or headers.get("x-content-type-options") == "nosniff"


def test_the_server_is_as_well_as_before(server, client):
    for _ in range(20):
        send(server, b"NONSENSE\r\n\r\n")

    assert client.call("GET", "/health").json["status"] == "ok"
    assert "Traceback" not in server.stderr()
