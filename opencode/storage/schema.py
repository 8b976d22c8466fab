"""Tables. A change here needs a migration beside it, and a new `HEAD`; a test compares the two."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

#: The revision that this code needs (the newest file in `migrations/versions`).
HEAD = "0007"

metadata = MetaData()

#: SQLite's integers have 64 bits by themselves.
Count = Integer().with_variant(BigInteger, "postgresql")


#: A code point that Unicode keeps for a program's own use, and what stands for NUL and for itself in PostgreSQL.
_MARK = "\ufdd0"
_STANDS_FOR_NUL, _STANDS_FOR_MARK = f"{_MARK}0", f"{_MARK}1"


class Said(TypeDecorator[str]):
    """Text that people and models write. PostgreSQL takes no NUL in it: there two other characters stand for it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if dialect.name == "postgresql" and isinstance(value, str):
            return value.replace(_MARK, _STANDS_FOR_MARK).replace("\0", _STANDS_FOR_NUL)
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        if dialect.name == "postgresql" and isinstance(value, str) and _MARK in value:
            return value.replace(_STANDS_FOR_NUL, "\0").replace(_STANDS_FOR_MARK, _MARK)
        return value


sessions = Table(
    "sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("title", Said, nullable=False),
    Column("model", Said),
    Column("resolved_model", Said, nullable=False),
    Column("tools", JSON, nullable=False),
    Column("directory", Text, nullable=False),
    Column("system", Said),
    Column("permission", JSON, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("last_message_at", Text),
    Column("message_count", Count, nullable=False, server_default="0"),
    Column("folded_seq", Count, nullable=False, server_default="0"),
    Column("input", Count, nullable=False, server_default="0"),
    Column("output", Count, nullable=False, server_default="0"),
    Column("cached", Count, nullable=False, server_default="0"),
    Column("turn_ms", Count, nullable=False, server_default="0"),
    Index("sessions_by_owner", "owner", "id"),
)


def _session_id() -> Column[str]:
    return Column("session_id", Text, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False)


turns = Table(
    "turns",
    metadata,
    Column("id", Text, primary_key=True),
    _session_id(),
    Column("owner", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("model", Said, nullable=False),
    Column("content", Said, nullable=False),
    Column("user_message_id", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("first_seq", Integer, nullable=False, server_default="0"),
    Column("last_seq", Integer),
    Column("error_code", Text),
    Column("ended_at", Text),
    Column("input", Count, nullable=False, server_default="0"),
    Column("output", Count, nullable=False, server_default="0"),
    Column("cached", Count, nullable=False, server_default="0"),
    Column("turn_ms", Count, nullable=False, server_default="0"),
    Column("crashes", Count, nullable=False, server_default="0"),
    Column("jumps", Count, nullable=False, server_default="0"),
    # Somebody has asked to stop it; whoever works on it sees that when it renews its lease.
    Column("stop", Integer, nullable=False, server_default="0"),
    # Seconds since the epoch: until then the turn belongs to the process that works on it.
    Column("lease_until", Float, nullable=False, server_default="0"),
    # Both begin with what is asked for by value: a partial index would serve literals only, and the values are bound.
    Index("turns_by_session", "session_id", "state"),
    Index("turns_by_state", "state"),
    # One active turn a session, held by the store itself.
    Index(
        "turns_active",
        "session_id",
        unique=True,
        # PostgreSQL's is the same, said in `migrations/env.py`: its dialect takes long to load.
        sqlite_where=text("state IN ('running', 'waiting')"),
    ),
)

messages = Table(
    "messages",
    metadata,
    Column("id", Text, primary_key=True),
    _session_id(),
    Column("turn_id", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("content", Said, nullable=False),
    Column("status", Text, nullable=False),
    Column("tokens", Count, nullable=False, server_default="0"),
    Column("created_at", Text, nullable=False),
    Index("messages_by_session", "session_id", "id"),
)

parts = Table(
    "parts",
    metadata,
    Column("message_id", Text, ForeignKey("messages.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("body", JSON, nullable=False),
    PrimaryKeyConstraint("message_id", "position"),
)

#: The log: a row holds a batch of frames, as they were written together.
events = Table(
    "events",
    metadata,
    _session_id(),
    Column("first_seq", Integer, nullable=False),
    Column("last_seq", Integer, nullable=False),
    Column("frames", LargeBinary, nullable=False),
    PrimaryKeyConstraint("session_id", "first_seq"),
)

#: Rows for `events` that are not there yet, in the order in which they came (see `unsettled`). It has no index and no
#: foreign key: each would cost what it is there to save.
pieces = Table(
    "pieces",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("session_id", Text, nullable=False),
    Column("first_seq", Integer, nullable=False),
    Column("last_seq", Integer, nullable=False),
    Column("frames", LargeBinary, nullable=False),
)

file_changes = Table(
    "file_changes",
    metadata,
    _session_id(),
    Column("path", Text, nullable=False),
    Column("before", LargeBinary),
    Column("after", LargeBinary),
    PrimaryKeyConstraint("session_id", "path"),
)

permissions = Table(
    "permissions",
    metadata,
    Column("id", Text, primary_key=True),
    _session_id(),
    Column("turn_id", Text, nullable=False),
    Column("call_id", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("params", JSON, nullable=False),
    Column("response", Text),
    Index("permissions_by_session", "session_id", "id"),
)

#: What each owner has spent in all; it stays when sessions are deleted.
spending = Table(
    "spending",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("tokens", BigInteger, nullable=False, server_default="0"),
    Column("turn_ms", BigInteger, nullable=False, server_default="0"),
)

#: What was answered to requests with an `Idempotency-Key`.
idempotency = Table(
    "idempotency",
    metadata,
    Column("owner", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("key", Said, nullable=False),
    Column("body_hash", Text, nullable=False),
    Column("session_id", Text, nullable=False),
    Column("turn_id", Text),
    Column("created_at", Float, nullable=False),
    PrimaryKeyConstraint("owner", "scope", "key"),
    Index("idempotency_by_age", "created_at"),
)

#: Keys that the server made for itself.
secrets = Table(
    "secrets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

#: What happens once: a code was used, a sign-in was ended. Seconds since the epoch say until when it matters.
marks = Table(
    "marks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("until", Float, nullable=False),
    Index("marks_by_age", "until"),
)

#: Webhooks that have not arrived yet; times are seconds since the epoch.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("created_at", Float, nullable=False),
    Column("due_at", Float, nullable=False),
    Index("webhooks_by_time", "due_at"),
)

#: Shared screens. `id` is also the epoch of its events' ids; `size` counts the bytes of all events that it ever had.
screens = Table(
    "screens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("number", BigInteger, nullable=False, server_default="0"),
    Column("size", BigInteger, nullable=False, server_default="0"),
    Column("text", Said, nullable=False, server_default=""),
    Column("cursor", Integer, nullable=False, server_default="0"),
    Column("history", JSON, nullable=False),
    Column("place", Integer, nullable=False, server_default="0"),
    Column("draft", Said, nullable=False, server_default=""),
    # No foreign key: what showed a session shows its deletion by an event of its own, which says what came before.
    Column("session_id", Text),
    Column("model", Text),
    # Seconds since the epoch.
    Column("used_at", Float, nullable=False),
    Index("screens_by_owner", "owner", "name", unique=True),
)


def _screen_id() -> Column[str]:
    return Column("screen_id", Text, ForeignKey("screens.id", ondelete="CASCADE"), nullable=False)


#: The newest events of screens, without those of their sessions; `ends_at` is the screen's `size` behind each.
screen_events = Table(
    "screen_events",
    metadata,
    _screen_id(),
    Column("number", BigInteger, nullable=False),
    Column("ends_at", BigInteger, nullable=False),
    Column("session_id", Text),
    Column("seq", Count, nullable=False),
    Column("next_session_id", Text),
    Column("next_seq", Count, nullable=False),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("screen_id", "number"),
)

#: Processes in which somebody looks at a screen; it counts until then, in seconds since the epoch.
screen_lookers = Table(
    "screen_lookers",
    metadata,
    _screen_id(),
    Column("looker", Text, nullable=False),
    Column("until", Float, nullable=False),
    PrimaryKeyConstraint("screen_id", "looker"),
)
