"""What a request may cost before it is understood: its address, headers and body."""

import io
import socket

import pytest
from werkzeug.exceptions import ClientDisconnected

from opencode.errors import RequestTimeout
from opencode.server.reading import body_deadline
from tests.server.talk import create, refused, routes

DEEP = 50_000


@pytest.mark.parametrize(
    "body",
    [
        "[" * DEEP,
        "[" * DEEP + "]" * DEEP,
        '{"title":' * DEEP + "1" + "}" * DEEP,
        '{"tools":' + "[" * DEEP + "]" * DEEP + "}",
        '{"content":' + '{"a":' * DEEP + "1" + "}" * DEEP + "}",
        '{"surprise":' + "[" * 150 + "]" * 150 + "}",
    ],
    ids=["open", "closed", "objects", "in a field", "objects in a field", "unknown field"],
)
def test_deeply_nested_json_is_refused_on_every_route_that_takes_a_body(app, body):
    client = app.test_client()
    session_id = create(client)
    taken = 0
    for method, rule, contract in routes(app):
        if contract.body is None:
            continue
        address = rule.replace("<session_id>", session_id).replace("<permission_id>", "per_1")
        answer = client.open(address, method=method, data=body, content_type="application/json")
        refused(answer, 400, "INVALID_REQUEST")
        assert len(answer.text) < 2000
        taken += 1
    assert taken >= 5


@pytest.mark.parametrize("digits", [5_000, 400_000])
def test_an_endless_number_is_refused(client, digits):
    body = b'{"title": ' + b"9" * digits + b"}"
    refused(client.post("/api/session", data=body, content_type="application/json"), 400, "INVALID_REQUEST")


def test_too_many_query_fields_are_refused(client):
    assert client.get("/api/sessions?" + "&".join(f"a{n}=1" for n in range(50))).status_code == 200
    refused(client.get("/api/sessions?" + "&" * 50), 400, "INVALID_REQUEST", "50 query fields")


def test_an_address_or_header_that_gunicorn_would_refuse_is_refused_elsewhere_too(client):
    assert client.get("/api/sessions?q=" + "a" * 150).status_code == 200
    refused(client.get("/api/sessions?q=" + "a" * 9000), 414, "INVALID_REQUEST", "8190 bytes")
    refused(client.get("/nothing/" + "a" * 9000), 414, "INVALID_REQUEST")
    refused(client.get("/api/sessions", headers={"X-Much": "a" * 9000}), 431, "INVALID_REQUEST", "X-Much", "8190")
    assert client.get("/health?" + "a" * 9000).status_code == 200


def test_a_body_that_is_too_large_is_refused_before_its_type_is_looked_at(make_app):
    client = make_app(max_body_bytes=2000).test_client()
    body = b"x" * 2001

    refused(client.post("/api/session", data=body, content_type="text/plain"), 413, "PAYLOAD_TOO_LARGE")
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    answer = client.post("/api/session", input_stream=io.BytesIO(body), content_type="text/plain", environ_base=chunked)
    refused(answer, 413, "PAYLOAD_TOO_LARGE")
    refused(client.post("/api/session", data=b"x" * 2000, content_type="text/plain"), 415, "UNSUPPORTED_MEDIA_TYPE")


def read_all(connection: socket.socket, seconds: float) -> None:
    """As the development server reads a body that breaks off."""
    with body_deadline({"werkzeug.socket": connection}, seconds):
        try:
            while connection.recv(10):
                pass
        except OSError:
            raise ClientDisconnected  # noqa: B904 - as Werkzeug does
        raise ClientDisconnected


def test_a_body_that_does_not_come_is_cut_off_by_its_deadline():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"{")
        with pytest.raises(RequestTimeout, match="OPENCODE_BODY_TIMEOUT_S"):
            read_all(ours, 0.05)


def test_a_wait_that_the_socket_itself_ends_is_told_as_the_same():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.01)
        with pytest.raises(RequestTimeout):
            read_all(ours, 30)


def test_what_ends_in_time_is_not_touched_by_the_deadline():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(ClientDisconnected), body_deadline({"werkzeug.socket": ours}, 30):
            raise ClientDisconnected
        theirs.sendall(b"x")
        assert ours.recv(10) == b"x"
