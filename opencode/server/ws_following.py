"""The sessions that one WebSocket follows: each a cursor into its log, never a queue."""

import logging
import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, cast

from opencode import frames
from opencode.server import ws_messages
from opencode.server.answers import BEAT_S
from opencode.server.open_streams import OpenStream
from opencode.server.ws_connection import Code, Connection, Gone
from opencode.session.following import Following
from opencode.session.service import SessionService

if TYPE_CHECKING:
    from opencode.session.tail import Chunk

log = logging.getLogger(__name__)

#: What a follower that was told to leave gets to do so; it only has to wake up.
_LEAVE_S = 5.0


class Places:
    """The streams that a connection counts as: one for each session that it follows, and one where it follows none."""

    def __init__(self, take: Callable[[], OpenStream]) -> None:
        """Take the first; raises what `take` does where there is none left."""
        self._take = take
        self._lock = threading.Lock()
        self._spare: OpenStream | None = take()

    def take(self) -> OpenStream:
        """One for a session that is to be followed.

        Raises:
            RateLimitExceeded: the owner has as many open streams as the settings allow.
        """
        with self._lock:
            place, self._spare = self._spare, None
        return place or self._take()

    def give(self, place: OpenStream) -> None:
        with self._lock:
            if self._spare is None:
                self._spare = place
                return
        place.close()

    def close(self) -> None:
        """Give the last one back; those of followed sessions were given back before."""
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is not None:
            spare.close()


class _Follower(threading.Thread):
    """Sends what one session's log holds from a point on, and what comes."""

    def __init__(
        self,
        connection: Connection,
        session_id: str,
        following: Following,
        left: threading.Event,
        on_end: "Callable[[_Follower], None]",
    ) -> None:
        super().__init__(name="ws-follower", daemon=True)
        self.session_id = session_id
        self.left = left
        self._connection = connection
        self._following = following
        self._on_end = on_end

    def run(self) -> None:
        try:
            self._send_all()
        except Gone:
            pass
        except Exception:  # whatever it is, the client must learn that this session goes on without it
            if not self._following.stopping():  # else the store was closed under a slow reader, and it is told so
                log.exception("websocket: following %s failed", self.session_id)
                self._connection.close(Code.FAULT, "The server failed: connect again, and follow from your last seq.")
        finally:
            cast("Generator[Chunk | None]", self._following.chunks).close()
            self._on_end(self)

    def _send_all(self) -> None:
        following = self._following
        if following.resync:
            self._tell(frames.body("resync", {"seq": following.after}))
        for chunk in following.chunks:
            for batch in ws_messages.batches(self.session_id, chunk) if chunk is not None else ():
                self._connection.send(batch, unless=self.left.is_set)
            if self.left.is_set():
                return
        # Let go of before the last word: who hears that may follow anew at once.
        self._on_end(self)
        if following.tail.failed:
            self._tell(following.tail.failed)
        elif following.tail.deleted:
            self._tell(frames.body("session_deleted", {"session_id": self.session_id}))

    def _tell(self, frame: bytes) -> None:
        self._connection.send([ws_messages.event(self.session_id, frame)], unless=self.left.is_set)


class Follows:
    """All of one connection."""

    def __init__(self, connection: Connection, sessions: SessionService, owner: str, places: Places) -> None:
        self._connection = connection
        self._sessions = sessions
        self._owner = owner
        self._places = places
        self._lock = threading.Lock()
        self._all: dict[str, tuple[_Follower, OpenStream]] = {}

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._all

    def begin(self, session_id: str, after: int | None) -> None:
        """Follow a session above `after`, or as `SessionService.follow` says; one that is followed is followed anew.

        Raises:
            SessionNotFound: the owner has no such session.
            RateLimitExceeded: the owner has as many open streams as the settings allow.
        """
        left = threading.Event()
        following = self._sessions.follow(self._owner, session_id, after=after, beat_s=BEAT_S, resync=True, left=left)
        self.end(session_id)
        place = self._places.take()
        follower = _Follower(self._connection, session_id, following, left, self._forget)
        with self._lock:
            self._all[session_id] = follower, place
        follower.start()

    def end(self, session_id: str) -> bool:
        """Send nothing more of a session; False where it is not followed."""
        with self._lock:
            follower, place = self._all.pop(session_id, (None, None))
        if follower is None or place is None:
            return False
        follower.left.set()
        self._sessions.log.wake(session_id)
        self._places.give(place)
        return True

    def _forget(self, follower: _Follower) -> None:
        """It has ended by itself."""
        with self._lock:
            own, place = self._all.get(follower.session_id, (None, None))
            if own is not follower:
                return
            del self._all[follower.session_id]
        if place is not None:
            self._places.give(place)

    def join(self, timeout_s: float) -> None:
        """Wait until those that end by themselves have ended."""
        for follower in self._followers():
            follower.join(timeout_s)

    def end_all(self) -> None:
        """The connection is over: no thread of it is left when this returns."""
        followers = self._followers()
        for follower in followers:
            self.end(follower.session_id)
        for follower in followers:
            follower.join(_LEAVE_S)

    def _followers(self) -> list[_Follower]:
        with self._lock:
            return [follower for follower, _place in self._all.values()]
