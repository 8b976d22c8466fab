"""The events of a session's log as a client sees them (API section 3).

Each has `seq`, its number in the log (None for `session_deleted`, which is not part of it), `name`, and `data`, as the
server sent it. What this version knows is read into attributes; an event that it does not know is an `Event`.
"""

from typing import Any

import msgspec

from opencode.client.errors import ProtocolError


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Any event."""

    name: str
    seq: int | None
    data: dict[str, Any]


class TurnEvent(Event, frozen=True, kw_only=True):
    """An event of a turn."""

    turn_id: str


class TurnStart(TurnEvent, frozen=True, kw_only=True):
    """The first event of every turn: what was asked, the model that is to answer, the title where it gives one."""

    content: str
    message_id: str
    model: str
    title: str | None = None


class Step(TurnEvent, frozen=True, kw_only=True):
    """Before each call of the model; text and reasoning from `discards_from` on are void."""

    step: int
    attempt: int
    discards_from: int | None = None


class Text(TurnEvent, frozen=True, kw_only=True):
    """A piece of the answer, as it came."""

    content: str


class Reasoning(TurnEvent, frozen=True, kw_only=True):
    """A piece of the model's reasoning, where it gives it."""

    content: str


class ToolCall(TurnEvent, frozen=True, kw_only=True):
    """The model wants a tool run."""

    tool: str
    params: dict[str, Any]
    call_id: str


class ToolOutput(TurnEvent, frozen=True, kw_only=True):
    """Live output of a tool that runs."""

    call_id: str
    content: str


class ToolResult(TurnEvent, frozen=True, kw_only=True):
    """What the tool gave back to the model."""

    result: str
    tool: str
    call_id: str
    is_error: bool


class PermissionRequest(TurnEvent, frozen=True, kw_only=True):
    """The turn waits for a yes or no to this very call: `Client.answer_permission`."""

    permission_id: str
    tool: str
    params: dict[str, Any]
    call_id: str


class PermissionReply(TurnEvent, frozen=True, kw_only=True):
    """The answer to a permission request."""

    permission_id: str
    response: str


class Error(TurnEvent, frozen=True, kw_only=True):
    """What ended the turn early; a `done` follows."""

    message: str
    code: str


class Done(TurnEvent, frozen=True, kw_only=True):
    """The last event of every turn, exactly once. `duration` is in milliseconds."""

    tokens: int
    duration: int
    status: str
    usage: dict[str, int]
    events: int


class SessionUpdated(Event, frozen=True, kw_only=True):
    """The session's title, model, tools or permission were changed; `changed` holds the new values."""

    session_id: str
    changed: dict[str, Any]


class Forked(Event, frozen=True, kw_only=True):
    """The first event of a forked session: the messages that it begins with."""

    session_id: str
    source_id: str
    messages: list[dict[str, Any]]


class SessionDeleted(Event, frozen=True, kw_only=True):
    """The last event of a deleted session's stream."""

    session_id: str


#: By name on the wire.
EVENTS: dict[str, type[Event]] = {
    "turn_start": TurnStart,
    "step": Step,
    "text": Text,
    "reasoning": Reasoning,
    "tool_call": ToolCall,
    "tool_output": ToolOutput,
    "tool_result": ToolResult,
    "permission_request": PermissionRequest,
    "permission_reply": PermissionReply,
    "error": Error,
    "done": Done,
    "session_updated": SessionUpdated,
    "forked": Forked,
    "session_deleted": SessionDeleted,
}


def parse_event(name: str, seq: int | None, data: bytes) -> Event:
    """Read an event.

    Raises:
        ProtocolError: its data is no JSON object, or lacks what an event of that name has.
    """
    try:
        fields = msgspec.json.decode(data, type=dict[str, Any])
        return msgspec.convert({**fields, "name": name, "seq": seq, "data": fields}, EVENTS.get(name, Event))
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ProtocolError(f"The event {name} {seq or ''} cannot be read: {exc}") from exc
