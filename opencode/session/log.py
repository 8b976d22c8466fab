"""The event log: store first, then ring.

All appends of the process pass through one writer. While one commit runs, what arrives waits, and goes with the next:
there is no timer, and no event is shown to anyone before it is stored.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from weakref import WeakValueDictionary

from opencode import frames
from opencode.bus.port import Bus
from opencode.errors import OpenCodeError, StoreBusy, StoreError
from opencode.session.events import Error
from opencode.session.notable import Stored
from opencode.session.tail import TAIL_BYTES, Chunk, Tail
from opencode.storage.port import Append, Committed, EventStore

log = logging.getLogger(__name__)

#: Bodies that may wait in one unstored append before its author waits too.
_BACKLOG = 256
#: How long a busy store is waited for before the append fails, and the first pause.
_BUSY_PATIENCE_S = 30.0
_BUSY_PAUSE_S = 0.02


class Pending:
    """An append on its way to the store."""

    __slots__ = ("append", "done", "outcome", "taken")

    def __init__(self, append: Append) -> None:
        self.append = append
        self.taken = False
        self.done = threading.Event()
        self.outcome: Committed | OpenCodeError | None = None

    def result(self) -> Committed:
        """Wait until it is stored. Raises what the store said where it was refused."""
        self.done.wait()
        if isinstance(self.outcome, Committed):
            return self.outcome
        raise self.outcome or StoreError("the log is closed")


class EventLog:
    """Appends to and follows the logs of all sessions."""

    def __init__(self, store: EventStore, bus: Bus, *, tail_bytes: int = TAIL_BYTES) -> None:
        self._store = store
        self._bus = bus
        self._tail_bytes = tail_bytes
        self._tails: WeakValueDictionary[str, Tail] = WeakValueDictionary()
        self._tails_lock = threading.Lock()
        self._queue: list[Pending] = []
        self._work = threading.Condition()
        self._closed = False
        #: Set while the server stops: every follower ends after what is stored.
        self.closing = threading.Event()
        #: Called with what was stored, by the writer: they must be quick, and must not append.
        self.watchers: list[Callable[[Stored], None]] = []
        #: May add changes to an append that has some.
        self.announce: Callable[[Append], None] = lambda _append: None
        self._writer = threading.Thread(target=self._write, name="log-writer", daemon=True)
        self._writer.start()

    def append(self, append: Append) -> Committed:
        """Store events and their changes.

        Raises:
            StaleAttempt, SessionBusy, SessionNotFound: the store refused this append.
            StoreError: the store failed; nothing of it is stored.
        """
        return self.submit(append).result()

    def submit(self, append: Append) -> Pending:
        """Hand an append to the writer without waiting; `result()` of what comes back waits."""
        pending = Pending(append)
        if append.changes:
            self.announce(append)
        with self._work:
            if self._closed:
                raise StoreError("the log is closed")
            self._queue.append(pending)
            self._work.notify()
        return pending

    def extend(self, pending: Pending | None, append: Append) -> Pending:
        """Add an append's bodies to `pending` where it still waits and nothing came after it; else submit anew."""
        with self._work:
            if (
                pending is not None
                and not pending.taken
                and not pending.append.changes
                and self._queue[-1] is pending
                and len(pending.append.bodies) < _BACKLOG
            ):
                pending.append.bodies.extend(append.bodies)
                return pending
        if pending is not None and not pending.done.is_set() and len(pending.append.bodies) >= _BACKLOG:
            pending.result()
        return self.submit(append)

    def _write(self) -> None:
        while True:
            with self._work:
                while not self._queue and not self._closed:
                    self._work.wait()
                if not self._queue:
                    return
                group, self._queue = self._queue, []
                for pending in group:
                    pending.taken = True
            self._commit(group)

    def _commit(self, group: list[Pending]) -> None:
        try:
            outcomes = self._patiently([pending.append for pending in group])
        except Exception as exc:  # the writer must outlive any failure: all sessions depend on it
            log.exception("log: a commit of %d appends failed", len(group))
            failure = exc if isinstance(exc, OpenCodeError) else StoreError(f"the store failed: {type(exc).__name__}")
            outcomes = [failure] * len(group)
        for pending, outcome in zip(group, outcomes, strict=True):
            pending.outcome = outcome
        # First those who watch: whoever has seen an event finds it counted.
        self._tell(group)
        for pending in group:
            if isinstance(pending.outcome, Committed):
                self._publish(pending.append.session_id, pending.outcome)
            pending.done.set()

    def _tell(self, group: list[Pending]) -> None:
        stored = [
            Stored(pending.append.session_id, pending.outcome.frames, pending.append.changes)
            for pending in group
            if isinstance(pending.outcome, Committed)
        ]
        for watcher in self.watchers:
            try:
                for append in stored:
                    watcher(append)
            except Exception:  # whoever watches must not end the writer
                log.exception("log: a watcher failed")

    def _patiently(self, appends: list[Append]) -> list[Committed | OpenCodeError]:
        """Commit; while the store is merely busy, try again, and everyone who writes waits."""
        deadline, pause_s = time.monotonic() + _BUSY_PATIENCE_S, _BUSY_PAUSE_S
        while True:
            try:
                return self._store.commit(appends)
            except StoreBusy:
                if time.monotonic() > deadline:
                    raise
                log.warning("log: the store is busy; trying again")
                time.sleep(pause_s)
                pause_s = min(1.0, pause_s * 2)

    def _publish(self, session_id: str, committed: Committed) -> None:
        tail = self._tails.get(session_id)
        if tail is not None:
            tail.extend(committed.first_seq, committed.frames)
        self._bus.ring(session_id)

    def tail(self, session_id: str) -> Tail:
        """The session's tail; it lives as long as someone holds it."""
        with self._tails_lock:
            tail = self._tails.get(session_id)
            if tail is None:
                # Registered before the number is read, so that a commit in between is not lost.
                tail = self._tails[session_id] = Tail(0, limit_bytes=self._tail_bytes)
                tail.start_at(self._store.last_seq(session_id))
            return tail

    def last_seq(self, session_id: str) -> int:
        """The number of the session's last event."""
        return self.tail(session_id).last_seq

    def follow(
        self, session_id: str, tail: Tail, after: int, *, beat_s: float, live: bool = True, turn_id: str | None = None
    ) -> Iterator[Chunk | None]:
        """Every event above `after`, once and in order, then what comes; None at least every `beat_s` seconds.

        `tail` is the session's, taken before its existence was checked, so that a deletion in between is seen. Ends
        when the session is deleted (see `Tail.deleted`), when the server stops, with `live=False` at the end of what is
        stored, and with `turn_id` after that turn's `done`.
        """
        ear = self._bus.subscribe(session_id)
        try:
            while True:
                closing = self.closing.is_set()
                chunk = self._next(tail, session_id, after)
                if chunk is not None:
                    done = turn_id is not None and _until_done(chunk, turn_id)
                    if done:
                        yield done
                        return
                    yield chunk
                    after = chunk.last_seq
                    continue
                if tail.deleted or tail.failed or not live or closing:
                    return
                if not ear.wait(beat_s):
                    yield None
        finally:
            ear.close()

    def _next(self, tail: Tail, session_id: str, after: int) -> Chunk | None:
        if after >= tail.last_seq:
            return None
        chunk = tail.after(after)
        if chunk is None:
            found = self._store.read(session_id, after, self._tail_bytes)
            if found:
                chunk = Chunk(after + 1, after + len(found), b"".join(found))
        return chunk

    def end(self, session_id: str) -> None:
        """The session is deleted: end its followers."""
        tail = self._tails.get(session_id)
        if tail is not None:
            tail.deleted = True
        self._bus.ring(session_id)

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
        with self._work:
            self._closed = True
            self._work.notify()
        self._writer.join()


def _until_done(chunk: Chunk, turn_id: str) -> Chunk | None:
    """The chunk up to the turn's `done`, where it holds it."""
    if b"\nevent: done\n" not in chunk.data:
        return None
    found = frames.split(chunk.data)
    index = _place(found, b"done", turn_id)
    if index is None:
        return None
    return Chunk(chunk.first_seq, chunk.first_seq + index, b"".join(found[: index + 1]))


def from_start(chunks: Iterator[Chunk | None], turn_id: str) -> Iterator[Chunk | None]:
    """Leave out what comes before the turn's `turn_start`."""
    begun = False
    for chunk in chunks:
        if begun or chunk is None:
            yield chunk
            continue
        found = frames.split(chunk.data)
        index = _place(found, b"turn_start", turn_id)
        if index is not None:
            begun = True
            yield Chunk(chunk.first_seq + index, chunk.last_seq, b"".join(found[index:]))


def _place(found: list[bytes], event: bytes, turn_id: str) -> int | None:
    """Where in these frames the turn's event of this name stands."""
    mark = b"\nevent: %b\n" % event
    places = (n for n, frame in enumerate(found) if mark in frame and frames.parse(frame)[2]["turn_id"] == turn_id)
    return next(places, None)
