"""The doorbell within one process."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable

#: From this length on a wait is ended by the bus' one ticker: a timer for each wait of each stream costs more than the
#: ring itself. It may then last one tick longer.
_COARSE_S = 5.0
_TICK_S = 1.0


class _Ear:
    """One subscription: an event that stays set until it is waited for, so that no ring is missed between two waits."""

    def __init__(self, bus: "MemoryBus", topic: str, call: Callable[[], None] | None) -> None:
        self._bus = bus
        self._topic = topic
        self._call = call
        self.event = threading.Event()
        self.deadline = float("inf")
        self.late = False

    def ring(self) -> None:
        self.event.set()
        if self._call is not None:
            self._call()

    def wait(self, timeout_s: float) -> bool:
        if timeout_s < _COARSE_S:
            rung = self.event.wait(timeout_s)
        else:
            self.deadline = time.monotonic() + timeout_s
            self.event.wait()
            self.deadline = float("inf")
            rung, self.late = not self.late, False
        self.event.clear()
        return rung

    def close(self) -> None:
        self._bus.forget(self._topic, self)


class MemoryBus:
    """Serves threads and greenlets of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ears: dict[str, set[_Ear]] = defaultdict(set)
        self._closed = threading.Event()
        threading.Thread(target=self._tick, name="bus-ticker", daemon=True).start()

    def _tick(self) -> None:
        """End the long waits that are over."""
        while not self._closed.wait(_TICK_S):
            now = time.monotonic()
            with self._lock:
                late = [ear for ears in self._ears.values() for ear in ears if ear.deadline < now]
            for ear in late:
                ear.late = True
                ear.event.set()

    def ring(self, topic: str) -> None:
        with self._lock:
            ears = list(self._ears.get(topic, ()))
        for ear in ears:
            ear.ring()

    def subscribe(self, topic: str, call: Callable[[], None] | None = None) -> _Ear:
        """See `port.Bus.subscribe`."""
        ear = _Ear(self, topic, call)
        with self._lock:
            self._ears[topic].add(ear)
        return ear

    def forget(self, topic: str, ear: _Ear) -> None:
        with self._lock:
            ears = self._ears.get(topic)
            if ears is not None:
                ears.discard(ear)
                if not ears:
                    del self._ears[topic]

    def check(self) -> None:
        """A process always reaches itself."""

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            topics = list(self._ears)
        for topic in topics:
            self.ring(topic)
