"""The client."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote
from uuid import uuid4

from opencode.client.answers import (
    Aborted,
    Diff,
    Health,
    Message,
    ModelList,
    Session,
    SessionDetail,
    SessionPage,
    SessionSummary,
    TurnAccepted,
    TurnAnswer,
)
from opencode.client.http import Http
from opencode.client.stream import Following, Replay
from opencode.client.turn import Turn

if TYPE_CHECKING:
    import httpx2

WhenBusy = Literal["reject", "queue", "interrupt"]
Rules = Mapping[str, Literal["allow", "ask", "deny"]]
_PAGE = 200
_MESSAGES_PAGE = 1000


class Client:
    """A server at `url`, such as http://localhost:3000.

    `token` is sent as a bearer token. `patience_s` is how long the client goes on trying where the server was there and
    is not now, or asks to wait (429, 503): a request that was refused or got lost is sent again, what creates something
    under an `Idempotency-Key`, so that it is done once. A server that was never there is an error at once. A connection
    that is silent for `silence_s` is taken for dead; a stream has a heartbeat every 15 s. `transport` is httpx2's, for
    an app in the same process, or a proxy.

    May be used by several threads. Close it, best by `with`. All methods raise `ClientError`s: `ApiError` for a
    refusal, `Unreachable`, `ProtocolError`.
    """

    def __init__(
        self,
        url: str = "http://localhost:3000",
        token: str | None = None,
        *,
        patience_s: float = 60.0,
        silence_s: float = 45.0,
        transport: "httpx2.BaseTransport | None" = None,
    ) -> None:
        self._http = Http(url, token=token, patience_s=patience_s, silence_s=silence_s, transport=transport)

    @property
    def url(self) -> str:
        return self._http.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections up; streams that are open must not be used any more."""
        self._http.close()

    # Sessions

    def create_session(
        self,
        *,
        model: str | None = None,
        tools: Iterable[str] | None = None,
        directory: str | None = None,
        title: str | None = None,
        system: str | None = None,
        permission: Rules | None = None,
        key: str | None = None,
    ) -> Session:
        """Create a session; what is not given is the server's default.

        `key` is the `Idempotency-Key` (default: a new one).
        """
        body = _given(
            model=model,
            tools=None if tools is None else list(tools),
            directory=directory,
            title=title,
            system=system,
            permission=permission,
        )
        return self._http.call("POST", "/api/session", Session, body=body, headers=_key(key))

    def list_sessions(self, *, limit: int = 50, cursor: str | None = None, query: str | None = None) -> SessionPage:
        """One page of sessions, newest first; `query` is looked for in titles and messages."""
        return self._http.call(
            "GET", "/api/sessions", SessionPage, query={"limit": limit, "cursor": cursor, "q": query}
        )

    def sessions(self, *, query: str | None = None) -> Iterator[SessionSummary]:
        """All sessions, newest first, page by page as they are asked for."""
        cursor = None
        while True:
            page = self.list_sessions(limit=_PAGE, cursor=cursor, query=query)
            yield from page.sessions
            cursor = page.next_cursor
            if cursor is None:
                return

    def get_session(self, session_id: str, *, limit: int = 100, before: str | None = None) -> SessionDetail:
        """A session with its newest `limit` messages, or those before the message `before`."""
        return self._http.call("GET", _path(session_id), SessionDetail, query={"limit": limit, "before": before})

    def messages(self, session_id: str) -> list[Message]:
        """All messages of a session, oldest first."""
        pages: list[list[Message]] = []
        before = None
        while True:
            page = self.get_session(session_id, limit=_MESSAGES_PAGE, before=before)
            pages.insert(0, page.messages)
            if not page.has_older or not page.messages:
                return [message for own in pages for message in own]
            before = page.messages[0].id

    def update_session(self, session_id: str, **changes: Any) -> Session:
        """Change `title`, `model` (None: the default again), `tools` or `permission`."""
        return self._http.call("PATCH", _path(session_id), Session, body=changes)

    def delete_session(self, session_id: str) -> None:
        """Stop its turn, end its streams, and delete it."""
        self._http.call("DELETE", _path(session_id), dict[str, Any])

    def fork_session(self, session_id: str, *, message_id: str | None = None, key: str | None = None) -> Session:
        """A new session with the messages up to and with `message_id`, by default all whose turns have ended."""
        body = _given(message_id=message_id)
        return self._http.call("POST", _path(session_id, "fork"), Session, body=body, headers=_key(key))

    def diff(self, session_id: str) -> str:
        """What the session's tools changed in files, as a unified diff."""
        return self._http.call("GET", _path(session_id, "diff"), Diff).diff

    # Turns

    def turn(
        self,
        session_id: str,
        content: str,
        *,
        model: str | None = None,
        when_busy: WhenBusy = "reject",
        key: str | None = None,
    ) -> Turn:
        """Start a turn; what comes back gives its events, from `turn_start` to `done`.

        With the same `key` and content the same turn is joined instead, from its beginning.
        """
        body = _given(content=content, model=model, when_busy=when_busy)
        return Turn(self._http, _checked_id(session_id), body=body, key=key or uuid4().hex).open()

    def ask(self, session_id: str, content: str, **options: Any) -> TurnAnswer:
        """Run a turn to its end, and give its answer. `options` are those of `turn`.

        Raises:
            StreamLost: the server could not be reached again; the turn goes on without us.
        """
        with self.turn(session_id, content, **options) as turn:
            for _event in turn:
                pass
        return self.get_turn(session_id, str(turn.turn_id))

    def start_turn(
        self,
        session_id: str,
        content: str,
        *,
        model: str | None = None,
        when_busy: WhenBusy = "reject",
        key: str | None = None,
    ) -> TurnAccepted:
        """Start a turn, or queue it, and do not wait for it; `take_up` watches it later."""
        body = _given(content=content, model=model, when_busy=when_busy)
        headers = {**_key(key), "Prefer": "respond-async"}
        return self._http.call("POST", _path(session_id, "message"), TurnAccepted, body=body, headers=headers)

    def take_up(self, session_id: str, turn_id: str, *, after: int | None = None) -> Turn:
        """Watch a turn that was started elsewhere or before, from its `turn_start`, or after the event `after`."""
        return Turn(self._http, _checked_id(session_id), turn_id=turn_id, last_seq=after).open()

    def get_turn(self, session_id: str, turn_id: str) -> TurnAnswer:
        """What has become of a turn."""
        return self._http.call("GET", _path(session_id, "turn", turn_id), TurnAnswer)

    def abort(self, session_id: str, turn_id: str | None = None) -> bool:
        """Stop this turn, or the one that runs; True where there was one."""
        # Without a name, the same request may stop the next turn the second time.
        return self._http.call(
            "POST", _path(session_id, "abort"), Aborted, body=_given(turn_id=turn_id), repeatable=turn_id is not None
        ).aborted

    def answer_permission(
        self, session_id: str, permission_id: str, response: Literal["once", "always", "reject"]
    ) -> None:
        """Answer a permission request; where another answer came first, `ApiError` with `PERMISSION_ANSWERED`."""
        path = _path(session_id, "permission", permission_id)
        self._http.call("POST", path, dict[str, Any], body={"response": response})

    # Following

    def follow(self, session_id: str, *, after: int | None = None) -> Following:
        """A session's events, live and across turns, after the event `after`.

        Without `after` from the running turn's first event, or, where none runs, from whatever comes next.
        """
        return Following(self._http, _checked_id(session_id), last_seq=after).open()

    def replay(self, session_id: str, *, after: int = 0) -> Replay:
        """A session's stored events after the event `after`, to the end of what is stored now."""
        return Replay(self._http, _checked_id(session_id), last_seq=after).open()

    # The server

    def models(self) -> ModelList:
        """The models, and what each one lacks."""
        return self._http.call("GET", "/api/models", ModelList)

    def health(self) -> Health:
        """Whether the server lives; needs no token."""
        return self._http.call("GET", "/health", Health)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _key(given: str | None) -> dict[str, str]:
    return {"Idempotency-Key": given or uuid4().hex}


def _path(session_id: str, *rest: str) -> str:
    return "/".join(["/api/session", *(_checked_id(part) for part in (session_id, *rest))])


def _checked_id(text: str) -> str:
    """For a path: what is no id must not become another path."""
    return quote(text, safe="") if text.strip(".") else "-"
