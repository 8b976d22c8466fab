"""The newest frames of one live session, shared by all its followers."""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

#: Bytes of frames that a tail keeps; who is further behind reads from the store.
TAIL_BYTES = 512 * 1024
#: Positions whose joined frames are kept; followers stand at a few, but could stand at as many as there are frames.
_JOINED = 16


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive frames, joined: from `first_seq` to `last_seq`, both included."""

    first_seq: int
    last_seq: int
    data: bytes
    has_done: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "has_done", b"\nevent: done\n" in self.data)


@dataclass(eq=False, slots=True)
class Place:
    """Where one follower is: it has been given everything up to `seq`."""

    seq: int


class Tail:
    """Frames up to `last_seq`; a follower is a number held against it, never a queue.

    The joined bytes for one position are made once and shared by all who stand there.
    """

    def __init__(self, last_seq: int, *, limit_bytes: int = TAIL_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._joined: dict[int, Chunk] = {}
        self.last_seq = last_seq
        self.deleted = False
        #: Where its followers are; each moves its own.
        self.places: set[Place] = set()
        #: The frame that tells of a failed store, until something is stored again.
        self.failed = b""

    def start_at(self, last_seq: int) -> None:
        """What the store says that the last event is; what came in meanwhile stands."""
        with self._lock:
            if last_seq > self.last_seq:
                self._frames.clear()
                self._size = 0
                self.last_seq = last_seq

    def extend(self, first_seq: int, frames: list[bytes]) -> None:
        """Add stored frames; where they do not follow on, what was held is dropped for the store to give."""
        with self._lock:
            if first_seq <= self.last_seq:
                return
            if first_seq != self.last_seq + 1:
                self._frames.clear()
                self._size = 0
            self._frames.extend(frames)
            self._size += sum(map(len, frames))
            while self._size > self._limit_bytes and len(self._frames) > 1:
                self._size -= len(self._frames.popleft())
            self.last_seq = first_seq + len(frames) - 1
            self._joined.clear()
            self.failed = b""

    def holds_the_rest(self) -> bool:
        """Whether what its followers still lack is here, so that none of them needs the store for it."""
        with self._lock:
            before = self.last_seq - len(self._frames)
        return all(place.seq >= before for place in list(self.places))

    def after(self, seq: int) -> Chunk | None:
        """Everything above `seq`, None where that is nothing or begins before the tail."""
        with self._lock:
            if seq in self._joined:
                return self._joined[seq]
            start = seq - (self.last_seq - len(self._frames))
            if not 0 <= start < len(self._frames):
                return None
            # From the near end: who keeps up wants the last few of thousands.
            wanted = [self._frames[place] for place in range(-1, start - len(self._frames) - 1, -1)]
            chunk = Chunk(seq + 1, self.last_seq, b"".join(reversed(wanted)))
            if len(self._joined) >= _JOINED:
                self._joined.clear()
            self._joined[seq] = chunk
            return chunk


class Park(Protocol):
    """Waits in a follower's place, and meanwhile sends what comes past it."""

    def __call__(self, session_id: str, tail: Tail, place: Place, turn_id: str | None) -> Iterator[Chunk]:
        """Serve a follower, moving its place, until it has to go on by itself: then the iterator ends.

        What it gives is empty: a sign for who sends the chunks that it may leave this iterator where it is, and go on
        with it later. Never serves the end of the turn `turn_id`, nor what has left the tail.

        Raises:
            OSError: the client has left, or takes nothing any more.
        """
