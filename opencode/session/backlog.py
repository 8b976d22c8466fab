"""Appends that wait for the log's writer."""

import threading
import time
from collections import deque
from collections.abc import Callable

from opencode.errors import OpenCodeError, StoreError
from opencode.frames import Body
from opencode.session.pending import Pending
from opencode.storage.port import Append, Committed

#: Bodies that may wait in one unstored append before its author waits too.
_MOST_BODIES = 256
#: So many commits, no more than so many seconds apart on average, are fast; then each waits so many seconds.
_FEW, _FAST_S, _GATHER_S = 8, 0.003, 0.002


class Pace:
    """Tells when commits of pieces of text come thick and fast, from many turns at once.

    A commit costs as much as several of the pieces in it; so then each waits a little for more to take with it. A turn
    that is alone is never slowed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds."""
        self._clock = clock
        self._last: deque[tuple[float, str]] = deque(maxlen=_FEW)

    def note(self, session_id: str) -> None:
        """A commit begins, of this session among others."""
        self._last.append((self._clock(), session_id))

    @property
    def is_fast(self) -> bool:
        last = self._last
        if len(last) < _FEW or self._clock() - last[0][0] > _FEW * _FAST_S:
            return False
        return len({session_id for _, session_id in last}) > _FEW // 2


class Backlog:
    """What arrives while a commit runs, and goes with the next one, in order."""

    def __init__(self, pace: Pace | None = None, sleep: Callable[[float], object] = time.sleep) -> None:
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._waiting: list[Pending] = []
        #: The last append that waits of each session that has one.
        self._newest: dict[str, Pending] = {}
        self._closed = False
        self._pace = pace or Pace()
        self._sleep = sleep

    def put(self, append: Append, *, after: Pending | None = None) -> Pending:
        """Let an append wait. With `after` it is refused where that one failed: nothing may be stored behind a gap.

        Raises:
            StoreError: nothing is taken any more, or what `after` failed of.
        """
        with self._lock:
            return self._put(append, after)

    def extend(self, pending: Pending | None, session_id: str, turn: tuple[str, int], body: Body) -> Pending:
        """Add an event to its turn's last append where that still waits and nothing of its session came after it.

        Else it waits in a new append. Waits itself where many events do.

        Raises:
            StaleAttempt, StoreError: the turn's last append was refused.
        """
        while True:
            with self._lock:
                if pending is not None and self._newest.get(session_id) is pending and not pending.append.changes:
                    if len(pending.append.bodies) < _MOST_BODIES:
                        pending.append.bodies.append(body)
                        return pending
                elif pending is None or pending.settled or len(pending.append.bodies) < _MOST_BODIES:
                    return self._put(Append(session_id, [body], turn=turn), pending)
            pending.result()

    def _put(self, append: Append, after: Pending | None) -> Pending:
        if self._closed:
            raise StoreError("the log is closed")
        if after is not None and isinstance(after.outcome, OpenCodeError):
            raise after.outcome
        pending = self._newest[append.session_id] = Pending(append)
        self._waiting.append(pending)
        self._work.set()
        return pending

    def wait(self) -> bool:
        """Sleep until something may wait; False where what waits now is the last."""
        self._work.wait()
        self._work.clear()
        return not self._closed

    def take(self) -> list[Pending]:
        """All that waits; where pieces of text come thick and fast, also what comes in the next moment."""
        # What has changes has somebody who waits for them.
        if self._waiting and self._pace.is_fast and not any(pending.append.changes for pending in self._waiting):
            self._sleep(_GATHER_S)
        with self._lock:
            group, self._waiting, self._newest = self._waiting, [], {}
            for pending in group:
                pending.taken = True
        if group:
            self._pace.note(group[0].append.session_id)
        return group

    def settle(self, settled: list[tuple[Pending, Committed | OpenCodeError]]) -> None:
        """Note what became of appends; what waits of a turn behind one that failed fails with it, and is added."""
        lost = {pending.append.turn: outcome for pending, outcome in settled if isinstance(outcome, OpenCodeError)}
        lost.pop(None, None)
        with self._lock:
            if lost:
                behind = [pending for pending in self._waiting if pending.append.turn in lost]
                self._waiting = [pending for pending in self._waiting if pending.append.turn not in lost]
                self._newest = {pending.append.session_id: pending for pending in self._waiting}
                settled += [(pending, lost[pending.append.turn]) for pending in behind]
            for pending, outcome in settled:
                pending.taken, pending.outcome = True, outcome

    def close(self) -> None:
        """Take nothing more."""
        with self._lock:
            self._closed = True
            self._work.set()
