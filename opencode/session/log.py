"""The event log: store first, then ring.

All appends of the process pass through one writer. While one commit runs, what arrives waits, and goes with the next.
No event is shown to anyone before it is stored.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from weakref import WeakValueDictionary

from opencode.bus.port import Bus, SharedBus
from opencode.errors import OpenCodeError, StoreBusy
from opencode.frames import Body
from opencode.session.afar import Afar
from opencode.session.backlog import Backlog
from opencode.session.events import Error
from opencode.session.notable import Stored
from opencode.session.pending import Pending, failure
from opencode.session.tail import TAIL_BYTES, Chunk, Park, Place, Tail
from opencode.session.turn_chunks import until_done
from opencode.storage.port import Append, Committed, EventStore

log = logging.getLogger(__name__)

#: How long a deletion waits for followers that are far behind; one that has stopped reading loses the rest.
_CATCH_UP_S = 5.0
_CATCH_UP_POLL_S = 0.02


class EventLog:
    """Appends to and follows the logs of all sessions."""

    def __init__(
        self, store: EventStore, bus: Bus, *, shared: SharedBus | None = None, tail_bytes: int = TAIL_BYTES
    ) -> None:
        """`bus` wakes the followers of this process; `shared` is between those that write to the same store."""
        self._store = store
        self._bus = bus
        self._tail_bytes = tail_bytes
        self._tails: WeakValueDictionary[str, Tail] = WeakValueDictionary()
        self._tails_lock = threading.Lock()
        self._backlog = Backlog()
        #: Set while the server stops: every follower ends after what is stored.
        self.closing = threading.Event()
        #: Called with what one commit stored, by the writer: they must be quick, and must not append.
        self.watchers: list[Callable[[Sequence[Stored]], None]] = []
        #: May add changes to an append that has some.
        self.announce: Callable[[Append], None] = lambda _append: None
        self._afar = None if shared is None else Afar(store, shared, self._tails, bus.ring)
        self._writer = threading.Thread(target=self._write, name="log-writer", daemon=True)
        self._writer.start()

    def append(self, append: Append) -> Committed:
        """Store events and their changes.

        Raises:
            StaleAttempt, SessionBusy, SessionNotFound: the store refused this append.
            StoreError: the store failed; nothing of it is stored.
        """
        return self.submit(append).result()

    def submit(self, append: Append, *, after: Pending | None = None) -> Pending:
        """Hand an append to the writer without waiting; `result()` of what comes back waits.

        With `after` it is refused where that one failed: nothing may be stored behind a gap.
        """
        if append.changes:
            self.announce(append)
        return self._backlog.put(append, after=after)

    def extend(self, pending: Pending | None, session_id: str, turn: tuple[str, int], body: Body) -> Pending:
        """Hand in a piece of a turn's text, behind `pending`, its last append; see `Backlog.extend`."""
        return self._backlog.extend(pending, session_id, turn, body)

    def _write(self) -> None:
        more = True
        while more:
            more = self._backlog.wait()
            while group := self._backlog.take():
                self._commit(group)

    def _commit(self, group: list[Pending]) -> None:
        try:
            outcomes = self._store.commit([pending.append for pending in group])
        except Exception as exc:  # the writer must outlive any failure: all sessions depend on it
            if len(group) > 1 and not isinstance(exc, StoreBusy):
                log.warning("log: a commit of %d appends failed, each goes alone now: %s", len(group), exc)
                self._commit_singly(group)
                return
            outcomes = [failure(exc)] * len(group)
        self._settle(group, outcomes)

    def _commit_singly(self, group: list[Pending]) -> None:
        """One append that cannot be stored must not take the others with it, only those of its turn behind it."""
        lost: dict[tuple[str, int] | None, OpenCodeError] = {}
        for pending in group:
            turn = pending.append.turn
            if turn in lost:
                self._settle([pending], [lost[turn]])
                continue
            self._commit([pending])
            if turn is not None and isinstance(pending.outcome, OpenCodeError):
                lost[turn] = pending.outcome

    def _settle(self, group: list[Pending], outcomes: list[Committed | OpenCodeError]) -> None:
        """Tell the authors and the followers. What a turn has submitted behind an append that failed fails with it."""
        settled = list(zip(group, outcomes, strict=True))
        self._backlog.settle(settled)
        # First those who watch: whoever has seen an event finds it counted.
        self._tell(group)
        for pending, outcome in settled:
            if isinstance(outcome, Committed):
                self._publish(pending.append.session_id, outcome)
            pending.settle()

    def _tell(self, group: list[Pending]) -> None:
        stored = [
            Stored(pending.append.session_id, pending.outcome.frames, pending.append.changes)
            for pending in group
            if isinstance(pending.outcome, Committed)
        ]
        for watcher in self.watchers:
            try:
                watcher(stored)
            except Exception:  # whoever watches must not end the writer
                log.exception("log: a watcher failed")

    def _publish(self, session_id: str, committed: Committed) -> None:
        tail = self._tails.get(session_id)
        if tail is not None:
            tail.extend(committed.first_seq, committed.frames)
        if committed.frames:
            self._ring(session_id)

    def _ring(self, session_id: str) -> None:
        self._bus.ring(session_id)
        if self._afar is not None:
            self._afar.ring(session_id)

    def tail(self, session_id: str) -> Tail:
        """The session's tail; it lives as long as someone holds it."""
        with self._tails_lock:
            tail = self._tails.get(session_id)
            if tail is None:
                # Registered before the number is read, so that a commit in between is not lost.
                tail = self._tails[session_id] = Tail(0, limit_bytes=self._tail_bytes)
                if self._afar is not None:
                    self._afar.watch(session_id, tail)
                tail.start_at(self._store.last_seq(session_id))
                return tail
        if self._afar is not None:  # what a client has seen elsewhere must be known here
            self._afar.catch_up(session_id, tail)
        return tail

    def last_seq(self, session_id: str) -> int:
        """The number of the session's last event."""
        return self.tail(session_id).last_seq

    def follow(
        self,
        session_id: str,
        tail: Tail,
        after: int,
        *,
        beat_s: float,
        live: bool = True,
        turn_id: str | None = None,
        left: threading.Event | None = None,
        park: Park | None = None,
    ) -> Iterator[Chunk | None]:
        """Every event above `after`, once and in order, then what comes; None at least every `beat_s` seconds.

        With `park` it waits there, which may send events and beats past this iterator.

        `tail` is the session's, taken before its existence was checked, so that a deletion in between is seen. Ends
        when the session is deleted (see `Tail.deleted`), when the server stops, with `live=False` at the end of what is
        stored, with `turn_id` after that turn's `done`, and when it is woken (`wake`) with `left` set.
        """
        place = Place(after)
        tail.places.add(place)
        ear = self._bus.subscribe(session_id) if park is None else None
        try:
            while True:
                closing = self.closing.is_set() or (left is not None and left.is_set())
                chunk = self.next(session_id, tail, place.seq)
                if chunk is not None:
                    done = turn_id is not None and until_done(chunk, turn_id)
                    if done:
                        yield done
                        return
                    place.seq = chunk.last_seq
                    yield chunk
                    continue
                if tail.deleted or tail.failed or not live or closing:
                    return
                if park is not None:
                    yield from park(session_id, tail, place, turn_id)
                elif ear is not None and not ear.wait(beat_s):
                    yield None
        finally:
            tail.places.discard(place)
            if ear is not None:
                ear.close()

    def listen(self, session_id: str, call: Callable[[], None]) -> Callable[[], None]:
        """Have `call` called whenever the session may have something new; what comes back ends that.

        It is called in the thread that writes, and must neither block nor raise.
        """
        return self._bus.subscribe(session_id, call).close

    def next(self, session_id: str, tail: Tail, after: int, *, at_least: int = 0) -> Chunk | None:
        """What comes above `after`, as much of it as is at hand; None where that is nothing.

        `tail` is the session's; up to `at_least` events are stored, also where it does not know of them yet.
        """
        if after >= max(tail.last_seq, at_least):
            return None
        chunk = tail.after(after)
        if chunk is None:
            found = self._store.read(session_id, after, self._tail_bytes)
            if found:
                chunk = Chunk(after + 1, after + len(found), b"".join(found))
        return chunk

    def let_catch_up(self, session_id: str, *, at_most_s: float = _CATCH_UP_S) -> None:
        """Before a session is deleted: wait for followers that lack what only the store still holds."""
        deadline = time.monotonic() + at_most_s
        tail = self._tails.get(session_id)
        while tail is not None and not tail.holds_the_rest() and time.monotonic() < deadline:
            time.sleep(_CATCH_UP_POLL_S)

    def wake(self, session_id: str) -> None:
        """Let the session's followers look again, as a lost or needless ring would."""
        self._bus.ring(session_id)

    def end(self, session_id: str) -> None:
        """The session is deleted: end its followers."""
        tail = self._tails.get(session_id)
        if tail is not None:
            tail.deleted = True
        self._ring(session_id)

    def fail(self, session_id: str, turn_id: str) -> None:
        """The store failed under a turn: tell its followers, by the one event that is shown without being stored."""
        tail = self._tails.get(session_id)
        if tail is not None:
            message = "The store failed; what came after the last event is not kept."
            error = Error(turn_id=turn_id, message=message, code="STORE_UNAVAILABLE")
            tail.failed = error.body()
        self._bus.ring(session_id)

    def close_followers(self) -> None:
        """The server stops: let every follower end."""
        self.closing.set()
        self._bus.close()

    def close(self) -> None:
        """Store what is queued, then end the writer."""
        self._backlog.close()
        self._writer.join()
        if self._afar is not None:
            self._afar.close()
