"""What a command prints: kept within a limit, and passed on while it runs."""

import codecs
import time
from collections.abc import Callable

#: Small pieces are gathered this long, or until they are this many characters.
GATHER_S = 0.1
GATHER_CHARS = 4096


class Output:
    """Keeps the beginning and the end of what is printed, and sends the beginning to `live` as it comes."""

    def __init__(self, live: Callable[[str], None], *, limit: int) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._live = Live(live, limit=limit)
        self._head_limit = limit // 2
        self._tail_limit = limit - self._head_limit
        self._head = ""
        self._tail = ""
        self._length = 0

    def add(self, piece: bytes) -> None:
        """Take a piece; an empty one only passes time."""
        self._take(self._decoder.decode(piece))

    def close(self) -> None:
        """Nothing more comes: pass on what was held back."""
        self._take(self._decoder.decode(b"", final=True))
        self._live.flush()

    def text(self) -> str:
        """The whole, or its two ends with a note between them."""
        left_out = self._length - len(self._head) - len(self._tail)
        if not left_out:
            return self._head + self._tail
        note = (
            f"[{left_out:,} characters left out here; to see them, run the command again with its output redirected"
            " to a file, and read that with offset and limit]"
        )
        return f"{self._head}\n{note}\n{self._tail}"

    def _take(self, text: str) -> None:
        # A NUL is valid in UTF-8 but not in the text columns of some databases.
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
        self._live.add(text)
        self._length += len(text)
        room = self._head_limit - len(self._head)
        self._head += text[:room]
        if rest := text[room:]:
            self._tail = (self._tail + rest)[-self._tail_limit :]


class Live:
    """Passes text on in pieces that are neither many nor late, up to a limit."""

    def __init__(self, send: Callable[[str], None], *, limit: int) -> None:
        self._send = send
        self._room = limit
        self._waiting = ""
        self._sent_at = 0.0

    def add(self, text: str) -> None:
        """Take text, perhaps none, and send what is due."""
        if self._room >= 0:
            self._waiting += text[: self._room]
            self._room -= len(text)
            if self._room < 0:
                self._waiting += "\n[more is printed than is shown here]\n"
        if len(self._waiting) >= GATHER_CHARS or time.monotonic() - self._sent_at >= GATHER_S:
            self.flush()

    def flush(self) -> None:
        """Send what is waiting."""
        if self._waiting:
            text, self._waiting = self._waiting, ""
            self._sent_at = time.monotonic()
            self._send(text)
