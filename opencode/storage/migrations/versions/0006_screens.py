"""Shared screens, which lived in memory before."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_COUNT = sa.Integer().with_variant(sa.BigInteger, "postgresql")


def upgrade() -> None:
    op.create_table(
        "screens",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("size", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("text", sa.Text, nullable=False, server_default=""),
        sa.Column("cursor", sa.Integer, nullable=False, server_default="0"),
        sa.Column("history", sa.JSON, nullable=False),
        sa.Column("place", sa.Integer, nullable=False, server_default="0"),
        sa.Column("draft", sa.Text, nullable=False, server_default=""),
        sa.Column("session_id", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("used_at", sa.Float, nullable=False),
    )
    op.create_index("screens_by_owner", "screens", ["owner", "name"], unique=True)
    op.create_table(
        "screen_events",
        _screen_id(),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("ends_at", sa.BigInteger, nullable=False),
        sa.Column("session_id", sa.Text),
        sa.Column("seq", _COUNT, nullable=False),
        sa.Column("next_session_id", sa.Text),
        sa.Column("next_seq", _COUNT, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("screen_id", "number"),
    )
    op.create_table(
        "screen_lookers",
        _screen_id(),
        sa.Column("looker", sa.Text, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("screen_id", "looker"),
    )


def _screen_id() -> sa.Column[str]:
    return sa.Column("screen_id", sa.Text, sa.ForeignKey("screens.id", ondelete="CASCADE"), nullable=False)
