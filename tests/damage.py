"""A database file that is really damaged, as by a failing disk, or that another program holds."""

import sqlite3
from contextlib import closing, contextmanager


@contextmanager
def locked(file):
    """Another program holds the database: nothing can be written."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


def damage(file, table=None):
    """Overwrite the first page of a table or an index, or all but the file's first one."""
    with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # else the pages may be read from the write-ahead log
        (size,) = other.execute("PRAGMA page_size").fetchone()
        pages = range(2, file.stat().st_size // size + 1)
        if table is not None:
            pages = other.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchone()
        with file.open("r+b") as raw:
            for page in pages:
                raw.seek((page - 1) * size)
                raw.write(b"\xa5" * size)
        # A change of the first page alone: whoever has the others in memory reads them anew.
        other.execute("PRAGMA user_version = 7")
