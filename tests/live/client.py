"""A client that looks at the bytes: what the server sends is checked, not forgiven."""

import contextlib
import http.client
import json
import re
import socket

from tests.sse import Parser


class Answer:
    def __init__(self, status, headers, data):
        self.status = status
        self.headers = headers
        self.data = data

    @property
    def json(self):
        return json.loads(self.data)

    @property
    def error(self):
        """The envelope's inside; that it is one is checked."""
        assert self.headers.get("Content-Type", "").startswith("application/json"), (self.headers, self.data)
        error = self.json["error"]
        assert {"code", "message", "status"} <= error.keys()
        assert error["status"] == self.status
        return error


class Client:
    """Speaks to one server; `token` goes with every request."""

    def __init__(self, server, *, host="127.0.0.1", token=None):
        #: What it trusts, where it speaks through TLS.
        self.tls = getattr(server, "tls", None)
        self.host = host
        self.port = server.port
        token = token or server.token
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def call(self, method, path, body=None, headers=None, *, timeout=30.0):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        if self.tls is not None:
            connection = http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self.tls)
        with contextlib.closing(connection):
            data, kind = (None, {}) if body is None else (json.dumps(body), {"Content-Type": "application/json"})
            connection.request(method, path, data, {**self.headers, **kind, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def session(self, **body):
        answer = self.call("POST", "/api/session", body)
        assert answer.status == 200, answer.data
        return answer.json["session_id"]

    def get(self, session):
        return self.call("GET", f"/api/session/{session}").json

    def post(self, session, content, **options):
        """Start a turn and stream it."""
        body = json.dumps({"content": content}).encode()
        return Stream(self, "POST", f"/api/session/{session}/message", body=body, **options)

    def follow(self, session, query="", *, last_event_id=None, **options):
        headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
        return Stream(self, "GET", f"/api/session/{session}/message{query}", headers=headers, **options)

    def turn(self, session, content):
        """All events of a whole turn."""
        with self.post(session, content) as stream:
            return stream.rest()


class Stream:
    """One request on a socket of its own, and its event stream. `ended` tells that the body was complete."""

    def __init__(
        self, client, method, path, *, body=None, headers=None, version="1.1", receive_buffer=None, timeout=30.0
    ):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect((client.host, client.port))
        if client.tls is not None:
            self.socket = client.tls.wrap_socket(self.socket, server_hostname=client.host)
        self.ended = False
        self._data = b""
        self._parser = Parser()
        self._waiting = []
        self._tail = b""
        self.request(client, method, path, body=body, headers=headers, version=version)

    def request(self, client, method, path, *, body=None, headers=None, version="1.1"):
        """Send a request (a further one, where the connection was kept) and read the head of its answer."""
        lines = [f"{method} {path} HTTP/{version}", f"Host: {client.host}:{client.port}"]
        if method == "GET":
            lines.append("Accept: text/event-stream")
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in {**client.headers, **(headers or {})}.items()]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        self.ended = False
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        self.status = int(head[0].split()[1])
        self.version = head[0].split()[0]
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        self._left = int(self.headers["content-length"]) if "content-length" in self.headers else None
        self.is_chunked = self.headers.get("transfer-encoding") == "chunked"

    def _receive(self):
        data = self.socket.recv(65_536)
        self._data += data
        return bool(data)

    def _until(self, mark):
        while mark not in self._data:
            assert self._receive(), f"the connection ended within {self._data[:200]!r}"
        found, _, self._data = self._data.partition(mark)
        return found

    def piece(self):
        """Bytes of the body as they come; empty at its end."""
        if self.ended:
            return b""
        if not self.is_chunked:
            return self._plain_piece()
        size = int(self._until(b"\r\n"), 16)
        while len(self._data) < size + 2:
            assert self._receive(), "the connection ended within a chunk"
        data, end, self._data = self._data[:size], self._data[size : size + 2], self._data[size + 2 :]
        assert end == b"\r\n"
        self.ended = not size
        return data

    def _plain_piece(self):
        if self._left != 0 and not self._data and not self._receive():
            assert not self._left, "the connection ended within the body"
            self.ended = True
        data, self._data = self._data[: self._left], b"" if self._left is None else self._data[self._left :]
        if self._left is not None:
            self._left -= len(data)
            self.ended = not self._left
        return data

    def body(self):
        """All that is left of it."""
        return b"".join(iter(self.piece, b""))

    def next(self):
        """The next event; None at the end of the body."""
        while not self._waiting and not self.ended:
            data = self.piece()
            self._tail = (self._tail + data)[-64:]
            self._waiting += self._parser.feed(data)
        if self._waiting:
            return self._waiting.pop(0)
        self._waiting += self._parser.end()
        return self._waiting.pop(0) if self._waiting else None

    def read_to(self, name):
        """The events up to the next one of that name."""
        found = []
        while not found or found[-1].name != name:
            event = self.next()
            assert event is not None, f"the stream ended before {name}: {found}"
            found.append(event)
        return found

    def rest(self):
        """All events that are left, to the complete end of the body."""
        return list(iter(self.next, None))

    @property
    def told_to_come_back(self):
        """Whether the last thing said was when to reconnect."""
        return re.search(rb"\n\nretry: \d{4}\n\n\Z", self._tail) is not None

    def close(self):
        self.socket.close()

    def __enter__(self):
        assert self.status == 200, self.body()
        return self

    def __exit__(self, *_exc):
        self.close()


def names(events, *, pieces=False):
    """The names of events; runs of the same name are one, unless `pieces` are wanted."""
    found = [event.name for event in events]
    return found if pieces else [name for n, name in enumerate(found) if n == 0 or found[n - 1] != name]


def text_of(events):
    return "".join(event.data["content"] for event in events if event.name == "text")
