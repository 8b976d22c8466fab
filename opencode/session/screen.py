"""One shared terminal screen: what it shows, and its newest events, in bounded memory."""

import threading
import time
from collections import deque
from typing import Any

from opencode import frames
from opencode.ids import new_id
from opencode.session.line_editor import LineEditor

#: Of a screen's events the newest are kept, up to this many and this many bytes; who misses more gets the whole state.
_EVENTS = 1000
_BYTES = 1024 * 1024
#: Of an event's number: more than any screen has, and few enough to be read as a number.
_DIGITS = 18


class Screen:
    """One screen of one owner. Ids are `<epoch>-<n>`; the epoch tells one life of a screen from the next."""

    def __init__(self, owner: str, name: str) -> None:
        self.owner = owner
        self.topic = f"tui:{owner}:{name}"
        self._epoch = new_id("tui")
        #: Held for each change with its event, so that a state and its place among the events fit together.
        self.lock = threading.RLock()
        #: Held while an input is carried out, and while what happens in the session is shown: one after the other.
        self.turn_taking = threading.Lock()
        self._frames: deque[bytes] = deque()
        self._size = 0
        self.count = 0
        self.editor = LineEditor()
        self.session_id: str | None = None
        #: For the next session that is made here.
        self.model: str | None = None
        #: Which relay shows the session here; another, or None, ends it.
        self.relay: object = None
        self.viewers = 0
        self.used_at = time.monotonic()

    def state(self) -> dict[str, Any]:
        """What a newcomer needs to draw the screen; `last_event_id` is where to follow on from."""
        with self.lock:
            return {
                "prompt": self.editor.text,
                "cursor": self.editor.cursor,
                "session_id": self.session_id,
                "model": self.model,
                "last_event_id": self.event_id(self.count),
            }

    def look(self, more: int) -> None:
        """Count those who look at the screen."""
        with self.lock:
            self.viewers += more

    def event_id(self, number: int) -> str:
        return f"{self._epoch}-{number}"

    def add(self, event: str, data: dict[str, Any]) -> None:
        """Append an event to the buffer."""
        body = frames.body(event, data)
        with self.lock:
            self.count += 1
            frame = b"id: %b\n%b" % (self.event_id(self.count).encode(), body)
            self._frames.append(frame)
            self._size += len(frame)
            while len(self._frames) > _EVENTS or (self._size > _BYTES and len(self._frames) > 1):
                self._size -= len(self._frames.popleft())

    def after(self, number: int) -> tuple[bytes, int] | None:
        """The frames above `number` and where they end; None where some of them have left the buffer."""
        with self.lock:
            missing = self.count - number
            if missing > len(self._frames):
                return None
            return b"".join(list(self._frames)[len(self._frames) - missing :]), self.count

    def number(self, event_id: str | None) -> int | None:
        """The number that a client's last id names: None without one, -1 for one of another life."""
        if event_id is None:
            return None
        epoch, _, digits = event_id.rpartition("-")
        known = epoch == self._epoch and digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS
        return int(digits) if known and int(digits) <= self.count else -1
