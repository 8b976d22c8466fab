"""What the store reads. Nothing here takes the write lock."""

import time
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from opencode import frames, records
from opencode.errors import SessionNotFound
from opencode.storage import leases, rows, selects, statements
from opencode.storage.apply import KEY_LIFE_S
from opencode.storage.reading import Reader, patient_reads
from opencode.storage.schema import (
    file_changes,
    idempotency,
    marks,
    messages,
    permissions,
    sessions,
    spending,
    turns,
)

_ROWS = 16  # of a log, read at once
_SESSIONS = 500  # asked for at once


@patient_reads
class Queries(Reader):
    """The reading half of `SqlStore`; each method is one consistent view."""

    def read(self, session_id: str, after: int, limit_bytes: int) -> list[bytes]:
        """See `port.EventStore.read`."""
        batches: list[bytes] = []
        first, size, last_seq = 0, 0, after
        unsettled_first, unsettled = self._unsettled(session_id)
        # The row that holds `after` + 1 may begin before it. Page by page: a log only grows, so that they fit.
        with self._read() as connection:
            while size < limit_bytes:
                found = connection.execute(
                    statements.READ, {"session": session_id, "after": last_seq, "rows": _ROWS}
                ).all()
                for row in found:
                    first = first or row.first_seq
                    batches.append(row.frames)
                    last_seq = row.last_seq
                    size += len(row.frames)
                    if size >= limit_bytes:
                        break
                if size < limit_bytes and len(found) < _ROWS:
                    break
            else:
                unsettled = b""  # there may be more before it
        settled = frames.split(b"".join(batches))[max(0, after + 1 - first) :]
        return settled + frames.split(unsettled)[max(0, last_seq + 1 - unsettled_first) :]

    def last_seq(self, session_id: str) -> int:
        """See `port.EventStore.last_seq`."""
        unsettled_first, unsettled = self._unsettled(session_id)
        if unsettled:
            return unsettled_first + len(frames.split(unsettled)) - 1
        with self._read() as connection:
            return self._last_seq(connection, session_id)

    def ends(self, session_ids: Collection[str]) -> dict[str, int]:
        """See `port.EventStore.ends`."""
        ids, found = list(session_ids), dict[str, int]()
        with self._read() as connection:
            for start in range(0, len(ids), _SESSIONS):
                rows_ = connection.execute(selects.ENDS, {"sessions": ids[start : start + _SESSIONS]})
                found |= {session_id: last or 0 for session_id, last in rows_}
        return found

    @staticmethod
    def _last_seq(connection: Connection, session_id: str) -> int:
        return connection.execute(selects.LAST_SEQ, {"of": session_id}).scalar() or 0

    def get(self, owner: str, session_id: str) -> records.Session:
        """See `port.SessionStore.get`."""
        session, mark = self._known.get(owner, session_id), self._known.mark()
        if session is None:
            with self._read() as connection:
                session = self._session(connection, owner, session_id)
            self._known.put(session, mark)
        return session

    @staticmethod
    def _session(connection: Connection, owner: str, session_id: str) -> records.Session:
        row = connection.execute(selects.SESSION, {"of": session_id, "owner": owner}).first()
        if row is None:
            raise SessionNotFound(session_id)
        return rows.session(row, row.active_state)

    def page(self, owner: str, *, limit: int, cursor: str | None = None, query: str | None = None) -> records.Page:
        """See `port.SessionStore.page`."""
        wanted = sa.select(sessions, selects.ACTIVE).where(sessions.c.owner == owner)
        if cursor:
            wanted = wanted.where(sessions.c.id < cursor)
        if query:
            said = sa.exists().where(
                messages.c.session_id == sessions.c.id, messages.c.content.icontains(query, autoescape=True)
            )
            wanted = wanted.where(sa.or_(sessions.c.title.icontains(query, autoescape=True), said))
        with self._read() as connection:
            found = connection.execute(wanted.order_by(sessions.c.id.desc()).limit(limit + 1)).all()
        page = [rows.session(row, row.active_state) for row in found[:limit]]
        return records.Page(page, page[-1].id if len(found) > limit else None)

    def projects(self, owner: str) -> list[tuple[str, str]]:
        """See `port.SessionStore.projects`."""
        first_used = sa.func.min(sessions.c.created_at)
        with self._read() as connection:
            found = connection.execute(
                sa.select(sessions.c.directory, first_used)
                .where(sessions.c.owner == owner)
                .group_by(sessions.c.directory)
                .order_by(first_used)
            )
            return [(directory, created_at) for directory, created_at in found]

    def snapshot(
        self, owner: str, session_id: str, *, limit: int, before: str | None = None
    ) -> tuple[records.Session, list[records.Message], bool]:
        """See `port.MessageStore.snapshot`."""
        wanted = {"of": session_id, "before": before, "most": limit + 1}
        with self._read(several=True) as connection:
            session = self._session(connection, owner, session_id)
            found = connection.execute(selects.EARLIER if before else selects.MESSAGES, wanted).all()
            page = list(reversed(found[:limit]))
            bodies = self._parts(connection, [row.id for row in page])
            answered = {row.turn_id for row in page if row.role == "assistant"}
            known = {row.id: rows.turn(row) for row in connection.execute(selects.TURNS, {"turns": list(answered)})}
        shown = [rows.message(row, bodies[row.id], known.get(row.turn_id)) for row in page]
        return session, shown, len(found) > limit

    @staticmethod
    def _parts(connection: Connection, message_ids: list[str]) -> dict[str, list[dict[str, Any]]]:
        bodies: dict[str, list[dict[str, Any]]] = {message_id: [] for message_id in message_ids}
        for message_id, body in connection.execute(selects.PARTS, {"messages": message_ids}):
            bodies[message_id].append(body)
        return bodies

    def message(self, session_id: str, message_id: str) -> records.Message | None:
        """See `port.MessageStore.message`."""
        with self._read(several=True) as connection:
            row = connection.execute(
                sa.select(messages).where(messages.c.session_id == session_id, messages.c.id == message_id)
            ).first()
            return None if row is None else rows.message(row, self._parts(connection, [row.id])[row.id])

    def turn(self, session_id: str, turn_id: str) -> records.Turn | None:
        """See `port.MessageStore.turn`."""
        with self._read() as connection:
            row = connection.execute(selects.TURN, {"of": session_id, "turn": turn_id}).first()
        return None if row is None else rows.turn(row)

    def active_turns(self, session_id: str | None = None) -> list[records.Turn]:
        """See `port.TurnStore.active_turns`."""
        if session_id is not None:
            return self._turns(selects.WORKED_ON, of=session_id)
        return self._turns(selects.in_order(turns.c.state.in_(records.WORKED_ON_STATES)))

    def queued(self, session_id: str) -> list[records.Turn]:
        """See `port.TurnStore.queued`."""
        return self._turns(selects.QUEUED, of=session_id)

    def claimable(self, now: float) -> list[records.Turn]:
        """See `port.TurnStore.claimable`."""
        found = self._turns(selects.in_order(leases.claimable(now)))
        first: dict[str, records.Turn] = {}
        for turn in found:
            first.setdefault(turn.session_id, turn)
        return list(first.values())

    def _turns(self, wanted: sa.Select[Any], **values: str) -> list[records.Turn]:
        with self._read() as connection:
            return [rows.turn(row) for row in connection.execute(wanted, values)]

    def working(self, owner: str) -> int:
        """See `port.TurnStore.working`."""
        with self._read() as connection:
            return leases.working(connection, owner)

    def spent(self, owner: str, session_id: str) -> tuple[records.Spending, records.Spending]:
        """See `port.SpendingStore.spent`."""
        by_session = sa.select(sessions.c.input + sessions.c.output, sessions.c.turn_ms).where(
            sessions.c.id == session_id, sessions.c.owner == owner
        )
        by_owner = sa.select(spending.c.tokens, spending.c.turn_ms).where(spending.c.owner == owner)
        with self._read(several=True) as connection:
            found = [connection.execute(wanted).first() for wanted in (by_session, by_owner)]
        own, in_all = (records.Spending() if row is None else records.Spending(*row) for row in found)
        return own, in_all

    def remembered(self, owner: str, scope: str, key: str) -> records.RememberedKey | None:
        """See `port.KeyStore.remembered`."""
        columns = (idempotency.c.body_hash, idempotency.c.session_id, idempotency.c.turn_id)
        with self._read() as connection:
            row = connection.execute(
                sa.select(*columns).where(
                    idempotency.c.owner == owner,
                    idempotency.c.scope == scope,
                    idempotency.c.key == key,
                    idempotency.c.created_at > time.time() - KEY_LIFE_S,
                )
            ).first()
        return None if row is None else records.RememberedKey(owner=owner, scope=scope, key=key, **row._mapping)  # noqa: SLF001 - SQLAlchemy's public name

    def file_changes(self, session_id: str) -> list[tuple[str, bytes | None, bytes | None]]:
        """See `port.MessageStore.file_changes`."""
        with self._read() as connection:
            found = connection.execute(
                sa.select(file_changes.c.path, file_changes.c.before, file_changes.c.after)
                .where(file_changes.c.session_id == session_id)
                .order_by(file_changes.c.path)
            )
            return [(path, before, after) for path, before, after in found]

    def permission(self, session_id: str, permission_id: str) -> records.Permission | None:
        """See `port.PermissionStore.permission`."""
        with self._read() as connection:
            row = connection.execute(
                sa.select(permissions).where(permissions.c.session_id == session_id, permissions.c.id == permission_id)
            ).first()
        return None if row is None else rows.permission(row)

    def asked(self, session_id: str, call_id: str) -> records.Permission | None:
        """See `port.PermissionStore.asked`."""
        with self._read() as connection:
            row = connection.execute(
                sa.select(permissions).where(permissions.c.session_id == session_id, permissions.c.call_id == call_id)
            ).first()
        return None if row is None else rows.permission(row)

    def permissions(self, session_id: str, *, response: str | None) -> list[records.Permission]:
        """See `port.PermissionStore.permissions`."""
        with self._read() as connection:
            found = connection.execute(
                sa.select(permissions)
                .where(permissions.c.session_id == session_id, permissions.c.response.is_not_distinct_from(response))
                .order_by(permissions.c.id)
            )
            return [rows.permission(row) for row in found]

    def marked(self, name: str) -> bool:
        """See `port.SecretStore.marked`."""
        with self._read() as connection:
            return connection.execute(sa.select(marks.c.name).where(marks.c.name == name)).first() is not None
