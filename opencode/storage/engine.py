"""Opening a database: engine, pragmas, migrations, and the lock that makes one process the owner of a SQLite store."""

import fcntl
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url

from opencode.errors import SettingsError, StoreDamaged, StoreError
from opencode.storage import postgresql
from opencode.storage.checkpoints import BACKSTOP_PAGES
from opencode.storage.schema import HEAD, metadata

log = logging.getLogger(__name__)

#: How long a second process waits for the store: after a killed master its orphan worker lives about a second.
LOCK_PATIENCE_S = 5.0
_LOCK_POLL_S = 0.05
#: Our own writers wait for one another by a lock in Python. While another program (such as `sqlite3`) holds the store,
#: a write waits in Python too (`failures.patient`): in the driver's C code no other greenlet would run meanwhile.
_BUSY_TIMEOUT_MS = 20
_MIGRATION_PATIENCE_S = 5.0
_MIGRATION_POLL_S = 0.05
#: Reads are short; beyond these connections a reader waits.
_POOL_SIZE = 8
_POOL_OVERFLOW = 24


class FolderLock:
    """Holds a folder for this process; the kernel lets go of it when the process dies, however it dies."""

    def __init__(self, folder: Path, *, patience_s: float = LOCK_PATIENCE_S) -> None:
        """Take the lock, waiting up to `patience_s` seconds.

        Raises:
            StoreError: another process holds it; the message names its pid.
        """
        self._path = folder / "lock"
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
                    os.close(self._fd)
                    raise StoreError(
                        f"The data folder {folder} is in use by process {holder}. Stop that server, or give this one"
                        " a folder of its own: OPENCODE_DATA_DIR=/some/where"
                    ) from None
                time.sleep(_LOCK_POLL_S)
            else:
                break
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._fd)


def make_private(file: Path) -> None:
    """Make a new store's file one that only its user can read: the folder may have been there, open to others.

    SQLite gives the files that it puts beside it the same mode.
    """
    with suppress(OSError):  # what is wrong with it SQLite says better
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def parse(url: str) -> URL:
    """The parts of `DATABASE_URL`.

    Raises:
        SettingsError: it is malformed, or of a database that this version does not speak.
    """
    form = "sqlite:////path/to/store.sqlite3"
    try:
        parsed = make_url(url)
    except (sa.exc.ArgumentError, ValueError) as exc:
        raise SettingsError(f"DATABASE_URL must be a URL such as {form}, or postgresql://user@host/database") from exc
    if parsed.drivername.partition("+")[0] in {"postgres", postgresql.BACKEND}:
        return postgresql.address(parsed)
    if parsed.drivername.partition("+")[0] != "sqlite":
        raise SettingsError(
            f"DATABASE_URL: {parsed.drivername!r} is not supported; use postgresql://user@host/database or {form}"
        )
    if parsed.database in {None, "", ":memory:"} or not Path(parsed.database or "").is_absolute():
        raise SettingsError(f"DATABASE_URL must name a file by its whole path, such as {form}")
    if parsed != URL.create("sqlite", database=parsed.database):
        raise SettingsError(f"DATABASE_URL must be {form}, without driver, host and options")
    return parsed


def open_sqlite(parsed: URL, *, durability: str) -> Engine:
    """An engine with our pragmas: WAL, foreign keys, `synchronous` by the durability."""
    engine = sa.create_engine(
        parsed,
        pool_size=_POOL_SIZE,
        max_overflow=_POOL_OVERFLOW,
        connect_args={"check_same_thread": False, "isolation_level": None},
    )
    synchronous = "FULL" if durability == "power" else "NORMAL"

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA synchronous = {synchronous}")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA wal_autocheckpoint = {BACKSTOP_PAGES}")
        cursor.close()

    # The driver's own transaction control begins late and ends early; SQLAlchemy's documentation gives this way out.
    sa.event.listen(engine, "begin", _begin)

    return engine


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    begin = options.get("sqlite_begin", "DEFERRED")
    if begin is None:
        return
    deadline = time.monotonic() + options.get("begin_patience_s", 0.0)
    while True:
        try:
            connection.exec_driver_sql(f"BEGIN {begin}")
        except sa.exc.OperationalError as exc:
            if "locked" not in str(exc.orig) or time.monotonic() >= deadline:
                raise
            time.sleep(_MIGRATION_POLL_S)
        else:
            return


def migrate(engine: Engine) -> None:
    """Bring the schema to `HEAD`; Alembic is imported only where there is something to upgrade.

    Raises:
        StoreError: the store was written by a newer version of this program.
    """
    with engine.connect() as connection:
        found = _revision(connection)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise StoreError(f"The store has schema {found}, newer than this version's {HEAD}: upgrade the server.")
    begin = {"sqlite_begin": "IMMEDIATE", "begin_patience_s": _MIGRATION_PATIENCE_S}
    with engine.connect().execution_options(**begin) as connection:
        if engine.dialect.name == postgresql.BACKEND:
            postgresql.wait_to_migrate(connection)
            _upgrade(connection)
        elif sa.inspect(connection).get_table_names():
            _upgrade(connection)
        else:
            _make(connection)
        connection.commit()
    log.info("store: schema %s -> %s", found or "none", HEAD)


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - 0.2 s and 12 MB, which a new or current schema does not need
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)


def _make(connection: Connection) -> None:
    """A new store of SQLite's: what all migrations lead to, and Alembic's own table, which says so."""
    metadata.create_all(connection)
    version = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32), nullable=False))
    version.append_constraint(sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"))
    version.create(connection)
    connection.execute(version.insert().values(version_num=HEAD))


def _revision(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return found


def unopened(folder: Path, failure: StoreError, exc: sa.exc.SQLAlchemyError) -> StoreError:
    """What is said of a store that is there and cannot be used."""
    reason = f"The store in {folder} cannot be opened: {exc.__cause__ or type(exc).__name__}."
    if isinstance(failure, StoreDamaged):
        reason += " Restore it from a backup; or move it away, and the next start makes an empty one."
    return type(failure)(reason)
