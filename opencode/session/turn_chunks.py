"""Of a session's chunks, what belongs to one turn."""

from collections.abc import Iterator

from opencode import frames
from opencode.session.tail import Chunk


def until_done(chunk: Chunk, turn_id: str) -> Chunk | None:
    """The chunk up to the turn's `done`, where it holds it."""
    if not chunk.has_done:
        return None
    found = frames.split(chunk.data)
    index = _place(found, b"done", turn_id)
    if index is None:
        return None
    return Chunk(chunk.first_seq, chunk.first_seq + index, b"".join(found[: index + 1]))


def from_start(chunks: Iterator[Chunk | None], turn_id: str) -> Iterator[Chunk | None]:
    """Leave out what comes before the turn's `turn_start`."""
    begun = False
    for chunk in chunks:
        if begun or chunk is None:
            yield chunk
            continue
        found = frames.split(chunk.data)
        index = _place(found, b"turn_start", turn_id)
        if index is not None:
            begun = True
            yield Chunk(chunk.first_seq + index, chunk.last_seq, b"".join(found[index:]))


def _place(found: list[bytes], event: bytes, turn_id: str) -> int | None:
    """Where in these frames the turn's event of this name stands."""
    mark = b"\nevent: %b\n" % event
    places = (n for n, frame in enumerate(found) if mark in frame and frames.parse(frame)[2]["turn_id"] == turn_id)
    return next(places, None)
