"""Shared terminal screens: a prompt line, an active session, and any number of people looking (API section 5).

They are kept in the store, and any process serves them: who types changes the screen's row and adds an event to it, who
looks follows those events and the log of the screen's session.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

from opencode.bus.port import Bus, SharedBus
from opencode.errors import StoreError
from opencode.records import ScreenChange, ScreenEvent, ScreenView, Session, ToShow
from opencode.session import screen as screens
from opencode.session.afar import Afar
from opencode.session.screen import ScreenName
from opencode.session.screen_tail import Listen, ScreenTail
from opencode.session.service import SessionService
from opencode.session.viewer import Viewer
from opencode.storage.port import ChangeScreen, Store

log = logging.getLogger(__name__)

#: That somebody looks is said again so often, and believed for so long: a server that was killed cannot take it back.
_SAID_EVERY_S = 60.0
_BELIEVED_S = 180.0
#: Locks for all screens together.
_ENTERING = 16


class Screens:
    """The screens of all owners."""

    def __init__(
        self,
        service: SessionService,
        bus: Bus,
        closing: threading.Event,
        *,
        shared: SharedBus | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`bus` wakes who looks in this process; `shared` is between those that serve the same store.

        `clock`, in seconds, tells when it is time to say again who looks.
        """
        self._service = service
        self._store: Store = service.store
        self._bus = bus
        self._closing = closing
        self._clock = clock
        self._lock = threading.Lock()
        self._tails: dict[str, ScreenTail] = {}
        self._entering = [threading.Lock() for _ in range(_ENTERING)]
        self._afar = None if shared is None else Afar(_Source(self._store), shared, self._tails, self._tell)
        service.session_created.connect(self._on_created)
        service.session_deleted.connect(self._on_deleted)

    def close(self) -> None:
        """Hear no more of what is typed elsewhere."""
        if self._afar is not None:
            self._afar.close()

    def find(self, screen: ScreenName) -> ScreenView | None:
        """The screen as it is now, where there is one."""
        return self._store.screen(screen.owner, screen.name)

    def view(self, screen: ScreenName) -> ScreenView:
        """The screen as it is now; made where there is none, in the place of one that nobody looks at.

        Raises:
            InvalidRequest: there are as many as can be, and people look at all of them.
        """
        found = self.find(screen)
        while found is None or found.screen.used_at < time.time() - _SAID_EVERY_S:
            self._store.change_screen(screen.owner, screen.name, lambda own: (own, []))
            found = self.find(screen)
        return found

    def state(self, screen: ScreenName) -> dict[str, Any]:
        """What a newcomer needs to draw the screen."""
        return screens.state(self.view(screen))

    def change(self, screen: ScreenName, change: ChangeScreen) -> ScreenChange:
        """Change the screen, as one step among those of all who type, and show what has changed."""
        changed = self._store.change_screen(screen.owner, screen.name, change)
        self._publish(changed)
        return changed

    def show(self, screen: ScreenName, event: ToShow) -> None:
        """Put an event on the screen that changes nothing."""
        self.change(screen, lambda own: (own, [event]))

    def select(self, screen: ScreenName, session_id: str) -> None:
        """Make a session the active one; its running turn is shown from its start.

        Raises:
            SessionNotFound: there is none, or it is another owner's.
        """
        self._store.get(screen.owner, session_id)
        # The log's end is noted first: a turn that begins after that is shown, whether or not it is seen here.
        end = self._store.last_seq(session_id)
        active = self._store.active_turns(session_id)
        place = (session_id, active[0].first_seq - 1 if active else end)
        self.change(screen, lambda own: (own, [screens.selected(place)]))

    def _publish(self, changed: ScreenChange) -> None:
        if not changed.events:
            return
        screen_id = changed.after.id
        tail = self._tails.get(screen_id)
        if tail is not None:
            tail.extend(changed.events[0].number, list(changed.events))
            self._tell(screen_id)
        if self._afar is not None:
            self._afar.ring(screen_id)

    def _tell(self, screen_id: str) -> None:
        self._bus.ring(_topic(screen_id))

    def _on_created(self, _sender: object, session: Session) -> None:
        self._show_all(session.owner, screens.to_show("session_created", {"session_id": session.id}))

    def _on_deleted(self, _sender: object, session: Session) -> None:
        # Where it was the active one, there is none now: the store sees that it is gone.
        self._show_all(session.owner, screens.to_show("session_deleted", {"session_id": session.id}))

    def _show_all(self, owner: str, event: ToShow) -> None:
        try:
            for changed in self._store.change_screens(owner, lambda own: (own, [event])):
                self._publish(changed)
        except StoreError as exc:
            log.warning("tui: screens do not show a session that came or went: %s", exc)

    def follow(self, screen: ScreenName, last_id: str | None, *, beat_s: float) -> Iterator[bytes | None]:
        """What is seen on the screen above `last_id` (default: from now on); None at least every `beat_s` seconds.

        What has left the store, or an id of another life, is answered by a `resync` event with the whole state.
        """
        view = self.view(screen)
        tail = self._enter(view.screen.id)
        viewer = Viewer(self._service.log, tail, self._store.screen_events)
        ear = self._bus.subscribe(_topic(tail.id))
        try:
            view = self.view(screen)
            if view.screen.id != tail.id:
                return  # another has taken its place in this very moment
            tail.start_at(view.screen.number, view.screen.session_id)
            viewer.begin(view, last_id)
            self._say_looked_at(tail)
            yield b"id: %b\n\n" % viewer.event_id.encode()
            while not self._closing.is_set() and not tail.deleted:
                if viewer.is_lost:
                    view = self.view(screen)
                    if view.screen.id != tail.id:
                        return
                    yield viewer.resync(view)
                self._say_again(tail)
                quiet = True
                for piece in viewer.more():
                    quiet = False
                    yield piece
                if quiet and not viewer.is_lost and not ear.wait(beat_s):
                    yield None
        except StoreError as exc:
            log.warning("tui: the screen cannot be read, so a viewer is to come back: %s", exc)
        finally:
            viewer.close()
            ear.close()
            self._leave(tail)

    def _enter(self, screen_id: str) -> ScreenTail:
        with self._lock:
            tail = self._tails.get(screen_id)
            if tail is None:
                # Registered before its number is read, so that what is typed in between is not lost.
                tail = self._tails[screen_id] = ScreenTail(screen_id, self._listen(screen_id))
                if self._afar is not None:
                    self._afar.watch(screen_id, tail)
            tail.viewers += 1
            return tail

    def _listen(self, screen_id: str) -> Listen:
        return lambda session_id: self._service.log.listen(session_id, lambda: self._tell(screen_id))

    def _say_looked_at(self, tail: ScreenTail) -> None:
        tail.said_at = self._clock()
        if not self._store.look_at_screen(tail.id, tail.looker, time.time() + _BELIEVED_S):
            tail.deleted = True  # it made room for another, or was taken out of the store by hand
            self._tell(tail.id)

    def _say_again(self, tail: ScreenTail) -> None:
        """Now and then; on a thread, since a store that is out of reach must not keep the beat from those who look."""
        if self._clock() < tail.said_at + _SAID_EVERY_S:
            return
        tail.said_at = self._clock()

        def say() -> None:
            try:
                self._say_looked_at(tail)
            except StoreError as exc:
                log.warning("tui: that somebody looks at a screen cannot be stored: %s", exc)

        threading.Thread(target=say, name="screen-looker", daemon=True).start()

    def _leave(self, tail: ScreenTail) -> None:
        with self._lock:
            tail.viewers -= 1
            if tail.viewers:
                return
            self._tails.pop(tail.id)
        tail.end()
        if not self._closing.is_set():  # the store may be closed by now; it is believed for a while, no more
            try:
                self._store.leave_screen(tail.id, tail.looker)
            except StoreError as exc:
                log.warning("tui: that nobody looks at a screen cannot be stored: %s", exc)

    def entering(self, screen: ScreenName) -> threading.Lock:
        """To be held while a prompt is sent: of two who press enter here at once, one makes the session."""
        return self._entering[hash(screen) % len(self._entering)]


def _topic(screen_id: str) -> str:
    return f"screen:{screen_id}"


class _Source:
    """The screens' own events, as logs that other processes write to."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, screen_id: str, after: int, _limit_bytes: int) -> list[ScreenEvent]:
        return self._store.screen_events(screen_id, after)

    def ends(self, screen_ids: Collection[str]) -> dict[str, int]:
        return self._store.screen_ends(screen_ids)
