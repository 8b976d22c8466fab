"""The doorbell within one process."""

import threading
from collections import defaultdict


class _Ear:
    """One subscription: an event that stays set until it is waited for, so that no ring is missed between two waits."""

    def __init__(self, bus: "MemoryBus", topic: str) -> None:
        self._bus = bus
        self._topic = topic
        self.event = threading.Event()

    def wait(self, timeout_s: float) -> bool:
        rung = self.event.wait(timeout_s)
        self.event.clear()
        return rung

    def close(self) -> None:
        self._bus.forget(self._topic, self)


class MemoryBus:
    """Serves threads and greenlets of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ears: dict[str, set[_Ear]] = defaultdict(set)

    def ring(self, topic: str) -> None:
        with self._lock:
            ears = list(self._ears.get(topic, ()))
        for ear in ears:
            ear.event.set()

    def subscribe(self, topic: str) -> _Ear:
        ear = _Ear(self, topic)
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
        with self._lock:
            topics = list(self._ears)
        for topic in topics:
            self.ring(topic)
