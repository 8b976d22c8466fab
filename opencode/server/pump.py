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
import math
import os
import socket
import struct
import termios
import time
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from gevent import get_hub
from gevent.hub import Waiter

from opencode.server.sending import Sending
from opencode.server.tally import Tally
from opencode.server.waiting import SLICE_S, Cohort, Follower, Frame, Group, Parked, Waiting, framed, lacking
from opencode.session.log import EventLog
from opencode.session.tail import Chunk, Park, Place, Tail

_TICK_S = 1.0
#: In so many ticks a client that has perhaps left is sent a beat: on a busy machine its refusal may be late.
_SUSPICION = 3
_READ = 1  # libev's flag for a watch on input


class Pump:
    """Serves the waiting followers of one worker; everything happens in the thread of its loop.

    Args:
        log: tells when a session has something new, and when the server stops.
        beat: what keeps an idle stream open, and `beat_s` how often, in seconds.
    """

    def __init__(self, log: EventLog, *, beat: bytes, beat_s: float) -> None:
        self._log = log
        self._beat = framed(beat)
        self._hub = get_hub()
        self._groups: dict[Tail, Group] = {}
        #: Who is to be looked at by the next tick, by the one after it, and so on: all of them fit into `beat_s`.
        self._slots: deque[set[Follower]] = deque(set() for _ in range(max(1, int(beat_s / _TICK_S) - 1)))
        self._ticker: Any = None

    def place(self, environ: Mapping[str, Any], tally: Tally) -> Park | None:
        """A place to wait for the stream that answers this request; None where the generator must serve it alone.

        The pump writes chunks past the server: so HTTP/1.1 only, and never under TLS.
        """
        connection = environ.get("gunicorn.socket")
        # What is wrapped to be sent by is a plain socket.
        if (
            not isinstance(connection, Sending)
            or environ.get("SERVER_PROTOCOL") != "HTTP/1.1"
            or environ.get("REQUEST_METHOD") == "HEAD"
        ):
            return None

        return partial(self._wait, (connection, tally))

    def _wait(
        self, client: tuple[Sending, Tally], session_id: str, tail: Tail, place: Place, turn_id: str | None
    ) -> Iterator[Chunk]:
        follower = Follower(client[0], self._group(session_id, tail), place, turn_id, tally=client[1])
        watch = self._hub.loop.io(follower.fd, _READ)
        try:
            self._join(follower)
            watch.start(self._readable, follower, watch)
            yield Waiting(Parked(follower), follower.place.seq)
            if follower.cohort is not None:  # nobody took it, so its greenlet waits
                waiter = Waiter()
                follower.go_on = partial(self._hub.loop.run_callback, waiter.switch, None)
                waiter.get()
        finally:
            watch.stop()
            watch.close()
            self._leave(follower)
        if follower.gone:
            raise ConnectionResetError(errno.ECONNRESET, "the client has left")
        if follower.rest:
            follower.connection.sendall(follower.rest)

    def _join(self, follower: Follower) -> None:
        group, tail = follower.group, follower.group.tail
        group.join(follower)
        self._put_off(follower, len(self._slots) - 1)
        # Looked at after joining: what comes from here on rings.
        if self._has_ended(tail) or tail.last_seq > follower.place.seq:
            self._look_again(group)

    def _group(self, session_id: str, tail: Tail) -> Group:
        group = self._groups.get(tail)
        if group is None:
            group = self._groups[tail] = Group(tail)
            group.unlisten = self._log.listen(session_id, lambda: self._rung(group))
        if self._ticker is None:
            self._ticker = self._hub.loop.timer(_TICK_S, repeat=_TICK_S, ref=False)
            self._ticker.start(self._tick)
        return group

    def _leave(self, follower: Follower) -> None:
        group = follower.group
        self._remove(follower)
        follower.tally.length += follower.length
        follower.tally.events += follower.events
        if not group.cohorts and self._groups.get(group.tail) is group:
            del self._groups[group.tail]
            group.unlisten()

    def _wake(self, follower: Follower) -> None:
        """Let its generator go on; from here on the pump does not write to it."""
        if follower.cohort is not None:
            self._remove(follower)
            follower.go_on()

    @staticmethod
    def _remove(follower: Follower) -> None:
        follower.group.leave(follower)
        follower.slot.discard(follower)

    # What is new

    def _has_ended(self, tail: Tail) -> bool:
        return bool(tail.deleted or tail.failed or self._log.closing.is_set())

    def _rung(self, group: Group) -> None:
        if group.tail.last_seq == group.seen:  # a deletion, a failed store, a stop
            group.look = True
        group.seen = group.tail.last_seq
        self._schedule(group)

    def _look_again(self, group: Group) -> None:
        """As a ring does, for what no ring may have told."""
        group.look = group.look or self._has_ended(group.tail)
        self._schedule(group)

    def _schedule(self, group: Group) -> None:
        """Deliver in the next turn of the loop, however often this is called until then."""
        if group.scheduled:
            group.again = True
        else:
            group.scheduled = True
            self._hub.loop.run_callback_threadsafe(self._deliver, group)

    def _deliver(self, group: Group) -> None:
        """One slice of a pass over the group. There is one pass at a time: what comes meanwhile goes with the next."""
        passing, group.passing = group.passing or self._pass(group), None
        group.scheduled = False
        if next(passing, True) is None:
            group.passing = passing
        if group.passing is not None or group.again:
            self._schedule(group)

    def _pass(self, group: Group) -> Iterator[None]:
        """Write to everybody what they lack."""
        tail, frames = group.tail, dict[int, Frame | None]()
        group.again = False
        look, group.look = group.look, False
        began = time.monotonic()
        for cohort in list(group.cohorts):
            seq = cohort.place.seq
            if seq not in frames:
                frames[seq] = lacking(tail, seq)
            frame = frames[seq]
            if look:
                self._wake_all(cohort)
            elif frame is None:
                if seq < tail.last_seq:  # they have fallen behind the tail
                    self._wake_all(cohort)
            elif frame.has_done and cohort.turn_id is not None:  # perhaps their turn's: each generator looks closely
                self._wake_all(cohort)
            else:
                self._write_all(cohort, frame)
            if time.monotonic() - began > SLICE_S:
                yield
                began = time.monotonic()
        group.merge()

    def _wake_all(self, cohort: Cohort) -> None:
        for follower in list(cohort.members.values()):
            self._wake(follower)

    def _write_all(self, cohort: Cohort, frame: Frame) -> None:
        """Write without waiting. Whoever does not take it all is woken, with the rest."""
        data, write = frame.data, os.write
        size, short = len(data), list[tuple[int, int]]()
        for fd in cohort.members:
            try:
                taken = write(fd, data)
            except BlockingIOError:
                taken = 0
            except OSError:
                taken = -1
            if taken != size:
                short.append((fd, taken))
        late = [(cohort.members[fd], taken) for fd, taken in short]
        for follower, taken in late:
            if taken < 0:
                follower.gone = True
                self._wake(follower)
        cohort.advance(frame)
        for follower, taken in late:
            if taken >= 0:
                follower.rest = memoryview(data)[taken:]
                self._wake(follower)

    # Beats, and clients that leave

    def _tick(self) -> None:
        due = self._slots.popleft()
        self._slots.append(set())
        self._look_at(iter(list(due)))
        if not self._groups:
            self._ticker.close()
            self._ticker = None

    def _look_at(self, followers: Iterator[Follower]) -> None:
        """Beat for those who were idle for long, and put off the others."""
        now, whole = time.monotonic(), len(self._slots)
        for follower in followers:
            cohort = follower.cohort
            if cohort is None:  # it has left meanwhile
                continue
            idle_s = now - max(follower.beaten_at, cohort.written_at)
            left = whole - math.ceil(idle_s / _TICK_S)
            if self._has_ended(follower.group.tail) or follower.group.tail.last_seq > cohort.place.seq:
                self._look_again(follower.group)
            elif left < 1 or follower.suspicion:
                self._beat_for(follower)
                follower.suspicion = max(0, follower.suspicion - 1)
                left = 1 if follower.suspicion else whole
            self._put_off(follower, max(0, left - 1))
            if time.monotonic() - now > SLICE_S:
                self._hub.loop.run_callback(self._look_at, followers)
                return

    def _beat_for(self, follower: Follower) -> None:
        """Write a beat without waiting."""
        data = self._beat.data
        try:
            taken = os.write(follower.fd, data)
        except BlockingIOError:
            taken = 0
        except OSError:
            follower.gone = True
            self._wake(follower)
            return
        follower.beaten_at = time.monotonic()
        follower.length += self._beat.length
        if taken < len(data):
            follower.rest = memoryview(data)[taken:]
            self._wake(follower)

    def _put_off(self, follower: Follower, ticks: int) -> None:
        if follower.cohort is not None:
            follower.slot.discard(follower)
            follower.slot = self._slots[ticks]
            follower.slot.add(follower)

    def _readable(self, follower: Follower, watch: Any) -> None:
        """The client closed its side, or sent something out of turn, which waits for the stream's end."""
        watch.stop()
        if follower.cohort is None:  # woken in this turn of the loop: its generator writes now
            return
        if struct.unpack("i", fcntl.ioctl(follower.fd, termios.FIONREAD, b"\0\0\0\0"))[0]:
            return
        # It may have closed the one direction only. A beat tells: who has closed both refuses it, at the latest by the
        # next one.
        self._beat_for(follower)
        if follower.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            follower.gone = True
            self._wake(follower)
        follower.suspicion = _SUSPICION
        self._put_off(follower, 0)
