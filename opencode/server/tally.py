"""What an event stream has sent: for the access log and the listeners, when it ends."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """Counts as it goes."""

    length: int = 0
    events: int = 0

    def count(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass the chunks on, counted. Raw line breaks stand in no data, so the mark is that of an event."""
        for chunk in chunks:
            self.length += len(chunk)
            self.events += chunk.count(b"\nevent: ")
            yield chunk
