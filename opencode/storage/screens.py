"""The rows of shared screens (`port.ScreenStore`), inside the store's transactions."""

import time
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from opencode import records
from opencode.errors import InvalidRequest
from opencode.ids import new_id
from opencode.storage import port
from opencode.storage.schema import events, pieces, screen_events, screen_lookers, screens, sessions

#: Of a screen's events the newest are kept, at most 1000 and at most one MiB (but the very newest is, however large).
#: They are pruned every so many events, and after each large one, by so much more than is needed.
_PRUNE_EVERY = 32
_LARGE_BYTES = 2 * 1024
_KEPT_EVENTS = 1000 - _PRUNE_EVERY
_KEPT_BYTES = 1024 * 1024 - _PRUNE_EVERY * _LARGE_BYTES

_STANDS = (
    sa.select(sessions.c.id)
    .where(sessions.c.id == screens.c.session_id, sessions.c.owner == screens.c.owner)
    .scalar_subquery()
    .label("standing_id")
)
_SEQ = (
    sa.select(events.c.last_seq)
    .where(events.c.session_id == screens.c.session_id)
    .order_by(events.c.first_seq.desc())
    .limit(1)
    .scalar_subquery()
    .label("seq")
)
#: What is on its way to `events` (see `unsettled`): some hundred rows, as long as few turns run.
_PIECE_SEQ = (
    sa.select(sa.func.max(pieces.c.last_seq))
    .where(pieces.c.session_id == screens.c.session_id)
    .scalar_subquery()
    .label("piece_seq")
)
_ALL = (
    sa.select(screens, _STANDS, _SEQ, _PIECE_SEQ)
    .where(screens.c.owner == sa.bindparam("of_owner"))
    .order_by(screens.c.id)
)
FIND = _ALL.where(screens.c.name == sa.bindparam("of_name"))
#: Held until the transaction ends, in the order of ids, so that no two wait for one another.
_HOLD_ALL = _ALL.with_for_update(of=screens, key_share=True)
_HOLD = FIND.with_for_update(of=screens, key_share=True)
_MAKE = sa.text(
    "INSERT INTO screens (id, owner, name, history, used_at) VALUES (:id, :owner, :name, '[]', :used_at)"
    " ON CONFLICT DO NOTHING"
)
_COUNT = sa.select(sa.func.count()).select_from(screens).where(screens.c.owner == sa.bindparam("of_owner"))
ENDS = sa.select(screens.c.id, screens.c.number).where(screens.c.id.in_(sa.bindparam("ids", expanding=True)))
_UNUSED = (
    sa.select(screens.c.id)
    .where(
        screens.c.owner == sa.bindparam("of_owner"),
        ~sa.exists().where(screen_lookers.c.screen_id == screens.c.id, screen_lookers.c.until > sa.bindparam("now")),
    )
    .order_by(screens.c.used_at, screens.c.id)
    .limit(1)
)
_TYPED = ("number", "size", "text", "cursor", "place", "session_id", "used_at")
_SELDOM = ("history", "draft", "model")
_AFTER = (
    sa.select(screen_events)
    .where(screen_events.c.screen_id == sa.bindparam("of"), screen_events.c.number > sa.bindparam("above"))
    .order_by(screen_events.c.number)
)
_PRUNE = screen_events.delete().where(
    screen_events.c.screen_id == sa.bindparam("of"),
    screen_events.c.number < sa.bindparam("newest"),
    sa.or_(screen_events.c.number <= sa.bindparam("old"), screen_events.c.ends_at <= sa.bindparam("far")),
)


def _update(names: tuple[str, ...]) -> sa.Update:
    return screens.update().where(screens.c.id == sa.bindparam("of")).values({own: sa.bindparam(own) for own in names})


# What seldom changes may be long, and is written only then.
_UPDATE, _UPDATE_ALL = _update(_TYPED), _update(_TYPED + _SELDOM)


def screen(row: Row[tuple[object, ...]]) -> records.Screen:
    """A row of `FIND`."""
    return records.Screen(
        id=row.id,
        owner=row.owner,
        name=row.name,
        number=row.number,
        prompt=records.Prompt(row.text, row.cursor, tuple(row.history), row.place, row.draft),
        session_id=row.standing_id,
        model=row.model,
        used_at=row.used_at,
    )


def last_seq(row: Row[tuple[object, ...]]) -> int:
    """Where the log of the screen's session ends, as far as the row that was read knows."""
    return max(row.seq or 0, row.piece_seq or 0)


