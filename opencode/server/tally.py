"""What an event stream has sent: for the access log and the listeners, when it ends."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

#: Bytes that are handed on at once.
_PIECE = 16 * 1024


@dataclass(slots=True)
class Tally:
    """Counts as it goes."""

    length: int = 0
    events: int = 0

    def count(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass the chunks on in short pieces, counted. Raw line breaks stand in no data: the mark is an event's."""
        for chunk in chunks:
            if not chunk:  # a sign (`waiting.Parked`)
                yield chunk
            self.length += len(chunk)
            self.events += chunk.count(b"\nevent: ")
            # The limit on a reader that stops is on each write, so that a slow one is told from it.
            for start in range(0, len(chunk), _PIECE):
                yield chunk[start : start + _PIECE]
