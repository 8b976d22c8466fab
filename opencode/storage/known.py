"""Sessions that were looked up, kept in memory while nothing about them changes."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from opencode.records import Session


class KnownSessions:
    """Exact where one process is all that writes: it says here what it has changed before it says so to anyone else.

    At most `most` are kept; the one that was not asked for longest goes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._changes = 0
        self._in_change = 0

    def get(self, owner: str, session_id: str) -> Session | None:
        """Give the owner's session where it is known."""
        with self._lock:
            found = self._sessions.get(session_id)
            if found is None or found.owner != owner:
                return None
            self._sessions.move_to_end(session_id)
            return found

    def mark(self) -> int:
        """To be taken before the session is read, for `put`."""
        return self._changes

    def put(self, session: Session, mark: int) -> None:
        """Keep what was read, unless something was changed since `mark` was taken: then it may be old already."""
        with self._lock:
            if mark != self._changes or self._in_change:
                return
            self._sessions[session.id] = session
            if len(self._sessions) > self._most:
                self._sessions.popitem(last=False)

    @contextmanager
    def changing(self, session_ids: Iterable[str] | None = None) -> Iterator[None]:
        """Within it these are changed; None where it may be any.

        Nothing is kept meanwhile: of two who read during a commit, the one who reads the older may be the last to say
        what it found.
        """
        with self._lock:
            self._in_change += 1
            self._forget(session_ids)
        try:
            yield
        finally:
            with self._lock:
                self._in_change -= 1
                self._forget(session_ids)

    def _forget(self, session_ids: Iterable[str] | None) -> None:
        self._changes += 1
        if session_ids is None:
            self._sessions.clear()
        else:
            for session_id in session_ids:
                self._sessions.pop(session_id, None)
