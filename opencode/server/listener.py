"""Sockets and the loops behind them, for a server inside another program: threads, or greenlets where it is patched."""

import logging
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

import orjson
from flask import Flask
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from opencode.errors import InvalidRequest, SettingsError
from opencode.server.errors import envelope
from opencode.server.gunicorn_conf import cannot_listen, has_ipv6_loopback

log = logging.getLogger(__name__)

#: Connections at a time on one socket. Each is a thread, or a greenlet.
CONNECTIONS = 1000
_BACKLOG = 1024
#: A client that sends nothing, or takes nothing, for this long is cut.
_SILENCE_S = 60.0
_POLL_S = 0.1
#: Free ports to try until one is free on both loopback addresses.
_TRIES = 20


class Listener(Protocol):
    """Serves an app on sockets that listen."""

    def close(self) -> None:
        """Take no new connections; open ones go on."""

    def end(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` seconds for open connections to end, then cut them."""


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen at `host`; `localhost` is 127.0.0.1, and ::1 where there is one. Port 0 takes a free one.

    Raises:
        SettingsError: the port is busy, or the address is not this machine's; the message says what to do.
    """
    hosts = [host]
    if host == "localhost":
        hosts = ["127.0.0.1", "::1"] if has_ipv6_loopback() else ["127.0.0.1"]
    for attempt in range(_TRIES):
        opened: list[socket.socket] = []
        try:
            for own in hosts:
                opened.append(_listen(own, opened[0].getsockname()[1] if opened else port))
        except OSError as exc:
            for sock in opened:
                sock.close()
            if port == 0 and opened and attempt + 1 < _TRIES:
                continue  # free on the first address, taken on the second
            raise SettingsError(cannot_listen(f"{host}:{port}", port, exc, "Server({}={!r})".format)) from None
        return opened
    raise AssertionError("the last attempt returns or raises")


def _listen(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, place = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def listen(app: Flask, sockets: Sequence[socket.socket], *, connections: int = CONNECTIONS) -> Listener:
    """Serve `app` on these sockets from now on, in greenlets where the process is patched for them, else in threads.

    Of more than `connections` at a time, threads close what is too many; greenlets let it wait.
    """
    if "gevent" in sys.modules:
        from gevent.monkey import is_module_patched  # noqa: PLC0415 - only where the host uses gevent

        if is_module_patched("socket"):
            return _Greenlets(app, sockets, connections)
    return _Threads(app, sockets, connections)


class _Handler(WSGIRequestHandler):
    """One connection, which is one request: Werkzeug closes it after the answer."""

    protocol_version = "HTTP/1.1"
    timeout = _SILENCE_S

    def version_string(self) -> str:
        return "opencode"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """The app has a log of its own."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - Werkzeug's name
        log.debug("%s: %r", type, message % args if args else message)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is refused before the app sees it wears the same envelope."""
        self.wfile.write(_refusal(code, message or explain or "malformed"))


def _refusal(status: int, reason: str) -> bytes:
    body = envelope(InvalidRequest(f"The request could not be read: {reason[:200]}"))
    body["error"]["status"] = status
    data = orjson.dumps(body) + b"\n"
    head = f"HTTP/1.1 {status} Refused\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


class _Server(ThreadedWSGIServer):
    """A listening socket with a thread for each connection; unlike Werkzeug's own it knows them, and can end them."""

    daemon_threads = True

    def __init__(self, app: Flask, sock: socket.socket, most: int) -> None:
        host, port = sock.getsockname()[:2]
        super().__init__(host, port, app, _Handler, fd=sock.fileno())
        sock.close()  # Werkzeug took a duplicate
        self._most = most
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), name="http-connection", daemon=True
        )
        with self._lock:
            full = len(self._connections) >= self._most
            if not full:
                self._connections[thread] = request
        if full:
            log.warning("%d connections are open; one more was closed", self._most)
            self.shutdown_request(request)
        else:
            thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._connections.pop(threading.current_thread(), None)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's signature
        log.exception("a connection failed")  # noqa: LOG004 - socketserver calls this where it handles one

    def end(self, deadline: float) -> None:
        """Let the open connections end until `deadline` (of `time.monotonic`), then cut them."""
        for how, until in ((socket.SHUT_RD, deadline), (socket.SHUT_RDWR, time.monotonic() + _SILENCE_S)):
            with self._lock:
                left = dict(self._connections)
            for sock in left.values():
                with suppress(OSError):  # it has ended meanwhile
                    sock.shutdown(how)
            for thread in left:
                thread.join(max(0.0, until - time.monotonic()))


class _Threads:
    def __init__(self, app: Flask, sockets: Sequence[socket.socket], connections: int) -> None:
        self._servers = [_Server(app, sock, connections) for sock in sockets]
        self._loops = [
            threading.Thread(target=server.serve_forever, args=(_POLL_S,), name="http-listener", daemon=True)
            for server in self._servers
        ]
        for loop in self._loops:
            loop.start()

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()  # its loop closes the socket as it ends
        for loop in self._loops:
            loop.join()

    def end(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        for server in self._servers:
            server.end(deadline)


class _Greenlets:
    def __init__(self, app: Flask, sockets: Sequence[socket.socket], connections: int) -> None:
        from gevent.pool import Pool  # noqa: PLC0415 - only where the host uses gevent
        from gevent.pywsgi import WSGIHandler, WSGIServer  # noqa: PLC0415 - as above

        self._open = reading = set[socket.socket]()

        class Handler(WSGIHandler):  # type: ignore[misc] # gevent has no types
            def handle(self) -> None:
                sock = self.socket  # pywsgi forgets it
                reading.add(sock)
                try:
                    super().handle()
                finally:
                    reading.discard(sock)

            def get_environ(self) -> dict[str, Any]:
                # Where the stall limit of streams finds the connection.
                return {**super().get_environ(), "werkzeug.socket": self.socket}

            def handle_one_request(self) -> Any:
                found = super().handle_one_request()
                if isinstance(found, tuple):  # refused; pywsgi's own words are plain text
                    return found[0], _refusal(int(found[0]), "malformed")
                return found

            def finalize_headers(self) -> None:
                """One request a connection, as with threads: an idle one would hold up the stop."""
                super().finalize_headers()
                self.response_headers.append((b"Connection", b"close"))
                self.close_connection = True

        self._pool = Pool(connections)
        self._servers = [
            WSGIServer(sock, app, log=None, error_log=log, spawn=self._pool, handler_class=Handler) for sock in sockets
        ]
        for server in self._servers:
            server.start()

    def close(self) -> None:
        for server in self._servers:
            server.close()

    def end(self, timeout_s: float) -> None:
        for sock in list(self._open):
            with suppress(OSError):  # it has ended meanwhile
                sock.shutdown(socket.SHUT_RD)
        self._pool.join(timeout=timeout_s)
        self._pool.kill()
        for server in self._servers:
            server.stop(timeout=0)
