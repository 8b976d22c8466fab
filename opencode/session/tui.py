"""Shared terminal screens: a prompt line, an active session, and any number of people looking (API section 5).

A screen's events are kept in memory, in a buffer of bounded length; ids are `<epoch>-<n>`, where the epoch tells one
life of the server from the next.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

from opencode import frames
from opencode.bus.port import Bus
from opencode.errors import InvalidRequest, OpenCodeError
from opencode.ids import new_id
from opencode.records import Session, Turn
from opencode.session.service import SessionService

log = logging.getLogger(__name__)

_BUFFER = 1000
#: Screens of one owner; each keeps a buffer.
_SCREENS = 50
_PROMPT_CHARS = 200_000
#: Of an event's number: more than any screen has, and few enough to be read as a number.
_DIGITS = 18


class Screen:
    """One screen of one owner."""

    def __init__(self, owner: str, name: str, epoch: str) -> None:
        self.owner = owner
        self.topic = f"tui:{owner}:{name}"
        self._epoch = epoch
        self._lock = threading.Lock()
        self._frames: deque[bytes] = deque(maxlen=_BUFFER)
        self.count = 0
        self.prompt = ""
        self.session_id: str | None = None

    def state(self) -> dict[str, Any]:
        """What a newcomer needs to draw the screen."""
        return {"prompt": self.prompt, "cursor": len(self.prompt), "session_id": self.session_id}

    def event_id(self, number: int) -> str:
        return f"{self._epoch}-{number}"

    def add(self, event: str, data: dict[str, Any]) -> None:
        """Append an event to the buffer."""
        with self._lock:
            self.count += 1
            self._frames.append(b"id: %b\n%b" % (self.event_id(self.count).encode(), frames.body(event, data)))

    def after(self, number: int) -> tuple[bytes, int] | None:
        """The frames above `number` and where they end; None where some of them have left the buffer."""
        with self._lock:
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


class Screens:
    """The screens of all owners, fed by the sessions' own events."""

    def __init__(self, service: SessionService, bus: Bus, closing: threading.Event) -> None:
        self._service = service
        self._bus = bus
        self._closing = closing
        self._epoch = new_id("tui")
        self._lock = threading.Lock()
        self._screens: dict[tuple[str, str], Screen] = {}
        service.session_created.connect(self._on_created)
        service.session_deleted.connect(self._on_deleted)

    def get(self, owner: str, name: str) -> Screen:
        """The owner's screen of this name; made where there is none."""
        with self._lock:
            screen = self._screens.get((owner, name))
            if screen is None:
                if sum(own == owner for own, _ in self._screens) >= _SCREENS:
                    raise InvalidRequest(f"There are {_SCREENS} screens already; use one of them.")
                screen = self._screens[owner, name] = Screen(owner, name, self._epoch)
            return screen

    def _show(self, screen: Screen, event: str, data: dict[str, Any]) -> None:
        screen.add(event, data)
        self._bus.ring(screen.topic)

    def _on_created(self, _sender: object, session: Session) -> None:
        for screen in self._of(session.owner):
            self._show(screen, "session_created", {"session_id": session.id})

    def _on_deleted(self, _sender: object, session: Session) -> None:
        for screen in self._of(session.owner):
            if screen.session_id == session.id:
                screen.session_id = None
            self._show(screen, "session_deleted", {"session_id": session.id})

    def _of(self, owner: str) -> list[Screen]:
        self.get(owner, "default")
        with self._lock:
            return [screen for (own, _), screen in self._screens.items() if own == owner]

    def text(self, screen: Screen, text: str) -> None:
        """Type or paste into the prompt."""
        if len(screen.prompt) + len(text) > _PROMPT_CHARS:
            raise InvalidRequest(f"The prompt can hold {_PROMPT_CHARS} characters.")
        screen.prompt += text
        self._show(screen, "prompt", {"text": screen.prompt, "cursor": len(screen.prompt)})

    def enter(self, screen: Screen) -> None:
        """Send the prompt to the active session, creating one where there is none."""
        content = screen.prompt.strip()
        if not content:
            return
        if screen.session_id is None:
            screen.session_id = self._service.create(screen.owner).id
            self._show(screen, "session_selected", {"session_id": screen.session_id})
        turn = self._service.send(screen.owner, screen.session_id, content)
        screen.prompt = ""
        self._show(screen, "prompt", {"text": "", "cursor": 0})
        self._message(screen, turn, content, role="user")
        threading.Thread(target=self._relay, args=(screen, turn), name=f"tui-{turn.id}", daemon=True).start()

    def _message(self, screen: Screen, turn: Turn, content: str, *, role: str) -> None:
        data = {"type": "text", "content": content, "session_id": turn.session_id, "role": role}
        self._show(screen, "message", data)

    def _relay(self, screen: Screen, turn: Turn) -> None:
        """Show one turn on the screen, as its log grows."""
        try:
            following = self._service.follow(
                turn.owner, turn.session_id, after=turn.first_seq - 1, beat_s=15.0, turn_id=turn.id
            )
            for chunk in following.chunks:
                for frame in frames.split(chunk.data) if chunk is not None else ():
                    _number, event, data = frames.parse(frame)
                    self._relay_event(screen, turn, event, data)
        except OpenCodeError as exc:
            log.warning("tui: turn %s could not be shown to its end: %s", turn.id, exc)

    def _relay_event(self, screen: Screen, turn: Turn, event: str, data: dict[str, Any]) -> None:
        if event == "text":
            self._message(screen, turn, data["content"], role="assistant")
        elif event == "tool_call":
            command = {"command": data["params"].get("command")} if data["tool"] == "bash" else {}
            self._show(screen, event, {**data, **command, "session_id": turn.session_id})
        elif event in {"tool_result", "permission_request", "error", "done"}:
            self._show(screen, event, {**data, "session_id": turn.session_id})

    def follow(self, screen: Screen, last_id: str | None, *, beat_s: float) -> Iterator[bytes | None]:
        """The screen's events above `last_id` (default: from now on); None at least every `beat_s` seconds.

        What has left the buffer, or an id of another life, is answered by a `resync` event with the whole state.
        """
        ear = self._bus.subscribe(screen.topic)
        try:
            number = screen.number(last_id)
            position = screen.count if number is None else number
            yield b"id: %b\n\n" % screen.event_id(max(position, 0)).encode()
            while not self._closing.is_set():
                found = screen.after(position) if position >= 0 else None
                if found is None:
                    position = screen.count
                    resync = frames.body("resync", screen.state())
                    yield b"id: %b\n%b" % (screen.event_id(position).encode(), resync)
                elif found[0]:
                    data, position = found
                    yield data
                elif not ear.wait(beat_s):
                    yield None
        finally:
            ear.close()
