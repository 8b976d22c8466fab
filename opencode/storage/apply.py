"""Carrying out the changes that go with an append, inside its transaction."""

import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Connection

from opencode import changes
from opencode.clock import timestamp
from opencode.errors import KeyTaken, SessionBusy, SessionNotFound, StaleAttempt
from opencode.records import ACTIVE_STATES, WORKED_ON_STATES, Message, RememberedKey, Turn, Usage
from opencode.storage import outbox, port
from opencode.storage.schema import file_changes, idempotency, messages, parts, permissions, sessions, spending, turns

#: Turns that may wait in one session (API section 3).
_QUEUE = 20
#: How long an idempotency key is kept (API section 3).
KEY_LIFE_S = 24 * 3600.0
_SPENT = ("input", "output", "cached", "turn_ms")
_other_turns = turns.alias()


def apply(connection: Connection, change: changes.Change, committed: port.Committed) -> None:
    """Carry out one change.

    Raises:
        SessionBusy: a turn is to start while another is active.
        SessionNotFound: the session to update is gone.
    """
    _HANDLERS[type(change)](connection, change, committed)


def _upsert(connection: Connection, table: sa.Table) -> Any:
    # Both dialects offer the same methods, but share no type.
    return (postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert)(table)


def _start_turn(connection: Connection, change: changes.StartTurn, committed: port.Committed) -> None:
    turn = change.turn
    busy = connection.execute(
        sa.select(turns.c.id).where(turns.c.session_id == turn.session_id, turns.c.state.in_(ACTIVE_STATES))
    ).scalar()
    if busy is not None:
        raise SessionBusy(f"Session {turn.session_id} is working on turn {busy}: wait for its `done`, or abort it.")
    row = _turn_row(turn) | {"first_seq": committed.first_seq, "lease_until": change.lease_until}
    connection.execute(turns.insert().values(row))
    _add_messages(connection, turn, change.user, change.assistant)


def _queue_turn(connection: Connection, change: changes.QueueTurn, _committed: port.Committed) -> None:
    turn = change.turn
    waiting = connection.execute(
        sa.select(sa.func.count()).where(turns.c.session_id == turn.session_id, turns.c.state == "queued")
    ).scalar_one()
    if waiting >= _QUEUE:
        raise SessionBusy(f"{_QUEUE} turns wait in session {turn.session_id} already: wait for one to begin.")
    connection.execute(turns.insert().values(_turn_row(turn)))


def _activate_turn(connection: Connection, change: changes.ActivateTurn, committed: port.Committed) -> None:
    turn = change.turn
    running = sa.exists().where(
        _other_turns.c.session_id == turn.session_id, _other_turns.c.state.in_(WORKED_ON_STATES)
    )
    begun = connection.execute(
        turns.update()
        .where(turns.c.id == turn.id, turns.c.state == "queued", sa.or_(sa.literal(change.ends), ~running))
        .values(
            state="aborted" if change.ends else "running",
            first_seq=committed.first_seq,
            lease_until=change.lease_until,
            user_message_id=change.user.id,
            message_id=change.assistant.id,
        )
    )
    if begun.rowcount != 1:
        raise StaleAttempt(f"turn {turn.id} is not the next one")
    _add_messages(connection, turn, change.user, change.assistant)


def _hand_back(connection: Connection, change: changes.HandBack, _committed: port.Committed) -> None:
    connection.execute(turns.update().where(turns.c.id == change.turn_id).values(state="queued"))


def _remember_key(connection: Connection, change: changes.RememberKey, _committed: port.Committed) -> None:
    remember(connection, change.remembered)


def remember(connection: Connection, remembered: RememberedKey) -> None:
    """Store an idempotency key, and forget those that are over a day old; `KeyTaken` where it is known."""
    now = time.time()
    connection.execute(idempotency.delete().where(idempotency.c.created_at < now - KEY_LIFE_S))
    # The count of rows is not known of such an insert by every driver.
    statement = _upsert(connection, idempotency).on_conflict_do_nothing().returning(idempotency.c.key)
    found = connection.execute(
        statement,
        {
            "owner": remembered.owner,
            "scope": remembered.scope,
            "key": remembered.key,
            "body_hash": remembered.body_hash,
            "session_id": remembered.session_id,
            "turn_id": remembered.turn_id,
            "created_at": now,
        },
    )
    if found.first() is None:
        raise KeyTaken("this Idempotency-Key was used before")


def _put_messages(connection: Connection, change: changes.PutMessages, _committed: port.Committed) -> None:
    if not change.messages:
        return
    connection.execute(messages.insert(), [_message_row(message) for message in change.messages])
    for message in change.messages:
        if message.parts:
            put = changes.PutParts(message.id, tuple(enumerate(message.parts)))
            _put_parts(connection, put, _committed)
    last = change.messages[-1]
    connection.execute(
        sessions.update()
        .where(sessions.c.id == last.session_id)
        .values(last_message_at=last.created_at, message_count=len(change.messages))
    )


def _turn_row(turn: Turn) -> dict[str, Any]:
    return {
        "id": turn.id,
        "session_id": turn.session_id,
        "owner": turn.owner,
        "state": turn.state,
        "attempt": turn.attempt,
        "model": turn.model,
        "content": turn.content,
        "user_message_id": turn.user_message_id,
        "message_id": turn.message_id,
        "created_at": turn.created_at,
        "jumps": int(turn.jumps),
    }


