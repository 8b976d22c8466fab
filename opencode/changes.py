"""What is to be done to rows together with an append to the log: changes as data, one class each."""

from dataclasses import dataclass
from typing import Any, Literal

from opencode.records import Message, RememberedKey, Turn, Usage


@dataclass(frozen=True, slots=True)
class StartTurn:
    """Store a new turn with its messages. Refused with `SessionBusy` while another is active."""

    turn: Turn
    user: Message
    assistant: Message
    #: Seconds since the epoch, as `time.time` counts them.
    lease_until: float = 0.0


@dataclass(frozen=True, slots=True)
class QueueTurn:
    """Store a turn that waits for the one before it. Refused with `SessionBusy` where too many wait."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class ActivateTurn:
    """A queued turn begins: store its messages. Refused with `StaleAttempt` unless it is queued still.

    `ends` is for one that is aborted before it began.
    """

    turn: Turn
    user: Message
    assistant: Message
    lease_until: float
    ends: bool = False


@dataclass(frozen=True, slots=True)
class HandBack:
    """The server stops: the turn waits for the next start, and no crash is counted."""

    turn_id: str


@dataclass(frozen=True, slots=True)
class RememberKey:
    """Remember what an idempotency key was answered with. Refused with `KeyTaken` where it was used before."""

    remembered: RememberedKey


@dataclass(frozen=True, slots=True)
class PutMessages:
    """Store messages with their parts, as they are (a fork's)."""

    messages: tuple[Message, ...]


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


@dataclass(frozen=True, slots=True)
class ForgetAlways:
    """Take back what was allowed for good: the session's rules were set anew."""

    session_id: str


@dataclass(frozen=True, slots=True)
class PutWebhooks:
    """Put this append's event `event` into the outbox, once for each URL, as a webhook of the type `kind`."""

    session_id: str
    urls: tuple[str, ...]
    kind: str
    event: str


Change = (
    StartTurn
    | QueueTurn
    | ActivateTurn
    | HandBack
    | RememberKey
    | PutMessages
    | PutParts
    | FoldMessage
    | SetTurnState
    | EndTurn
    | UpdateSession
    | PutFileChanges
    | AskPermission
    | ForgetAlways
    | PutWebhooks
)
