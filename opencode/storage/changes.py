"""Carrying out the changes that go with an append, inside its transaction."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Connection

from opencode import records
from opencode.clock import timestamp
from opencode.errors import SessionBusy, SessionNotFound
from opencode.records import ACTIVE_STATES
from opencode.storage import port
from opencode.storage.schema import file_changes, messages, parts, permissions, sessions, turns


def apply(connection: Connection, change: port.Change, committed: port.Committed) -> None:
    """Carry out one change.

    Raises:
        SessionBusy: a turn is to start while another is active.
        SessionNotFound: the session to update is gone.
    """
    _HANDLERS[type(change)](connection, change, committed)


def _upsert(connection: Connection, table: sa.Table) -> Any:
    # Both dialects offer the same methods, but share no type.
    return (postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert)(table)


def _start_turn(connection: Connection, change: port.StartTurn, committed: port.Committed) -> None:
    turn = change.turn
    busy = connection.execute(
        sa.select(turns.c.id).where(turns.c.session_id == turn.session_id, turns.c.state.in_(ACTIVE_STATES))
    ).scalar()
    if busy is not None:
        raise SessionBusy(f"Session {turn.session_id} is working on turn {busy}: wait for its `done`, or abort it.")
    connection.execute(
        turns.insert().values(
            id=turn.id,
            session_id=turn.session_id,
            owner=turn.owner,
            state=turn.state,
            attempt=turn.attempt,
            model=turn.model,
            content=turn.content,
            user_message_id=turn.user_message_id,
            message_id=turn.message_id,
            created_at=turn.created_at,
            first_seq=committed.first_seq,
        )
    )
    connection.execute(messages.insert(), [_message_row(change.user), _message_row(change.assistant)])
    connection.execute(
        sessions.update()
        .where(sessions.c.id == turn.session_id)
        .values(last_message_at=turn.created_at, message_count=sessions.c.message_count + 2)
    )


def _message_row(message: records.Message) -> dict[str, Any]:
    return {
        "id": message.id,
        "session_id": message.session_id,
        "turn_id": message.turn_id,
        "role": message.role,
        "content": message.content,
        "status": message.status,
        "tokens": message.tokens,
        "created_at": message.created_at,
    }


def _put_parts(connection: Connection, change: port.PutParts, _committed: port.Committed) -> None:
    statement = _upsert(connection, parts)
    statement = statement.on_conflict_do_update(
        index_elements=["message_id", "position"], set_={"body": statement.excluded.body}
    )
    connection.execute(
        statement,
        [{"message_id": change.message_id, "position": position, "body": body} for position, body in change.parts],
    )


def _fold_message(connection: Connection, change: port.FoldMessage, _committed: port.Committed) -> None:
    usage = change.usage
    connection.execute(
        messages.update().where(messages.c.id == change.message_id).values(content=change.content, tokens=usage.tokens)
    )
    connection.execute(
        turns.update()
        .where(turns.c.id == change.turn_id)
        .values(input=usage.input, output=usage.output, cached=usage.cached)
    )


def _set_turn_state(connection: Connection, change: port.SetTurnState, _committed: port.Committed) -> None:
    connection.execute(turns.update().where(turns.c.id == change.turn_id).values(state=change.state))


def _end_turn(connection: Connection, change: port.EndTurn, committed: port.Committed) -> None:
    usage, now = change.usage, timestamp()
    spent = {"input": usage.input, "output": usage.output, "cached": usage.cached, "turn_ms": usage.turn_ms}
    connection.execute(
        turns.update()
        .where(turns.c.id == change.turn_id)
        .values(state=change.state, error_code=change.error_code, ended_at=now, last_seq=committed.last_seq, **spent)
    )
    connection.execute(
        messages.update().where(messages.c.id == change.message_id).values(status=change.state, tokens=usage.tokens)
    )
    connection.execute(
        sessions.update()
        .where(sessions.c.id == change.session_id)
        .values(last_message_at=now, **{name: sessions.c[name] + value for name, value in spent.items()})
    )


def _update_session(connection: Connection, change: port.UpdateSession, _committed: port.Committed) -> None:
    values = dict(change.values)
    if "tools" in values:
        values["tools"] = list(values["tools"])
    found = connection.execute(sessions.update().where(sessions.c.id == change.session_id).values(**values))
    if found.rowcount != 1:
        raise SessionNotFound(change.session_id)


def _put_file_changes(connection: Connection, change: port.PutFileChanges, _committed: port.Committed) -> None:
    statement = _upsert(connection, file_changes)
    statement = statement.on_conflict_do_update(
        index_elements=["session_id", "path"], set_={"after": statement.excluded.after}
    )
    connection.execute(
        statement,
        [
            {"session_id": change.session_id, "path": path, "before": before, "after": after}
            for path, before, after in change.changes
        ],
    )


def _ask_permission(connection: Connection, change: port.AskPermission, _committed: port.Committed) -> None:
    connection.execute(
        permissions.insert().values(
            id=change.permission_id,
            session_id=change.session_id,
            turn_id=change.turn_id,
            call_id=change.call_id,
            tool=change.tool,
            params=change.params,
        )
    )


_HANDLERS: dict[type, Callable[[Connection, Any, port.Committed], None]] = {
    port.StartTurn: _start_turn,
    port.PutParts: _put_parts,
    port.FoldMessage: _fold_message,
    port.SetTurnState: _set_turn_state,
    port.EndTurn: _end_turn,
    port.UpdateSession: _update_session,
    port.PutFileChanges: _put_file_changes,
    port.AskPermission: _ask_permission,
}
