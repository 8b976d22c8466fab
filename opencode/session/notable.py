"""What was stored, for those who want to hear of it: read afterwards, and only where something begins or ends."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from opencode import frames
from opencode.changes import Change, FoldMessage

_NAMED = {b"turn_start", b"tool_call", b"permission_request", b"error", b"done"}


@dataclass(frozen=True, slots=True)
class Stored:
    """One append to a session's log, with its changes to rows."""

    session_id: str
    frames: list[bytes]
    changes: tuple[Change, ...]

    def notable(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Names and data of the events that stand for a whole message, call, request, error or turn.

        Pieces of text come without changes to rows, and are not looked at.
        """
        if not self.changes:
            return
        for frame in self.frames:
            if frame.split(b"\n", 2)[1].removeprefix(b"event: ") in _NAMED:
                _seq, event, data = frames.parse(frame)
                yield event, {"session_id": self.session_id, **data}

    def answer(self) -> tuple[str, str]:
        """Id and text of the assistant message that was stored with it; empty where there is none."""
        found = (change for change in self.changes if isinstance(change, FoldMessage))
        return next(((change.message_id, change.content) for change in found), ("", ""))
