"""The connection to a provider: one request, its bytes as they come, and a switch that ends it at any moment.

A blocked read, a wait for the first byte or a connect must all end when the turn is cancelled. Closing a socket does
not wake a thread that reads from it, shutting it down does; so the transport tells of its socket. Before there
is a socket (name lookup, connect) nothing can be woken at all: the request is therefore opened by a thread of its
own, which is left to itself when the switch is turned, and then closes what it gets.
"""

import contextlib
import email.utils
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING

from opencode.cancel import Cancel

if TYPE_CHECKING:
    import httpx2

_CONNECT_TIMEOUT_S = 10.0
#: How exactly a read's time limit is kept.
_WATCH_S = 0.25
_exchange: ContextVar["_Exchange | None"] = ContextVar("exchange", default=None)


def build_client(*, timeout_s: float) -> "httpx2.Client":
    """Make the HTTP client that a provider's SDK sends with, over a transport of our own.

    Redirects are not followed: they would carry prompts to another host.
    """
    import httpx2  # noqa: PLC0415 - half a second with the SDK, paid by who uses it

    from opencode.provider.transport import Transport  # noqa: PLC0415 - as above

    return httpx2.Client(
        timeout=httpx2.Timeout(timeout_s, connect=_CONNECT_TIMEOUT_S),
        follow_redirects=False,
        transport=Transport(httpx2.create_ssl_context(), _learn),
        # Compressed, small pieces would wait in the provider's compressor.
        headers={"Accept-Encoding": "identity"},
    )


def read_bytes(send: Callable[[], "httpx2.Response"], cancel: Cancel) -> Iterator[bytes]:
    """Send a request with `send`, which returns once the headers are there, and give the body as it comes.

    Closes the connection when it ends, is closed or is cancelled.

    Raises:
        Cancelled: at most some milliseconds after `cancel` is turned.
        httpx2.ReadTimeout: nothing came for as long as the client allows.
        Exception: whatever `send` or the reading of the body raises.
    """
    cancel.check()
    exchange = _Exchange()
    forget = cancel.on_cancel(exchange.break_off)
    try:
        response = exchange.open(send)
        cancel.check()
        # httpx's own iteration counts, decodes and cuts anew, for a tenth of what a piece costs in all.
        plain = response.headers.get("content-encoding", "identity") == "identity"
        pieces = iter(response.stream if plain else response.iter_bytes())  # type: ignore[arg-type] # no async client's
        exchange.keep_time(response)
        while piece := exchange.next(pieces):
            yield piece
    except Exception:
        cancel.check()
        exchange.check_time()
        raise
    else:
        # A connection that was shut down may look like one that has ended.
        cancel.check()
        exchange.check_time()
    finally:
        forget()
        exchange.close()


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read how long the provider asks to wait, in any of the three forms that are in use."""
    with contextlib.suppress(KeyError, ValueError):
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    value = headers.get("retry-after", "")
    with contextlib.suppress(ValueError):
        return max(0.0, float(value))
    date = email.utils.parsedate_tz(value)
    return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())


def _learn(made: socket.socket) -> None:
    exchange = _exchange.get()
    if exchange is not None:
        exchange.connected(made)


class _Exchange:
    """One request and its answer, which any thread may break off."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened = threading.Event()
        self._broken = False
        self._socket: socket.socket | None = None
        self._response: httpx2.Response | None = None
        self._error: BaseException | None = None
        self._limit_s = math.inf
        self._asked_at = math.inf
        self._late = False

    def open(self, send: Callable[[], "httpx2.Response"]) -> "httpx2.Response":
        """Send the request; returns when it is answered, raises when that failed or it was broken off."""
        threading.Thread(target=self._send, args=(send,), name="provider-open", daemon=True).start()
        self._opened.wait()
        # Taken out: an exception that is kept here would keep its frames, and they this object.
        error, self._error = self._error, None
        if error is not None:
            raise error
        if self._response is None:
            raise ConnectionAbortedError("broken off")
        return self._response

    def _send(self, send: Callable[[], "httpx2.Response"]) -> None:
        _exchange.set(self)
        try:
            response = send()
        except BaseException as exc:
            self._error = exc
        else:
            with self._lock:
                self._response = response
                unwanted = self._broken
            if unwanted:
                response.close()
        finally:
            self._opened.set()

    def keep_time(self, response: "httpx2.Response") -> None:
        """From here on the time limit of each read is kept by the process' one watch.

        A time limit of the socket's own would make a timer for each piece.
        """
        limit_s = response.request.extensions.get("timeout", {}).get("read")
        if limit_s is not None and self._socket is not None:
            self._limit_s = limit_s
            self._socket.settimeout(None)
            _watch.add(self)

    def next(self, pieces: Iterator[bytes]) -> bytes:
        """The next piece; empty at the end."""
        self._asked_at = time.monotonic()
        piece = next(pieces, b"")
        self._asked_at = math.inf  # what is done with it meanwhile is not the provider's time
        return piece

    def give_up_at(self, now: float) -> None:
        """Break off what has been waited for too long."""
        if now - self._asked_at > self._limit_s:
            self._late = True
            self.break_off()

    def check_time(self) -> None:
        """Raise `httpx2.ReadTimeout` where it was given up."""
        if self._late:
            import httpx2  # noqa: PLC0415 - as above

            raise httpx2.ReadTimeout(f"nothing came for {self._limit_s:g} seconds")

    def connected(self, made: socket.socket) -> None:
        """Learn the socket. Over TLS there are two, and the first is dead once the second stands."""
        with self._lock:
            self._socket = made
            broken = self._broken
        if broken:
            self._shut_down()

    def break_off(self) -> None:
        """Wake whoever connects, waits or reads."""
        with self._lock:
            self._broken = True
        self._shut_down()
        self._opened.set()

    def _shut_down(self) -> None:
        if self._socket is None:
            return
        # Not connected any more, or closed already: it is what was wanted.
        with contextlib.suppress(OSError):
            # The plain socket's: an SSLSocket's own forgets its TLS state under the thread that is reading.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; one that is still being opened is closed by its thread."""
        _watch.discard(self)
        with self._lock:
            self._broken = True
            response = self._response
        if response is None:
            self._shut_down()
        else:
            response.close()


class _Watch:
    """Looks at every read that is under way, in one thread, which ends when there is none."""

    def __init__(self) -> None:
        # Made before gevent patches: whoever holds it must not let another greenlet run.
        self._lock = threading.Lock()
        self._exchanges: set[_Exchange] = set()
        self._runs = False

    def add(self, exchange: _Exchange) -> None:
        with self._lock:
            self._exchanges.add(exchange)
            begins, self._runs = not self._runs, True
        if begins:
            threading.Thread(target=self._run, name="provider-watch", daemon=True).start()

    def discard(self, exchange: _Exchange) -> None:
        with self._lock:
            self._exchanges.discard(exchange)

    def _run(self) -> None:
        while True:
            with self._lock:
                exchanges = list(self._exchanges)
                if not exchanges:
                    self._runs = False
                    return
            now = time.monotonic()
            for exchange in exchanges:
                exchange.give_up_at(now)
            time.sleep(_WATCH_S)


_watch = _Watch()
