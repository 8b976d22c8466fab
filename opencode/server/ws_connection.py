"""One WebSocket over a socket: frames in and out, in time and within bounds (RFC 6455).

wsproto reads and writes the frames; the socket is ours. Every send has a time limit and sends all, so that a slow
reader loses nothing and one that has stopped is cut; what comes in is bounded by message, and pings are counted.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import IntEnum

from wsproto.connection import Connection as Protocol
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

#: Read at most at once, and written at most before the time limit begins anew.
_PIECE = 16 * 1024
#: Pings, pongs and other messages that cost nothing, within one beat.
_FREE = 1000
#: The reader's time limit is at least this part of a beat: it holds for the writer too, who would turn in vain.
_TICKS = 20


class Code(IntEnum):
    """Why a connection is closed (RFC 6455 section 7.4.1, and its registry)."""

    NORMAL = 1000
    UNSUPPORTED = 1003
    POLICY = 1008
    TOO_LARGE = 1009
    FAULT = 1011
    RESTART = 1012


class Gone(Exception):
    """The connection is closed, or its peer has left."""


class Connection:
    """Messages of one connection. Any thread may send and close; one reads.

    `beat_s` is the time between our pings. A peer that neither sends nor takes a byte for `silence_s` is cut. `close_s`
    is what the peer gets to end its side of a closed connection.
    """

    def __init__(
        self,
        connected: socket.socket,
        *,
        max_bytes: int,
        beat_s: float = 15.0,
        silence_s: float = 45.0,
        close_s: float = 2.0,
    ) -> None:
        self._socket = connected
        self._max_bytes = max_bytes
        self._beat_s = beat_s
        self._silence_s = silence_s
        self._close_s = close_s
        self._protocol = Protocol(ConnectionType.SERVER)
        self._sending = threading.Lock()
        self._parts: list[str] = []
        self._size = 0
        self._free = _FREE
        self._beat_at = time.monotonic() + beat_s
        #: When the peer last sent something, or took something of ours.
        self._alive_at = time.monotonic()
        self._closed_at: float | None = None
        self._deaf = False
        connected.settimeout(beat_s)

    def begin(self, head: bytes) -> None:
        """Send the answer that upgrades the connection.

        Raises:
            Gone: the peer has left.
        """
        with self._sending:
            self._write(head)

    def send(self, messages: list[str], *, unless: Callable[[], bool] = lambda: False) -> None:
        """Send each as a text message, at one go; not where `unless()`, asked when it is our turn, says so.

        Raises:
            Gone: the connection is closed, or the peer has left, or takes nothing.
        """
        with self._sending:
            if not unless():
                if self._protocol.state is not ConnectionState.OPEN:
                    raise Gone
                self._write(b"".join(self._protocol.send(TextMessage(data=own)) for own in messages))

    def close(self, code: int, reason: str = "") -> None:
        """Say that it is over, and why. What the peer still sends is read for a while: a reset could overtake this."""
        with self._sending, suppress(Gone):
            if self._protocol.state not in {ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING}:
                return
            self._closed_at = time.monotonic()
            self._write(bytes(self._protocol.send(CloseConnection(code=code, reason=reason or None))))
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """End it at once; whoever reads or writes wakes up. The socket itself is its server's to close."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def messages(self) -> Iterator[str]:
        """The peer's text messages, until the connection ends, for whatever reason."""
        with suppress(Gone):
            while data := self._receive():
                if self._protocol.state is ConnectionState.OPEN:
                    yield from self._read(data)
                elif not self._deaf:
                    self._wait_for_close(data)
                if self._protocol.state is ConnectionState.CLOSED:
                    return
                # A peer that sends without end must not keep the others waiting.
                time.sleep(0)

    def count_free(self) -> None:
        """Count something that costs its sender nothing; too much of it, and the connection is closed."""
        self._free -= 1
        if self._free < 0:
            self.close(Code.POLICY, "Too many pings.")

    def _read(self, data: bytes) -> Iterator[str]:
        self._protocol.receive_data(data)
        for event in self._protocol.events():
            yield from self._take(event)
            if self._protocol.state is not ConnectionState.OPEN:
                return

    def _wait_for_close(self, data: bytes) -> None:
        """We have closed: of all that still comes only the peer's own Close matters."""
        self._protocol.receive_data(data)
        for _event in self._protocol.events():
            pass

    def _receive(self) -> bytes:
        """What comes next; nothing at the end. Meanwhile it pings."""
        while True:
            now = time.monotonic()
            if self._closed_at is not None:
                due = self._closed_at + self._close_s
                if now >= due:
                    return b""
            else:
                if now >= self._beat_at:
                    self._beat(now)
                due = self._beat_at
            try:
                self._socket.settimeout(max(due - now, self._beat_s / _TICKS))
                data = self._socket.recv(_PIECE)
            except TimeoutError:
                continue
            except OSError:
                return b""
            self._alive_at = time.monotonic()
            return data

    def _beat(self, now: float) -> None:
        self._beat_at = now + self._beat_s
        self._free = _FREE
        if now - self._alive_at >= self._silence_s:
            self.close(Code.FAULT, "No answer to pings.")
            return
        with self._sending:
            if self._protocol.state is ConnectionState.OPEN:
                alive_at = self._alive_at
                self._write(bytes(self._protocol.send(Ping())))
                self._alive_at = alive_at  # that the system took our ping says nothing of the peer

    def _take(self, event: Event) -> Iterator[str]:
        match event:
            case TextMessage():
                yield from self._gather(event)
            case BytesMessage():
                self.close(Code.UNSUPPORTED, "Messages are JSON, sent as text.")
            case Ping():
                self.count_free()
                with self._sending:
                    if self._protocol.state is ConnectionState.OPEN:
                        self._write(bytes(self._protocol.send(event.response())))
            case Pong():
                self.count_free()
            case CloseConnection():
                # Either the peer's Close, answered by its own code, or what wsproto finds wrong; then it reads no more.
                self._deaf = self._protocol.state is ConnectionState.OPEN
                self.close(event.code, (event.reason or "") if self._deaf else "")

    def _gather(self, event: TextMessage) -> Iterator[str]:
        self._size += len(event.data.encode())
        if self._size > self._max_bytes:
            self.close(Code.TOO_LARGE, f"A message has at most {self._max_bytes} bytes (OPENCODE_MAX_BODY_BYTES).")
            return
        if event.data:
            self._parts.append(event.data)
        if event.message_finished:
            text = "".join(self._parts)
            self._parts, self._size = [], 0
            yield text

    def _write(self, data: bytes) -> None:
        """Send all of it. The time limit is on each piece, so that a slow reader is told from one that has stopped."""
        left = memoryview(data)
        began = time.monotonic()
        while left:
            try:
                sent = self._socket.send(left[:_PIECE])
            except TimeoutError:
                if time.monotonic() - began < self._silence_s:
                    continue
                self.cut()
                raise Gone from None
            except OSError:
                raise Gone from None
            left = left[sent:]
            began = self._alive_at = time.monotonic()
