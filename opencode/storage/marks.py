"""Secrets and marks (`port.SecretStore`), inside the store's transactions."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from opencode.storage.schema import marks, secrets

_KEEP_SECRET = sa.text("INSERT INTO secrets (name, value) VALUES (:name, :value) ON CONFLICT DO NOTHING")
_SET_MARK = sa.text("INSERT INTO marks (name, until) VALUES (:name, :until) ON CONFLICT DO NOTHING")


def secret(connection: Connection, name: str, fresh: bytes) -> bytes:
    """The stored secret, which is `fresh` where there was none."""
    connection.execute(_KEEP_SECRET, {"name": name, "value": fresh})
    kept: bytes = connection.execute(sa.select(secrets.c.value).where(secrets.c.name == name)).scalar_one()
    return kept


def mark(connection: Connection, name: str, *, now: float, until: float) -> bool:
    """Set the mark, and forget those whose time is over; False where it stood already."""
    connection.execute(marks.delete().where(marks.c.until < now))
    return connection.execute(_SET_MARK, {"name": name, "until": until}).rowcount == 1
