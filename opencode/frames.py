"""The stored form of an event: its frame on the wire of Server-Sent Events.

A frame is `id: <seq>`, `event: <name>`, one `data:` line and a blank line (API section 3). It is encoded once, when the
event is written; what is replayed to a client are the stored bytes. The JSON of the data holds no raw line break, so
that a blank line always ends a frame.
"""

from collections.abc import Callable
from typing import Any

import orjson

#: The part of a frame that stands before its number is known; `done` counts the log's events and so needs it.
Body = bytes | Callable[[int], bytes]

_END = b"\n\n"


def body(event: str, data: Any) -> bytes:
    """Encode an event without its number. `data` is whatever orjson takes: a dict or a dataclass."""
    return b"event: %b\ndata: %b\n\n" % (event.encode(), orjson.dumps(data))


def numbered(bodies: list[Body], first_seq: int) -> list[bytes]:
    """Give the bodies consecutive numbers from `first_seq` on."""
    return [b"id: %d\n%b" % (seq, item(seq) if callable(item) else item) for seq, item in enumerate(bodies, first_seq)]


def split(data: bytes) -> list[bytes]:
    """Cut joined frames apart."""
    return [frame + _END for frame in data.split(_END)[:-1]]


def parse(frame: bytes) -> tuple[int, str, dict[str, Any]]:
    """Read a numbered frame: its number, event name and data."""
    number, event, data = frame.split(b"\n", 3)[:3]
    return int(number[4:]), event[7:].decode(), orjson.loads(data[6:])
