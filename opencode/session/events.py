"""The events of a session's log (API section 3), one class each; the API document is made from them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import orjson

from opencode import frames


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`name` is the event's name on the wire; every event of a turn says which."""

    name: ClassVar[str]

    def body(self) -> bytes:
        """The event's frame, without its number."""
        return frames.body(self.name, self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEvent(Event):
    turn_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStart(TurnEvent):
    """The first event of every turn: what was asked, the model that is to answer, the title where it gives one."""

    name = "turn_start"
    content: str
    message_id: str
    model: str
    title: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(TurnEvent):
    """Before each call of the model; text and reasoning from `discards_from` on are void."""

    name = "step"
    step: int
    attempt: int
    discards_from: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(TurnEvent):
    """A piece of the answer, as it came."""

    name = "text"
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoning(TurnEvent):
    """A piece of the model's reasoning, where it gives it."""

    name = "reasoning"
    content: str


def pieces(kind: type[Text | Reasoning], turn_id: str) -> Callable[[str], bytes]:
    """What encodes one turn's pieces, as `kind(…).body()` does, at a sixth of its price: most of a piece is known."""
    head = b'event: %b\ndata: {"turn_id":%b,"content":' % (kind.name.encode(), orjson.dumps(turn_id))
    return lambda content: head + orjson.dumps(content) + b"}\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall(TurnEvent):
    """The model wants a tool run."""

    name = "tool_call"
    tool: str
    params: dict[str, Any]
    call_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOutput(TurnEvent):
    """Live output of a tool that runs."""

    name = "tool_output"
    call_id: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult(TurnEvent):
    """What the tool gave back to the model."""

    name = "tool_result"
    result: str
    tool: str
    call_id: str
    is_error: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionRequest(TurnEvent):
    """The turn waits for a yes or no to this very call."""

    name = "permission_request"
    permission_id: str
    tool: str
    params: dict[str, Any]
    call_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionReply(TurnEvent):
    """The answer to a permission request."""

    name = "permission_reply"
    permission_id: str
    response: Literal["once", "always", "reject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Error(TurnEvent):
    """What ended the turn early; a `done` follows."""

    name = "error"
    message: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(TurnEvent):
    """The last event of every turn, exactly once. `duration` is in milliseconds."""

    name = "done"
    tokens: int
    duration: int
    status: Literal["completed", "aborted", "failed"]
    usage: dict[str, int]
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUpdated(Event):
    """The session's title, model, tools or permission were changed; `changed` holds the new values."""

    name = "session_updated"
    session_id: str
    changed: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked(Event):
    """The first event of a forked session: the messages that it begins with."""

    name = "forked"
    session_id: str
    source_id: str
    messages: list[dict[str, Any]]


#: All events that a session's log may hold.
EVENTS: tuple[type[Event], ...] = (
    TurnStart,
    Step,
    Text,
    Reasoning,
    ToolCall,
    ToolOutput,
    ToolResult,
    PermissionRequest,
    PermissionReply,
    Error,
    Done,
    SessionUpdated,
    Forked,
)
