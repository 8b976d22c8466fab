"""The other side of a client's connections: a peer that plays what a faulty server says, and a proxy that cuts."""

import contextlib
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

_LIMIT_S = 30.0


@dataclass
class Request:
    """What came; `at` is when, by the monotonic clock."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    at: float = field(default_factory=time.monotonic)


class _Listener:
    """Accepts on a free port of loopback, one thread a connection; `close` ends them all."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._open = set()
        self._threads = []
        self._closed = False

    def __enter__(self):
        self._run(self._accept)
        return self

    def __exit__(self, *_exc):
        self._closed = True
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5):
            pass  # wakes `accept`
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_LIMIT_S)
        self._socket.close()

    def _run(self, target, *arguments):
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while not self._closed:
            connection, _ = self._socket.accept()
            self._run(self._hold, connection)

    def _hold(self, connection):
        connection.settimeout(_LIMIT_S)
        self._open.add(connection)
        try:
            with contextlib.suppress(OSError):
                if not self._closed:
                    self.serve(connection)
        finally:
            self._open.discard(connection)
            # To close is not enough: while another thread waits for what comes, the peer would not be told.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


class Peer(_Listener):
    """Answers the n-th request with the n-th of `answers`, bytes of which each is the whole of a connection."""

    def __init__(self, answers):
        super().__init__()
        self.answers = list(answers)
        self.requests = []

    def serve(self, connection):
        with connection.makefile("rb") as reader:
            start = reader.readline().decode()
            if not start:
                return
            method, path, _ = start.split()
            lines = iter(lambda: reader.readline().decode("latin-1").strip(), "")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            data = reader.read(int(headers.get("content-length", 0)))
        number = len(self.requests)
        self.requests.append(Request(method, path, headers, json.loads(data) if data else None))
        connection.sendall(
            self.answers[number] if number < len(self.answers) else refusal(500, "END", "no more answers")
        )


def answer(status, data, content_type="application/json", **headers):
    """A whole response."""
    lines = [f"HTTP/1.1 {status} x", f"Content-Type: {content_type}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data


def refusal(status, code, message, **headers):
    """An error in the API's envelope."""
    error = {"error": {"code": code, "message": message, "status": status}}
    return answer(status, json.dumps(error).encode(), **headers)


def stream(*frames, cut=False):
    """A streamed response; `cut`: the connection ends before the body does."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(frames)
    return head + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if cut else b"0\r\n\r\n")


def frame(seq, name, **data):
    """An event's frame; without a `seq` it is not of the log."""
    number = b"" if seq is None else b"id: %d\n" % seq
    return number + b"event: %b\ndata: %b\n\n" % (name.encode(), json.dumps(data).encode())


class CuttingProxy(_Listener):
    """Passes bytes on to `port`, and cuts the n-th connection after the n-th number of bytes from there; None: never."""

    def __init__(self, port, cuts):
        super().__init__()
        self._target = port
        self._cuts = list(cuts)
        self.count = 0

    def serve(self, connection):
        number, self.count = self.count, self.count + 1
        left = self._cuts[number] if number < len(self._cuts) else None
        with socket.create_connection(("127.0.0.1", self._target), _LIMIT_S) as server:
            self._open.add(server)
            self._run(self._pass_on, connection, server)
            try:
                while left is None or left > 0:
                    data = server.recv(4096 if left is None else min(left, 4096))
                    if not data:
                        return
                    connection.sendall(data)
                    left = None if left is None else left - len(data)
                connection.shutdown(socket.SHUT_RDWR)
            finally:
                self._open.discard(server)

    @staticmethod
    def _pass_on(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                target.sendall(data)
