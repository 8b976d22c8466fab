"""One switch that ends a turn: checked between steps, and waking whatever waits."""

import threading
from collections.abc import Callable

from opencode.errors import Cancelled


class Cancel:
    """A one-way switch, shared by everything that works for one turn.

    `threading.Event` alone would wake only those who wait on it; a provider's stream or a tool's process is ended
    by a callback instead. Written with `threading`, so that it serves threads and greenlets alike.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._next = 0
        self.reason = ""

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def cancel(self, reason: str = "aborted") -> None:
        """Turn the switch; the first reason stands. Callbacks run here, once, in the caller's thread."""
        with self._lock:
            if self._event.is_set():
                return
            self.reason = reason
            self._event.set()
            callbacks = list(self._callbacks.values())
            self._callbacks.clear()
        for callback in callbacks:
            callback()

    def check(self) -> None:
        """Raise `Cancelled` once the switch is turned."""
        if self._event.is_set():
            raise Cancelled(self.reason)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Sleep until the switch is turned, at most `timeout_s` seconds; True when it is."""
        return self._event.wait(timeout_s)

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Run `callback` when the switch is turned, at once where it already is.

        Returns a function that takes the callback back. **Contract:** a callback is quick and does not raise.
        """
        with self._lock:
            if not self._event.is_set():
                key = self._next
                self._next += 1
                self._callbacks[key] = callback
                return lambda: self._forget(key)
        callback()
        return lambda: None

    def _forget(self, key: int) -> None:
        with self._lock:
            self._callbacks.pop(key, None)
