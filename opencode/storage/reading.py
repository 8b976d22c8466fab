"""How the store reads."""

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from opencode.errors import StoreDamaged, StoreError
from opencode.storage import postgresql
from opencode.storage.failures import patient, translated
from opencode.storage.known import KnownSessions

log = logging.getLogger(__name__)

#: Sessions kept in memory, about a kilobyte each.
_KNOWN_SESSIONS = 1_000


_Queries = TypeVar("_Queries", bound="Reader")


def patient_reads(queries: type[_Queries]) -> type[_Queries]:
    """Make every public method of a class wait while the store is out of reach, as writes do (`failures.patient`)."""
    for name, read in list(vars(queries).items()):
        if inspect.isfunction(read) and not name.startswith("_"):
            setattr(queries, name, patient(read))
    return queries


class Reader:
    """Connections to read by, and failures as ours."""

    busy_patience_s: float

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        shared = engine.dialect.name == postgresql.BACKEND
        #: One statement needs no transaction around it; several are to see the same.
        self._single = engine.execution_options(
            **{"isolation_level": "AUTOCOMMIT"} if shared else {"sqlite_begin": None}
        )
        self._several = engine.execution_options(isolation_level="REPEATABLE READ") if shared else engine
        # With a server for a database, others change it too.
        self._known = KnownSessions(0 if shared else _KNOWN_SESSIONS)
        #: Of what is stored of a session's log, what is not in `events` yet: its first number, and its frames. To be
        #: asked before `events` is: what goes there in between is then found twice, and not missed.
        self._unsettled: Callable[[str], tuple[int, bytes]] = lambda _session_id: (0, b"")
        #: The first sign of damage. What can be read of such a store still is; it counts as unusable until a new start.
        self._damage: StoreDamaged | None = None

    def _failure(self, exc: SQLAlchemyError) -> StoreError:
        failure = translated(exc)
        if isinstance(failure, StoreDamaged):
            place = self.engine.url.database
            failure = StoreDamaged(f"{failure}. Stop the server and restore {place} from a backup.")
            if self._damage is None:
                self._damage = failure
                log.critical("%s", failure)
        return failure

    @contextmanager
    def _read(self, *, several: bool = False) -> Iterator[Connection]:
        with self._translated(), (self._several if several else self._single).connect() as connection:
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as exc:
            raise self._failure(exc) from exc
