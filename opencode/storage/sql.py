"""The store on a SQL database, through SQLAlchemy."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from opencode import frames, records
from opencode.errors import OpenCodeError, SessionNotFound, StaleAttempt, StoreDamaged, StoreError
from opencode.storage import apply, marks, outbox, port, rows, statements
from opencode.storage.engine import LOCK_PATIENCE_S, FolderLock, make_private, migrate, open_engine
from opencode.storage.failures import patient, translated
from opencode.storage.queries import Queries
from opencode.storage.schema import permissions, sessions, turns
from opencode.storage.texts import Texts

#: How long a writer waits for a store that is merely busy.
BUSY_PATIENCE_S = 30.0
#: Last numbers kept in memory, so that an append need not ask; forgetting them costs a look-up each.
_REMEMBERED_SESSIONS = 10_000


def _row(append: port.Append, committed: port.Committed) -> dict[str, object]:
    data = b"".join(committed.frames)
    return {"session": append.session_id, "first": committed.first_seq, "last": committed.last_seq, "frames": data}


def _refusal(append: port.Append) -> OpenCodeError:
    if append.turn is None:
        return SessionNotFound(append.session_id)
    return StaleAttempt(f"attempt {append.turn[1]} of turn {append.turn[0]} is not the current one")


class SqlStore(Queries):
    """One process owns it: writers wait for one another by a lock here, never in the database's C code."""

    def __init__(self, engine: Engine, lock: FolderLock, *, busy_patience_s: float = BUSY_PATIENCE_S) -> None:
        super().__init__(engine)
        self.busy_patience_s = busy_patience_s
        self._folder = lock
        self._writer = engine.execution_options(sqlite_begin="IMMEDIATE")
        self._writing = threading.Lock()
        self._last_seqs: dict[str, int] = {}
        self._texts = Texts(engine)

    @contextmanager
    def _write(self, session_ids: Iterable[str] | None = None) -> Iterator[Connection]:
        """Begin a transaction; `session_ids` are those that it changes, where that is known."""
        with self._writing:
            try:
                with self._writer.begin() as connection:
                    yield connection
            except BaseException as exc:
                # Nothing of the transaction is stored, whatever broke it off: its numbers are free again.
                self._last_seqs.clear()
                if isinstance(exc, SQLAlchemyError):
                    raise self._failure(exc) from exc
                raise
            finally:
                self._known.forget(session_ids)

    @patient
    def commit(self, appends: Sequence[port.Append]) -> list[port.Committed | OpenCodeError]:
        """See `port.EventStore.commit`."""
        if len(self._last_seqs) > _REMEMBERED_SESSIONS:
            self._last_seqs.clear()
        with self._writing:
            stored = self._texts.append(appends, self._last_seqs)
        if stored is not None:
            return stored
        with self._write({append.session_id for append in appends}) as connection:
            one = len(appends) == 1
            return [self._append(connection, appends[0])] if one else self._append_all(connection, appends)

    def _append_all(
        self, connection: Connection, appends: Sequence[port.Append]
    ) -> list[port.Committed | OpenCodeError]:
        """Most of a busy group are pieces of text of many turns: one guard and one insert serve them together."""
        outcomes: list[port.Committed | OpenCodeError] = []
        rows: list[dict[str, object]] = []
        standing: set[tuple[str, int]] | None = None
        for append in appends:
            if append.turn is None or append.changes or append.folds or not append.bodies:
                self._insert_rows(connection, rows)
                standing = None  # it may end a turn
                outcomes.append(self._append(connection, append))
                continue
            if standing is None:
                standing = {(turn_id, attempt) for turn_id, attempt in connection.execute(statements.STANDING)}
            if append.turn not in standing:
                outcomes.append(_refusal(append))
                continue
            first_seq = self._next_seq(connection, append.session_id)
            committed = port.Committed(first_seq, frames.numbered(append.bodies, first_seq))
            rows.append(_row(append, committed))
            self._last_seqs[append.session_id] = committed.last_seq
            outcomes.append(committed)
        self._insert_rows(connection, rows)
        return outcomes

    @staticmethod
    def _insert_rows(connection: Connection, rows: list[dict[str, object]]) -> None:
        if rows:
            connection.execute(statements.INSERT_ROW, rows)
            rows.clear()

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
        self._last_seqs[append.session_id] = committed.last_seq
        return committed

    def _insert(self, connection: Connection, append: port.Append, committed: port.Committed) -> None:
        row = _row(append, committed)
        if append.turn is None:
            found = connection.execute(statements.INSERT_BY_SESSION, row)
        else:
            found = connection.execute(
                statements.INSERT_BY_TURN, {**row, "turn": append.turn[0], "attempt": append.turn[1]}
            )
        if found.rowcount != 1:
            raise _refusal(append)

    def _guard(self, connection: Connection, append: port.Append) -> None:
        """As the guard of the inserts, for changes that come without an event."""
        if append.turn is None:
            found = connection.execute(statements.SESSION_STANDS, {"session": append.session_id})
        else:
            found = connection.execute(statements.TURN_STANDS, {"turn": append.turn[0], "attempt": append.turn[1]})
        if found.scalar() is None:
            raise _refusal(append)

    def _next_seq(self, connection: Connection, session_id: str) -> int:
        if session_id not in self._last_seqs:
            self._last_seqs[session_id] = self._last_seq(connection, session_id)
        return self._last_seqs[session_id] + 1

    @patient
    def create(
        self, session: records.Session, key: records.RememberedKey | None = None, first: port.Append | None = None
    ) -> None:
        """See `port.SessionStore.create`."""
        with self._write() as connection:
            if key is not None:
                apply.remember(connection, key)
            connection.execute(sessions.insert(), rows.of_session(session))
            if first is not None:
                outcome = self._append(connection, first)
                if isinstance(outcome, OpenCodeError):
                    raise outcome

    @patient
    def delete(self, session_id: str) -> None:
        """See `port.SessionStore.delete`."""
        with self._write() as connection:
            connection.execute(sessions.delete().where(sessions.c.id == session_id))
            self._last_seqs.pop(session_id, None)

    @patient
    def claim(self, turn: records.Turn, *, crashed: bool, lease_until: float) -> records.Turn | None:
        """See `port.TurnStore.claim`."""
        taken = replace(turn, state="running", attempt=turn.attempt + 1, crashes=turn.crashes + crashed)
        with self._write() as connection:
            found = connection.execute(
                turns.update()
                .where(turns.c.id == turn.id, turns.c.attempt == turn.attempt, turns.c.state.in_(records.ACTIVE_STATES))
                .values(state="running", attempt=taken.attempt, crashes=taken.crashes, lease_until=lease_until)
            )
        return taken if found.rowcount == 1 else None

    @patient
    def renew(self, turn_ids: Sequence[str], lease_until: float) -> None:
        """See `port.TurnStore.renew`."""
        with self._write() as connection:
            connection.execute(turns.update().where(turns.c.id.in_(turn_ids)).values(lease_until=lease_until))

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
        self._texts.close()
        self._engine.dispose()
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
    engine = open_engine(url, durability=durability)
    file = Path(make_url(url).database or "").resolve()
    folder = file.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FolderLock(folder, patience_s=patience_s)
    except OSError as exc:
        raise StoreError(f"The data folder {folder} cannot be used: {exc.strerror}. Set OPENCODE_DATA_DIR.") from exc
    try:
        make_private(file)
        migrate(engine)
    except BaseException as exc:
        engine.dispose()
        lock.release()
        if isinstance(exc, SQLAlchemyError):
            raise _unopened(folder, translated(exc), exc) from exc
        raise
    return SqlStore(engine, lock, busy_patience_s=busy_patience_s)


def _unopened(folder: Path, failure: StoreError, exc: SQLAlchemyError) -> StoreError:
    reason = f"The store in {folder} cannot be opened: {exc.__cause__ or type(exc).__name__}."
    if isinstance(failure, StoreDamaged):
        reason += " Restore it from a backup; or move it away, and the next start makes an empty one."
    return type(failure)(reason)
