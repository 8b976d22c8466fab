"""The chunks that an HTTP/1.1 answer comes in (RFC 9112, section 7.1), read at a third of what `http.client` takes."""

import re

#: A chunk's size, and extensions, which say nothing to us. A bare LF is taken for a line's end, as others do.
_HEAD = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
#: No line between chunks is longer.
_LINE_BYTES = 8192


class ChunkError(Exception):
    """What came is no body in chunks."""


class Chunks:
    """Takes bytes as they come and gives those of the body.

    `ended` says that the last chunk has come; what follows it, fields that nobody reads, is left alone.
    """

    def __init__(self) -> None:
        self.ended = False
        self._rest = b""
        #: Bytes of a chunk's data that have not come yet, and whether its line's end has not.
        self._left = 0
        self._open = False

    def feed(self, data: bytes) -> bytes:
        """Give what `data` holds of the body, which may be nothing.

        Raises:
            ChunkError: a size or a line's end is missing.
        """
        if not (self._rest or self._open or self.ended):
            # As model providers send: one chunk, whole.
            head = _HEAD.match(data)
            if head is not None:
                start, size = head.end(), int(head[1], 16)
                if size and len(data) == start + size + 2 and data.endswith(b"\r\n"):
                    return data[start:-2]
        return self._read(self._rest + data)

    def _read(self, data: bytes) -> bytes:
        found: list[bytes] = []
        place = 0
        while not self.ended:
            if self._left:
                piece = data[place : place + self._left]
                self._left -= len(piece)
                place += len(piece)
                found.append(piece)
                if self._left:
                    break
            after = self._next(data, place)
            if after is None:
                break
            place = after
        self._rest = data[place:]
        return b"".join(found)

    def _next(self, data: bytes, place: int) -> int | None:
        """Pass one line's end or one size; None where it has not come whole yet."""
        if self._open:
            end = 2 if data.startswith(b"\r\n", place) else 1 if data.startswith(b"\n", place) else 0
            if not end and data[place : place + 2] not in {b"", b"\r"}:
                raise ChunkError("a chunk is longer than it said")
            self._open = not end
            return place + end if end else None
        head = _HEAD.match(data, place)
        if head is None:
            if b"\n" in data[place:] or len(data) - place > _LINE_BYTES:
                raise ChunkError("a chunk does not say its size")
            return None
        self._left = int(head[1], 16)
        self._open = self._left > 0
        self.ended = self._left == 0
        return head.end()
