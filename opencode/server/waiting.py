"""Who waits at the pump, and what they are written: the pump's own data, which knows nothing of its loop."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

from opencode.server.tally import Tally
from opencode.session.tail import Chunk, Place, Tail

#: How long followers are served before other greenlets get their turn.
SLICE_S = 0.005
#: Who is written to in one go: some 3 ms.
_COHORT = 512
_NOTHING = memoryview(b"")


class Follower:
    """One waiting stream: where it stands, and what of a write its socket did not take (`rest`)."""

    __slots__ = (
        "beaten_at",
        "cohort",
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
        "suspicion",
        "tally",
        "turn_id",
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
        #: With whom it is served, while it waits.
        self.cohort: Cohort | None = None
        #: What the pump has written to it, until it leaves.
        self.length = self.events = 0
        self.beaten_at = time.monotonic()
        #: Of the pump's ticks, the one that it will be looked at by.
        self.slot: set[Follower] = set()
        #: Its client has left; or perhaps has, which so many beats are to tell.
        self.gone = False
        self.suspicion = 0
        #: Lets its generator go on, when it waits no longer.
        self.go_on: Callable[[], object] = _nothing


def _nothing() -> None:
    """Nobody has to be told."""


class Cohort:
    """Followers who stand at the same event, and are written the same: what holds for each is noted once for all."""

    __slots__ = ("events", "length", "members", "place", "turn_id", "written_at")

    def __init__(self, seq: int, turn_id: str | None) -> None:
        """`turn_id` is the turn whose end they all wait for, if they do."""
        self.place = Place(seq)
        self.turn_id = turn_id
        #: By their sockets.
        self.members: dict[int, Follower] = {}
        #: What was written to it since it began: a member came in the midst, and takes note of that by its own counts.
        self.length = self.events = 0
        self.written_at = time.monotonic()

    def advance(self, frame: "Frame") -> None:
        """All were written this."""
        self.place.seq += frame.events
        self.length += frame.length
        self.events += frame.events
        self.written_at = time.monotonic()

    def join(self, follower: Follower) -> None:
        self.members[follower.fd] = follower
        follower.cohort = self
        follower.length -= self.length
        follower.events -= self.events

    def leave(self, follower: Follower) -> None:
        del self.members[follower.fd]
        follower.cohort = None
        follower.length += self.length
        follower.events += self.events
        follower.place.seq = self.place.seq


class Group:
    """All who wait at one session's tail."""

    __slots__ = ("again", "cohorts", "look", "passing", "scheduled", "seen", "tail", "unlisten")

    def __init__(self, tail: Tail) -> None:
        self.tail = tail
        self.cohorts: list[Cohort] = []
        self.unlisten: Callable[[], None] = lambda: None
        #: The last event that was rung for: a ring without a new one asks everybody to look for themselves (`look`).
        self.seen = tail.last_seq
        self.look = False
        #: A pass is due or under way, and whether one more must follow it.
        self.scheduled = False
        self.again = False
        self.passing: Iterator[None] | None = None

    def join(self, follower: Follower) -> None:
        """Serve it with those who stand where it does."""
        self._cohort(follower.place.seq, follower.turn_id).join(follower)
        self.tail.places.discard(follower.place)

    def leave(self, follower: Follower) -> None:
        """Serve it no more; its place is up to date again, and its own."""
        cohort = follower.cohort
        if cohort is not None:
            cohort.leave(follower)
            self.tail.places.add(follower.place)
            if not cohort.members:
                self._drop(cohort)

    def _cohort(self, seq: int, turn_id: str | None) -> Cohort:
        for cohort in self.cohorts:
            if cohort.place.seq == seq and cohort.turn_id == turn_id and len(cohort.members) < _COHORT:
                return cohort
        cohort = Cohort(seq, turn_id)
        self.cohorts.append(cohort)
        self.tail.places.add(cohort.place)
        return cohort

    def _drop(self, cohort: Cohort) -> None:
        self.cohorts.remove(cohort)
        self.tail.places.discard(cohort.place)

    def merge(self) -> None:
        """Let those who have come to stand at the same event go on together."""
        first: dict[tuple[int, str | None], Cohort] = {}
        for cohort in list(self.cohorts):
            other = first.setdefault((cohort.place.seq, cohort.turn_id), cohort)
            if other is cohort:
                continue
            if len(other.members) + len(cohort.members) > _COHORT:
                first[cohort.place.seq, cohort.turn_id] = cohort
                continue
            for follower in list(cohort.members.values()):
                cohort.leave(follower)
                other.join(follower)
            self._drop(cohort)


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
        waits = self.follower.cohort is not None
        if waits:
            self.follower.go_on = go_on
        return waits


class Waiting(Chunk):
    """The sign in the place of a chunk: it moves its follower nowhere."""

    def __init__(self, sign: Parked, seq: int) -> None:
        super().__init__(seq + 1, seq, sign)


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
