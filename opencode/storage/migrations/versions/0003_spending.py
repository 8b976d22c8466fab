"""What each owner has spent, beginning with what the sessions that are there have used."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "spending",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("tokens", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("turn_ms", sa.BigInteger, nullable=False, server_default="0"),
    )
    op.execute(
        "INSERT INTO spending (owner, tokens, turn_ms)"
        " SELECT owner, SUM(input + output), SUM(turn_ms) FROM sessions GROUP BY owner"
    )
