"""Turns that somebody has asked to stop, which may run in another process."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("turns", sa.Column("stop", sa.Integer, nullable=False, server_default="0"))
