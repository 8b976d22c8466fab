"""What may be read of a request: sizes and times, where the server under the app does not bound them itself.

gunicorn bounds lines and headers (`gunicorn_conf`), and its worker the time of bodies (`worker`); the development
server bounds neither.
"""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from werkzeug.exceptions import BadRequest
from werkzeug.serving import WSGIRequestHandler

from opencode.errors import HeadersTooLarge, InvalidRequest, RequestTimeout, UriTooLong

#: As `gunicorn_conf` has them: of the request line, and of one header.
LINE_BYTES = 8190
_QUERY_FIELDS = 50
_UNDER_GUNICORN = "gunicorn.socket"


def check_sizes(environ: Mapping[str, Any]) -> None:
    """Refuse an address or a header that gunicorn would refuse, and too many query fields.

    Raises:
        UriTooLong, HeadersTooLarge, InvalidRequest: what is too large, and how much is taken.
    """
    query = environ.get("QUERY_STRING", "")
    if query.count("&") >= _QUERY_FIELDS:
        raise InvalidRequest(f"The address has more than {_QUERY_FIELDS} query fields.")
    if _UNDER_GUNICORN in environ:
        return
    if len(query) + len(environ.get("PATH_INFO", "")) > LINE_BYTES:
        raise UriTooLong(f"The address is longer than {LINE_BYTES} bytes.")
    for name, value in environ.items():
        if name.startswith("HTTP_") and len(name) + len(value) > LINE_BYTES:
            raise HeadersTooLarge(f"The header {name[5:100].replace('_', '-').title()} is over {LINE_BYTES} bytes.")


@contextmanager
def body_deadline(environ: Mapping[str, Any], seconds: float) -> Iterator[None]:
    """Within it the body is read; under the development server no longer than this.

    Raises:
        RequestTimeout: it did not come in time.
    """
    connection: socket.socket | None = environ.get("werkzeug.socket")
    if connection is None:
        yield
        return
    late = threading.Event()

    def cut() -> None:
        late.set()
        with suppress(OSError):  # the client has left meanwhile
            connection.shutdown(socket.SHUT_RD)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except BadRequest as exc:
        if late.is_set() or isinstance(exc.__context__, TimeoutError):
            raise body_late(seconds) from None
        raise
    finally:
        timer.cancel()


def body_late(seconds: float) -> RequestTimeout:
    """The refusal of a body that stalls or drips."""
    return RequestTimeout(f"The body did not come within {seconds:g} s (OPENCODE_BODY_TIMEOUT_S).")


def cut_silent_connections(seconds: float) -> None:
    """Have the development server close a connection on which nothing comes for so long; by itself it never does."""
    WSGIRequestHandler.timeout = seconds
