"""One who looks at a screen: a place among the screen's own events, and one in the log of its session."""

from collections.abc import Callable, Iterator

from opencode import frames
from opencode.records import ScreenEvent, ScreenView
from opencode.session.log import EventLog
from opencode.session.screen import ScreenPlace, place_now, place_of, state
from opencode.session.screen_tail import ScreenTail
from opencode.session.tail import Place, Tail

_FAILED = "The store cannot be reached; what is stored will be shown when it is back."

#: Own events of a screen above a number, as the store has them.
Stored = Callable[[str, int], list[ScreenEvent]]


class Viewer:
    """Merges both so that what came after something else is never seen before it. To be closed."""

    def __init__(self, log: EventLog, tail: ScreenTail, stored: Stored) -> None:
        self._log = log
        self._own = tail
        self._stored = stored
        self._number = 0
        self._place = Place(0)
        self._session_id: str | None = None
        self._tail: Tail | None = None
        #: The failure of the store that was told last.
        self._told = b""
        #: What it lacks has left the store: it is to be given the whole state.
        self.is_lost = False

    @property
    def event_id(self) -> str:
        """Of the last event that it was given."""
        return ScreenPlace(self._number, self._place.seq).event_id(self._own.id)

    def begin(self, view: ScreenView, last_id: str | None) -> None:
        """Stand where a client's last id says; without one, behind all that there is."""
        now = place_now(view)
        place = now if last_id is None else place_of(last_id, view.screen.id)
        session_id = view.screen.session_id
        if place is not None and place.number < now.number:
            events = self._events_after(place.number)
            if not events:
                place = None
            else:
                session_id = events[0].session_id
                # Of one that is deleted it cannot be known.
                end = 0 if session_id is None else self._log.last_seq(session_id) or place.seq
                now = ScreenPlace(now.number, max(events[0].seq, end))
        # An id of another life, or of a session that another store had.
        if place is None or place.number > now.number or place.seq > now.seq:
            self.is_lost = True
            return
        self._stand(place.number, session_id, place.seq)

    def resync(self, view: ScreenView) -> bytes:
        """The whole state; it goes on from there."""
        self.is_lost = False
        self._stand(view.screen.number, view.screen.session_id, view.seq)
        return b"id: %b\n%b" % (self.event_id.encode(), frames.body("resync", state(view)))

    def _stand(self, number: int, session_id: str | None, seq: int) -> None:
        self.close()
        self._number = number
        if session_id != self._session_id:
            self._session_id = session_id
            self._tail = None if session_id is None else self._log.tail(session_id)
        self._place = Place(seq)
        if self._tail is not None:
            self._tail.places.add(self._place)

    def close(self) -> None:
        """It looks no more."""
        if self._tail is not None:
            self._tail.places.discard(self._place)

    def more(self) -> Iterator[bytes]:
        """What there is to be seen, piece by piece; where that is nothing, or it `is_lost`, the end."""
        # How far the session is, is looked at first: what is stored of the screen before that, is found after it.
        end = 0 if self._tail is None else self._tail.last_seq
        events = self._events_after(self._number)
        if events is None:
            self.is_lost = True
            return
        for event in events:
            yield from self._session_up_to(self._before(event))
            self._stand_behind(event)
            yield b"id: %b\n%b" % (self.event_id.encode(), event.body)
        if not events:
            yield from self._session_up_to(end)
            yield from self._failure()

    def _events_after(self, number: int) -> list[ScreenEvent] | None:
        events = self._own.after(number)
        if events is None:
            events = self._stored(self._own.id, number)
            if not events or events[0].number != number + 1:
                return None
        return events

    def _before(self, event: ScreenEvent) -> int:
        if event.next_session_id is None and self._tail is not None:
            return self._tail.last_seq  # it is deleted: nothing but what is at hand can be given
        return event.seq

    def _stand_behind(self, event: ScreenEvent) -> None:
        if event.next_session_id != self._session_id:
            self._stand(event.number, event.next_session_id, event.next_seq)
        else:
            self._number = event.number

    def _session_up_to(self, end: int) -> Iterator[bytes]:
        while self._session_id is not None and self._tail is not None and self._place.seq < end:
            chunk = self._log.next(self._session_id, self._tail, self._place.seq, at_least=end)
            if chunk is None:
                return
            last = min(chunk.last_seq, end)
            data = self._own.shown.translate(self._session_id, self._number, last, chunk.first_seq, chunk.data)
            self._place.seq = last
            if data:
                yield data

    def _failure(self) -> Iterator[bytes]:
        failed = b"" if self._tail is None else self._tail.failed
        if failed and failed != self._told:
            error = {"message": _FAILED, "code": "STORE_UNAVAILABLE", "session_id": self._session_id}
            yield b"id: %b\n%b" % (self.event_id.encode(), frames.body("error", error))
        self._told = failed
