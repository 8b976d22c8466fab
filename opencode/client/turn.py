"""A turn, from its start to its end, whatever happens to the connection meanwhile (API section 3)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opencode.client.answers import Aborted, TurnAccepted
from opencode.client.connection import Connection
from opencode.client.errors import ApiError, ClientError, ProtocolError, StreamLost
from opencode.client.events import Done, Event, SessionDeleted, Step, Text, TurnStart
from opencode.client.http import Http
from opencode.client.stream import EventStream

if TYPE_CHECKING:
    import httpx2


class Turn(EventStream):
    """One turn's events, from `turn_start` to `done`.

    `turn_id` is known from the first event on, `done` is its last one. `body` starts the turn, under a key by which it
    is started once; without it the turn `turn_id` is taken up after `last_seq`.
    """

    def __init__(
        self,
        http: Http,
        session_id: str,
        *,
        body: Mapping[str, Any] | None = None,
        key: str = "",
        turn_id: str | None = None,
        last_seq: int | None = None,
    ) -> None:
        super().__init__(http, session_id, last_seq=last_seq)
        self.turn_id = turn_id
        self.done: Done | None = None
        self._body = body
        self._key = key
        self._count = 0
        self._whole = last_seq is None
        self._texts: list[tuple[int, str]] = []

    @property
    def text(self) -> str:
        """The answer's text so far, without what a `step` has declared void."""
        return "".join(content for _seq, content in self._texts)

    def abort(self) -> bool:
        """Stop the turn on the server; True where it was not over. Iterating goes on to its `done`.

        Raises:
            ClientError: as any request.
        """
        if self.turn_id is None:
            # Whether it was started is not known: asked again, by the same key, it has a name in either case.
            headers = {"Idempotency-Key": self._key, "Prefer": "respond-async"}
            self.turn_id = self._http.call("POST", self._path, TurnAccepted, body=self._body, headers=headers).turn_id
        path = f"/api/session/{self.session_id}/abort"
        return self._http.call("POST", path, Aborted, body={"turn_id": self.turn_id}).aborted

    def _ask(self) -> "httpx2.Response":
        if self._count or self._body is None:
            return self._follow({"turn": self.turn_id})
        headers = {"Accept": "text/event-stream", "Idempotency-Key": self._key}
        return self._http.open("POST", self._path, body=self._body, headers=headers)

    def _numbered(self, event: Event, seq: int) -> Event | None:
        if self._whole and not self._count:
            if not isinstance(event, TurnStart) or (self.turn_id or event.turn_id) != event.turn_id:
                raise ProtocolError(f"The turn begins with {event.name}, not with its turn_start.")
            self.last_seq, self.turn_id = seq, event.turn_id
        else:
            super()._numbered(event, seq)
        self._count += 1
        if isinstance(event, Text):
            self._texts.append((seq, event.content))
        elif isinstance(event, Step) and event.discards_from is not None:
            void_from = event.discards_from
            self._texts = [(own, content) for own, content in self._texts if own < void_from]
        elif isinstance(event, Done):
            self._end(event)
        return event

    def _end(self, done: Done) -> None:
        if self._whole and done.events != self._count:
            raise ProtocolError(f"The turn has {done.events} events, and {self._count} of them came.")
        self.done = done
        self.close()

    def _unnumbered(self, event: Event) -> Event | None:
        if isinstance(event, SessionDeleted):
            self.close()
            raise ApiError("SESSION_NOT_FOUND", 404, f"Session deleted: {self.session_id}")
        return super()._unnumbered(event)

    def _where(self, connection: Connection) -> None:
        """A turn is placed by its `turn_start` only: one that waits in a queue begins later than the head says."""

    def _given_up(self, cause: ClientError, turn_id: str | None = None) -> StreamLost:
        return super()._given_up(cause, turn_id or self.turn_id)
