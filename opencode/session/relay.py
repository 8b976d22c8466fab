"""Shows on a screen what happens in its session, whoever started it."""

import logging
import threading
from collections.abc import Callable
from typing import Any

from opencode import frames
from opencode.errors import SessionNotFound, StoreError
from opencode.session.following import Following
from opencode.session.screen import Screen
from opencode.session.service import SessionService

log = logging.getLogger(__name__)

#: How soon a relay notices that it is no longer wanted, and how long it lets a failed store be.
BEAT_S = 1.0
_AS_THEY_ARE = {"tool_result", "permission_request", "permission_reply", "error", "done"}
_AGAIN = "The model is asked again: what it had begun to say is void."

Show = Callable[[Screen, str, dict[str, Any]], None]


class Relay:
    """Follows one session for one screen, in a thread of its own, until the screen has another relay."""

    def __init__(
        self, service: SessionService, show: Show, closing: threading.Event, screen: Screen, session_id: str
    ) -> None:
        self._service = service
        self._show_event = show
        self._closing = closing
        self._screen = screen
        self.session_id = session_id
        self._failed = False

    def start(self) -> None:
        """Follow from the running turn's first event, else from now on.

        Raises:
            SessionNotFound: it is another owner's, or gone.
        """
        # Where to begin is settled here and now, so that what is begun next is not missed.
        following = self._follow(None)
        self._screen.relay = self
        threading.Thread(target=self._run, args=(following,), name=f"relay-{self.session_id}", daemon=True).start()

    def _follow(self, after: int | None) -> Following:
        return self._service.follow(self._screen.owner, self.session_id, after=after, beat_s=BEAT_S)

    @property
    def _wanted(self) -> bool:
        return self._screen.relay is self

    def _run(self, following: Following) -> None:
        try:
            self._show_all(following)
        finally:
            with self._screen.lock:
                if self._wanted:
                    self._screen.relay = None  # the next who types here starts another

    def _show_all(self, following: Following) -> None:
        after = following.after
        while self._wanted and not self._closing.is_set():
            try:
                after = self._relay(following, after)
                if not self._wanted or following.tail.deleted or self._closing.is_set():
                    return
                following = self._follow(after)
            except SessionNotFound:
                return
            except StoreError as exc:
                log.warning("tui: session %s cannot be read: %s", self.session_id, exc)
            # The store failed under it: what is stored when it is back is still to be shown.
            self._tell_of_failure()
            self._closing.wait(BEAT_S)

    def _relay(self, following: Following, after: int) -> int:
        """Show what comes, to the end of the stream; the number of the last event shown."""
        for chunk in following.chunks:
            if not self._wanted:
                break
            for frame in frames.split(chunk.data) if chunk is not None else ():
                after, event, data = frames.parse(frame)
                self._failed = False
                self._show(event, data)
        return after

    def _tell_of_failure(self) -> None:
        if not self._failed:
            self._failed = True
            message = "The store cannot be reached; what is stored will be shown when it is back."
            self._show("error", {"message": message, "code": "STORE_UNAVAILABLE"})

    def _show(self, event: str, data: dict[str, Any]) -> None:
        shown = _as_shown(event, data)
        if shown is not None:
            name, values = shown
            with self._screen.turn_taking:
                if self._wanted:
                    self._show_event(self._screen, name, {**values, "session_id": self.session_id})


def _as_shown(event: str, data: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """An event of the log as a screen shows it; None where it does not."""
    if event == "turn_start":
        return "message", {"type": "text", "content": data["content"], "role": "user"}
    if event == "text":
        return "message", {"type": "text", "content": data["content"], "role": "assistant"}
    if event == "tool_call":
        return event, {**data, **({"command": data["params"].get("command")} if data["tool"] == "bash" else {})}
    if event == "step" and data["discards_from"] is not None:
        return "toast", {"message": _AGAIN, "level": "info"}
    return (event, data) if event in _AS_THEY_ARE else None
