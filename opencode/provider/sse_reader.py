"""Server-Sent Events out of the bytes of a provider's stream.

Works on bytes, so that a character split between two chunks never matters: neither CR nor LF is part of a longer
UTF-8 sequence.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# CR, LF and CRLF only: splitlines() also breaks on U+2028, which JSON strings may contain.
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
_MAX_EVENT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event; `data` is left as bytes for the JSON decoder."""

    event: str
    data: bytes


class SseError(Exception):
    """The stream is no stream of events."""


class SseReader:
    """Takes bytes as they come and gives the events that they complete.

    What follows the last blank line is no event yet: at the end of a stream it is dropped, as the standard says,
    since it may be half of one.
    """

    def __init__(self, *, max_event_bytes: int = _MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._partial: list[bytes] = []
        self._size = 0
        self._at_start = True
        self._skip_lf = False
        self._event = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Give the events that `chunk` completes.

        Raises:
            SseError: one event has grown beyond any sense.
        """
        self._size += len(chunk)
        if self._size > self._max_event_bytes:
            raise SseError(f"an event of more than {self._max_event_bytes} bytes")
        if self._skip_lf and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._skip_lf = False
        if not chunk:
            return []
        if b"\n" not in chunk and b"\r" not in chunk:
            self._partial.append(chunk)
            return []
        # The CR ends its line now; were it half of a CRLF, the other half is skipped when it comes.
        self._skip_lf = chunk.endswith(b"\r")
        *lines, rest = _LINE_END.split(b"".join((*self._partial, chunk)))
        self._partial = [rest] if rest else []
        return self._read_lines(lines)

    def _read_lines(self, lines: list[bytes]) -> list[SseEvent]:
        if self._at_start:
            lines[0] = lines[0].removeprefix(_BOM)
            self._at_start = False
        events = []
        for line in lines:
            if line:
                self._read_field(line)
                continue
            if self._data:
                events.append(SseEvent(self._event.decode("utf-8", "replace") or "message", b"\n".join(self._data)))
            self._event, self._data = b"", []
            self._size = sum(map(len, self._partial))
        return events

    def _read_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value


def read_events(chunks: Iterable[bytes]) -> Iterator[SseEvent]:
    """Give the events of a whole stream, each as soon as it is complete."""
    reader = SseReader()
    for chunk in chunks:
        yield from reader.feed(chunk)
