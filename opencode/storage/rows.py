"""From rows to what the port promises."""

from typing import Any

from sqlalchemy.engine import Row

from opencode.records import Message, Permission, Session, Turn, Usage
from opencode.storage import port


def _usage(row: Row[Any]) -> Usage:
    return Usage(row.input, row.output, row.cached, row.turn_ms)


def session(row: Row[Any], active_state: str | None) -> Session:
    """`active_state` is the state of the session's active turn, None where it is idle."""
    return Session(
        id=row.id,
        owner=row.owner,
        title=row.title,
        model=row.model,
        resolved_model=row.resolved_model,
        tools=tuple(row.tools),
        directory=row.directory,
        system=row.system,
        permission=row.permission,
        created_at=row.created_at,
        last_message_at=row.last_message_at,
        message_count=row.message_count,
        folded_seq=row.folded_seq,
        usage=_usage(row),
        status="idle" if active_state is None else "waiting" if active_state == "waiting" else "running",
    )


def of_session(session: Session) -> dict[str, Any]:
    """The row of a new session."""
    return {
        "id": session.id,
        "owner": session.owner,
        "title": session.title,
        "model": session.model,
        "resolved_model": session.resolved_model,
        "tools": list(session.tools),
        "directory": session.directory,
        "system": session.system,
        "permission": session.permission,
        "created_at": session.created_at,
    }


def message(row: Row[Any], parts: list[dict[str, Any]], turn: Turn | None = None) -> Message:
    """`turn` is the message's own, where what it says of an answer is wanted."""
    answered = turn if row.role == "assistant" else None
    return Message(
        id=row.id,
        session_id=row.session_id,
        turn_id=row.turn_id,
        role=row.role,
        content=row.content,
        created_at=row.created_at,
        status=row.status,
        tokens=row.tokens,
        parts=tuple(parts),
        model=answered.model if answered else None,
        turn_ms=answered.usage.turn_ms if answered and answered.ended_at else None,
        error_code=answered.error_code if answered else None,
    )


def turn(row: Row[Any]) -> Turn:
    return Turn(
        id=row.id,
        session_id=row.session_id,
        owner=row.owner,
        state=row.state,
        attempt=row.attempt,
        model=row.model,
        content=row.content,
        user_message_id=row.user_message_id,
        message_id=row.message_id,
        created_at=row.created_at,
        first_seq=row.first_seq,
        last_seq=row.last_seq,
        error_code=row.error_code,
        ended_at=row.ended_at,
        usage=_usage(row),
        crashes=row.crashes,
        jumps=bool(row.jumps),
        lease_until=row.lease_until,
        stop=bool(row.stop),
    )


def permission(row: Row[Any]) -> Permission:
    return Permission(
        id=row.id,
        session_id=row.session_id,
        turn_id=row.turn_id,
        call_id=row.call_id,
        tool=row.tool,
        params=row.params,
        response=row.response,
    )


def of_append(append: port.Append, committed: port.Committed) -> dict[str, Any]:
    """The row of the log that holds what was appended together."""
    return {
        "session": append.session_id,
        "first": committed.first_seq,
        "last": committed.last_seq,
        "frames": b"".join(committed.frames),
    }
