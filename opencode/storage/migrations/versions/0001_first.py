"""Sessions, turns, messages, the event log, file changes, permission requests and idempotency keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _session_id() -> sa.Column[str]:
    return sa.Column("session_id", sa.Text, sa.ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False)


def _counted(*names: str) -> list[sa.Column[int]]:
    count = sa.Integer().with_variant(sa.BigInteger, "postgresql")
    return [sa.Column(name, count, nullable=False, server_default="0") for name in names]


def upgrade() -> None:
    _sessions()
    _turns()
    _messages()
    _log()


def _sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("resolved_model", sa.Text, nullable=False),
        sa.Column("tools", sa.JSON, nullable=False),
        sa.Column("directory", sa.Text, nullable=False),
        sa.Column("system", sa.Text),
        sa.Column("permission", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("last_message_at", sa.Text),
        *_counted("message_count", "folded_seq", "input", "output", "cached", "turn_ms"),
    )
    op.create_index("sessions_by_owner", "sessions", ["owner", "id"])


def _turns() -> None:
    op.create_table(
        "turns",
        sa.Column("id", sa.Text, primary_key=True),
        _session_id(),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("user_message_id", sa.Text, nullable=False),
        sa.Column("message_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("first_seq", sa.Integer, nullable=False, server_default="0"),
        sa.Column("last_seq", sa.Integer),
        sa.Column("error_code", sa.Text),
        sa.Column("ended_at", sa.Text),
        *_counted("input", "output", "cached", "turn_ms", "crashes", "jumps"),
        sa.Column("lease_until", sa.Float, nullable=False, server_default="0"),
    )
    op.create_index("turns_by_session", "turns", ["session_id", "state"])
    op.create_index("turns_by_state", "turns", ["state"])
    active = sa.text("state IN ('running', 'waiting')")
    op.create_index("turns_active", "turns", ["session_id"], unique=True, sqlite_where=active, postgresql_where=active)


def _messages() -> None:
    op.create_table(
        "messages",
        sa.Column("id", sa.Text, primary_key=True),
        _session_id(),
        sa.Column("turn_id", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        *_counted("tokens"),
        sa.Column("created_at", sa.Text, nullable=False),
    )
    op.create_index("messages_by_session", "messages", ["session_id", "id"])
    op.create_table(
        "parts",
        sa.Column("message_id", sa.Text, sa.ForeignKey("messages.id", ondelete="CASCADE"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("message_id", "position"),
    )


def _log() -> None:
    op.create_table(
        "events",
        _session_id(),
        sa.Column("first_seq", sa.Integer, nullable=False),
        sa.Column("last_seq", sa.Integer, nullable=False),
        sa.Column("frames", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("session_id", "first_seq"),
    )
    op.create_table(
        "file_changes",
        _session_id(),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("before", sa.LargeBinary),
        sa.Column("after", sa.LargeBinary),
        sa.PrimaryKeyConstraint("session_id", "path"),
    )
    op.create_table(
        "permissions",
        sa.Column("id", sa.Text, primary_key=True),
        _session_id(),
        sa.Column("turn_id", sa.Text, nullable=False),
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("tool", sa.Text, nullable=False),
        sa.Column("params", sa.JSON, nullable=False),
        sa.Column("response", sa.Text),
    )
    op.create_index("permissions_by_session", "permissions", ["session_id", "id"])
    op.create_table(
        "idempotency",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("body_hash", sa.Text, nullable=False),
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("turn_id", sa.Text),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("owner", "scope", "key"),
    )
    op.create_index("idempotency_by_age", "idempotency", ["created_at"])