def hold(connection: Connection, owner: str, name: str) -> Row[tuple[object, ...]]:
    """The screen's row, held; made where there is none.

    Raises:
        InvalidRequest: there are as many as can be, and people look at all of them.
    """
    wanted = {"of_owner": owner, "of_name": name}
    row = connection.execute(_HOLD, wanted).first()
    if row is None:
        # Who makes one elsewhere waits here for us, or we for him; what there is, is looked at after that.
        hold_all(connection, owner)
        row = connection.execute(_HOLD, wanted).first()
    if row is None:
        _make_room(connection, owner)
        made = {"id": new_id("tui"), "owner": owner, "name": name, "used_at": time.time()}
        connection.execute(_MAKE, made)  # or another has, in this very moment
        row = connection.execute(_HOLD, wanted).one()
    return row


def hold_all(connection: Connection, owner: str) -> list[Row[tuple[object, ...]]]:
    """The rows of all screens of the owner, held."""
    return list(connection.execute(_HOLD_ALL, {"of_owner": owner}))


def count(connection: Connection, owner: str) -> int:
    """How many screens the owner has."""
    return connection.execute(_COUNT, {"of_owner": owner}).scalar_one()


def _make_room(connection: Connection, owner: str) -> None:
    if count(connection, owner) < port.SCREENS:
        return
    unused = connection.execute(_UNUSED, {"of_owner": owner, "now": time.time()}).scalar()
    if unused is None:
        message = f"there are {port.SCREENS} screens already, and all are looked at; use one of them"
        raise InvalidRequest(message, details=[{"field": "tui", "message": message}])
    connection.execute(screens.delete().where(screens.c.id == unused))


def apply(connection: Connection, row: Row[tuple[object, ...]], change: port.ChangeScreen) -> records.ScreenChange:
    """Change a screen whose row is held, and store the events that show it."""
    before = screen(row)
    after, shown = change(before)
    added = _numbered(row, before, shown)
    size = row.size
    for event in added:
        size += len(event.body)
        values = {"screen_id": row.id, "number": event.number, "ends_at": size, "body": event.body}
        places = {own: getattr(event, own) for own in ("session_id", "seq", "next_session_id", "next_seq")}
        connection.execute(screen_events.insert(), values | places)
    prompt, number = after.prompt, row.number + len(added)
    session_id = added[-1].next_session_id if added else row.session_id
    written = {"number": number, "size": size, "session_id": session_id, "used_at": time.time()}
    written |= {"of": row.id, "text": prompt.text, "cursor": prompt.cursor, "place": prompt.place}
    if (prompt.history, prompt.draft, after.model) == (before.prompt.history, before.prompt.draft, before.model):
        connection.execute(_UPDATE, written)
    else:
        seldom = {"history": list(prompt.history), "draft": prompt.draft, "model": after.model}
        connection.execute(_UPDATE_ALL, written | seldom)
    if number // _PRUNE_EVERY != row.number // _PRUNE_EVERY or size - row.size > _LARGE_BYTES:
        far = size - _KEPT_BYTES
        connection.execute(_PRUNE, {"of": row.id, "newest": number, "old": number - _KEPT_EVENTS, "far": far})
    stands = session_id if added else before.session_id
    return records.ScreenChange(before, replace(after, number=number, session_id=stands), tuple(added))


def _numbered(
    row: Row[tuple[object, ...]], before: records.Screen, shown: list[records.ToShow]
) -> list[records.ScreenEvent]:
    """With a session that is gone, the first event says so: what came in it is before, nothing is behind."""
    found: list[records.ScreenEvent] = []
    session_id, seq = row.session_id, last_seq(row)
    standing = (session_id, seq) if before.session_id is not None else (None, 0)
    for number, one in enumerate(shown, row.number + 1):
        following = standing if one.shows is None or one.shows[0] == standing[0] else one.shows
        found.append(records.ScreenEvent(number, one.body, session_id, seq, *following))
        session_id, seq = standing = following
    return found


def after(connection: Connection, screen_id: str, number: int) -> list[records.ScreenEvent]:
    """The events that are kept of those above `number`."""
    rows = connection.execute(_AFTER, {"of": screen_id, "above": number})
    return [
        records.ScreenEvent(row.number, row.body, row.session_id, row.seq, row.next_session_id, row.next_seq)
        for row in rows
    ]


def look(connection: Connection, screen_id: str, looker: str, until: float) -> bool:
    """See `port.ScreenStore.look_at_screen`."""
    now = time.time()
    old = sa.or_(screen_lookers.c.looker == looker, screen_lookers.c.until < now)
    connection.execute(screen_lookers.delete().where(screen_lookers.c.screen_id == screen_id, old))
    used = screens.update().where(screens.c.id == screen_id).values(used_at=now)
    stands = connection.execute(used).rowcount == 1
    if stands:
        connection.execute(screen_lookers.insert(), {"screen_id": screen_id, "looker": looker, "until": until})
    return stands


def leave(connection: Connection, screen_id: str, looker: str) -> None:
    """See `port.ScreenStore.leave_screen`."""
    own = (screen_lookers.c.screen_id == screen_id, screen_lookers.c.looker == looker)
    connection.execute(screen_lookers.delete().where(*own))
