"""How the store writes: one transaction at a time in this process, whatever others do."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from opencode.errors import OpenCodeError, StoreError
from opencode.native import NativeThread
from opencode.storage import port
from opencode.storage.checkpoints import Checkpoints
from opencode.storage.texts import Texts

#: What a transaction that changes rows writes, about.
_PAGES = 12


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
        self._texts = Texts(engine)
        self._checkpoints = Checkpoints(engine, NativeThread()) if engine.dialect.name == "sqlite" else None

    def texts(self, appends: Sequence[port.Append]) -> list[port.Committed | OpenCodeError] | None:
        """Store them the short way, where they are pieces of text alone; None where nothing is stored."""
        with self._writing:
            stored = self._texts.append(appends, self.last_seqs)
            if stored is not None:
                self._wrote(len(stored))
            return stored

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """All of it is stored, or nothing."""
        with self._writing:
            try:
                with self._transaction() as connection:
                    yield connection
                self._wrote(_PAGES)
            except BaseException as exc:
                # Nothing of the transaction is stored, whatever broke it off: its numbers are free again.
                self.last_seqs.clear()
                if isinstance(exc, SQLAlchemyError):
                    raise self._failure(exc) from exc
                raise

    def _wrote(self, pages: int) -> None:
        if self._checkpoints is not None:
            self._checkpoints.wrote(pages)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._immediate.begin() as connection:
            yield connection

    def hold(self, connection: Connection, session_ids: Iterable[str]) -> None:
        """Keep other processes from these sessions; there are none."""

    def close(self) -> None:
        """Let go of what it has taken."""
        self._texts.close()
        if self._checkpoints is not None:
            self._checkpoints.close()
