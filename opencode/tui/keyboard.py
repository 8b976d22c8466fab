"""What is typed, on its way to the server: in order, one request at a time, and what waits together goes together."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

#: The most that one input may hold (API section 5).
_TEXT_CHARS = 100_000

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Keyboard:
    """A queue of inputs. `merges` says whether single characters that wait may go as one text."""

    def __init__(self, send: Send, merges: Callable[[], bool]) -> None:
        self._send = send
        self._merges = merges
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def press(self, key: str) -> None:
        self._queue.put_nowait({"type": "keypress", "key": key})

    def type(self, text: str) -> None:
        """A character that was typed, or text that was pasted."""
        if len(text) == 1 and text.isprintable():
            self.press(text)
            return
        for start in range(0, len(text), _TEXT_CHARS):
            self._queue.put_nowait({"type": "text", "text": text[start : start + _TEXT_CHARS]})

    def command(self, command: str, **arguments: str) -> None:
        self._queue.put_nowait({"type": "command", "command": command, **arguments})

    async def run(self) -> None:
        """Send what is typed, for good."""
        while True:
            waiting = [await self._queue.get()]
            while not self._queue.empty():
                waiting.append(self._queue.get_nowait())
            for one in _merged(waiting) if self._merges() else waiting:
                await self._send(one)


def _merged(waiting: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs of characters and texts as one text each; a single character stays a key."""
    merged: list[dict[str, Any]] = []
    for one in waiting:
        text = _text_of(one)
        before = _text_of(merged[-1]) if merged else None
        if text is not None and before is not None and len(before) + len(text) <= _TEXT_CHARS:
            merged[-1] = {"type": "text", "text": before + text}
        else:
            merged.append(one)
    return merged


def _text_of(one: dict[str, Any]) -> str | None:
    if one["type"] == "text":
        return str(one["text"])
    return str(one["key"]) if one["type"] == "keypress" and len(one["key"]) == 1 else None
