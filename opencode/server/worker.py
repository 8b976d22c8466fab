"""gunicorn's gevent worker, with our envelope on what it refuses by itself: bad lines, 414, 431, two Hosts."""

import re
import ssl
import threading
import time
from contextlib import suppress
from functools import partial
from importlib import metadata
from typing import Any

import gevent
import orjson
from gevent import Greenlet, GreenletExit
from gevent.pool import Pool, PoolFull
from gunicorn.errors import AppImportError
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser
from gunicorn.workers.ggevent import GeventWorker
from werkzeug.exceptions import BadRequest

from opencode.errors import InvalidRequest, OpenCodeError
from opencode.server.errors import envelope
from opencode.server.exchange import Connection, Exchange
from opencode.server.reading import body_late
from opencode.server.sending import Sending, send_encrypted
from opencode.server.waiting import Parked

#: At the stop, when all else has ended, streams that were put aside are waited for while this sees some of them end.
_CLOSING_S = 3.0
_STATUS = re.compile(rb"HTTP/1\.\d (\d{3}) ")


class _Capture:
    """Stands in for the client's socket while gunicorn writes its answer."""

    def __init__(self) -> None:
        self.data = b""

    def gettimeout(self) -> float:
        return 0.0

    def sendall(self, data: bytes) -> None:
        self.data += data

    send = sendall


class _Deadline:
    """Stands in for a socket that is read until a moment, whether its client sends nothing or a byte now and then."""

    def __init__(self, client: Any, seconds: float) -> None:
        self._client = client
        self._end = time.monotonic() + seconds

    def recv(self, size: int) -> bytes:
        left_s = self._end - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        before = self._client.gettimeout()
        self._client.settimeout(left_s)
        try:
            data: bytes = self._client.recv(size)
        finally:
            self._client.settimeout(before)
        return data


class _Reader:
    """Reads a body; what is wrong with it, or too slow, in the midst of the app is the client's fault, not ours."""

    def __init__(self, reader: Any, unreader: Any, seconds: float) -> None:
        self._reader = reader
        self._unreader = unreader
        self._seconds = seconds
        self._deadline: _Deadline | None = _Deadline(unreader.sock, seconds)

    def read(self, size: int) -> bytes:
        client = self._unreader.sock
        self._unreader.sock = self._deadline or client
        try:
            data: bytes = self._reader.read(size)
        except ParseException as exc:
            raise BadRequest(f"The body could not be read: {str(exc)[:200]}") from None
        except TimeoutError:
            if self._deadline is None:
                raise
            raise body_late(self._seconds) from None
        finally:
            self._unreader.sock = client
        return data

    def answered(self) -> None:
        """What is left of the body is gunicorn's to skip, in the time that it gives a new request."""
        self._deadline = None