def _add_messages(connection: Connection, turn: Turn, *added: Message) -> None:
    connection.execute(messages.insert(), [_message_row(message) for message in added])
    connection.execute(
        sessions.update()
        .where(sessions.c.id == turn.session_id)
        .values(last_message_at=timestamp(), message_count=sessions.c.message_count + len(added))
    )


def _message_row(message: Message) -> dict[str, Any]:
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


def _put_parts(connection: Connection, change: changes.PutParts, _committed: port.Committed) -> None:
    statement = _upsert(connection, parts)
    statement = statement.on_conflict_do_update(
        index_elements=["message_id", "position"], set_={"body": statement.excluded.body}
    )
    connection.execute(
        statement,
        [{"message_id": change.message_id, "position": position, "body": body} for position, body in change.parts],
    )


def _fold_message(connection: Connection, change: changes.FoldMessage, _committed: port.Committed) -> None:
    usage = change.usage
    connection.execute(
        messages.update().where(messages.c.id == change.message_id).values(content=change.content, tokens=usage.tokens)
    )
    _spend(connection, change.turn_id, usage)


def _spend(connection: Connection, turn_id: str, usage: Usage) -> None:
    """Bring the turn to `usage`, and its session and owner by the difference: step by step, for a crash loses the rest.

    The owner's own row outlives the session: deleting gives nothing back.
    """
    row = connection.execute(
        sa.select(turns.c.session_id, turns.c.owner, *(turns.c[name] for name in _SPENT)).where(turns.c.id == turn_id)
    ).one()
    now = {name: getattr(usage, name) for name in _SPENT}
    more = {name: value - row._mapping[name] for name, value in now.items()}  # noqa: SLF001 - SQLAlchemy's public name
    if not any(more.values()):
        return
    connection.execute(turns.update().where(turns.c.id == turn_id).values(**now))
    connection.execute(
        sessions.update()
        .where(sessions.c.id == row.session_id)
        .values(**{name: sessions.c[name] + value for name, value in more.items()})
    )
    statement = _upsert(connection, spending)
    added = {"tokens": more["input"] + more["output"], "turn_ms": more["turn_ms"]}
    statement = statement.on_conflict_do_update(
        index_elements=["owner"], set_={name: spending.c[name] + statement.excluded[name] for name in added}
    )
    connection.execute(statement, {"owner": row.owner, **added})


def _set_turn_state(connection: Connection, change: changes.SetTurnState, _committed: port.Committed) -> None:
    connection.execute(turns.update().where(turns.c.id == change.turn_id).values(state=change.state))


def _end_turn(connection: Connection, change: changes.EndTurn, committed: port.Committed) -> None:
    usage, now = change.usage, timestamp()
    _spend(connection, change.turn_id, usage)
    connection.execute(
        turns.update()
        .where(turns.c.id == change.turn_id)
        .values(state=change.state, error_code=change.error_code, ended_at=now, last_seq=committed.last_seq)
    )
    connection.execute(
        messages.update().where(messages.c.id == change.message_id).values(status=change.state, tokens=usage.tokens)
    )
    # Nobody waits for these any more: a late answer must not grant anything.
    connection.execute(
        permissions.update()
        .where(permissions.c.turn_id == change.turn_id, permissions.c.response.is_(None))
        .values(response="reject")
    )
    connection.execute(sessions.update().where(sessions.c.id == change.session_id).values(last_message_at=now))


def _update_session(connection: Connection, change: changes.UpdateSession, _committed: port.Committed) -> None:
    values = dict(change.values)
    if "tools" in values:
        values["tools"] = list(values["tools"])
    found = connection.execute(sessions.update().where(sessions.c.id == change.session_id).values(**values))
    if found.rowcount != 1:
        raise SessionNotFound(change.session_id)


def _put_file_changes(connection: Connection, change: changes.PutFileChanges, _committed: port.Committed) -> None:
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


def _ask_permission(connection: Connection, change: changes.AskPermission, _committed: port.Committed) -> None:
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


def _forget_always(connection: Connection, change: changes.ForgetAlways, _committed: port.Committed) -> None:
    connection.execute(
        permissions.update()
        .where(permissions.c.session_id == change.session_id, permissions.c.response == "always")
        .values(response="once")
    )


_HANDLERS: dict[type, Callable[[Connection, Any, port.Committed], None]] = {
    changes.StartTurn: _start_turn,
    changes.QueueTurn: _queue_turn,
    changes.ActivateTurn: _activate_turn,
    changes.HandBack: _hand_back,
    changes.RememberKey: _remember_key,
    changes.PutMessages: _put_messages,
    changes.PutParts: _put_parts,
    changes.FoldMessage: _fold_message,
    changes.SetTurnState: _set_turn_state,
    changes.EndTurn: _end_turn,
    changes.UpdateSession: _update_session,
    changes.PutFileChanges: _put_file_changes,
    changes.AskPermission: _ask_permission,
    changes.ForgetAlways: _forget_always,
    changes.PutWebhooks: outbox.put,
}
