"""Carrying out the changes that go with an append, inside its transaction."""

import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from opencode import changes
from opencode.clock import timestamp
from opencode.errors import KeyTaken, SessionBusy, SessionNotFound, StaleAttempt
from opencode.records import WORKED_ON_STATES, Message, RememberedKey, Turn, Usage
from opencode.storage import outbox, port, statements
from opencode.storage.schema import file_changes, idempotency, messages, permissions, sessions, turns

#: Turns that may wait in one session (API section 3).
_QUEUE = 20
#: How long an idempotency key is kept (API section 3).
KEY_LIFE_S = 24 * 3600.0
_other_turns = turns.alias()


def apply(connection: Connection, change: changes.Change, committed: port.Committed) -> None:
    """Carry out one change.

    Raises:
        SessionBusy: a turn is to start while another is active.
        SessionNotFound: the session to update is gone.
    """
    _HANDLERS[type(change)](connection, change, committed)


def _start_turn(connection: Connection, change: changes.StartTurn, committed: port.Committed) -> None:
    turn = change.turn
    busy = connection.execute(statements.ACTIVE_TURN, {"of": turn.session_id}).scalar()
    if busy is not None:
        raise SessionBusy(f"Session {turn.session_id} is working on turn {busy}: wait for its `done`, or abort it.")
    row = _turn_row(turn) | {"first_seq": committed.first_seq, "lease_until": change.lease_until}
    connection.execute(statements.INSERT_TURN, row)
    _add_messages(connection, turn, change.user, change.assistant)


def _queue_turn(connection: Connection, change: changes.QueueTurn, _committed: port.Committed) -> None:
    turn = change.turn
    waiting = connection.execute(
        sa.select(sa.func.count()).where(turns.c.session_id == turn.session_id, turns.c.state == "queued")
    ).scalar_one()
    if waiting >= _QUEUE:
        raise SessionBusy(f"{_QUEUE} turns wait in session {turn.session_id} already: wait for one to begin.")
    connection.execute(statements.INSERT_TURN, _turn_row(turn))


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
    statement = statements.upsert(connection, idempotency).on_conflict_do_nothing().returning(idempotency.c.key)
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
    connection.execute(statements.INSERT_MESSAGES, [_message_row(message) for message in added])
    connection.execute(statements.MORE_MESSAGES, {"of": turn.session_id, "now": timestamp(), "more": len(added)})


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
    connection.execute(
        statements.parts_upsert(connection.dialect.name),
        [{"message_id": change.message_id, "position": position, "body": body} for position, body in change.parts],
    )


def _fold_message(connection: Connection, change: changes.FoldMessage, _committed: port.Committed) -> None:
    usage = change.usage
    connection.execute(statements.MESSAGE, {"of": change.message_id, "content": change.content, "tokens": usage.tokens})
    _spend(connection, change.turn_id, usage)


def _spend(connection: Connection, turn_id: str, usage: Usage) -> None:
    """Bring the turn to `usage`, and its session and owner by the difference: step by step, for a crash loses the rest.

    The owner's own row outlives the session: deleting gives nothing back.
    """
    row = connection.execute(statements.SPENT_SO_FAR, {"of": turn_id}).one()
    now = {name: getattr(usage, name) for name in statements.SPENT}
    more = {name: value - row._mapping[name] for name, value in now.items()}  # noqa: SLF001 - SQLAlchemy's public name
    if not any(more.values()):
        return
    connection.execute(statements.TURN, {"of": turn_id, **now})
    connection.execute(
        statements.SPEND, {"of": row.session_id, **{f"more_{name}": value for name, value in more.items()}}
    )
    added = {"owner": row.owner, "tokens": more["input"] + more["output"], "turn_ms": more["turn_ms"]}
    connection.execute(statements.spending_upsert(connection.dialect.name), added)


def _set_turn_state(connection: Connection, change: changes.SetTurnState, _committed: port.Committed) -> None:
    connection.execute(statements.TURN, {"of": change.turn_id, "state": change.state})


def _end_turn(connection: Connection, change: changes.EndTurn, committed: port.Committed) -> None:
    usage, now = change.usage, timestamp()
    _spend(connection, change.turn_id, usage)
    ended = {"state": change.state, "error_code": change.error_code, "ended_at": now, "last_seq": committed.last_seq}
    connection.execute(statements.TURN, {"of": change.turn_id, **ended})
    connection.execute(statements.MESSAGE, {"of": change.message_id, "status": change.state, "tokens": usage.tokens})
    # Nobody waits for these any more: a late answer must not grant anything.
    connection.execute(statements.UNANSWERED, {"of": change.turn_id, "response": "reject"})
    connection.execute(statements.SESSION, {"of": change.session_id, "last_message_at": now})


def _update_session(connection: Connection, change: changes.UpdateSession, _committed: port.Committed) -> None:
    values = dict(change.values)
    if "tools" in values:
        values["tools"] = list(values["tools"])
    found = connection.execute(statements.SESSION, {"of": change.session_id, **values})
    if found.rowcount != 1:
        raise SessionNotFound(change.session_id)


def _put_file_changes(connection: Connection, change: changes.PutFileChanges, _committed: port.Committed) -> None:
    statement = statements.upsert(connection, file_changes)
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
