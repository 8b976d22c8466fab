"""How the store writes: one transaction at a time in this process, whatever others do."""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from opencode.errors import OpenCodeError, StoreError
from opencode.native import NativeThread
from opencode.storage import port, statements
from opencode.storage.checkpoints import Checkpoints
from opencode.storage.texts import Texts
from opencode.storage.unsettled import Unsettled, settle

#: What a transaction writes, about: one that changes rows, and one of pieces of text.
_PAGES, _TEXT_PAGES, _ROWS_A_PAGE = 12, 2, 8

#: What SQLite calls a commit that is on the disk when it returns.
_FULL = 2


class Writer:
    """Writes to a database that this process owns: writers wait here, never in the database's C code."""

    def __init__(self, engine: Engine, failure: Callable[[SQLAlchemyError], StoreError]) -> None:
        """`failure` makes the driver's failure one of ours."""
        self._engine = engine
        self._immediate = engine.execution_options(sqlite_begin="IMMEDIATE")
        self._failure = failure
        self._writing = threading.Lock()
        #: Where logs end, as far as that is known, so that an append need not ask.
        self.last_seqs: dict[str, int] = {}
        #: Pieces of text that are not in `events` yet, and what a transaction changes of them if it succeeds.
        self.unsettled = Unsettled()
        self._waits: bool | None = None
        self._settled: list[str] = []
        self._added: list[tuple[int, str, int, int, bytes]] = []
        self._checkpoints = Checkpoints(engine, NativeThread()) if engine.dialect.name == "sqlite" else None
        self._texts = Texts(engine, self.unsettled, self._commit)

    def texts(self, appends: Sequence[port.Append]) -> list[port.Committed | OpenCodeError] | None:
        """Store them the short way, where they are pieces of text alone; None where nothing is stored."""
        with self._writing:
            stored = self._texts.append(appends, self.last_seqs)
            if stored is not None:
                self._wrote(_TEXT_PAGES + len(stored) // _ROWS_A_PAGE)
            return stored

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """All of it is stored, or nothing."""
        with self._writing:
            try:
                with self._transaction() as connection:
                    yield connection
                self._stored()
            except BaseException as exc:
                # Nothing of the transaction is stored, whatever broke it off: its numbers are free again.
                self.last_seqs.clear()
                self._settled, self._added = [], []
                if isinstance(exc, SQLAlchemyError):
                    raise self._failure(exc) from exc
                raise
            self._wrote(_PAGES)

    def _stored(self) -> None:
        self.unsettled.drop(self._settled)
        if self._added:
            self.unsettled.stored(self._added)
        self._settled, self._added = [], []

    def settle(self, connection: Connection, session_ids: Iterable[str]) -> None:
        """Put the sessions' pieces of text into `events`, before something else is."""
        rows = self.unsettled.rows(session_ids)
        settle(connection, rows)
        self._settled += [row[0] for row in rows]

    def forget(self, connection: Connection, session_id: str) -> None:
        """The session is deleted, and nothing of it is to be left."""
        connection.execute(statements.DELETE_PIECES, {"session": session_id})
        self._settled.append(session_id)

    def insert_texts(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Store pieces of text of sessions of which nothing else is stored in this transaction."""
        if not rows:
            return
        first_id = self.unsettled.next_id + len(self._added)
        numbered = [{**row, "id": row_id} for row_id, row in enumerate(rows, first_id)]
        connection.execute(statements.INSERT_PIECE, numbered)
        self._added += [(row["id"], row["session"], row["first"], row["last"], row["frames"]) for row in numbered]

    def _wrote(self, pages: int) -> None:
        if self._checkpoints is not None:
            self._checkpoints.wrote(pages)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._immediate.begin() as connection:
            yield connection
            try:
                self._commit(connection.connection.driver_connection)
            except sqlite3.Error as exc:
                raise DBAPIError.instance("COMMIT", None, exc, sqlite3.Error) from exc

    def _commit(self, connection: Any) -> None:
        """Commit, and let others run meanwhile where a commit waits for the disk (`OPENCODE_DURABILITY=power`)."""
        if self._waits is None:
            self._waits = connection.execute("PRAGMA synchronous").fetchone()[0] >= _FULL
        if self._waits and self._checkpoints is not None:
            self._checkpoints.thread.call(lambda: connection.execute("COMMIT"))
        else:
            connection.execute("COMMIT")

    def hold(self, connection: Connection, session_ids: Iterable[str]) -> None:
        """Keep other processes from these sessions; there are none."""

    def close(self) -> None:
        """Let go of what it has taken."""
        with self._writing:
            self._texts.close()
        if self._checkpoints is not None:
            self._checkpoints.close()
