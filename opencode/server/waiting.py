"""Who waits at the pump, and what they are written: the pump's own data, which knows nothing of its loop."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

from opencode.server.tally import Tally
from opencode.session.tail import Chunk, Place, Tail

#: How long followers are served before other greenlets get their turn, and after how many the clock is looked at.
_SLICE_S = 0.005
_SOME = 64
_NOTHING = memoryview(b"")


class Follower:
    """One waiting stream: where it stands, and what of a write its socket did not take (`rest`)."""

    __slots__ = (
        "connection",
        "events",
        "fd",
        "go_on",
        "gone",
        "group",
        "length",
        "place",
        "rest",
        "slot",
        "tally",
        "turn_id",
        "waits",
        "written_at",
    )

    def __init__(self, connection: Any, group: "Group", place: Place, turn_id: str | None, *, tally: Tally) -> None:
        """`tally` counts what is sent."""
        self.connection = connection
        self.fd: int = connection.fileno()
        self.group = group
        self.place = place
        self.turn_id = turn_id
        self.tally = tally
        self.rest = _NOTHING
        #: What the pump has written to it, until it leaves.
        self.length = self.events = 0
        self.written_at = time.monotonic()
        #: Of the pump's ticks, the one that it will be looked at by.
        self.slot: set[Follower] = set()
        self.waits = self.gone = False
        #: Lets its generator go on, when it waits no longer.
        self.go_on: Callable[[], object] = _nothing


def _nothing() -> None:
    """Nobody has to be told."""


class Parked(bytes):
    """No bytes: the sign of a stream that its follower waits at the pump.

    Whoever iterates over the answer may leave it there (`take`). Who does not know the sign sends nothing for it and
    asks for the next bytes, and so waits for them.
    """

    follower: Follower

    def __new__(cls, follower: Follower) -> Self:
        sign = super().__new__(cls)
        sign.follower = follower
        return sign

    def take(self, go_on: Callable[[], object]) -> bool:
        """Have `go_on` called when there is more to do, in the loop; False: that is so already."""
        if self.follower.waits:
            self.follower.go_on = go_on
        return self.follower.waits


class Waiting(Chunk):
    """The sign in the place of a chunk: it moves its follower nowhere."""

    def __init__(self, sign: Parked, seq: int) -> None:
        super().__init__(seq + 1, seq, sign)


class Group:
    """All who wait at one session's tail."""

    __slots__ = ("again", "followers", "look", "passing", "scheduled", "seen", "tail", "unlisten")

    def __init__(self, tail: Tail) -> None:
        self.tail = tail
        self.followers: set[Follower] = set()
        self.unlisten: Callable[[], None] = lambda: None
        #: The last event that was rung for: a ring without a new one asks everybody to look for themselves (`look`).
        self.seen = tail.last_seq
        self.look = False
        #: A pass is due or under way, and whether one more must follow it.
        self.scheduled = False
        self.again = False
        self.passing: Iterator[None] | None = None


class Frame(NamedTuple):
    """What those who stand at one event lack, as a chunk of the wire (RFC 9112, section 7.1)."""

    data: bytes
    length: int
    events: int
    has_done: bool


def framed(data: bytes, *, events: int = 0, has_done: bool = False) -> Frame:
    return Frame(b"%X\r\n%b\r\n" % (len(data), data), len(data), events, has_done)


def lacking(tail: Tail, seq: int) -> Frame | None:
    """What comes after `seq`; None where that is nothing, or has left the tail."""
    chunk = tail.after(seq)
    if chunk is None:
        return None
    return framed(chunk.data, events=chunk.last_seq - seq, has_done=chunk.has_done)


def in_slices(followers: list[Follower]) -> Iterator[Follower | None]:
    """The followers, and None where their time is up for now."""
    began = time.monotonic()
    for start in range(0, len(followers), _SOME):
        yield from followers[start : start + _SOME]
        if time.monotonic() - began > _SLICE_S:
            yield None
            began = time.monotonic()
