"""What is kept, and what the rest asks of the store.

Everything that changes a session while its log is open goes through `EventStore.commit`: an event and the rows that it
completes are one transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from opencode.errors import OpenCodeError
from opencode.frames import Body
from opencode.records import Message, Page, Permission, Session, Turn, Usage

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
