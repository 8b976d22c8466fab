"""An append on its way to the store."""

import logging
import threading

from opencode.errors import OpenCodeError, StoreError
from opencode.storage.port import Append, Committed

log = logging.getLogger(__name__)
_making = threading.Lock()


class Pending:
    """An append on its way to the store. For most, pieces of text, nobody waits: an event is made by who does."""

    __slots__ = ("_settled", "_waited_for", "append", "outcome", "taken")

    def __init__(self, append: Append) -> None:
        self.append = append
        self.taken = False
        self.outcome: Committed | OpenCodeError | None = None
        self._settled = False
        self._waited_for: threading.Event | None = None

    def settle(self) -> None:
        """Let go on who waits: the outcome stands, and its followers can see it."""
        self._settled = True
        # In this order, and the other way round in `wait`: one of the two sees what the other has set.
        if self._waited_for is not None:
            self._waited_for.set()

    @property
    def settled(self) -> bool:
        return self._settled

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is stored or refused; False where that takes longer."""
        if self._settled:
            return True
        with _making:
            if self._waited_for is None:
                self._waited_for = threading.Event()
        return self._settled or self._waited_for.wait(timeout_s)

    def result(self) -> Committed:
        """Wait until it is stored. Raises what the store said where it was refused."""
        self.wait()
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
