"""What happens in a session, as screens show it."""

from typing import Any

from opencode import frames
from opencode.session.screen import ScreenPlace

_AS_THEY_ARE = {"tool_result", "permission_request", "permission_reply", "error", "done"}
_SHOWN = {name.encode() for name in (*_AS_THEY_ARE, "turn_start", "text", "tool_call", "step")}
_AGAIN = "The model is asked again: what it had begun to say is void."
#: Stretches of the log whose translation is kept; those who look stand at a few places.
_KEPT = 16


class Shown:
    """Translates a session's frames for one screen; those who look at the same place share what comes out."""

    def __init__(self, epoch: str) -> None:
        self._epoch = epoch
        self._last_seq = 0
        self._kept: dict[tuple[str, int, int, int], bytes] = {}

    def translate(self, session_id: str, number: int, last_seq: int, first_seq: int, data: bytes) -> bytes:
        """The frames of a stretch of the log up to `last_seq`, seen behind the screen's event `number`."""
        key = (session_id, number, first_seq, last_seq)
        if last_seq != self._last_seq or len(self._kept) > _KEPT:
            self._last_seq, self._kept = last_seq, {}
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = b"".join(self._frames(session_id, number, last_seq, data))
        return found

    def _frames(self, session_id: str, number: int, last_seq: int, data: bytes) -> list[bytes]:
        found = []
        for frame in frames.split(data):
            name = frame.split(b"\n", 2)[1][7:]
            if name not in _SHOWN:
                continue
            seq, event, values = frames.parse(frame)
            shown = _as_shown(event, values) if seq <= last_seq else None
            if shown is not None:
                body = frames.body(shown[0], {**shown[1], "session_id": session_id})
                found.append(b"id: %b\n%b" % (ScreenPlace(number, seq).event_id(self._epoch).encode(), body))
        return found


def _as_shown(event: str, data: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """An event of the log as a screen shows it; None where it does not."""
    if event == "turn_start":
        return "message", {"type": "text", "content": data["content"], "role": "user"}
    if event == "text":
        return "message", {"type": "text", "content": data["content"], "role": "assistant"}
    if event == "tool_call":
        return event, {**data, **({"command": data["params"].get("command")} if data["tool"] == "bash" else {})}
    if event == "step":
        again = data["discards_from"] is not None
        return ("toast", {"message": _AGAIN, "level": "info"}) if again else None
    return event, data
