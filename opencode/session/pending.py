"""An append on its way to the store."""

import threading

from opencode.errors import OpenCodeError, StoreError
from opencode.storage.port import Append, Committed


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
