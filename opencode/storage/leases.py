"""Who works on which turn (`port.TurnStore`), inside the store's transactions."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from opencode import records
from opencode.storage.schema import turns


def claim(connection: Connection, turn: records.Turn, taken: records.Turn, lease_until: float) -> bool:
    """Begin the attempt of `taken`; False where that of `turn` is not the current one any more."""
    found = connection.execute(
        turns.update()
        .where(turns.c.id == turn.id, turns.c.attempt == turn.attempt, turns.c.state.in_(records.ACTIVE_STATES))
        .values(state="running", attempt=taken.attempt, crashes=taken.crashes, lease_until=lease_until)
    )
    return found.rowcount == 1


def renew(connection: Connection, working: Sequence[records.Turn], lease_until: float) -> dict[str, bool]:
    """Renew the leases of attempts that are the current ones; which of these are to stop."""
    attempts = [(turn.id, turn.attempt) for turn in working]
    renewed = connection.execute(
        turns.update()
        .where(sa.tuple_(turns.c.id, turns.c.attempt).in_(attempts), turns.c.state.in_(records.WORKED_ON_STATES))
        .values(lease_until=lease_until)
        .returning(turns.c.id, turns.c.stop)
    )
    return {turn_id: bool(stop) for turn_id, stop in renewed}


def stop(connection: Connection, turn_id: str) -> None:
    connection.execute(turns.update().where(turns.c.id == turn_id).values(stop=1))


def claimable(now: float) -> sa.ColumnElement[bool]:
    """Those whose lease has ended, and those that wait in a session where nobody works."""
    other = turns.alias()
    busy = sa.exists().where(other.c.session_id == turns.c.session_id, other.c.state.in_(records.WORKED_ON_STATES))
    return sa.or_(
        sa.and_(turns.c.state.in_(records.WORKED_ON_STATES), turns.c.lease_until < now),
        sa.and_(turns.c.state == "queued", ~busy),
    )


def working(connection: Connection, owner: str) -> int:
    """How many turns of the owner's are running or waiting."""
    wanted = sa.select(sa.func.count()).where(turns.c.owner == owner, turns.c.state.in_(records.WORKED_ON_STATES))
    return connection.execute(wanted).scalar_one()
