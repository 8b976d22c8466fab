"""Turns that run in this process: starting them, stopping them, and their limit of seconds."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from opencode.cancel import Cancel
from opencode.errors import StoreError, Unavailable
from opencode.records import Turn
from opencode.session.turn import OUT_OF_TIME

log = logging.getLogger(__name__)

#: How exactly the limit of seconds is kept.
_TICK_S = 0.25


@dataclass(slots=True)
class _Running:
    turn: Turn
    deadline: float
    cancel: Cancel = field(default_factory=Cancel)
    ended: threading.Event = field(default_factory=threading.Event)


class Runner:
    """Runs each turn in a thread of its own (a greenlet where the process is patched)."""

    def __init__(self, work: Callable[[Turn, Cancel], object], *, turn_timeout_s: float) -> None:
        """`work` carries out one turn and ends its log."""
        self._work = work
        self._timeout_s = turn_timeout_s
        self._lock = threading.Lock()
        self._running: dict[str, _Running] = {}
        self._stopping = threading.Event()
        self._clock = threading.Thread(target=self._watch, name="turn-clock", daemon=True)
        self._clock.start()

    def check_open(self) -> None:
        """Raise `Unavailable` while the server stops: no new turn is begun."""
        if self._stopping.is_set():
            raise Unavailable("The server is stopping; try again in a moment.", headers={"Retry-After": "2"})

    def start(self, turn: Turn) -> None:
        """Begin a stored turn."""
        running = _Running(turn, time.monotonic() + self._timeout_s)
        with self._lock:
            self._running[turn.id] = running
        threading.Thread(target=self._run, args=(running,), name=f"turn-{turn.id}", daemon=True).start()

    def _run(self, running: _Running) -> None:
        try:
            self._work(running.turn, running.cancel)
        except StoreError as exc:
            log.error("turn %s lost its store: %s", running.turn.id, exc)  # noqa: TRY400 - expected, no trace needed
        except Exception:  # a fault in one turn must not pass in silence, nor touch another
            log.exception("turn %s could not be ended", running.turn.id)
        finally:
            with self._lock:
                self._running.pop(running.turn.id, None)
            running.ended.set()

    def abort(self, turn_id: str, *, reason: str = "aborted", wait_s: float = 10.0) -> bool:
        """Stop a turn and wait until its log has ended; False where it does not run here."""
        with self._lock:
            running = self._running.get(turn_id)
        if running is None:
            return False
        running.cancel.cancel(reason)
        running.ended.wait(wait_s)
        return True

    def count(self, owner: str | None = None) -> int:
        """Turns that run now, of one owner or of everyone."""
        with self._lock:
            return sum(owner in {None, running.turn.owner} for running in self._running.values())

    def stop(self, timeout_s: float) -> None:
        """Take no more turns; give the running ones `timeout_s` seconds, then end them."""
        self._stopping.set()
        with self._lock:
            left = list(self._running.values())
        deadline = time.monotonic() + timeout_s
        for running in left:
            running.ended.wait(max(0.0, deadline - time.monotonic()))
        for running in left:
            running.cancel.cancel("the server stopped")
        for running in left:
            running.ended.wait(2.0)
        self._clock.join()

    def _watch(self) -> None:
        while not self._stopping.wait(_TICK_S):
            now = time.monotonic()
            with self._lock:
                late = [running for running in self._running.values() if running.deadline < now]
            for running in late:
                running.cancel.cancel(OUT_OF_TIME)
