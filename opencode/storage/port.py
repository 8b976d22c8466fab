"""What is kept, and what the rest asks of the store.

Everything that changes a session while its log is open goes through `EventStore.commit`: an event and the rows that it
completes are one transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from opencode.errors import OpenCodeError
from opencode.frames import Body

TurnState = Literal["queued", "running", "waiting", "completed", "aborted", "failed"]
ACTIVE_STATES: tuple[TurnState, ...] = ("queued", "running", "waiting")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and time spent. `input` includes the `cached` tokens; `turn_ms` is in milliseconds."""

    input: int = 0
    output: int = 0
    cached: int = 0
    turn_ms: int = 0

    @property
    def tokens(self) -> int:
        return self.input + self.output

    def plus(self, other: "Usage") -> "Usage":
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cached + other.cached,
            self.turn_ms + other.turn_ms,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """`model` is the name as it was given; `resolved_model` is `provider/model`."""

    id: str
    owner: str
    title: str
    model: str | None
    resolved_model: str
    tools: tuple[str, ...]
    directory: str
    system: str | None
    permission: dict[str, str]
    created_at: str
    last_message_at: str | None = None
    message_count: int = 0
    #: The last event that the stored messages contain: follow from here on, and nothing is missed or doubled.
    folded_seq: int = 0
    usage: Usage = field(default_factory=Usage)
    status: Literal["idle", "running", "waiting"] = "idle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """`content` is the text that counts; `parts` are the steps, tools and what was interrupted, in order."""

    id: str
    session_id: str
    turn_id: str
    role: Literal["user", "assistant"]
    content: str
    created_at: str
    status: TurnState = "completed"
    tokens: int = 0
    parts: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One request of a user and all that the agent did for it. `attempt` fences off writers that lost it."""

    id: str
    session_id: str
    owner: str
    state: TurnState
    attempt: int
    model: str
    content: str
    user_message_id: str
    message_id: str
    created_at: str
    first_seq: int = 0
    last_seq: int | None = None
    error_code: str | None = None
    ended_at: str | None = None
    usage: Usage = field(default_factory=Usage)


# Changes: what is to be done to rows together with an append.


@dataclass(frozen=True, slots=True)
class StartTurn:
    """Store a new turn with its messages. Refused with `SessionBusy` while another is active."""

    turn: Turn
    user: Message
    assistant: Message


@dataclass(frozen=True, slots=True)
class PutParts:
    """Insert or replace parts of a message, by position."""

    message_id: str
    parts: tuple[tuple[int, dict[str, Any]], ...]


@dataclass(frozen=True, slots=True)
class FoldMessage:
    """The text of the running turn's message as it stands, and the tokens spent so far."""

    turn_id: str
    message_id: str
    content: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class SetTurnState:
    turn_id: str
    state: Literal["running", "waiting"]


