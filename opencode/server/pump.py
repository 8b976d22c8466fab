"""The pump: writes what is new in a session to all who wait for it, in one callback of gevent's loop.

A stream is a generator that is right by itself (`answers.session_stream`). Where it has nothing to send, it waits; and
under gunicorn's gevent worker, on plain HTTP/1.1, it waits here. What is stored then goes out without waking it: the
bytes are joined and framed once for all who stand at the same event, and written to each socket as it is. As soon as a
follower needs more than that (its socket is full, its turn ends, it has fallen behind the tail, the session is deleted,
the server stops), it is woken, and its generator goes on from the exact byte.

One ticker beats for all idle followers, and a watch on each socket tells when a client leaves.
"""

import errno
import fcntl
import os
import struct
import termios
import time
from collections.abc import Callable, Mapping
from typing import Any

from gevent import get_hub
from gevent.hub import Waiter

from opencode.server.sending import Sending
from opencode.server.tally import Tally
from opencode.session.log import EventLog
from opencode.session.tail import Park, Place, Tail

#: Followers served in one callback; the rest has to wait for the next, so that other greenlets run in between.
_BATCH = 1000
_TICK_S = 1.0
_READ = 1  # libev's flag for a watch on input


class _Follower:
    """One waiting stream: where it stands, and what of a write its socket did not take."""

    __slots__ = ("connection", "fd", "gone", "place", "rest", "tally", "turn_id", "waiter", "written_at")

    def __init__(self, connection: Any, place: Place, turn_id: str | None, tally: Tally) -> None:
        self.connection = connection
        self.fd: int = connection.fileno()
        self.place = place
        self.turn_id = turn_id
        self.rest = memoryview(b"")
        self.tally = tally
        self.written_at = time.monotonic()
        self.gone = False
        self.waiter: Any = Waiter()


class _Group:
    """All who wait at one session's tail."""

    __slots__ = ("followers", "scheduled", "tail", "unlisten")

    def __init__(self, tail: Tail) -> None:
        self.tail = tail
        self.followers: set[_Follower] = set()
        self.scheduled = False
        self.unlisten: Callable[[], None] | None = None


