"""A strict parser of event streams, by the WHATWG specification, and a reader over a streamed response.

Strict: what a browser would skip in silence (a field without a name of the specification, bytes that are no UTF-8, an
event cut off at the end) is an error here.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

# CR, LF and CRLF only: splitlines() also breaks on U+2028, which JSON strings may contain.
_LINE_END = re.compile(r"\r\n|\n|\r")
_FIELDS = {"id", "event", "data", "retry"}


class Malformed(AssertionError):
    """The stream is not what the specification, or API section 3, says."""


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched event. `id` is its own id line, None without one; `last_id` is what a client would remember."""

    name: str
    lines: tuple[str, ...]
    id: str | None
    last_id: str

    @property
    def seq(self) -> int:
        if self.id is None or not (self.id.isascii() and self.id.isdigit()):
            raise Malformed(f"{self.name} has the id {self.id!r}, which is no number")
        return int(self.id)

    @property
    def data(self) -> Any:
        """The JSON of the event's one data line."""
        if len(self.lines) != 1:
            raise Malformed(f"{self.name} has {len(self.lines)} data lines")
        return json.loads(self.lines[0])


@dataclass(slots=True)
class Parser:
    """Fed with chunks, cut anywhere; gives the events that they complete."""

    retry: int | None = None
    last_id: str = ""
    comments: list[str] = field(default_factory=list)
    _bytes: bytes = b""
    _started: bool = False
    _name: str = ""
    _data: list[str] = field(default_factory=list)
    _id: str | None = None

    def feed(self, chunk: bytes) -> list[Event]:
        self._bytes += chunk
        # A CR at the end may be half of a CRLF, and a line may end within a character: only whole lines are read.
        end = max(self._bytes.rfind(b"\n"), self._bytes[:-1].rfind(b"\r")) + 1
        whole, self._bytes = self._bytes[:end], self._bytes[end:]
        return self._lines(whole)

    def _lines(self, whole: bytes) -> list[Event]:
        try:
            text = whole.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise Malformed(f"not UTF-8: {exc}") from None
        if text and not self._started:
            self._started, text = True, text.removeprefix("\ufeff")
        events = []
        for line in _LINE_END.split(text)[:-1]:
            event = self._line(line)
            if event is not None:
                events.append(event)
        return events

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        if line.startswith(":"):
            self.comments.append(line[1:].removeprefix(" "))
            return None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name not in _FIELDS:
            raise Malformed(f"unknown field {name!r} in {line[:200]!r}")
        match name:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id":
                if "\0" in value:
                    raise Malformed("an id with a NUL is ignored by clients")
                self._id = self.last_id = value
            case "retry":
                if not (value.isascii() and value.isdigit()):
                    raise Malformed(f"retry: {value!r} is no number")
                self.retry = int(value)
        return None

    def _dispatch(self) -> Event | None:
        name, data, own_id = self._name or "message", tuple(self._data), self._id
        self._name, self._data, self._id = "", [], None
        return Event(name, data, own_id, self.last_id) if data else None

    def end(self) -> list[Event]:
        """No more comes: what is left over was cut off, and a client would drop it."""
        events = self._lines(self._bytes) if self._bytes.endswith(b"\r") else []
        rest = b"" if events else self._bytes.removesuffix(b"\r")
        if rest or self._data or self._name or self._id is not None:
            raise Malformed(f"the stream ends within an event: {rest!r} {self._name!r} {self._data!r}")
        return events


_HEAD = re.compile(rb"retry: 2000\nid: ([\w-]+)\n\n")


class Stream:
    """A streamed response, read event by event. A heartbeat while an event is awaited fails: nothing came for long."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._source = chunks
        self._chunks = iter(chunks)
        self._parser = Parser()
        self._ready: list[Event] = []
        self._ended = False
        first = next(self._chunks)
        while b"\n\n" not in first:
            first += next(self._chunks)
        head = _HEAD.match(first)
        if head is None:
            raise Malformed(f"the head of a stream is a retry, an id and a blank line, not {first[:100]!r}")
        self.first_id = head[1].decode()
        self._ready += self._parser.feed(first)

    @property
    def last_id(self) -> str:
        return self._parser.last_id

    @property
    def retry(self) -> int | None:
        return self._parser.retry

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        while not self._ready:
            if self._ended:
                raise StopIteration
            chunk = next(self._chunks, None)
            if chunk is None:
                self._ended = True
                self._ready += self._parser.end()
                self.close()
                continue
            self._ready += self._parser.feed(chunk)
            if self._parser.comments:
                raise Malformed("a heartbeat came where an event was awaited")
        return self._ready.pop(0)

    def close(self) -> None:
        """The client leaves."""
        close = getattr(self._source, "close", None)
        if close is not None:
            close()

    def until(self, name: str) -> list[Event]:
        """Events up to and with the first of this name."""
        seen = []
        for event in self:
            seen.append(event)
            if event.name == name:
                return seen
        raise Malformed(f"the stream ended without {name}; it had {[event.name for event in seen]}")

    def rest(self) -> list[Event]:
        """Everything until the stream ends."""
        return list(self)


def parse(data: bytes) -> list[Event]:
    """All events of a whole stream."""
    parser = Parser()
    return parser.feed(data) + parser.end()


def check_log(events: list[Event], *, after: int) -> None:
    """Ids from `after` + 1 on without a gap, and each event one line of JSON that is an object."""
    seqs = [event.seq for event in events]
    if seqs != list(range(after + 1, after + 1 + len(events))):
        raise Malformed(f"ids after {after} are not contiguous: {seqs}")
    for event in events:
        if not isinstance(event.data, dict):
            raise Malformed(f"{event.name} {event.seq}: the data is no object")


def check_turn(events: list[Event], *, after: int) -> None:
    """A whole turn: `turn_start` first, exactly one `done`, last, which counts them all."""
    check_log(events, after=after)
    names = [event.name for event in events]
    if names[0] != "turn_start" or names[-1] != "done" or names.count("done") != 1:
        raise Malformed(f"a turn goes from its turn_start to its one done, not: {names}")
    if events[-1].data["events"] != len(events):
        raise Malformed(f"done counts {events[-1].data['events']} events; there are {len(events)}")
    turn_ids = {event.data["turn_id"] for event in events if event.name != "session_updated"}
    if len(turn_ids) != 1:
        raise Malformed(f"events of several turns: {turn_ids}")
