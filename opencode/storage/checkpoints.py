"""Checkpoints of SQLite's write-ahead log, beside the loop: they wait for the disk, and all streams would wait too.

A checkpoint copies the log into the database while others read and write. As long as somebody writes, there is always
something left to copy, and the log begins anew only when there is not: so when it has become long, one checkpoint is
made while nobody may write, which is short, since nearly all is copied by then.
"""

import logging
import sqlite3

from sqlalchemy.engine import Engine

from opencode.native import NativeThread
from opencode.storage.driver import Driver

log = logging.getLogger(__name__)

#: Pages of 4 KiB, as SQLite counts them: when to copy, and from which length on the log is to begin anew.
COPY_PAGES = 1_000
LONG_PAGES = 4_000
#: From here on SQLite itself makes a checkpoint in a commit, should nobody else have.
BACKSTOP_PAGES = 16_000
#: Changes nothing; whoever writes first after a whole checkpoint begins the log anew, and waits for the disk once.
_TOUCH = "UPDATE alembic_version SET version_num = version_num"


class Checkpoints:
    """Of one store, in `thread`, which it closes. The caller holds the store's write lock; `close` needs none."""

    def __init__(
        self, engine: Engine, thread: NativeThread, *, copy_pages: int = COPY_PAGES, long_pages: int = LONG_PAGES
    ) -> None:
        self.thread = thread
        self._copy_pages = copy_pages
        self._long_pages = long_pages
        self._driver = Driver(engine)
        self._pages = 0
        self._under_way = False
        self._long = False
        self._failure: Exception | None = None

    def wrote(self, pages: int) -> None:
        """So many pages, about, were written. Returns at once, unless the log has become long. Raises nothing."""
        self._pages += pages
        try:
            self._look()
        except Exception as exc:  # what is stored is stored, whatever becomes of the checkpoint
            self._failure, self._under_way = exc, False
        if self._failure is not None:
            log.warning("store: a checkpoint failed, the next one tries again: %s", self._failure)
            self._failure = None

    def _look(self) -> None:
        if self._under_way:
            return
        if self._long:
            self._begin_anew()
        elif self._pages >= self._copy_pages:
            self._pages, connection = 0, self._driver.connection
            self._under_way = True
            self.thread.post(lambda: self._copy(connection))

    def _copy(self, connection: sqlite3.Connection) -> None:
        try:
            _busy, pages, _copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self._long = pages >= self._long_pages
        except Exception as exc:  # the thread must outlive it; whoever writes next tells of it
            self._failure = exc
        self._under_way = False

    def _begin_anew(self) -> None:
        connection = self._driver.connection

        def whole() -> None:
            self._copy(connection)
            connection.execute(_TOUCH)

        self._pages = 0
        try:
            self.thread.call(whole)
        finally:
            self._long = False

    def close(self) -> None:
        """Let the checkpoint that is under way end."""
        self.thread.close()
        self._driver.close()
