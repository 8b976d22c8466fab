"""What a turn begins with: its row, its two messages, its first event, and the title that it gives its session."""

from dataclasses import replace
from typing import Any

from opencode.clock import timestamp
from opencode.ids import new_id
from opencode.records import Message, Session, Turn
from opencode.session.events import TurnStart

_TITLE_CHARS = 80


def turn_start(turn: Turn, title: str | None = None) -> TurnStart:
    """Its first event; with the title where the session takes it from this turn."""
    message_id = turn.user_message_id
    return TurnStart(turn_id=turn.id, content=turn.content, message_id=message_id, model=turn.model, title=title)


def new_turn(session: Session, content: str, model: str, *, jumps: bool) -> Turn:
    """A turn that is not stored yet."""
    return Turn(
        id=new_id("trn"),
        session_id=session.id,
        owner=session.owner,
        state="running",
        attempt=1,
        model=model,
        content=content,
        user_message_id=new_id("msg"),
        message_id=new_id("msg"),
        created_at=timestamp(),
        jumps=jumps,
    )


def placed(turn: Turn) -> Turn:
    """A turn that has waited: its messages stand where it runs, not where it was asked for; others may have jumped."""
    return replace(turn, user_message_id=new_id("msg"), message_id=new_id("msg"))


def messages_of(turn: Turn) -> tuple[Message, Message]:
    """The turn's two messages: what was asked, and the answer to be."""
    shared: dict[str, Any] = {"session_id": turn.session_id, "turn_id": turn.id, "created_at": timestamp()}
    user = Message(id=turn.user_message_id, role="user", content=turn.content, **shared)
    return user, Message(id=turn.message_id, role="assistant", content="", status="running", **shared)


def awaited(turn: Turn) -> Message:
    """What stands for the answer of a turn that waits."""
    return replace(messages_of(turn)[1], status="queued")


def title_of(content: str) -> str:
    """What a session is called after its first message; empty where that says nothing."""
    line = next(iter(content.strip().splitlines()), "")
    return line if len(line) <= _TITLE_CHARS else line[: _TITLE_CHARS - 1] + "…"
