"""`/ws`: a WebSocket for commands and events (API section 6). The upgrade is a route, so that the guard comes first."""

import base64
import binascii
import errno
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from flask import Blueprint, Response, current_app, g, request
from werkzeug.wsgi import ClosingIterator

from opencode.errors import InternalError, InvalidRequest, Unavailable, UpgradeRequired
from opencode.server.context import limits, owner, services, sessions
from opencode.server.routes import route

if TYPE_CHECKING:
    from opencode.server.ws_commands import Talk

ws = Blueprint("ws", __name__)

_VERSION = "13"
_NONCE_BYTES = 16
#: Where servers put the connection that a request came by.
_SOCKETS = ("gunicorn.socket", "werkzeug.socket")
#: When the server stops: what connections get to send what is stored and to close, and how often that is looked at.
_STOP_S = 3.5
_LOOK_S = 0.05


# Werkzeug's router keeps the two apart: who does not ask for an upgrade is to be told so by us.
@ws.get("/ws", websocket=True)
@ws.get("/ws", endpoint="no_websocket")
@route(summary="Upgrade to a WebSocket, for commands and events both ways", upgrades=True)
def open_websocket() -> Response:
    accept = _accept()
    return _Upgraded(_talk(_connection()), current_app.extensions["opencode-ws"], accept)


def _talk(connected: socket.socket) -> "Talk":
    from opencode.server import ws_commands, ws_connection, ws_following  # noqa: PLC0415 - wsproto, when first wanted

    if services().log.closing.is_set():
        raise Unavailable("The server is stopping; connect again in a moment.", headers={"Retry-After": "2"})
    take, caller = limits().open_stream, owner()
    places = ws_following.Places(lambda: take(caller))
    ended = current_app.extensions["opencode-authenticator"].credentials.ended
    party = ws_commands.Party(g.caller, limits().keys(), g.request_id, ended)
    connection = ws_connection.Connection(connected, max_bytes=services().settings.max_body_bytes)
    return ws_commands.Talk(connection, party, sessions(), limits(), places)


def _accept() -> str:
    """What proves to the client that its request was understood (RFC 6455 section 4.2).

    Raises:
        UpgradeRequired: it is no request for a WebSocket, or for one of another version.
        InvalidRequest: its key is none.
    """
    wanted = {"Upgrade": "websocket", "Connection": "upgrade"}
    missing = [f"{name}: {value}" for name, value in wanted.items() if value not in _listed(request.headers.get(name))]
    if missing or request.method != "GET" or request.environ.get("SERVER_PROTOCOL") != "HTTP/1.1":
        raise UpgradeRequired(
            "This path speaks WebSocket only: connect to it with a WebSocket client (a GET of HTTP/1.1 with 'Upgrade:"
            " websocket' and 'Connection: Upgrade').",
            headers={"Upgrade": "websocket", "Connection": "Upgrade"},
        )
    if request.headers.get("Sec-WebSocket-Version") != _VERSION:
        raise UpgradeRequired(
            f"Sec-WebSocket-Version must be {_VERSION}.",
            headers={"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": _VERSION},
        )
    from wsproto.utilities import generate_accept_token  # noqa: PLC0415 - when first wanted

    key = request.headers.get("Sec-WebSocket-Key", "")
    if not _is_nonce(key):
        message = f"must be {_NONCE_BYTES} bytes in base64"
        raise InvalidRequest(
            f"Sec-WebSocket-Key {message}.", details=[{"field": "Sec-WebSocket-Key", "message": message}]
        )
    return generate_accept_token(key.encode()).decode()


def _listed(header: str | None) -> set[str]:
    return {item.strip().lower() for item in (header or "").split(",")}


def _is_nonce(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == _NONCE_BYTES
    except (binascii.Error, ValueError):
        return False


def _connection() -> socket.socket:
    """The socket that the request came by."""
    found = next((request.environ[name] for name in _SOCKETS if name in request.environ), None)
    if found is None:
        raise InternalError(
            "What serves this app does not lend its sockets: WebSocket needs `opencode serve`, gunicorn with a worker"
            " for many connections, or `flask run`."
        )
    return cast("socket.socket", found)


class _Upgraded(Response):
    """The answer 101. Its "body" is the whole conversation, which it writes to the socket by itself."""

    def __init__(self, talk: "Talk", talks: "OpenTalks", accept: str) -> None:
        super().__init__(status=101)
        del self.headers["Content-Type"]
        self.headers.extend({"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept})
        self._talk = talk
        self._talks = talks

    def get_app_iter(self, environ: dict[str, Any]) -> Iterable[bytes]:
        headers = "".join(f"{name}: {value}\r\n" for name, value in self.get_wsgi_headers(environ))
        head = f"HTTP/1.1 {self.status}\r\n{headers}\r\n".encode("latin-1")
        return ClosingIterator(_Conversation(self._talk, self._talks, head), self.close)


class _Conversation:
    """Runs the conversation where the server asks for the first piece of a body, outside of the request's context."""

    def __init__(self, talk: "Talk", talks: "OpenTalks", head: bytes) -> None:
        self._talk = talk
        self._talks = talks
        self._head = head

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._talks.entered(self._talk):
            self._talk.run(self._head)
        # A server that finds its client gone writes no second answer, reads no further request, and closes: gunicorn,
        # Werkzeug and gevent alike. gunicorn's access log has its line all the same.
        raise ConnectionResetError(errno.ECONNRESET, "The conversation is over.")


class OpenTalks:
    """The conversations of one server. When it stops, each is told so, and ended if it does not end."""

    def __init__(self, closing: threading.Event) -> None:
        self._closing = closing
        self._lock = threading.Lock()
        self._talks: set[Talk] = set()
        self._watch: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._talks)

    @contextmanager
    def entered(self, talk: "Talk") -> Iterator[None]:
        """Hold the conversation among the open ones meanwhile."""
        with self._lock:
            self._talks.add(talk)
            if self._watch is None or not self._watch.is_alive():
                self._watch = threading.Thread(target=self._stop_all, name="ws-stop", daemon=True)
                self._watch.start()
        try:
            yield
        finally:
            with self._lock:
                self._talks.discard(talk)

    def _stop_all(self) -> None:
        self._closing.wait()
        deadline = time.monotonic() + _STOP_S
        told: set[Talk] = set()
        pause = threading.Event()
        # Again and again: one may have been let in while the server began to stop.
        while talks := self._open():
            for talk in talks - told:
                # Threads of their own: one may wait for a reader who has stopped.
                threading.Thread(target=talk.stop, args=(_STOP_S,), name="ws-goodbye", daemon=True).start()
            told |= talks
            if time.monotonic() > deadline:
                for talk in talks:
                    talk.cut()
            pause.wait(_LOOK_S)

    def _open(self) -> "set[Talk]":
        with self._lock:
            return set(self._talks)
