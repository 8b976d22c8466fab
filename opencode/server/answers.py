"""Building responses."""

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson
from flask import Flask, Response, g, request

from opencode import frames
from opencode.server.sending import Sending
from opencode.server.tally import Tally
from opencode.session.following import Following
from opencode.wiring import Services

#: A comment line this often keeps a stream open and finds out who has left (API section 3: at least every 15 s).
BEAT_S = 15.0
_BEAT = b": beat\n\n"
_RETRY_MS = 2000
#: A reader that takes not one piece of what is sent in this many seconds is cut.
_STALL_S = 60.0
#: Reconnects after a stop are spread over this time, so that they do not all come at once.
_SPREAD_MS = 3000


def start_pump(app: Flask, services: Services) -> None:
    """Let the pump serve the app's waiting streams. To be called in gunicorn's gevent worker."""
    from opencode.server.pump import Pump  # noqa: PLC0415 - gevent is imported only where it runs the server

    if services.settings.pump:
        app.extensions["opencode-pump"] = Pump(services.log, beat=_BEAT, beat_s=BEAT_S)


def json_response(data: Any, *, status: int = 200) -> Response:
    """JSON in UTF-8."""
    return Response(orjson.dumps(data) + b"\n", status=status, content_type="application/json")


def event_stream(chunks: Iterable[bytes], on_close: Callable[[], None]) -> Response:
    """An event stream; `on_close` runs when it ends or its reader leaves, whether or not a byte was sent."""
    _limit_stalls()
    tally = g.setdefault("tally", Tally())
    response = Response(tally.count(chunks), content_type="text/event-stream; charset=utf-8")
    response.headers["Cache-Control"] = "no-cache, no-transform"
    response.headers["X-Accel-Buffering"] = "no"
    # Nobody may gather the whole of it, as middleware could by asking for the data.
    response.implicit_sequence_conversion = False
    response.call_on_close(on_close)
    return response


def _limit_stalls() -> None:
    """Cut a reader that takes nothing for long; it can come back with its last id."""
    connection = request.environ.get("gunicorn.socket") or request.environ.get("werkzeug.socket")
    # The worker's own connections do so by themselves, and better; a TLS socket and Werkzeug's are as they come.
    if connection is not None and not isinstance(connection, Sending):
        connection.settimeout(_STALL_S)


def session_stream(following: Following, session_id: str) -> Iterator[bytes]:
    """A session's events as they go over the wire, from the head to the closing line."""
    # No event fires by this head, and a client that loses the connection now knows where it was.
    yield b"retry: %d\nid: %d\n\n" % (_RETRY_MS, following.after)
    if following.resync:
        yield b"id: %d\n%b" % (following.after, frames.body("resync", {"seq": following.after}))
    for chunk in following.chunks:
        yield _BEAT if chunk is None else chunk.data
    if following.tail.failed:
        yield following.tail.failed
    elif following.tail.deleted:
        yield frames.body("session_deleted", {"session_id": session_id})
    elif following.stopping():
        yield come_back()


def screen_stream(chunks: Iterable[bytes | None]) -> Iterator[bytes]:
    """A screen's events as they go over the wire."""
    yield b"retry: %d\n" % _RETRY_MS
    for chunk in chunks:
        yield _BEAT if chunk is None else chunk
    yield come_back()


def come_back() -> bytes:
    """The last line of a stream that the server ends: when to come back."""
    return b"retry: %d\n\n" % random.randint(_RETRY_MS, _RETRY_MS + _SPREAD_MS)  # noqa: S311 - jitter, no secret
