"""A model provider's HTTP server on loopback, replaying a script: the part that Anthropic's and OpenAI's share.

A script is a list of replies, each a list of entries, named as in `opencode.provider.scripted` where they mean the
same, and played one for each request (the last again and again with `loop`; with `per_conversation` the reply is
chosen by the number of assistant messages in the request, so that conversations do not disturb each other):

    {"text": "…", "repeat": 3, "every_s": 0.02}   {"reasoning": "…"}   {"tool": "bash", "params": {…}, "call_id": "…"}
    {"usage": {"input": 10, "output": 5, "cached": 4, "written": 2}}   {"finish": "length"}   (in the provider's words)
    {"refuse": {"status": 429, "type": "…", "code": "…", "message": "…", "headers": {…}, "body": "…"}}  first entry only
    {"fault": {"type": "overloaded_error", "message": "…"}}   an error event in the middle of the stream
    {"cut": true}    the connection breaks        {"end": true}   the body ends cleanly, but before the answer does
    {"hold": true}   first entry only: nothing at all, not even a status
    {"pause_s": 0.1} {"wait_file": "/tmp/go"}     {"wait": threading.Event()}     {"silence": true}  until the end
    {"raw": "data: …\n\n"}                        bytes as they are, for servers with manners of their own
"""

import contextlib
import json
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

POLL_S = 0.01
Entry = dict[str, Any]


class Stopped(Exception):
    """The client has gone, the server stops, or the script says that nothing more is to come."""


class Request:
    """One request as it came."""

    def __init__(self, method, path, headers, body):
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body


class Wire:
    """The server. `requests` are what came so far; `hung_up` is set when a client leaves before the end."""

    def __init__(self, replies, *, loop=False, per_conversation=False, api_key=None, port=0, tls=None):
        self.replies = replies
        self.loop = loop
        self.per_conversation = per_conversation
        self.api_key = api_key
        self.requests: list[Request] = []
        self.hung_up = threading.Event()
        self.arrived = threading.Semaphore(0)
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._played = 0
        wire = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                wire.serve(Connection(wire, self))

            do_GET = do_POST  # noqa: N815 - named by the base class

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = False
            request_queue_size = 512

        self._server = Server(("127.0.0.1", port), Handler)
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": POLL_S})

    @property
    def address(self):
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    @property
    def base_url(self):
        return self.address

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve(self, connection):
        request = connection.read_request()
        connection.close_after()
        self.requests.append(request)
        self.arrived.release()
        try:
            self.answer(connection, request)
        except (Stopped, ConnectionError):
            connection.close()

    def answer(self, connection, request):
        """Check the request as the real one would, then play the reply."""
        raise NotImplementedError

    def next_reply(self, connection, request):
        """Choose the reply; one that holds back its very status is waited out here."""
        reply = self._choose(request)
        if reply and "hold" in reply[0]:
            connection.wait()
        return reply

    def _choose(self, request):
        with self._lock:
            number = self._played
            self._played += 1
        if self.per_conversation:
            number = sum(message["role"] == "assistant" for message in request.body["messages"])
        if self.loop:
            return self.replies[number % len(self.replies)]
        return self.replies[number] if number < len(self.replies) else None


class Connection:
    """One request's connection, seen from the server."""

    def __init__(self, wire, handler):
        self.wire = wire
        self._handler = handler

    def read_request(self):
        handler = self._handler
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length)
        return Request(handler.command, handler.path, dict(handler.headers), json.loads(body) if body else None)

    def send_json(self, status, body, headers=None):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        handler = self._handler
        handler.send_response(status)
        handler.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/json")
        handler.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    def begin_stream(self, headers):
        handler = self._handler
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.send_header("Cache-Control", "no-cache")
        handler.send_header("Transfer-Encoding", "chunked")
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()

    def send(self, data):
        data = data.encode() if isinstance(data, str) else data
        try:
            self._handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        except ConnectionError:
            self.wire.hung_up.set()
            raise

    def end_stream(self):
        self._handler.wfile.write(b"0\r\n\r\n")

    def close_after(self):
        """A connection that a client keeps open would keep the server from stopping."""
        self._handler.close_connection = True

    def close(self):
        with contextlib.suppress(OSError):
            self._handler.connection.shutdown(socket.SHUT_RDWR)

    def wait(self, until=lambda: False, seconds=None):
        """Send nothing until `until()` holds or the time is up; notices a client that goes away."""
        polls = None if seconds is None else round(seconds / POLL_S)
        while not until() and polls != 0:
            polls = None if polls is None else polls - 1
            readable, _, _ = select.select([self._handler.connection], [], [], POLL_S)
            # Whoever has asked says nothing more: what is readable is the end.
            if readable and not self._handler.connection.recv(1):
                self.wire.hung_up.set()
                raise Stopped
            if self.wire.stopping.is_set():
                raise Stopped

    def play_common(self, entry):
        """Play what is the same for every provider; False where it is not."""
        match entry:
            case {"pause_s": seconds}:
                self.wait(seconds=seconds)
            case {"wait": event}:
                self.wait(event.is_set)
            case {"wait_file": path}:
                self.wait(Path(path).exists)
            case {"silence": True} | {"hold": True}:
                self.wait()
            case {"raw": data}:
                self.send(data)
            case {"cut": True}:
                raise Stopped
            case _:
                return False
        return True


def pieces(entry):
    """The texts that an entry of text stands for, each with the pause after it."""
    for number in range(1, entry.get("repeat", 1) + 1):
        yield entry["text"].replace("{n}", str(number)), entry.get("every_s", 0)


def split(text, size=7):
    return [text[at : at + size] for at in range(0, len(text), size)]


def usage_of(reply):
    """What the reply counts: the last `usage` of it, or numbers that look like some."""
    usage = {"input": 25, "output": 15, "cached": 0, "written": 0}
    for entry in reply:
        usage |= entry.get("usage", {})
    return usage
