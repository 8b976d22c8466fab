"""Two WebSocket clients: one that nobody here wrote (PyPI `websockets`), and one that says whatever bytes it likes."""

import base64
import contextlib
import json
import os
import socket
import struct

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.sse import Malformed

WAIT_S = 60.0
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Peer:
    """A client that speaks in messages. `port` may be a server, which has one."""

    def __init__(self, port, *, token=None, cookie=None, **options):
        headers = {"Authorization": f"Bearer {token}"} if token else {"Cookie": cookie} if cookie else {}
        options = {"open_timeout": WAIT_S, "close_timeout": WAIT_S, "ping_interval": None, "max_size": None} | options
        uri = f"ws://127.0.0.1:{getattr(port, 'port', port)}/ws"
        self._connection = connect(uri, additional_headers=headers, proxy=None, **options).__enter__()

    def say(self, kind, **fields):
        self._connection.send(json.dumps({"type": kind, **fields}))

    def send(self, data):
        self._connection.send(data)

    def next(self):
        return json.loads(self._connection.recv(timeout=WAIT_S))

    def to(self, kind, session=None):
        """The messages up to the next of that type (of that session)."""
        found = []
        while not found or found[-1]["type"] != kind or session not in {None, found[-1].get("session_id")}:
            found.append(self.next())
        return found

    def rest(self):
        """All until it is closed."""
        found = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                found.append(self.next())
        return found

    def ping_through(self):
        """All that was sent before a `ping` had its answer."""
        self.say("ping")
        return self.to("pong")[:-1]

    def session(self, **fields):
        self.say("create_session", **fields)
        return self.to("session_created")[-1]["session_id"]

    def refused(self, code, **fields):
        """The error of the next message, after a look at its envelope."""
        answer = self.next()
        assert answer["type"] == "request_error", answer
        assert answer.keys() == {"type", "error", *fields}, answer
        assert {name: answer[name] for name in fields} == fields
        assert answer["error"]["code"] == code, answer
        assert {"code", "message", "status"} <= answer["error"].keys()
        return answer["error"]

    @property
    def closed(self):
        return self._connection.close_code, self._connection.close_reason

    def ping(self):
        """Whether a ping of the protocol is answered."""
        return self._connection.ping().wait(WAIT_S)

    def close(self):
        self._connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.close()


def check_events(events, *, after):
    """One session's events: numbers without a gap, and nothing but what an event has."""
    for event in events:
        if event.keys() != {"type", "session_id", "seq", "data"}:
            raise Malformed(f"not an event: {event}")
    seqs = [event["seq"] for event in events]
    if seqs != list(range(after + 1, after + 1 + len(events))):
        raise Malformed(f"numbers after {after} are not contiguous: {seqs}")


def request(port, *, headers=(), without=(), version="1.1", method="GET", path="/ws"):
    """The bytes of a request to upgrade."""
    own = {
        "Host": f"127.0.0.1:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    } | dict(headers)
    lines = [f"{name}: {value}" for name, value in own.items() if name not in without]
    return "\r\n".join([f"{method} {path} HTTP/{version}", *lines, "", ""]).encode()


def frame(opcode, payload=b"", *, fin=True, masked=True, bits=0, length=None):
    """A frame, as wrong as is wished."""
    size = len(payload) if length is None else length
    mask = 0x80 if masked else 0
    head = bytes([(0x80 if fin else 0) | bits | opcode])
    if size < 126:
        head += bytes([mask | size])
    elif size < 65_536:
        head += bytes([mask | 126]) + struct.pack("!H", size)
    else:
        head += bytes([mask | 127]) + struct.pack("!Q", size)
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[n % 4] for n, byte in enumerate(payload))


class Raw:
    """A socket after its upgrade. `answer` is the head of the server's answer, with its status."""

    def __init__(self, port, *, receive_buffer=None, timeout=WAIT_S, **options):
        port = getattr(port, "port", port)
        self.socket = socket.socket()
        self._data = b""
        try:
            if receive_buffer:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.socket.settimeout(timeout)
            self.socket.connect(("127.0.0.1", port))
            self.socket.sendall(request(port, **options))
            while b"\r\n\r\n" not in self._data:
                assert self._receive(), f"the connection ended within {self._data!r}"
        except BaseException:
            self.socket.close()
            raise
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def body(self):
        """Of a refusal."""
        while len(self._data) < int(self.headers["content-length"]):
            assert self._receive()
        return json.loads(self._data)

    def _receive(self):
        data = self.socket.recv(65_536)
        self._data += data
        return bool(data)

    def send(self, data):
        self.socket.sendall(data)

    def say(self, kind, **fields):
        self.send(frame(TEXT, json.dumps({"type": kind, **fields}).encode()))

    def frame(self):
        """The next frame: opcode and payload; None at the end of the connection."""
        while True:
            found = self._cut()
            if found is not None:
                return found
            try:
                if not self._receive():
                    assert not self._data, f"the connection ended within a frame: {self._data[:100]!r}"
                    return None
            except ConnectionResetError:
                return None

    def _cut(self):
        data = self._data
        if len(data) < 2:
            return None
        assert data[0] & 0x80, "the server sends whole messages"
        assert not data[0] & 0x70
        assert not data[1] & 0x80, "a server does not mask"
        size, start = data[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(data) < start:
                return None
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            return None
        self._data = data[start + size :]
        return data[0] & 0x0F, data[start : start + size]

    def message(self):
        """The next text message; pings are passed over."""
        while True:
            found = self.frame()
            assert found is not None, "the connection ended"
            if found[0] != PING:
                assert found[0] == TEXT, found
                return json.loads(found[1])

    def close_code(self):
        """The code of the server's Close, which must be the last that it says; None where it left without a word."""
        code = None
        while (found := self.frame()) is not None:
            assert code is None, found
            if found[0] == CLOSE:
                code = int.from_bytes(found[1][:2], "big") if found[1] else 1005
                self.reason = found[1][2:].decode()
        return code

    def close(self):
        self.socket.close()

    def __enter__(self):
        assert self.status == 101, self._data
        return self

    def __exit__(self, *_exc):
        self.close()
