"""The rows of webhooks that have not arrived yet."""

import time

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from opencode import changes, frames, records
from opencode.clock import timestamp
from opencode.ids import new_id
from opencode.storage import port
from opencode.storage.schema import webhooks

#: Longer than a delivery may take; after that it is another process's, since the one that took it may be dead.
_TAKEN_S = 120.0


def put(connection: Connection, change: changes.PutWebhooks, committed: port.Committed) -> None:
    """Store one row for each URL, from the event of this append."""
    mark = b"\nevent: %b\n" % change.event.encode()
    frame = next((own for own in reversed(committed.frames) if mark in own), None)
    if frame is None:
        return  # a turn that ends without a word of it, such as one that another attempt took over
    _seq, _event, data = frames.parse(frame)
    body = {"type": change.kind, "timestamp": timestamp(), "data": {"session_id": change.session_id, **data}}
    now = time.time()
    connection.execute(
        webhooks.insert(),
        [
            {"id": new_id("whk"), "url": url, "body": orjson.dumps(body), "created_at": now, "due_at": now}
            for url in change.urls
        ],
    )


def next_row(connection: Connection, resting: tuple[str, ...]) -> records.Webhook | None:
    """The one that is due first, of receivers that do not rest."""
    query = (
        sa.select(webhooks).where(webhooks.c.url.not_in(resting)).order_by(webhooks.c.due_at, webhooks.c.id).limit(1)
    )
    row = connection.execute(query).first()
    return None if row is None else records.Webhook(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name


def take_row(connection: Connection, resting: tuple[str, ...]) -> records.Webhook | None:
    """As `next_row`, where several processes deliver: one that is due is nobody else's for a while."""
    now = time.time()
    due = (
        sa.select(webhooks)
        .where(webhooks.c.due_at <= now, webhooks.c.url.not_in(resting))
        .order_by(webhooks.c.due_at, webhooks.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = connection.execute(due).first()
    if row is None:
        return next_row(connection, resting)
    connection.execute(webhooks.update().where(webhooks.c.id == row.id).values(due_at=now + _TAKEN_S))
    return records.Webhook(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name


def remove(connection: Connection, webhook_id: str) -> None:
    connection.execute(webhooks.delete().where(webhooks.c.id == webhook_id))


def postpone(connection: Connection, webhook_id: str, due_at: float) -> None:
    connection.execute(
        webhooks.update().where(webhooks.c.id == webhook_id).values(due_at=due_at, attempts=webhooks.c.attempts + 1)
    )
