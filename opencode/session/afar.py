"""Keeps tails in step with what other processes store: one read of the store for each ring, whoever follows here."""

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Generic, Protocol, TypeVar

from opencode.bus.port import SharedBus, Subscription
from opencode.errors import StoreError
from opencode.session.tail import TAIL_BYTES

log = logging.getLogger(__name__)

#: After a failure of the store, and between looks for ears that nobody needs any more.
_PAUSE_S = 1.0


_Event = TypeVar("_Event")


class Source(Protocol[_Event]):
    """The stored logs."""

    def read(self, log_id: str, after: int, limit_bytes: int, /) -> list[_Event]:
        """Events numbered above `after`, ascending; empty at the end."""

    def ends(self, log_ids: Collection[str], /) -> dict[str, int]:
        """The number of the last event of each of these logs that stands."""


class Grows(Protocol[_Event]):
    """The newest events of one log."""

    last_seq: int
    deleted: bool

    def extend(self, first_seq: int, found: list[_Event], /) -> None:
        """Add stored events, some of which it may have."""


class Afar(Generic[_Event]):
    """Extends the tails of one process from the store, as soon as another process rings."""

    def __init__(
        self,
        source: Source[_Event],
        bus: SharedBus,
        tails: Mapping[str, Grows[_Event]],
        tell: Callable[[str], None],
    ) -> None:
        """`tails` are the living ones by log; `tell` wakes the followers of one."""
        self._source = source
        self._bus = bus
        self._tails = tails
        self._tell = tell
        self._rung: dict[str, None] = {}
        self._work = threading.Condition()
        self._closed = False
        #: Filled when a tail dies, in whatever place that is: no lock may be taken there.
        self._left: deque[Subscription] = deque()
        self._thread = threading.Thread(target=self._run, name="log-afar", daemon=True)
        self._thread.start()

    def watch(self, log_id: str, tail: Grows[_Event]) -> None:
        """Hear of what others store, as long as the tail lives."""
        ear = self._bus.subscribe(topic(log_id), lambda: self._on_ring(log_id))
        weakref.finalize(tail, self._left.append, ear).atexit = False

    def ring(self, log_id: str) -> None:
        """Tell the other processes that something was stored."""
        self._bus.ring_elsewhere(topic(log_id))

    def _on_ring(self, log_id: str) -> None:
        with self._work:
            self._rung[log_id] = None
            self._work.notify()

    def _run(self) -> None:
        while True:
            with self._work:
                if not self._rung and not self._closed:
                    self._work.wait(_PAUSE_S)
                if self._closed:
                    return
                rung, self._rung = self._rung, {}
            while self._left:
                self._left.popleft().close()
            here = {log_id: tail for log_id in rung if (tail := self._tails.get(log_id)) is not None}
            if here:
                self._look(here)

    def _look(self, tails: Mapping[str, Grows[_Event]]) -> None:
        try:
            self._catch_up(tails)
        except StoreError as exc:
            log.warning("log: what others stored cannot be read, trying again: %s", exc)
            threading.Event().wait(_PAUSE_S)
            for log_id in tails:
                self._on_ring(log_id)
        except Exception:  # the thread must outlive any failure: all streams from elsewhere depend on it
            log.exception("log: what others stored cannot be caught up with")

    def catch_up(self, log_id: str, tail: Grows[_Event]) -> None:
        """Bring the tail to the end of the log, and wake its followers where there is something new."""
        self._catch_up({log_id: tail})

    def _catch_up(self, tails: Mapping[str, Grows[_Event]]) -> None:
        """One question tells which of them have moved: most may be quiet."""
        ends = self._source.ends(tails)
        for log_id, tail in tails.items():
            before = tail.last_seq
            while (after := tail.last_seq) < ends.get(log_id, 0):
                found = self._source.read(log_id, after, TAIL_BYTES)
                if not found:  # deleted in this moment
                    break
                tail.extend(after + 1, found)
            if log_id not in ends and not tail.deleted:
                tail.deleted = True
                before = -1
            if tail.last_seq != before:
                self._tell(log_id)

    def close(self) -> None:
        with self._work:
            self._closed = True
            self._work.notify()
        self._thread.join(_PAUSE_S)


def topic(log_id: str) -> str:
    """Where it rings when something was stored in a log."""
    return f"log:{log_id}"
