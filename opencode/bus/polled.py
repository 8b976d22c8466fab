"""No doorbell between processes that share a store: whoever listens looks into it once a second."""

from opencode.bus.ears import Ears


class PolledBus(Ears):
    """Rings within this process as they come, and for whatever others may have done once a second."""

    def ring_elsewhere(self, topic: str) -> None:
        """See `port.SharedBus.ring_elsewhere`: others look by themselves."""

    def _on_tick(self) -> None:
        for topic in self.topics():
            self.ring(topic)

    def check(self) -> None:
        """There is nothing that could be out of reach."""