@dataclass(frozen=True, slots=True)
class EndTurn:
    """End a turn; adds its usage to the session's."""

    turn_id: str
    message_id: str
    session_id: str
    state: Literal["completed", "aborted", "failed"]
    error_code: str | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class UpdateSession:
    """Set columns of a session: title, model, resolved_model, tools, permission."""

    session_id: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PutFileChanges:
    """What tools did to files: the first `before` of a path stands, the last `after` replaces."""

    session_id: str
    changes: tuple[tuple[str, bytes | None, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class AskPermission:
    """Store a request for permission, as pending."""

    permission_id: str
    session_id: str
    turn_id: str
    call_id: str
    tool: str
    params: dict[str, Any]


Change = StartTurn | PutParts | FoldMessage | SetTurnState | EndTurn | UpdateSession | PutFileChanges | AskPermission


@dataclass(slots=True)
class Append:
    """Events for one session's log, and the changes that go with them.

    With `turn` (id and attempt), the append is refused as `StaleAttempt` unless that attempt is the current one.
    `folds` says that with it the stored messages contain the log up to its last event.
    """

    session_id: str
    bodies: list[Body]
    changes: tuple[Change, ...] = ()
    turn: tuple[str, int] | None = None
    folds: bool = False


@dataclass(frozen=True, slots=True)
class Committed:
    """Stored: the number of the first event, and the frames as they were written."""

    first_seq: int
    frames: list[bytes]

    @property
    def last_seq(self) -> int:
        return self.first_seq + len(self.frames) - 1


class EventStore(Protocol):
    """The logs of all sessions."""

    def commit(self, appends: Sequence[Append]) -> list[Committed | OpenCodeError]:
        """Store all appends in one transaction, each by itself refused or taken, in order.

        Each session's events get its next numbers: from 1, without a gap. The result has one entry for each append;
        a refused one holds the reason (`StaleAttempt`, `SessionBusy`, `SessionNotFound`) and changed nothing.

        Raises:
            StoreError: the transaction as a whole failed; nothing of it is stored.
        """

    def read(self, session_id: str, after: int, limit_bytes: int) -> list[bytes]:
        """Frames numbered above `after`, ascending, at least one and then about `limit_bytes`; empty at the end."""

    def last_seq(self, session_id: str) -> int:
        """The number of the last stored event, 0 where there is none."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of sessions, newest first, and where the next one starts."""

    sessions: list[Session]
    next_cursor: str | None


class SessionStore(Protocol):
    """Sessions by owner. To anyone but its owner a session does not exist."""

    def create(self, session: Session) -> None:
        """Store a new session."""

    def get(self, owner: str, session_id: str) -> Session:
        """The session; `SessionNotFound` where there is none, or it is another owner's."""

    def page(self, owner: str, *, limit: int, cursor: str | None = None, query: str | None = None) -> Page:
        """Sessions, newest first; `query` is looked for in titles and messages, case-insensitively."""

    def delete(self, session_id: str) -> None:
        """Remove the session and everything that belongs to it."""

    def projects(self, owner: str) -> list[tuple[str, str]]:
        """Directories that sessions of the owner have used, each with the time of the first one."""


class MessageStore(Protocol):
    """Messages, turns and what belongs to them."""

    def snapshot(
        self, owner: str, session_id: str, *, limit: int, before: str | None = None
    ) -> tuple[Session, list[Message], bool]:
        """The session with a page of messages, oldest first, from before the message `before` (default: the end).

        One consistent view: `session.folded_seq` fits the messages. The flag says that there are older ones.
        """

    def message(self, session_id: str, message_id: str) -> Message | None:
        """One message of the session, with its parts."""

    def turn(self, session_id: str, turn_id: str) -> Turn | None:
        """One turn of the session."""

    def active_turns(self, session_id: str | None = None) -> list[Turn]:
        """The turns that are running or waiting, of one session or of all; oldest first."""

    def file_changes(self, session_id: str) -> list[tuple[str, bytes | None, bytes | None]]:
        """For each file that tools changed: path, first `before`, last `after`; by path."""


@dataclass(frozen=True, slots=True)
class Permission:
    """A request for permission; `response` is None while it waits."""

    id: str
    session_id: str
    turn_id: str
    call_id: str
    tool: str
    params: dict[str, Any]
    response: str | None


class PermissionStore(Protocol):
    """Requests for permission and what was answered."""

    def permission(self, session_id: str, permission_id: str) -> Permission | None:
        """One request."""

    def answer(self, permission_id: str, response: str) -> bool:
        """Answer a pending request; False where another answer came first."""

    def permissions(self, session_id: str, *, response: str | None) -> list[Permission]:
        """The session's requests with this answer (None: those that wait)."""


class Store(EventStore, SessionStore, MessageStore, PermissionStore, Protocol):
    """The whole store, as one adapter provides it."""

    def check(self) -> None:
        """Raise `StoreError` unless the store can be read and written."""

    def close(self) -> None:
        """Let go of it."""