class Worker(GeventWorker):  # type: ignore[misc] # gunicorn has no types
    """Runs the app in greenlets."""

    #: A reader that takes nothing for so many seconds is cut, whatever it is sent.
    stall_s = 60.0
    #: Ends when the services have stopped; `gunicorn_conf.post_worker_init` starts it.
    stop_watch: Any = None

    #: Set at SIGTERM.
    stopping: threading.Event
    #: What goes on with the answers that are put aside; it begins when there is more to send.
    _aside: Pool
    #: Where the listeners listen, or listened.
    _addresses: dict[Any, Any]

    def patch(self) -> None:
        """Patch, and look for the plugins of that once: at each of two dozen steps it would go through all packages."""
        # Who started which greenlet: a walk up the stack for each, to be kept as long as it, that nobody asks for here.
        gevent.config.track_greenlet_tree = False
        look, found = metadata.entry_points, metadata.entry_points()
        metadata.entry_points = found.select
        try:
            super().patch()
        finally:
            metadata.entry_points = look
        self.stopping = threading.Event()
        self._aside = Pool(self.worker_connections)
        self._addresses = {own: own.getsockname() for own in self.sockets}

    def run(self) -> None:
        """Serve until the stop, and let the services end: gunicorn itself waits for connections, not for turns."""
        super().run()
        if self.stop_watch is not None:
            self.stop_watch.join()
        left = len(self._aside) + 1
        while 0 < len(self._aside) < left:
            left = len(self._aside)
            self._aside.join(_CLOSING_S)
        # Whose readers have stopped: they are logged, as any other.
        self._aside.kill(timeout=1.0)

    def handle_exit(self, sig: Any, frame: Any) -> None:
        super().handle_exit(sig, frame)
        self.stopping.set()

    def load_wsgi(self) -> None:
        """Load the app. What stops it is said in its own words: a busy data folder is no crash."""
        try:
            super().load_wsgi()
        except OpenCodeError as exc:
            raise AppImportError(f"Error: {exc}") from None

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        if isinstance(client, ssl.SSLSocket):  # gunicorn asks for its type, so that it cannot be wrapped
            client.sendall = partial(send_encrypted, client, self.stall_s)  # type: ignore[method-assign] # as above
        elif not isinstance(client, Sending):
            client = Sending(client, stall_s=self.stall_s)
        if not isinstance(listener, Connection):  # the stop closes it, and then the last clients it let in are served
            listener = Connection(self._addresses[listener], client, addr)
        super().handle(listener, client, addr)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        reader = req.body.reader = _Reader(req.body.reader, req.unreader, self.wsgi.config["BODY_TIMEOUT_S"])
        try:
            self._go_on(Exchange(self, req, Connection(listener_name, sock, addr), self._put_aside))
        finally:
            reader.answered()

    def _go_on(self, exchange: Exchange) -> None:
        """Answer. Ends the connection's loop by `StopIteration`: gunicorn knows that, from the end of its requests."""
        answered = True
        with suppress(GreenletExit, SystemExit):
            answered = exchange.go_on()
        if not answered or not self.alive:
            raise StopIteration

    def _put_aside(self, exchange: Exchange, parked: Parked) -> bool:
        """Let go of the greenlet that answers; another one goes on. Not where there are too many already."""
        if self.cfg.proxy_protocol != "off":  # who the client is, only gunicorn's own loop over its requests knows
            return False
        later = Greenlet(self._come_back, exchange)
        try:
            self._aside.add(later, blocking=False)
        except PoolFull:
            return False
        if not parked.take(later.start):
            self._aside.discard(later)
            return False
        exchange.connection.sock.keep()
        return True

    def _come_back(self, exchange: Exchange) -> None:
        """Go on with an answer that was put aside, then with the connection's next request."""
        sock, is_kept = exchange.connection.sock, False
        try:
            self._go_on(exchange)
            is_kept = self._is_before_next(exchange)
        except StopIteration:
            pass
        except OSError as exc:
            self.log.debug("the client of a stream left: %s", exc)
        finally:
            if not is_kept:
                sock.close()
        if is_kept:
            self.handle(exchange.connection, sock, exchange.connection.address)

    def _is_before_next(self, exchange: Exchange) -> bool:
        """Whether the connection is kept, and its next request may be read."""
        request, sock = exchange.request, exchange.connection.sock
        parser = RequestParser(self.cfg, sock, exchange.connection.address)
        parser.mesg, parser.unreader = request, request.unreader
        try:
            if request.should_close() or not parser.finish_body(time.monotonic() + self.cfg.keepalive):
                return False
        except BadRequest:  # where the next request begins is unknown
            return False
        # What the client sent meanwhile may be in the reader of the request before.
        sock.unread(request.unreader.take_buffered())
        return True

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Let gunicorn find the status and write its log, then say it in our words."""
        capture = _Capture()
        super().handle_error(req, capture, addr, exc)
        found = _STATUS.match(capture.data)
        if found is None:
            return
        status = int(found[1])
        error = InvalidRequest(f"The request could not be read: {str(exc)[:200] or type(exc).__name__}")
        body = envelope(error)
        body["error"]["status"] = status
        if status >= 500:  # noqa: PLR2004 - a fault of ours: no details
            body["error"].update(code="INTERNAL_ERROR", message="The server failed.")
        data = orjson.dumps(body) + b"\n"
        head = (
            f"HTTP/1.1 {status} Refused\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        try:
            client.sendall(head.encode() + data)
        except OSError:
            self.log.debug("the client left before it was refused")
