"""The hottest statements of the program."""

import functools
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection

from opencode.records import ACTIVE_STATES
from opencode.storage.schema import messages, parts, permissions, sessions, spending, turns

# As text: building them anew costs more than the insert itself. The guard stands
# in the same statement, so that a writer that lost its turn or session inserts nothing, whenever it wakes up.
_SESSION = "SELECT 1 FROM sessions WHERE id = :session"
_TURN = "SELECT 1 FROM turns WHERE id = :turn AND attempt = :attempt AND state IN ('running', 'waiting')"
_INSERT = "INSERT INTO events (session_id, first_seq, last_seq, frames) SELECT :session, :first, :last, :frames"
INSERT_BY_SESSION = sa.text(f"{_INSERT} WHERE EXISTS ({_SESSION})")
INSERT_BY_TURN = sa.text(f"{_INSERT} WHERE EXISTS ({_TURN})")
SESSION_STANDS = sa.text(_SESSION)
TURN_STANDS = sa.text(_TURN)
FOLDED = sa.text("UPDATE sessions SET folded_seq = :last WHERE id = :session")
#: An event beside a turn, such as `session_updated`, is no reason to skip what the turn has not folded yet.
FOLDED_NEXT = sa.text("UPDATE sessions SET folded_seq = :last WHERE id = :session AND folded_seq = :first - 1")

#: Changes nothing, and yet must be written: a full disk or a read-only file shows itself.
TOUCH = sa.text("UPDATE alembic_version SET version_num = version_num")

STANDING = sa.text("SELECT id, attempt FROM turns WHERE state IN ('running', 'waiting')")
INSERT_ROW = sa.text(
    "INSERT INTO events (session_id, first_seq, last_seq, frames) VALUES (:session, :first, :last, :frames)"
)
INSERT_PIECE = sa.text(
    "INSERT INTO pieces (id, session_id, first_seq, last_seq, frames) VALUES (:id, :session, :first, :last, :frames)"
)
DELETE_PIECES = sa.text("DELETE FROM pieces WHERE session_id = :session")

#: The row that holds the first one wanted is found by the key, so that a long log is not read from its beginning.
READ = sa.text(
    "SELECT first_seq, last_seq, frames FROM events WHERE session_id = :session AND last_seq > :after AND first_seq >="
    " COALESCE((SELECT first_seq FROM events WHERE session_id = :session AND first_seq <= :after + 1"
    " ORDER BY first_seq DESC LIMIT 1), 0) ORDER BY first_seq LIMIT :rows"
)

#: What is counted of a turn, and of all turns of a session.
SPENT = ("input", "output", "cached", "turn_ms")

# What every turn executes is built once: to build a statement costs more than to execute it. An update without values
# sets the columns that its parameters name.
OF: sa.BindParameter[str] = sa.bindparam("of")
ACTIVE_TURN = sa.select(turns.c.id).where(
    turns.c.session_id == OF, sa.or_(*(turns.c.state == state for state in ACTIVE_STATES))
)
TURN = turns.update().where(turns.c.id == OF)
MESSAGE = messages.update().where(messages.c.id == OF)
SESSION = sessions.update().where(sessions.c.id == OF)
UNANSWERED = permissions.update().where(permissions.c.turn_id == OF, permissions.c.response.is_(None))
INSERT_SESSION, INSERT_TURN, INSERT_MESSAGES = sessions.insert(), turns.insert(), messages.insert()
MORE_MESSAGES = SESSION.values(
    last_message_at=sa.bindparam("now"), message_count=sessions.c.message_count + sa.bindparam("more")
)
SPENT_SO_FAR = sa.select(turns.c.session_id, turns.c.owner, *(turns.c[name] for name in SPENT)).where(turns.c.id == OF)
SPEND = SESSION.values({name: sessions.c[name] + sa.bindparam(f"more_{name}") for name in SPENT})


def upsert(connection: Connection, table: sa.Table) -> Any:
    return _upsert_of(connection.dialect.name, table)


def _upsert_of(dialect: str, table: sa.Table) -> Any:
    # Both dialects offer the same methods, but share no type.
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - an embedded store's start does without

        return postgresql.insert(table)
    return sqlite.insert(table)


@functools.cache
def parts_upsert(dialect: str) -> Any:
    statement = _upsert_of(dialect, parts)
    return statement.on_conflict_do_update(
        index_elements=["message_id", "position"], set_={"body": statement.excluded.body}
    )


@functools.cache
def spending_upsert(dialect: str) -> Any:
    statement = _upsert_of(dialect, spending)
    return statement.on_conflict_do_update(
        index_elements=["owner"],
        set_={name: spending.c[name] + statement.excluded[name] for name in ("tokens", "turn_ms")},
    )
