"""Streams of events that outlive their connections: no event lost, none doubled, each in its place (API section 4)."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from opencode.client.connection import Connection
from opencode.client.errors import ApiError, ClientError, ProtocolError, StreamLost, Unreachable
from opencode.client.events import Error, Event, SessionDeleted, parse_event
from opencode.client.http import Http
from opencode.client.patience import Patience

if TYPE_CHECKING:
    import httpx2

_Result = TypeVar("_Result")


class EventStream(Iterator[Event]):
    """Events in the order of the log. Where the connection is lost it is opened again, from the event after the last.

    To be closed, best by `with`. An exception from outside, such as Ctrl-C, harms nothing: going on goes on.
    """

    def __init__(self, http: Http, session_id: str, *, last_seq: int | None) -> None:
        self.session_id = session_id
        #: The last event that was given out, or that was known before; None where there is none.
        self.last_seq = last_seq
        self._http = http
        self._path = f"/api/session/{session_id}/message"
        self._patience = Patience(http.patience_s)
        self._connection: Connection | None = None
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave. A turn goes on without its watchers."""
        self._ended = True
        self._disconnect()

    def open(self) -> Self:
        """Connect now, rather than when the first event is asked for: a refusal is raised here.

        Raises:
            ClientError: as iterating does.
        """
        while self._connection is None and not self._ended:
            self._connection = self._try(self._connect)
        return self

    def __next__(self) -> Event:
        """The next event.

        Raises:
            ApiError: the server refuses to go on: the session is gone, say, or the token.
            StreamLost: it could not be reached again.
            ProtocolError: the stream breaks the promise of the log: a gap, a repetition.
        """
        while not self._ended:
            self.open()
            event = None if self._connection is None else self._try(partial(self._read, self._connection))
            if event is not None:
                self._patience.renew()
                return event
        raise StopIteration

    def _try(self, act: Callable[[], _Result]) -> _Result | None:
        """Do it; where the connection is lost in it, wait for the time to connect again."""
        try:
            return act()
        except Unreachable as exc:
            self._lost(exc)
        except ApiError as exc:
            if not exc.is_temporary:
                self.close()
                raise
            self._lost(exc, at_least_s=exc.retry_after_s)
        except ClientError:
            self.close()
            raise
        except BaseException:
            # Reading was broken off within a chunk: this connection is of no more use, the next one is.
            self._disconnect()
            raise
        return None

    def _connect(self) -> Connection:
        response = self._ask()
        if response.status_code != 200 or not response.headers.get("Content-Type", "").startswith("text/event-stream"):  # noqa: PLR2004 - HTTP's OK
            response.close()
            raise ProtocolError(f"{self._http.url}{self._path} answers {response.status_code} without a stream.")
        return Connection(self._http.url, response)

    def _ask(self) -> "httpx2.Response":
        """Send the request that goes on after `last_seq`."""
        raise NotImplementedError

    def _follow(self, query: Mapping[str, Any] | None = None) -> "httpx2.Response":
        headers = {"Accept": "text/event-stream"}
        if self.last_seq is not None:
            headers["Last-Event-ID"] = str(self.last_seq)
        return self._http.open("GET", self._path, query=query, headers=headers)

    def _read(self, connection: Connection) -> Event | None:
        frame = connection.next()
        if frame is None:
            self._body_ended(connection)
            return None
        event = parse_event(frame.event, None if frame.id is None else _number(frame.id), frame.data)
        return self._unnumbered(event) if event.seq is None else self._numbered(event, event.seq)

    def _numbered(self, event: Event, seq: int) -> Event | None:
        if event.name == "resync":
            raise ProtocolError(
                f"The log of {self.session_id} ends at {seq}, before {self.last_seq}, seen already: another store?"
            )
        if self.last_seq is not None and seq != self.last_seq + 1:
            raise ProtocolError(f"Event {self.last_seq} of {self.session_id} is followed by {seq}.")
        self.last_seq = seq
        return event

    def _unnumbered(self, event: Event) -> Event | None:
        if isinstance(event, SessionDeleted):
            self.close()
            return event
        if isinstance(event, Error):
            # The store fails: this is not in the log, and the stored `error` and `done` follow when it is back.
            self._lost(ApiError(event.code, 503, event.message))
        return None

    def _body_ended(self, connection: Connection) -> None:
        """The server ended the stream: it stops, and has said when to come back."""
        self._lost(
            Unreachable(f"{self._http.url} ended the stream"), at_least_s=(connection.reader.retry_ms or 0) / 1000
        )

    def _lost(self, cause: ClientError, *, at_least_s: float | None = None) -> None:
        """Wait until it is time to connect again."""
        connection = self._connection
        if connection is not None:
            if at_least_s is None:
                at_least_s = (connection.reader.retry_ms or 0) / 1000
            self._where(connection)
            if connection.worked:
                self._patience.renew()
        self._disconnect()
        if isinstance(cause, Unreachable) and not self._http.reached:
            raise cause
        if self._patience.wait(at_least_s=at_least_s or 0.0):
            return
        self.close()
        if isinstance(cause, ApiError) and connection is None and self.last_seq is None:
            raise cause  # it never began: the refusal says all there is
        raise self._given_up(cause) from cause

    def _where(self, connection: Connection) -> None:
        """Before any event, the head of the stream tells where it was."""
        if self.last_seq is None and connection.reader.last_id is not None:
            self.last_seq = _number(connection.reader.last_id)

    def _given_up(self, cause: ClientError, turn_id: str | None = None) -> StreamLost:
        what = f"turn {turn_id}" if turn_id else f"session {self.session_id}"
        return StreamLost(
            f"The stream of {what} is lost after event {self.last_seq or 0}, and reconnecting was in vain for"
            f" {self._http.patience_s:g} s: {cause}. No turn needs its watchers: follow from that event later.",
            session_id=self.session_id,
            turn_id=turn_id,
            last_seq=self.last_seq,
        )

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class Following(EventStream):
    """A session's events, across turns, until the session is deleted or the follower leaves."""

    def _ask(self) -> "httpx2.Response":
        return self._follow()


class Replay(EventStream):
    """A session's stored events, to the end of what is stored now."""

    def _ask(self) -> "httpx2.Response":
        return self._follow({"until": "end"})

    def _body_ended(self, connection: Connection) -> None:  # noqa: ARG002 - how it ended says nothing here
        self.close()


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ProtocolError(f"An event's id is its number, not {text[:50]!r}.")
    return int(text)
