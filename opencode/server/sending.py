"""Sending to readers of any pace: a slow one gets everything, one that has stopped is cut."""

import errno
import fcntl
import logging
import os
import select
import socket
import struct
import termios
from typing import Any

log = logging.getLogger(__name__)

#: Handed to the kernel at once.
_PIECE = 64 * 1024
#: Of what is encrypted, so much has to be taken in the time limit: what the kernel holds tells nothing of the reader.
_RECORD = 16 * 1024
#: Closing throws away what the kernel still holds for this reader, instead of keeping it for minutes.
_NO_LINGER = struct.pack("ii", 1, 0)


class Sending:
    """A client's connection: as the socket that it is given, except that `sendall` does not wait for ever.

    The time limit is on standing still, not on the whole: a large answer may take as long as its reader makes progress.
    """

    def __init__(self, connection: Any, *, stall_s: float) -> None:
        """A reader that takes nothing for `stall_s` seconds, while there is something to take, is cut."""
        self._connection = connection
        self._stall_s = stall_s
        #: So many of the calls of `close` that are to come close nothing.
        self._kept = 0
        self._unread = b""

    def keep(self) -> None:
        """Outlast who handles the connection now: the one `close` of theirs that is to come closes nothing.

        It may be kept anew before that one has come: what still waits for its bytes must never lose the descriptor,
        which the next client would be given.
        """
        old = self._connection
        self._connection = type(old)(old.family, old.type, old.proto, fileno=old.detach())
        self._kept += 1

    def close(self) -> None:
        """Close it, unless it is kept."""
        if self._kept:
            self._kept -= 1
        else:
            self._connection.close()

    def unread(self, data: bytes) -> None:
        """Have the next `recv` give this, which came with what was read before, and what is left of earlier calls."""
        self._unread = data + self._unread

    def recv(self, size: int) -> bytes:
        """As the socket's."""
        if self._unread:
            data, self._unread = self._unread[:size], self._unread[size:]
            return data
        received: bytes = self._connection.recv(size)
        return received

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def sendall(self, data: bytes) -> None:
        """Send all of it.

        Raises:
            OSError: the reader has left, or has stopped and is cut (`EPIPE`).
        """
        # Not by the socket's own time limit: that would hold for who reads from it meanwhile, too.
        descriptor, left, held = self._connection.fileno(), memoryview(data), None
        while left:
            try:
                left, held = left[os.write(descriptor, left[:_PIECE]) :], None
            except BlockingIOError:
                if not self._writable(descriptor):
                    held = self._still_held(held)

    def _writable(self, descriptor: int) -> bool:
        """Wait for half of the time: the first half notes what the kernel holds, the second compares."""
        waiter = select.poll()
        waiter.register(descriptor, select.POLLOUT)
        return bool(waiter.poll(self._stall_s / 2 * 1000))

    def _still_held(self, before: int | None) -> int:
        """The bytes that the reader's side has not taken; where they are as many as `before`, it is cut."""
        held = self._unacknowledged()
        if before is not None and held >= before:
            raise _cut(self._connection, self._stall_s)
        return held

    def _unacknowledged(self) -> int:
        # A full buffer is writable again only when a third of it is free, which a slow reader needs minutes for: that
        # some of it has been taken shows here long before.
        try:
            answer = fcntl.ioctl(self._connection.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
        except OSError:
            return 0  # not told on this system
        found: int = struct.unpack("i", answer)[0]
        return found


def send_encrypted(connection: Any, stall_s: float, data: bytes) -> None:
    """As `Sending.sendall`, through TLS, whose socket cannot be wrapped once more; `connection` sends by its class.

    Raises:
        OSError: the reader has left, or has stopped and is cut (`EPIPE`).
    """
    before, left = connection.gettimeout(), memoryview(data)
    connection.settimeout(stall_s)
    try:
        for start in range(0, len(left), _RECORD):
            type(connection).sendall(connection, left[start : start + _RECORD])
    except TimeoutError:
        raise _cut(connection, stall_s) from None
    finally:
        connection.settimeout(before)


def _cut(connection: Any, stall_s: float) -> BrokenPipeError:
    log.info("a reader took nothing for %g s and is cut", stall_s)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    return BrokenPipeError(errno.EPIPE, "the reader has stopped")
