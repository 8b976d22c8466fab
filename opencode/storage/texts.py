"""Pieces of text on their way into SQLite's log: most of what is ever stored, and so past SQLAlchemy's statements.

It is still SQLAlchemy's connection, with its pragmas; only the driver under it is called directly: for a row a third of
the price.
"""

import logging
import sqlite3
from collections.abc import Callable, Sequence

from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from opencode import frames
from opencode.errors import OpenCodeError
from opencode.storage import port
from opencode.storage.driver import Driver
from opencode.storage.unsettled import Unsettled

log = logging.getLogger(__name__)

_INSERT = (
    "INSERT INTO pieces (id, session_id, first_seq, last_seq, frames) SELECT ?, ?, ?, ?, ? WHERE EXISTS"
    " (SELECT 1 FROM turns WHERE id = ? AND attempt = ? AND state IN ('running', 'waiting'))"
)
_SETTLE = "INSERT INTO events (session_id, first_seq, last_seq, frames) VALUES (?, ?, ?, ?)"
_PRUNE = "DELETE FROM pieces WHERE id < ?"


def is_text(append: port.Append) -> bool:
    """Events of a turn alone: no rows go with them, and they end nothing."""
    return bool(append.turn and append.bodies and not append.changes and not append.folds)


class Texts:
    """One connection, taken from the engine's pool at the first use. Its caller holds the store's write lock."""

    def __init__(self, engine: Engine, unsettled: Unsettled, commit: Callable[[sqlite3.Connection], None]) -> None:
        self._commit = commit
        self._unsettled = unsettled
        self._usable = engine.dialect.name == "sqlite"
        self._driver = Driver(engine)

    def append(
        self, appends: Sequence[port.Append], last_seqs: dict[str, int]
    ) -> list[port.Committed | OpenCodeError] | None:
        """Store them in one transaction, each only where its turn's attempt is the current one.

        `last_seqs` are the last numbers of the sessions' logs as far as they are known; they are brought up to date.
        None says that nothing is stored, and that it is for SQLAlchemy: because rows go with them, one of them is
        refused, or the database fails, and who it was and why is yet to be found out.
        """
        if not self._usable or not all(map(is_text, appends)):
            return None
        numbers: dict[str, int] = {}
        stored: list[port.Committed | OpenCodeError] = []
        rows: list[tuple[int, str, int, int, bytes]] = []
        guards: list[tuple[str, int]] = []
        next_id = self._unsettled.next_id
        for append in appends:
            session_id = append.session_id
            last_seq = numbers.get(session_id) or last_seqs.get(session_id)
            if last_seq is None or append.turn is None:
                return None
            committed = port.Committed(last_seq + 1, frames.numbered(append.bodies, last_seq + 1))
            numbers[session_id] = committed.last_seq
            stored.append(committed)
            rows.append((next_id, session_id, last_seq + 1, committed.last_seq, b"".join(committed.frames)))
            guards.append(append.turn)
            next_id += 1
        if not self._insert(rows, guards):
            return None
        last_seqs.update(numbers)
        return stored

    def _insert(self, rows: list[tuple[int, str, int, int, bytes]], guards: list[tuple[str, int]]) -> bool:
        connection, unsettled = self._driver.connection, self._unsettled
        due = unsettled.due(len(rows))
        guarded = [(*row, *guard) for row, guard in zip(rows, guards, strict=True)]
        try:
            connection.execute("BEGIN IMMEDIATE")
            if due:
                connection.executemany(_SETTLE, unsettled.rows(due))
            if connection.executemany(_INSERT, guarded).rowcount == len(rows):
                below = unsettled.done_below()
                if below is not None:
                    connection.execute(_PRUNE, (below,))
                self._commit(connection)
                unsettled.drop(due)
                unsettled.stored(rows)
                if below is not None:
                    unsettled.pruned(below)
                return True
        except sqlite3.Error as exc:
            log.debug("pieces of text were not stored the short way: %s", exc)
        except BaseException:
            self._roll_back(connection)
            raise
        self._roll_back(connection)
        return False

    def _settle_all(self) -> None:
        """Leave nothing behind. Where that fails, the next start does it."""
        rows = self._unsettled.rows(self._unsettled.sessions())
        if not rows:
            return
        try:
            connection = self._driver.connection
            with connection:  # the transaction, not the connection
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(_SETTLE, rows)
                connection.execute("DELETE FROM pieces")
        except (sqlite3.Error, SQLAlchemyError) as exc:
            log.warning("store: pieces of text are settled at the next start: %s", exc)

    @staticmethod
    def _roll_back(connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")

    def close(self) -> None:
        self._settle_all()
        self._driver.close()
