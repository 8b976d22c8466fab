"""The doorbell: it says that there may be something new, and carries nothing."""

from collections.abc import Callable
from typing import Protocol


class Subscription(Protocol):
    """One listener's ear at one topic."""

    def wait(self, timeout_s: float) -> bool:
        """Sleep until a ring since the last call, at most `timeout_s` seconds; True when there was one."""

    def close(self) -> None:
        """Stop listening. May be called twice."""


class Bus(Protocol):
    """Rings reach every subscription that stood before them; a lost ring costs time only."""

    def ring(self, topic: str) -> None:
        """Wake all who listen to `topic`. Never blocks, never raises."""

    def subscribe(self, topic: str, call: Callable[[], None] | None = None) -> Subscription:
        """Listen to `topic` from now on.

        `call` is called by each ring, in the thread that rings; it must neither block nor raise.
        """

    def check(self) -> None:
        """Raise `StoreError` where the bus is out of reach."""

    def close(self) -> None:
        """Wake everyone for the last time and let go."""


class SharedBus(Bus, Protocol):
    """A bus between processes."""

    def ring_elsewhere(self, topic: str) -> None:
        """Wake all who listen in other processes, as `ring`; who listens here is not woken."""
