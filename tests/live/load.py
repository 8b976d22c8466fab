"""Many streams at once by one thread, at next to no cost: bytes are collected now and read later."""

import json
import selectors
import socket
import time

from tests import sse


class Load:
    """One POST for each session, all sent before the first answer is read. `open_at` is how many ran at the same time."""

    def __init__(self, client, sessions, prompt):
        self._received = {}
        self._marks = {}
        self._selector = selectors.DefaultSelector()
        for session in sessions:
            body = json.dumps({"content": prompt}).encode()
            head = f"POST /api/session/{session}/message HTTP/1.1\r\nHost: {client.host}:{client.port}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            connection = socket.create_connection((client.host, client.port), timeout=30)
            connection.sendall(head.encode() + body)
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ, session)
            self._received[session] = bytearray()

    def run(self, seconds):
        """Collect until all have ended."""
        deadline = time.monotonic() + seconds
        while self._selector.get_map():
            left = deadline - time.monotonic()
            assert left > 0, f"{len(self._selector.get_map())} streams had not ended after {seconds:g} s"
            for key, _ in self._selector.select(min(left, 1)):
                data = key.fileobj.recv(65_536)
                now = time.monotonic()
                if data:
                    self._received[key.data] += data
                    if b"event: text" in data:
                        self._marks.setdefault(key.data, [now, now])[1] = now
                else:
                    self._selector.unregister(key.fileobj)
                    key.fileobj.close()

    def close(self):
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    @property
    def at_once(self):
        """How many streams were between their first and their last text at the same moment, at the most."""
        steps = sorted(
            [(first, 1) for first, _ in self._marks.values()] + [(last, -1) for _, last in self._marks.values()]
        )
        most = now = 0
        for _, step in steps:
            now += step
            most = max(most, now)
        return most

    def events(self, session):
        head, _, data = bytes(self._received[session]).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        return sse.parse(unchunk(data))


def unchunk(data):
    """The body of a chunked answer, which must be whole."""
    body = []
    while True:
        size, _, data = data.partition(b"\r\n")
        size = int(size, 16)
        body.append(data[:size])
        assert data[size : size + 2] == b"\r\n"
        data = data[size + 2 :]
        if not size:
            assert not data
            return b"".join(body)
