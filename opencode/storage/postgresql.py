"""PostgreSQL: its address, its connections, and how several processes write to it side by side."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from opencode.errors import SettingsError, StoreError
from opencode.storage import statements
from opencode.storage.writing import Writer

log = logging.getLogger(__name__)

BACKEND = "postgresql"
_FORM = "postgresql://user:password@host/database, or sqlite:////path/to/store.sqlite3"
#: Connections of one process; beyond them it waits.
_POOL_SIZE = 8
_POOL_OVERFLOW = 8
_POOL_TIMEOUT_S = 10.0
_CONNECT_TIMEOUT_S = 5
#: Older connections are made anew, so that a moved database is found, and a pooler in between may rest.
_RECYCLE_S = 1800
#: A connection that has rested for longer is looked at before it is used.
_FRESH_S = 1.0
#: A process that was paused in the midst of a transaction must not hold a session for longer than a lease.
_SESSION = "SET idle_in_transaction_session_timeout = '10s'; SET lock_timeout = '10s'; SET TIME ZONE 'UTC'"
#: A dead machine at the other end is noticed in about 20 s.
_KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 3, "keepalives_count": 3}
_CONNECTION = {
    "connect_timeout": _CONNECT_TIMEOUT_S,
    "application_name": "opencode",
    "client_encoding": "UTF8",
    **_KEEPALIVE,
}
#: Any number will do, as long as all versions of this program use the same one.
_MIGRATION_LOCK = 0x6F70_656E
#: Whether a commit whose answer was lost has taken place is known as soon as the database answers again.
_DOUBT_S = 30.0
_DOUBT_POLL_S = 0.2

# Sorted, so that no two processes wait for one another; `NO KEY` leaves the foreign keys of other rows alone.
_HOLD = sa.text(
    "SELECT CAST(pg_current_xact_id() AS text) FROM sessions WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE"
)
# A statement of its own: one that has waited for a lock reads the rest as it was before.
_LAST_SEQS = sa.text(
    "SELECT s.id, (SELECT e.last_seq FROM events e WHERE e.session_id = s.id ORDER BY e.first_seq DESC LIMIT 1)"
    " FROM unnest(CAST(:ids AS text[])) AS s (id)"
)
_TRANSACTION = sa.text("SELECT CAST(pg_current_xact_id_if_assigned() AS text)")
_STATUS = sa.text("SELECT pg_xact_status(CAST(:id AS xid8))")
_MIGRATING = sa.text("SELECT pg_advisory_xact_lock(:key)")


def address(parsed: URL) -> URL:
    """The address as SQLAlchemy needs it; hosts write `postgres://` too, and options such as `sslmode` behind it.

    Raises:
        SettingsError: it names another driver, or no database.
    """
    if parsed.drivername not in {"postgres", "postgresql", "postgresql+psycopg"} or not parsed.database:
        raise SettingsError(f"DATABASE_URL must be {_FORM}, without another driver")
    return parsed.set(drivername="postgresql+psycopg")


def open_engine(parsed: URL) -> Engine:
    """An engine with a pool of connections, each looked at before it is used after a rest."""
    engine = sa.create_engine(
        address(parsed),
        pool_size=_POOL_SIZE,
        max_overflow=_POOL_OVERFLOW,
        pool_timeout=_POOL_TIMEOUT_S,
        pool_recycle=_RECYCLE_S,
        connect_args=_CONNECTION,
    )

    connection_errors = engine.dialect.dbapi.Error  # type: ignore[union-attr] # it is loaded by now

    @sa.event.listens_for(engine, "connect")
    def _settle(connection: Any, _record: Any) -> None:
        try:
            before, connection.autocommit = connection.autocommit, True
            connection.execute(_SESSION)
            connection.autocommit = before
        except BaseException:
            connection.close()  # the pool does not know it yet
            raise

    @sa.event.listens_for(engine, "checkin")
    def _rest(_connection: Any, record: Any) -> None:
        record.info["rests_since"] = time.monotonic()

    @sa.event.listens_for(engine, "checkout")
    def _look(connection: Any, record: Any, _proxy: Any) -> None:
        # Not each time, as the pool's own look would: that is a whole round trip more for every statement.
        if time.monotonic() - record.info.get("rests_since", time.monotonic()) < _FRESH_S:
            return
        try:
            connection.execute("SELECT 1")
            connection.rollback()
        except connection_errors as exc:
            raise sa.exc.DisconnectionError from exc

    _pass_nul(engine)
    _close_late(engine)
    return engine


def _pass_nul(engine: Engine) -> None:
    """Ids may be asked for that hold NUL. They are not there, and stand before all others: so does the next character.

    What may hold NUL and is stored is `schema.Said`.
    """
    from psycopg.adapt import Dumper  # noqa: PLC0415 - gevent must have patched before it is loaded

    class TextDumper(Dumper):
        def dump(self, obj: str) -> bytes:
            return obj.replace("\0", "\1").encode()

    @sa.event.listens_for(engine, "connect")
    def _register(connection: Any, _record: Any) -> None:
        connection.adapters.register_dumper(str, TextDumper)


def _close_late(engine: Engine) -> None:
    """A connection that was in use when the pool was closed is closed when it comes back: no pool will do it."""
    disposed = threading.Event()
    sa.event.listen(engine, "engine_disposed", lambda _engine: disposed.set())

    @sa.event.listens_for(engine, "checkin")
    def _close(_connection: Any, record: Any) -> None:
        if disposed.is_set():
            record.close()


def wait_to_migrate(connection: Connection) -> None:
    """Of processes that start together one migrates, the others wait here; held until the transaction ends."""
    connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
    connection.execute(_MIGRATING, {"key": _MIGRATION_LOCK})


class SharedWriter(Writer):
    """Writes to a database that other processes write to as well.

    A session's row is held while something is appended to its log: so its numbers have no gap, and whoever takes a turn
    over sees all that the attempt before it has stored.
    """

    def __init__(self, engine: Engine, failure: Callable[[SQLAlchemyError], StoreError]) -> None:
        super().__init__(engine, failure)
        self._number: str | None = None
        self._asking = engine.execution_options(isolation_level="AUTOCOMMIT")

    def hold(self, connection: Connection, session_ids: Iterable[str]) -> None:
        """Keep other processes from these sessions until the transaction ends, and learn where their logs end."""
        ids = sorted(set(session_ids))
        self._number = connection.execute(_HOLD, {"ids": ids}).scalars().first()
        self.last_seqs = {session_id: last or 0 for session_id, last in connection.execute(_LAST_SEQS, {"ids": ids})}

    def insert_texts(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """As they are: `events` alone is what other processes read."""
        if rows:
            connection.execute(statements.INSERT_ROW, rows)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        self.last_seqs.clear()
        self._number = None
        with self._engine.connect() as connection:
            transaction = connection.begin()
            try:
                yield connection
                number = self._number or connection.execute(_TRANSACTION).scalar()
            except BaseException:
                transaction.close()
                raise
            try:
                transaction.commit()
            except DBAPIError as exc:
                if not exc.connection_invalidated or number is None or not self._was_committed(number):
                    raise

    def _was_committed(self, number: str) -> bool:
        """Whether a transaction took place whose answer was lost: what was stored must not be stored again."""
        deadline = time.monotonic() + _DOUBT_S
        while True:
            try:
                with self._asking.connect() as connection:
                    status = connection.execute(_STATUS, {"id": number}).scalar()
                if status != "in progress":
                    return bool(status == "committed")
            except SQLAlchemyError:
                if time.monotonic() > deadline:
                    raise
            if time.monotonic() > deadline:
                log.error("store: whether transaction %s took place could not be found out", number)
                return False
            time.sleep(_DOUBT_POLL_S)
