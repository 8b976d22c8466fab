"""Many turns at once, started and read by one thread; how old each delta is when it comes."""

import json
import re
import selectors
import socket
import time
from dataclasses import dataclass, field

from opencode.provider.chunked import Chunks

#: As a piece of text in either server's events; whole texts hold the same words.
_SENT = re.compile(rb'"(?:content|delta)":"t=(\d+\.\d{6}) "')
#: A delta may lie across two reads; none is longer than this.
_OVERLAP = 48


def request(method, port, path, body=None, *, accept="*/*", headers=()):
    """The bytes of a request whose connection ends with its answer; `headers` are lines that go with it."""
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: {accept}\r\nConnection: close\r\n"
    head += "".join(f"{line}\r\n" for line in headers)
    if data:
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    return head.encode() + b"\r\n" + data


@dataclass
class Stream:
    """One connection that deltas come by."""

    connection: socket.socket
    end: bytes
    #: How many times `end` comes.
    ends: int = 1
    seen: int = 0
    first_at: float = 0.0
    last: bytes = b""
    #: The answer's head as far as it has come, until it is whole.
    head: bytes | None = b""
    chunks: Chunks | None = None
    ages: list[float] = field(default_factory=list)

    def take(self, data, now):
        """Count what came; whether the stream is over."""
        fresh = self.last + self._body(data)
        for found in _SENT.finditer(fresh):
            if found.end() > len(self.last):
                self.ages.append(now - float(found[1]))
        self.first_at = self.first_at or (now if self.ages else 0.0)
        self.seen += sum(found.end() > len(self.last) for found in re.finditer(re.escape(self.end), fresh))
        self.last = fresh[-_OVERLAP:]
        return self.seen >= self.ends

    def _body(self, data):
        """Without what HTTP adds, which may stand in the midst of a delta."""
        if self.head is not None:
            head, blank, rest = (self.head + data).partition(b"\r\n\r\n")
            if not blank:
                self.head = head
                return b""
            self.head, data = None, rest
            self.chunks = Chunks() if b"transfer-encoding: chunked" in head.lower() else None
        return data if self.chunks is None or not data else self.chunks.feed(data)


def connect(port, data):
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(data)
    connection.setblocking(False)
    return connection


class Reading:
    """Reads many streams by one thread."""

    def __init__(self):
        self._selector = selectors.DefaultSelector()
        self._streams = []

    def add(self, stream):
        self._streams.append(stream)
        self._selector.register(stream.connection, selectors.EVENT_READ, stream)

    def run(self, seconds):
        """Read for so long, or until all have ended."""
        end = time.monotonic() + seconds
        while self._selector.get_map() and (left := end - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                data = key.fileobj.recv(262_144)
                if key.data.take(data, time.monotonic()) or not data:
                    self._selector.unregister(key.fileobj)

    def finish(self, seconds):
        """Read to the ends of all."""
        self.run(seconds)
        if self._selector.get_map():
            raise AssertionError(f"{len(self._selector.get_map())} streams had not ended after {seconds:g} s")

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self._selector.close()
        for stream in self._streams:
            stream.connection.close()


def read(stream, seconds):
    """Read one to its end; gives the moment."""
    with Reading() as reading:
        reading.add(stream)
        reading.finish(seconds)
    return time.monotonic()


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
