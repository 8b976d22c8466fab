"""The database's failures as ours, and the patience with those that pass by themselves."""

import functools
import logging
import sqlite3
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from opencode.errors import StoreBusy, StoreDamaged, StoreError

log = logging.getLogger(__name__)

#: Each try stands still in the driver's C code for a moment, and every stream with it: the pauses are the longer part.
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.25
#: Of a message: its end says what was to be written.
_LONGEST = 400
#: The low byte of SQLite's extended result codes is the kind of failure.
_KIND = 0xFF
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


#: PostgreSQL's codes (its manual, appendix A) of what may pass: connections (08, 53300), a shutdown or start (57P), a
#: deadlock, a conflict, a lock that was waited for too long, a transaction that idled.
_PASSING = ("08", "53300", "57P", "40001", "40P01", "55P03", "25P03")
#: A connection that is refused has no code, only words.
_LASTING = (
    *("authentication failed", "no password supplied", "does not exist", "pg_hba.conf", "certificate"),
    *("does not support SSL", "is bad: invalid"),
)
#: What libpq says of a certificate that is signed by nobody it knows, and the way out.
_UNTRUSTED, _TRUST = "certificate verify failed", "; DATABASE_URL names who signed it: ?sslrootcert=/path/ca.pem"


def _passes(exc: SQLAlchemyError, text: str) -> bool:
    original = getattr(exc, "orig", None)
    if isinstance(exc, PoolTimeout) or getattr(exc, "connection_invalidated", False):
        return True
    code = getattr(original, "sqlstate", "")
    if code == "":
        return isinstance(exc, OperationalError) and ("locked" in text or "busy" in text)
    if code is None:
        return isinstance(exc, OperationalError) and not any(words in text for words in _LASTING)
    return code.startswith(_PASSING)


def translated(exc: SQLAlchemyError) -> StoreError:
    """The driver's failure as ours: what may pass by itself is `StoreBusy`, what no waiting mends `StoreDamaged`."""
    original = getattr(exc, "orig", None)
    text = " ".join(str(exc if original is None else original).split())
    if getattr(original, "sqlite_errorcode", 0) & _KIND in _DAMAGED:
        return StoreDamaged(f"the store is damaged: {_shortened(text)}")
    return (StoreBusy if _passes(exc, text) else StoreError)(f"the store failed: {_shortened(text)}")


def _shortened(text: str) -> str:
    return text[:_LONGEST] + (_TRUST if _UNTRUSTED in text else "")


class Patient(Protocol):
    """A store, and how many seconds its writers wait while it is busy."""

    busy_patience_s: float


_P = ParamSpec("_P")
_Store = TypeVar("_Store", bound=Patient)
_Result = TypeVar("_Result")


def patient(
    write: Callable[Concatenate[_Store, _P], _Result],
) -> Callable[Concatenate[_Store, _P], _Result]:
    """Make a method that writes one transaction try again while the store is busy; in Python, so that others run.

    When `busy_patience_s` is over, its `StoreBusy` goes through; whatever else fails does so at once.
    """

    @functools.wraps(write)
    def tried(self: _Store, /, *args: _P.args, **kwargs: _P.kwargs) -> _Result:
        deadline, pause_s = time.monotonic() + self.busy_patience_s, _FIRST_PAUSE_S
        while True:
            try:
                return write(self, *args, **kwargs)
            except StoreBusy as exc:
                if time.monotonic() > deadline:
                    raise
                if pause_s == _FIRST_PAUSE_S:
                    log.warning("the store is busy, trying again for %g s: %s", self.busy_patience_s, exc)
                time.sleep(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    return tried
