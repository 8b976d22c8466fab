"""The newest own events of one screen that somebody in this process looks at."""

import threading
from collections import deque
from collections.abc import Callable
from uuid import uuid4

from opencode.records import ScreenEvent
from opencode.session.shown import Shown

#: As many as fit in so many bytes; who is further behind reads from the store.
_BYTES = 256 * 1024

Listen = Callable[[str], Callable[[], None]]


class ScreenTail:
    """Own events up to `last_seq`, shared by all who look; hears when something comes in the screen's session."""

    def __init__(self, screen_id: str, listen: Listen) -> None:
        """`listen` begins to listen to a session; what it gives ends that."""
        self.id = screen_id
        self.last_seq = 0
        self.deleted = False
        #: How many look at it here, by what name others know of them, and when they were told last.
        self.viewers = 0
        self.looker = uuid4().hex
        self.said_at = 0.0
        self.shown = Shown(screen_id)
        self._lock = threading.Lock()
        self._events: deque[ScreenEvent] = deque()
        self._size = 0
        self._listen = listen
        self._session_id: str | None = None
        self._stop: Callable[[], None] | None = None

    def start_at(self, number: int, session_id: str | None) -> None:
        """What the store says of the screen; what came in meanwhile stands."""
        with self._lock:
            if number >= self.last_seq:
                if number > self.last_seq:
                    self._clear()
                self.last_seq = number
                self._listen_to(session_id)

    def extend(self, _first: int, found: list[ScreenEvent]) -> None:
        """Add stored events; where they do not follow on, what was held is dropped for the store to give."""
        with self._lock:
            for event in found:
                if event.number <= self.last_seq:
                    continue
                if event.number != self.last_seq + 1:
                    self._clear()
                self._events.append(event)
                self._size += len(event.body)
                self.last_seq = event.number
                self._listen_to(event.next_session_id)
            while self._size > _BYTES and len(self._events) > 1:
                self._size -= len(self._events.popleft().body)

    def _clear(self) -> None:
        self._events.clear()
        self._size = 0

    def after(self, number: int) -> list[ScreenEvent] | None:
        """The own events above `number`; None where they begin before what is held here."""
        if number >= self.last_seq:
            return []
        with self._lock:
            missing = self.last_seq - number
            if missing > len(self._events):
                return None
            return [self._events[place] for place in range(-missing, 0)]

    def _listen_to(self, session_id: str | None) -> None:
        if session_id != self._session_id:
            if self._stop is not None:
                self._stop()
            self._session_id = session_id
            self._stop = None if session_id is None else self._listen(session_id)

    def end(self) -> None:
        """Nobody here looks at it any more."""
        with self._lock:
            self._listen_to(None)
