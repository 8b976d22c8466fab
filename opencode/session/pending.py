"""An append on its way to the store."""

import logging
import threading

from opencode.errors import OpenCodeError, StoreError
from opencode.storage.port import Append, Committed

log = logging.getLogger(__name__)


class Pending:
    """An append on its way to the store."""

    __slots__ = ("append", "done", "outcome", "taken")

    def __init__(self, append: Append) -> None:
        self.append = append
        self.taken = False
        self.done = threading.Event()
        self.outcome: Committed | OpenCodeError | None = None

    def result(self) -> Committed:
        """Wait until it is stored. Raises what the store said where it was refused."""
        self.done.wait()
        if isinstance(self.outcome, Committed):
            return self.outcome
        raise self.outcome or StoreError("the log is closed")


def failure(exc: Exception) -> OpenCodeError:
    """Why nothing of a commit is stored, as those are told who wait for it."""
    if isinstance(exc, OpenCodeError):
        log.error("log: not stored: %s", exc)
        return exc
    log.error("log: not stored, by a fault of ours", exc_info=exc)
    return StoreError(f"the store failed: {type(exc).__name__}")
