"""The store on a SQL database, through SQLAlchemy."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from opencode import frames, records
from opencode.errors import OpenCodeError, StoreError
from opencode.storage import apply, leases, marks, outbox, port, postgresql, rows, statements
from opencode.storage.engine import LOCK_PATIENCE_S, FolderLock, make_private, migrate, open_sqlite, parse, unopened
from opencode.storage.failures import patient, translated
from opencode.storage.queries import Queries
from opencode.storage.schema import permissions, sessions
from opencode.storage.screen_store import ScreenRows
from opencode.storage.texts import is_text
from opencode.storage.unsettled import recover
from opencode.storage.writing import Writer

#: How long a writer waits for a store that is merely busy.
BUSY_PATIENCE_S = 30.0
#: Last numbers kept in memory, so that an append need not ask; forgetting them costs a look-up each.
_REMEMBERED_SESSIONS = 10_000


class SqlStore(ScreenRows, Queries):
    """The whole store; `lock` is held by the process that owns it, None where others write to it too."""

    def __init__(
        self, engine: Engine, lock: FolderLock | None = None, *, busy_patience_s: float = BUSY_PATIENCE_S
    ) -> None:
        super().__init__(engine)
        self.busy_patience_s = busy_patience_s
        self._folder = lock
        self._writer = (Writer if lock is not None else postgresql.SharedWriter)(engine, self._failure)
        self._unsettled = self._writer.unsettled.read

    @contextmanager
    def _write(self, session_ids: Iterable[str] | None = None) -> Iterator[Connection]:
        """Begin a transaction; `session_ids` are those that it changes, where that is known."""
        with self._known.changing(session_ids), self._writer.transaction() as connection:
            yield connection

    @patient
    def migrate(self) -> None:
        """Bring the schema up to date."""
        with self._translated():
            migrate(self.engine)

    @patient
    def commit(self, appends: Sequence[port.Append]) -> list[port.Committed | OpenCodeError]:
        """See `port.EventStore.commit`."""
        if len(self._writer.last_seqs) > _REMEMBERED_SESSIONS:
            self._writer.last_seqs.clear()
        if (stored := self._writer.texts(appends)) is not None:
            return stored
        session_ids = {append.session_id for append in appends}
        with self._write(session_ids) as connection:
            self._writer.hold(connection, session_ids)
            if len(appends) == 1:
                self._writer.settle(connection, session_ids)
                return [self._append(connection, appends[0])]
            return self._append_all(connection, appends)

    def _append_all(
        self, connection: Connection, appends: Sequence[port.Append]
    ) -> list[port.Committed | OpenCodeError]:
        """Most of a busy group are pieces of text of many turns: one guard and one insert serve them together."""
        outcomes: list[port.Committed | OpenCodeError] = []
        found: list[dict[str, object]] = []
        others = {append.session_id for append in appends if not is_text(append)}
        self._writer.settle(connection, others)
        standing = {(turn_id, attempt) for turn_id, attempt in connection.execute(statements.STANDING)}
        for append in appends:
            if append.session_id in others:
                outcomes.append(self._append(connection, append))
                continue
            if append.turn not in standing:
                outcomes.append(append.refusal())
                continue
            first_seq = self._next_seq(connection, append.session_id)
            committed = port.Committed(first_seq, frames.numbered(append.bodies, first_seq))
            found.append(rows.of_append(append, committed))
            self._writer.last_seqs[append.session_id] = committed.last_seq
            outcomes.append(committed)
        self._writer.insert_texts(connection, found)
        return outcomes

    def _append(self, connection: Connection, append: port.Append) -> port.Committed | OpenCodeError:
        savepoint = connection.begin_nested() if append.changes else None
        first_seq = self._next_seq(connection, append.session_id)
        committed = port.Committed(first_seq, frames.numbered(append.bodies, first_seq))
        try:
            if append.bodies:
                self._insert(connection, append, committed)
            else:
                self._guard(connection, append)
            if append.folds:
                connection.execute(statements.FOLDED, {"session": append.session_id, "last": committed.last_seq})
            elif append.turn is None:
                row = {"session": append.session_id, "first": first_seq, "last": committed.last_seq}
                connection.execute(statements.FOLDED_NEXT, row)
            for change in append.changes:
                apply.apply(connection, change, committed)
        except (OpenCodeError, IntegrityError) as refusal:
            if savepoint is None and not isinstance(refusal, OpenCodeError):
                raise
            if savepoint is not None:
                savepoint.rollback()
            return refusal if isinstance(refusal, OpenCodeError) else translated(refusal)
        if savepoint is not None:
            savepoint.commit()
        self._writer.last_seqs[append.session_id] = committed.last_seq
        return committed

    def _insert(self, connection: Connection, append: port.Append, committed: port.Committed) -> None:
        row = rows.of_append(append, committed)
        if append.turn is None:
            found = connection.execute(statements.INSERT_BY_SESSION, row)
        else:
            found = connection.execute(
                statements.INSERT_BY_TURN, {**row, "turn": append.turn[0], "attempt": append.turn[1]}
            )
        if found.rowcount != 1:
            raise append.refusal()

    def _guard(self, connection: Connection, append: port.Append) -> None:
        """As the guard of the inserts, for changes that come without an event."""
        if append.turn is None:
            found = connection.execute(statements.SESSION_STANDS, {"session": append.session_id})
        else:
            found = connection.execute(statements.TURN_STANDS, {"turn": append.turn[0], "attempt": append.turn[1]})
        if found.scalar() is None:
            raise append.refusal()

    def _next_seq(self, connection: Connection, session_id: str) -> int:
        if session_id not in self._writer.last_seqs:
            settled = self._last_seq(connection, session_id)
            self._writer.last_seqs[session_id] = max(settled, self._writer.unsettled.last_seq(session_id))
        return self._writer.last_seqs[session_id] + 1

    @patient
    def create(
        self, session: records.Session, key: records.RememberedKey | None = None, first: port.Append | None = None
    ) -> None:
        """See `port.SessionStore.create`."""
        with self._write() as connection:
            if key is not None:
                apply.remember(connection, key)
            connection.execute(statements.INSERT_SESSION, rows.of_session(session))
            if first is not None:
                outcome = self._append(connection, first)
                if isinstance(outcome, OpenCodeError):
                    raise outcome

    @patient
    def delete(self, session_id: str) -> None:
        """See `port.SessionStore.delete`."""
        with self._write() as connection:
            connection.execute(sessions.delete().where(sessions.c.id == session_id))
            self._writer.forget(connection, session_id)
            self._writer.last_seqs.pop(session_id, None)

    @patient
    def claim(self, turn: records.Turn, *, crashed: bool, lease_until: float) -> records.Turn | None:
        """See `port.TurnStore.claim`."""
        taken = replace(turn, state="running", attempt=turn.attempt + 1, crashes=turn.crashes + crashed)
        with self._write() as connection:
            # What the attempt before it is storing in this very moment comes first, and is seen.
            self._writer.hold(connection, [turn.session_id])
            return taken if leases.claim(connection, turn, taken, lease_until) else None

    @patient
    def renew(self, turns: Sequence[records.Turn], lease_until: float) -> dict[str, bool]:
        """See `port.TurnStore.renew`."""
        with self._write() as connection:
            return leases.renew(connection, turns, lease_until)

    @patient
    def stop(self, turn_id: str) -> None:
        """See `port.TurnStore.stop`."""
        with self._write() as connection:
            leases.stop(connection, turn_id)

    @patient
    def answer(self, permission_id: str, response: str) -> bool:
        """See `port.PermissionStore.answer`."""
        with self._write() as connection:
            done = connection.execute(
                permissions.update()
                .where(permissions.c.id == permission_id, permissions.c.response.is_(None))
                .values(response=response)
            )
            return done.rowcount == 1

    @patient
    def secret(self, name: str, fresh: bytes) -> bytes:
        """See `port.SecretStore.secret`."""
        with self._write() as connection:
            return marks.secret(connection, name, fresh)

    @patient
    def mark(self, name: str, *, now: float, until: float) -> bool:
        """See `port.SecretStore.mark`."""
        with self._write() as connection:
            return marks.mark(connection, name, now=now, until=until)

    def next_webhook(self, *, resting: Sequence[str] = ()) -> records.Webhook | None:
        """See `port.OutboxStore.next_webhook`."""
        if self._folder is None:
            with self._write() as connection:
                return outbox.take_row(connection, tuple(resting))
        with self._read() as connection:
            return outbox.next_row(connection, tuple(resting))

    @patient
    def postpone_webhook(self, webhook_id: str, due_at: float) -> None:
        """See `port.OutboxStore.postpone_webhook`."""
        with self._write() as connection:
            outbox.postpone(connection, webhook_id, due_at)

    @patient
    def remove_webhook(self, webhook_id: str) -> None:
        """See `port.OutboxStore.remove_webhook`."""
        with self._write() as connection:
            outbox.remove(connection, webhook_id)

    def check(self) -> None:
        """See `port.Store.check`."""
        if self._damage is not None:
            raise self._damage
        with self._write() as connection:
            connection.execute(statements.TOUCH)

    def close(self) -> None:
        """See `port.Store.close`."""
        self._writer.close()
        self.engine.dispose()
        if self._folder is not None:
            self._folder.release()


def open_store(
    url: str | None,
    data_dir: Path,
    *,
    durability: str = "process",
    patience_s: float = LOCK_PATIENCE_S,
    busy_patience_s: float = BUSY_PATIENCE_S,
) -> SqlStore:
    """Open the store at `url`, or the embedded one under `data_dir`, and bring its schema up to date.

    A folder that another process owns is waited for, at most `patience_s` seconds; each write waits for a program that
    holds the database (such as `sqlite3`), at most `busy_patience_s` seconds.

    Raises:
        SettingsError: the URL cannot be used.
        StoreError: another process owns the data folder, it cannot be used, or the schema is newer than this program.
    """
    if url is None:
        url = f"sqlite:///{data_dir / 'store.sqlite3'}"
    parsed = parse(url)
    if parsed.get_backend_name() == postgresql.BACKEND:
        return _open_shared(parsed, busy_patience_s)
    file = Path(parsed.database or "").resolve()
    folder = file.parent
    engine = open_sqlite(parsed, durability=durability)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FolderLock(folder, patience_s=patience_s)
    except OSError as exc:
        raise StoreError(f"The data folder {folder} cannot be used: {exc.strerror}. Set OPENCODE_DATA_DIR.") from exc
    try:
        make_private(file)
        migrate(engine)
        recover(engine)
    except BaseException as exc:
        engine.dispose()
        lock.release()
        if isinstance(exc, SQLAlchemyError):
            raise unopened(folder, translated(exc), exc) from exc
        raise
    return SqlStore(engine, lock, busy_patience_s=busy_patience_s)


def _open_shared(parsed: URL, busy_patience_s: float) -> SqlStore:
    """PostgreSQL: it may come up together with us, and is waited for."""
    store = SqlStore(postgresql.open_engine(parsed), busy_patience_s=busy_patience_s)
    try:
        store.migrate()
    except StoreError as exc:
        store.close()
        raise type(exc)(f"The store at {parsed.host or 'localhost'} (DATABASE_URL) cannot be opened: {exc}") from exc
    return store
