"""Shared terminal screens: a prompt line, an active session, and any number of people looking (API section 5)."""

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from opencode import frames
from opencode.bus.port import Bus
from opencode.errors import InvalidRequest, StoreError
from opencode.records import Permission, Session
from opencode.session.relay import Relay
from opencode.session.screen import Screen
from opencode.session.service import SessionService

log = logging.getLogger(__name__)

#: Screens of one owner; each keeps a buffer.
SCREENS = 50


class Screens:
    """The screens of all owners, fed by the sessions' own events. They live in memory, as long as the server."""

    def __init__(self, service: SessionService, bus: Bus, closing: threading.Event) -> None:
        self._service = service
        self._bus = bus
        self._closing = closing
        self._lock = threading.Lock()
        self._screens: dict[tuple[str, str], Screen] = {}
        service.session_created.connect(self._on_created)
        service.session_deleted.connect(self._on_deleted)

    def get(self, owner: str, name: str) -> Screen:
        """The owner's screen of this name; made where there is none, in the place of one that nobody looks at.

        Raises:
            InvalidRequest: there are as many as can be, and people look at all of them.
        """
        with self._lock:
            screen = self._screens.get((owner, name))
            if screen is None:
                self._make_room(owner)
                screen = self._screens[owner, name] = Screen(owner, name)
            screen.used_at = time.monotonic()
            return screen

    def _make_room(self, owner: str) -> None:
        own = {key: screen for key, screen in self._screens.items() if key[0] == owner}
        if len(own) < SCREENS:
            return
        idle = [key for key, screen in own.items() if not screen.viewers]
        if not idle:
            message = f"there are {SCREENS} screens already, and all are looked at; use one of them"
            raise InvalidRequest(message, details=[{"field": "tui", "message": message}])
        self._screens.pop(min(idle, key=lambda key: own[key].used_at)).relay = None

    def show(self, screen: Screen, event: str, data: dict[str, Any]) -> None:
        """Put an event on the screen."""
        screen.add(event, data)
        self._bus.ring(screen.topic)

    def show_prompt(self, screen: Screen) -> None:
        """Show the prompt line as it is now."""
        with screen.lock:
            data = {"text": screen.editor.text, "cursor": screen.editor.cursor}
            self.show(screen, "prompt", data)

    def select(self, screen: Screen, session_id: str) -> None:
        """Make a session the active one; its running turn is shown from its start.

        Raises:
            SessionNotFound: there is none, or it is another owner's.
        """
        with screen.lock:
            if screen.relay is None or screen.session_id != session_id:
                Relay(self._service, self.show, self._closing, screen, session_id).start()
                screen.session_id = session_id
            self.show(screen, "session_selected", {"session_id": session_id})

    def pending(self, screen: Screen) -> list[Permission]:
        """What the active session waits for a yes or no to, the oldest first; read from the store each time."""
        if screen.session_id is None:
            return []
        return self._service.store.permissions(screen.session_id, response=None)

    def state(self, screen: Screen) -> dict[str, Any]:
        """What a newcomer needs to draw the screen."""
        waiting = [
            {
                "permission_id": asked.id,
                "turn_id": asked.turn_id,
                "tool": asked.tool,
                "params": asked.params,
                "call_id": asked.call_id,
            }
            for asked in self.pending(screen)
        ]
        return {**screen.state(), "permissions": waiting}

    def _of(self, owner: str) -> list[Screen]:
        with self._lock:
            return [screen for (own, _), screen in self._screens.items() if own == owner]

    def _on_created(self, _sender: object, session: Session) -> None:
        for screen in self._of(session.owner):
            self.show(screen, "session_created", {"session_id": session.id})

    def _on_deleted(self, _sender: object, session: Session) -> None:
        for screen in self._of(session.owner):
            with screen.lock:
                if screen.session_id == session.id:
                    screen.session_id = screen.relay = None
                self.show(screen, "session_deleted", {"session_id": session.id})

    def follow(self, screen: Screen, last_id: str | None, *, beat_s: float) -> Iterator[bytes | None]:
        """The screen's events above `last_id` (default: from now on); None at least every `beat_s` seconds.

        What has left the buffer, or an id of another life, is answered by a `resync` event with the whole state.
        """
        ear = self._bus.subscribe(screen.topic)
        screen.look(1)
        try:
            number = screen.number(last_id)
            position = screen.count if number is None else number
            yield b"id: %b\n\n" % screen.event_id(max(position, 0)).encode()
            while not self._closing.is_set():
                found = screen.after(position) if position >= 0 else None
                if found is None:
                    state = self.state(screen)
                    position = screen.number(state["last_event_id"]) or 0
                    yield b"id: %b\n%b" % (state["last_event_id"].encode(), frames.body("resync", state))
                elif found[0]:
                    data, position = found
                    yield data
                elif not ear.wait(beat_s):
                    yield None
        except StoreError as exc:
            log.warning("tui: the state cannot be read, so a viewer is to come back: %s", exc)
        finally:
            screen.look(-1)
            ear.close()
