"""A client for the HTTP API: sessions, turns as streams that survive lost connections, permissions.

    from opencode.client import Client, Text

    with Client("http://localhost:3000", token=None) as client:
        session = client.create_session(directory="/path/of/a/project")
        with client.turn(session.session_id, "run the tests") as turn:
            for event in turn:
                if isinstance(event, Text):
                    print(event.content, end="", flush=True)

docs/client.md has more.
"""

from opencode.client.answers import (
    AskedPermission,
    Budget,
    Budgets,
    Health,
    Message,
    Model,
    ModelList,
    Session,
    SessionDetail,
    SessionPage,
    SessionSummary,
    TurnAccepted,
    TurnAnswer,
    Usage,
)
from opencode.client.client import Client
from opencode.client.errors import ApiError, ClientError, ProtocolError, StreamLost, Unreachable
from opencode.client.events import (
    Done,
    Error,
    Event,
    Forked,
    PermissionReply,
    PermissionRequest,
    Reasoning,
    SessionDeleted,
    SessionUpdated,
    Step,
    Text,
    ToolCall,
    ToolOutput,
    ToolResult,
    TurnEvent,
    TurnStart,
)
from opencode.client.stream import EventStream, Following, Replay
from opencode.client.turn import Turn

__all__ = [
    "ApiError",
    "AskedPermission",
    "Budget",
    "Budgets",
    "Client",
    "ClientError",
    "Done",
    "Error",
    "Event",
    "EventStream",
    "Following",
    "Forked",
    "Health",
    "Message",
    "Model",
    "ModelList",
    "PermissionReply",
    "PermissionRequest",
    "ProtocolError",
    "Reasoning",
    "Replay",
    "Session",
    "SessionDeleted",
    "SessionDetail",
    "SessionPage",
    "SessionSummary",
    "SessionUpdated",
    "Step",
    "StreamLost",
    "Text",
    "ToolCall",
    "ToolOutput",
    "ToolResult",
    "Turn",
    "TurnAccepted",
    "TurnAnswer",
    "TurnEvent",
    "TurnStart",
    "Unreachable",
    "Usage",
]
