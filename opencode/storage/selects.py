"""What every request and turn asks of the store, built once: to build a statement costs more than to execute it."""

from typing import Any

import sqlalchemy as sa

from opencode import records
from opencode.storage.schema import events, messages, parts, permissions, sessions, turns

ACTIVE = (
    sa.select(turns.c.state)
    .where(turns.c.session_id == sessions.c.id, sa.or_(*(turns.c.state == state for state in records.WORKED_ON_STATES)))
    .limit(1)
    .scalar_subquery()
    .label("active_state")
)
_OF: sa.BindParameter[str] = sa.bindparam("of")
SESSION = sa.select(sessions, ACTIVE).where(sessions.c.id == _OF, sessions.c.owner == sa.bindparam("owner"))
LAST_SEQ = sa.select(events.c.last_seq).where(events.c.session_id == _OF).order_by(events.c.first_seq.desc()).limit(1)
ENDS = sa.select(
    sessions.c.id,
    sa.select(events.c.last_seq)
    .where(events.c.session_id == sessions.c.id)
    .order_by(events.c.first_seq.desc())
    .limit(1)
    .scalar_subquery(),
).where(sessions.c.id.in_(sa.bindparam("sessions", expanding=True)))
MESSAGES = (
    sa.select(messages).where(messages.c.session_id == _OF).order_by(messages.c.id.desc()).limit(sa.bindparam("most"))
)
EARLIER = MESSAGES.where(messages.c.id < sa.bindparam("before"))
PARTS = (
    sa.select(parts.c.message_id, parts.c.body)
    .where(parts.c.message_id.in_(sa.bindparam("messages", expanding=True)))
    .order_by(parts.c.message_id, parts.c.position)
)


def in_order(wanted: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Turns in the order in which they are worked on: what has begun, what jumps, what waits longest."""
    begun = sa.case((turns.c.first_seq > 0, 0), else_=1)
    return sa.select(turns).where(wanted).order_by(begun, turns.c.jumps.desc(), turns.c.id)


WORKED_ON = in_order(
    sa.and_(turns.c.session_id == _OF, sa.or_(*(turns.c.state == state for state in records.WORKED_ON_STATES)))
)
QUEUED = in_order(sa.and_(turns.c.session_id == _OF, turns.c.state == "queued"))
TURNS = sa.select(turns).where(turns.c.id.in_(sa.bindparam("turns", expanding=True)))
TURN = sa.select(turns).where(turns.c.session_id == _OF, turns.c.id == sa.bindparam("turn"))
WAITING = (
    sa.select(permissions)
    .where(permissions.c.session_id == _OF, permissions.c.response.is_(None))
    .order_by(permissions.c.id)
)
