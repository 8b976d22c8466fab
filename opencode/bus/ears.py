"""Who listens to what within one process."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable

#: From this length on a wait is ended by the bus' one ticker: a timer for each wait of each stream costs more than the
#: ring itself. It may then last one tick longer.
_COARSE_S = 5.0
_TICK_S = 1.0


class Ear:
    """One subscription: an event that stays set until it is waited for, so that no ring is missed between two waits."""

    def __init__(self, ears: "Ears", topic: str, call: Callable[[], None] | None) -> None:
        self._ears = ears
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
        """See `port.Subscription.wait`."""
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
        """See `port.Subscription.close`."""
        self._ears.forget(self._topic, self)


class Ears:
    """The subscriptions of one process, for its threads and greenlets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ears: dict[str, set[Ear]] = defaultdict(set)
        self._closed = threading.Event()
        threading.Thread(target=self._tick, name="bus-ticker", daemon=True).start()

    def _tick(self) -> None:
        """End the long waits that are over."""
        while not self._closed.wait(_TICK_S):
            self._on_tick()
            now = time.monotonic()
            with self._lock:
                late = [ear for ears in self._ears.values() for ear in ears if ear.deadline < now]
            for ear in late:
                ear.late = True
                ear.event.set()

    def ring(self, topic: str) -> None:
        """See `port.Bus.ring`."""
        with self._lock:
            ears = list(self._ears.get(topic, ()))
        for ear in ears:
            ear.ring()

    def subscribe(self, topic: str, call: Callable[[], None] | None = None) -> Ear:
        """See `port.Bus.subscribe`."""
        ear = Ear(self, topic, call)
        with self._lock:
            first = topic not in self._ears
            self._ears[topic].add(ear)
        if first:
            self._begun(topic)
        return ear

    def forget(self, topic: str, ear: Ear) -> None:
        with self._lock:
            ears = self._ears.get(topic)
            if ears is None:
                return
            ears.discard(ear)
            if ears:
                return
            del self._ears[topic]
        self._over(topic)

    def topics(self) -> list[str]:
        """What somebody here listens to."""
        with self._lock:
            return list(self._ears)

    def _on_tick(self) -> None:
        """A second has passed."""

    def _begun(self, topic: str) -> None:
        """The first here listens to it."""

    def _over(self, topic: str) -> None:
        """Nobody here listens to it any more."""

    def close(self) -> None:
        """See `port.Bus.close`."""
        self._closed.set()
        for topic in self.topics():
            Ears.ring(self, topic)
