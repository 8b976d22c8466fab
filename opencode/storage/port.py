"""What is kept, and what the rest asks of the store.

Everything that changes a session while its log is open goes through `EventStore.commit`: an event and the rows that it
completes are one transaction.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from opencode.changes import Change
from opencode.errors import OpenCodeError, SessionNotFound, StaleAttempt
from opencode.frames import Body
from opencode.records import (
    Message,
    Page,
    Permission,
    RememberedKey,
    Screen,
    ScreenChange,
    ScreenEvent,
    ScreenView,
    Session,
    Spending,
    ToShow,
    Turn,
    Webhook,
)

#: Screens of one owner; each keeps events.
SCREENS = 50
#: Makes of a screen another, and says what is to be seen of that. It may be called again, and so does nothing else.
ChangeScreen = Callable[[Screen], tuple[Screen, list[ToShow]]]


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

    def refusal(self) -> OpenCodeError:
        """What it is told where its session is gone, or its attempt is not the current one."""
        if self.turn is None:
            return SessionNotFound(self.session_id)
        return StaleAttempt(f"attempt {self.turn[1]} of turn {self.turn[0]} is not the current one")


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
            StoreError: the transaction as a whole failed; nothing of it is stored. `StoreBusy` after 30 s of trying.
        """

    def read(self, session_id: str, after: int, limit_bytes: int) -> list[bytes]:
        """Frames numbered above `after`, ascending, at least one and then about `limit_bytes`; empty at the end."""

    def last_seq(self, session_id: str) -> int:
        """The number of the last stored event, 0 where there is none."""

    def ends(self, session_ids: Collection[str]) -> dict[str, int]:
        """As `last_seq`, of each of these sessions that stands, whoever owns it; one that is missing is deleted."""


class SessionStore(Protocol):
    """Sessions by owner. To anyone but its owner a session does not exist."""

    def create(self, session: Session, key: RememberedKey | None = None, first: Append | None = None) -> None:
        """Store a new session, what its log begins with, and the idempotency key that it was made for.

        All of it or nothing; `KeyTaken` where the key was used before.
        """

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

    def file_changes(self, session_id: str) -> list[tuple[str, bytes | None, bytes | None]]:
        """For each file that tools changed: path, first `before`, last `after`; by path."""


class TurnStore(Protocol):
    """Who works on which turn. A lease says how long a process may be silent before another takes over."""

    def active_turns(self, session_id: str | None = None) -> list[Turn]:
        """The turns that are running or waiting, of one session or of all; oldest first."""

    def claimable(self, now: float) -> list[Turn]:
        """Turns to take up: running or waiting ones whose lease ended before `now`, and queued ones that are next.

        What has begun comes first, then what waits longest.
        """

    def queued(self, session_id: str) -> list[Turn]:
        """The session's queued turns, the next one first."""

    def claim(self, turn: Turn, *, crashed: bool, lease_until: float) -> Turn | None:
        """Take it over: the next attempt begins, the one before it is fenced off. None: another was faster."""

    def renew(self, turns: Sequence[Turn], lease_until: float) -> dict[str, bool]:
        """Still working on these. By id, of those whose attempt is still the current one: whether it is to stop."""

    def stop(self, turn_id: str) -> None:
        """Ask whoever works on it to stop."""

    def working(self, owner: str) -> int:
        """How many turns of the owner's are running or waiting, wherever that is."""


class SpendingStore(Protocol):
    """What turns have spent, as far as it is stored: up to the last step of those that run."""

    def spent(self, owner: str, session_id: str) -> tuple[Spending, Spending]:
        """What the session has spent, and what its owner has in all, deleted sessions included."""


class KeyStore(Protocol):
    """Idempotency keys (API section 3); kept for 24 hours."""

    def remembered(self, owner: str, scope: str, key: str) -> RememberedKey | None:
        """What the key was answered with, where it was used."""


class PermissionStore(Protocol):
    """Requests for permission and what was answered."""

    def permission(self, session_id: str, permission_id: str) -> Permission | None:
        """One request."""

    def answer(self, permission_id: str, response: str) -> bool:
        """Answer a pending request; False where another answer came first."""

    def permissions(self, session_id: str, *, response: str | None) -> list[Permission]:
        """The session's requests with this answer (None: those that wait)."""

    def asked(self, session_id: str, call_id: str) -> Permission | None:
        """The request for this very call, where one was made before."""


class SecretStore(Protocol):
    """What the checks of access remember across restarts."""

    def secret(self, name: str, fresh: bytes) -> bytes:
        """The secret of this name; where there is none yet, `fresh` becomes it."""

    def mark(self, name: str, *, now: float, until: float) -> bool:
        """Set a mark that is kept until then; False where it stood already. Times are seconds since the epoch."""

    def marked(self, name: str) -> bool:
        """Whether the mark stands."""


class OutboxStore(Protocol):
    """Webhooks that have not arrived yet (`PutWebhooks` puts them in)."""

    def next_webhook(self, *, resting: Sequence[str] = ()) -> Webhook | None:
        """The one that is due first, of those that do not go to the URLs in `resting`.

        Where several processes share the store, one that is due is given to one of them only, for two minutes.
        """

    def postpone_webhook(self, webhook_id: str, due_at: float) -> None:
        """It failed: count the attempt; it is due again at `due_at`, in seconds since the epoch."""

    def remove_webhook(self, webhook_id: str) -> None:
        """It has arrived, or is given up."""


class ScreenStore(Protocol):
    """Shared screens (API section 5), by owner and name."""

    def screen(self, owner: str, name: str) -> ScreenView | None:
        """The screen with what is to be known of its session."""

    def screen_events(self, screen_id: str, after: int) -> list[ScreenEvent]:
        """The screen's own events numbered above `after`, ascending: those that are kept, about the newest thousand."""

    def screen_ends(self, screen_ids: Collection[str]) -> dict[str, int]:
        """The number of the last event of each of these very screens; one that is missing is no more."""

    def change_screen(self, owner: str, name: str, change: ChangeScreen) -> ScreenChange:
        """Change a screen and add the events that show it, in one transaction, after all changes before it.

        It is made where there is none: in the place of the one that is unused for longest, where there are `SCREENS`.

        Raises:
            InvalidRequest: there are as many as can be, and people look at all of them.
        """

    def change_screens(self, owner: str, change: ChangeScreen) -> list[ScreenChange]:
        """Change all screens that the owner has."""

    def look_at_screen(self, screen_id: str, looker: str, until: float) -> bool:
        """Somebody looks at it in the process `looker`: it keeps its place until then, in seconds since the epoch.

        False: there is no such screen any more.
        """

    def leave_screen(self, screen_id: str, looker: str) -> None:
        """Nobody in that process looks at it any more."""


class Store(
    EventStore,
    SessionStore,
    MessageStore,
    TurnStore,
    SpendingStore,
    KeyStore,
    PermissionStore,
    SecretStore,
    OutboxStore,
    ScreenStore,
    Protocol,
):
    """The whole store, as one adapter provides it.

    Whoever asks waits for a store that is busy or out of reach, 30 s at most, and then gets `StoreBusy`; a full
    disk or an I/O error is a `StoreError` at once.
    """

    def check(self) -> None:
        """Raise `StoreError` unless the store can be read and written."""

    def close(self) -> None:
        """Let go of it."""
