"""Listeners of `Server.on`: they hear what happened, on a thread of their own, and can neither slow nor break it."""

import inspect
import logging
import queue
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from blinker import Signal

log = logging.getLogger(__name__)

EVENTS = ("request", "session_created", "session_deleted", "message", "tool_call", "turn_done", "error")
#: What may wait for listeners that are slow; beyond, events are dropped, with a line in the log.
_WAITING = 10_000
Listener = Callable[..., Any]


class Listeners:
    """Who listens to what. An event is an object with the attributes that the documentation lists for it."""

    def __init__(self) -> None:
        self._signals = {name: Signal() for name in EVENTS}
        self._queue: queue.Queue[tuple[str, SimpleNamespace] | None] = queue.Queue(_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def on(self, event: str, listener: Listener) -> None:
        """Call `listener` from now on whenever `event` happens, with the event, or with nothing where it takes nothing.

        Raises:
            ValueError: there is no such event; the message lists them.
            TypeError: the listener is no plain function.
        """
        if event not in self._signals:
            raise ValueError(f"there is no event {event!r}; there are: {', '.join(EVENTS)}")
        if not callable(listener) or inspect.iscoroutinefunction(listener):
            raise TypeError(f"a listener must be a plain function, not {listener!r}")
        takes = _takes_argument(listener)

        def heard(event: SimpleNamespace) -> None:
            try:
                listener(*[event] if takes else [])
            except Exception:  # it is a stranger's; the others must still hear
                log.exception("the listener %r failed", getattr(listener, "__qualname__", listener))

        self._signals[event].connect(heard, weak=False)

    def listened_to(self, event: str) -> bool:
        """Whether anybody wants to know."""
        return bool(self._signals[event].receivers)

    def tell(self, event: str, **data: Any) -> None:
        """It happened. Returns at once."""
        if not self.listened_to(event):
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="listeners", daemon=True)
                self._thread.start()
        try:
            self._queue.put_nowait((event, SimpleNamespace(**data)))
        except queue.Full:
            log.warning("listeners are too slow: an event %r was dropped", event)

    def _run(self) -> None:
        while (told := self._queue.get()) is not None:
            event, data = told
            self._signals[event].send(data)

    def drain(self, timeout_s: float) -> None:
        """Let the listeners hear what has happened so far, for up to `timeout_s` seconds; more can be told after."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            try:
                self._queue.put(None, timeout=timeout_s)
            except queue.Full:
                log.warning("listeners are too slow: %d events were not heard", self._queue.qsize())
                return
            thread.join(timeout_s)


def _takes_argument(listener: Listener) -> bool:
    try:
        parameters = inspect.signature(listener).parameters.values()
    except (TypeError, ValueError):  # some of C's functions do not say
        return True
    return any(own.kind not in {own.KEYWORD_ONLY, own.VAR_KEYWORD} for own in parameters)
