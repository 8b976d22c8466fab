"""Server-Sent Events out of the bytes of a stream (WHATWG HTML, section 9.2).

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
#: Of a `retry:`; a longer one is no time that anyone means.
_RETRY_DIGITS = 9


@dataclass(slots=True)
class SseEvent:
    """One event; `data` is left as bytes for the JSON decoder. `id` is the event's own, None where it brings none."""

    event: str
    data: bytes
    id: str | None = None


class SseError(Exception):
    """The stream is no stream of events."""


class SseReader:
    """Takes bytes as they come and gives the events that they complete.

    What follows the last blank line is no event yet: at the end of a stream it is dropped, as the standard says,
    since it may be half of one. `last_id` and `retry_ms` are what the stream said last, None where it has not: an id
    and a blank line say where a reader is without an event, and a `retry:` when to come back.
    """

    def __init__(self, *, max_event_bytes: int = _MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._partial: list[bytes] = []
        self._size = 0
        self._at_start = True
        self._skip_lf = False
        self._event = b""
        self._data: list[bytes] = []
        self._id: str | None = None
        self.last_id: str | None = None
        self.retry_ms: int | None = None

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Give the events that `chunk` completes.

        Raises:
            SseError: one event has grown beyond any sense.
        """
        self._size += len(chunk)
        if self._size > self._max_event_bytes:
            raise SseError(f"an event of more than {self._max_event_bytes} bytes")
        if self._is_one_event(chunk):
            self._at_start, self._size = False, 0
            return [SseEvent("message", chunk[6:-2])]
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

    def _is_one_event(self, chunk: bytes) -> bool:
        """Whether it is one line of data and its end, as model providers send each: the usual, read at a tenth."""
        return (
            chunk.startswith(b"data: ")
            and chunk.endswith(b"\n\n")
            and chunk.count(b"\n") == 2  # noqa: PLR2004 - the two that end it
            and b"\r" not in chunk
            and not (self._partial or self._data or self._event or self._skip_lf or self._id is not None)
        )

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
                name = self._event.decode("utf-8", "replace") or "message"
                events.append(SseEvent(name, b"\n".join(self._data), self._id))
            if self._id is not None:
                self.last_id = self._id
            self._event, self._data, self._id = b"", [], None
            self._size = sum(map(len, self._partial))
        return events

    def _read_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) <= _RETRY_DIGITS:
            self.retry_ms = int(value)


def read_events(chunks: Iterable[bytes]) -> Iterator[SseEvent]:
    """Give the events of a whole stream, each as soon as it is complete."""
    reader = SseReader()
    for chunk in chunks:
        yield from reader.feed(chunk)