class Pump:
    """Serves the waiting followers of one worker; everything happens in the thread of its loop.

    Args:
        log: tells when a session has something new, and when the server stops.
        beat: what keeps an idle stream open, and `beat_s` how often.
    """

    def __init__(self, log: EventLog, *, beat: bytes, beat_s: float) -> None:
        self._log = log
        self._beat = _framed(beat)
        self._beat_s = beat_s
        self._hub = get_hub()
        self._groups: dict[Tail, _Group] = {}
        self._ticker: Any = None

    def place(self, environ: Mapping[str, Any], tally: Tally) -> Park | None:
        """A place to wait for the stream that answers this request; None where the generator must serve it alone.

        The pump writes chunks (RFC 9112, section 7.1) past the server: so HTTP/1.1 only, and never under TLS.
        """
        connection = environ.get("gunicorn.socket")
        # What is wrapped to be sent by is a plain socket.
        if (
            not isinstance(connection, Sending)
            or environ.get("SERVER_PROTOCOL") != "HTTP/1.1"
            or environ.get("REQUEST_METHOD") == "HEAD"
        ):
            return None

        def park(session_id: str, tail: Tail, place: Place, turn_id: str | None) -> None:
            follower = _Follower(connection, place, turn_id, tally)
            self._wait(self._join(session_id, tail), follower)

        return park

    def _wait(self, group: _Group, follower: _Follower) -> None:
        group.followers.add(follower)
        tail = group.tail
        watch = self._hub.loop.io(follower.fd, _READ)
        try:
            # Looked at after joining: what comes from here on rings.
            if tail.last_seq > follower.place.seq or tail.deleted or tail.failed or self._log.closing.is_set():
                return
            watch.start(self._readable, group, follower, watch)
            follower.waiter.get()
        finally:
            watch.stop()
            watch.close()
            self._leave(group, follower)
        if follower.gone:
            raise ConnectionResetError(errno.ECONNRESET, "the client has left")
        if follower.rest:
            follower.connection.sendall(follower.rest)

    def _join(self, session_id: str, tail: Tail) -> _Group:
        group = self._groups.get(tail)
        if group is None:
            group = self._groups[tail] = _Group(tail)
            group.unlisten = self._log.listen(session_id, lambda: self._rung(group))
        if self._ticker is None:
            self._ticker = self._hub.loop.timer(_TICK_S, repeat=_TICK_S, ref=False)
            self._ticker.start(self._tick)
        return group

    def _leave(self, group: _Group, follower: _Follower) -> None:
        group.followers.discard(follower)
        if not group.followers and self._groups.get(group.tail) is group:
            del self._groups[group.tail]
            if group.unlisten is not None:
                group.unlisten()

    def _wake(self, group: _Group, follower: _Follower) -> None:
        """Let its own greenlet go on; from here on the pump does not write to it."""
        if follower in group.followers:
            group.followers.discard(follower)
            self._hub.loop.run_callback(follower.waiter.switch, None)

    def _rung(self, group: _Group) -> None:
        """There is something new: deliver it in the next turn of the loop, however often it rings until then."""
        if not group.scheduled:
            group.scheduled = True
            self._hub.loop.run_callback_threadsafe(self._deliver, group, None)

    def _deliver(self, group: _Group, followers: list[_Follower] | None) -> None:
        if followers is None:
            group.scheduled = False
            followers = list(group.followers)
        if len(followers) > _BATCH:
            self._hub.loop.run_callback(self._deliver, group, followers[_BATCH:])
            del followers[_BATCH:]
        tail, now = group.tail, time.monotonic()
        last_seq, at = tail.last_seq, -1
        frame, end, has_done = b"", 0, False
        for follower in followers:
            if follower not in group.followers:
                continue
            if follower.place.seq >= last_seq:  # rung for something else: a deletion, a failed store, a stop
                self._wake(group, follower)
                continue
            if follower.place.seq != at:
                chunk = tail.after(follower.place.seq)
                if chunk is None:  # it has fallen behind the tail
                    self._wake(group, follower)
                    continue
                at, frame, end, has_done = follower.place.seq, _framed(chunk.data), chunk.last_seq, chunk.has_done
            if has_done and follower.turn_id is not None:  # perhaps its turn's: the generator looks closely
                self._wake(group, follower)
            elif self._write(group, follower, frame, now):
                follower.tally.events += end - at
                follower.tally.length += len(frame)
                follower.place.seq = end

    def _write(self, group: _Group, follower: _Follower, frame: bytes, now: float) -> bool:
        """Write without waiting. Whoever does not take it all is woken, with the rest; True where all is on its way."""
        try:
            taken = os.write(follower.fd, frame)
        except BlockingIOError:
            taken = 0
        except OSError:
            follower.gone = True
            self._wake(group, follower)
            return False
        if taken < len(frame):
            follower.rest = memoryview(frame)[taken:]
            self._wake(group, follower)
        follower.written_at = now
        return True

    def _tick(self) -> None:
        """Beat for all who were idle for long."""
        now = time.monotonic()
        due = now - self._beat_s + _TICK_S
        for group in list(self._groups.values()):
            for follower in [own for own in group.followers if own.written_at <= due]:
                self._write(group, follower, self._beat, now)
        if not self._groups:
            self._ticker.close()
            self._ticker = None

    def _readable(self, group: _Group, follower: _Follower, watch: Any) -> None:
        """The client closed its side, or sent something out of turn, which waits for the stream's end."""
        waiting = fcntl.ioctl(follower.fd, termios.FIONREAD, b"\0\0\0\0")
        if struct.unpack("i", waiting)[0]:
            watch.stop()
        else:
            follower.gone = True
            self._wake(group, follower)


def _framed(data: bytes) -> bytes:
    return b"%X\r\n%b\r\n" % (len(data), data)
