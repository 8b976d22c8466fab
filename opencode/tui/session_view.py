"""One session on the screen: its stored messages first, then its events as they come."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opencode.tui.plain import plain
from opencode.tui.transcript import Transcript

_ROLES = {"text", "reasoning"}


@dataclass(slots=True)
class Figures:
    """What is said about a session beside its conversation. Times are of the monotonic clock."""

    title: str = ""
    model: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    cached: int = 0
    status: str = "idle"
    started_at: float | None = None
    #: Permission requests that wait, by id.
    asked: dict[str, dict[str, Any]] = field(default_factory=dict)

    def begin(self) -> None:
        self.status = "running"
        self.started_at = time.monotonic()

    def end(self, usage: Mapping[str, int]) -> None:
        self.status, self.started_at = "idle", None
        self.asked.clear()
        self.tokens_in += usage["input"]
        self.tokens_out += usage["output"]
        self.cached += usage["cached"]


class SessionView:
    """Draws a session into the transcript, and keeps its figures; `changed` is called when these are new."""

    def __init__(self, transcript: Transcript, changed: Callable[[], None]) -> None:
        self._transcript = transcript
        self._changed = changed
        self.figures = Figures()

    async def open(self, detail: Mapping[str, Any], asked: list[dict[str, Any]]) -> None:
        """Draw what is stored; `asked` are the requests that wait. The events after `detail["seq"]` follow on."""
        usage = detail["usage"]
        self.figures = Figures(
            title=detail["title"],
            model=detail["resolved_model"],
            tokens_in=usage["input"],
            tokens_out=usage["output"],
            cached=usage["cached"],
            asked={one["permission_id"]: one for one in asked},
        )
        if detail["status"] != "idle":
            self.figures.begin()
        await self._transcript.clear()
        if detail["has_older"]:
            await self._transcript.add("older messages are not shown here", "note")
        for message in detail["messages"]:
            await self._draw(message)
        for one in asked:
            self._transcript.wait(one["call_id"], waits=True)
        self._changed()

    async def _draw(self, message: Mapping[str, Any]) -> None:
        transcript = self._transcript
        if message["role"] == "user":
            await transcript.add(message["content"], "user")
            return
        for part in message["parts"]:
            if part["type"] == "tool":
                await transcript.call(part["call_id"], part["tool"], part["params"])
                if part.get("result") is not None:
                    transcript.result(part["call_id"], part["result"], is_error=part.get("is_error", False))
            elif part["type"] in _ROLES and part["status"] != "interrupted":
                put = transcript.add_text if part["type"] == "text" else transcript.add_reasoning
                await put(part["content"], 0)
                await transcript.end_block()
        if message["status"] in {"aborted", "failed"}:
            await transcript.add(f"this turn was {message['status']}", "note")

    async def take(self, name: str, data: dict[str, Any], event_id: str) -> None:
        """One event of the session's log (API section 3)."""
        transcript = self._transcript
        match name:
            case "text":
                await transcript.add_text(data["content"], int(event_id))
            case "reasoning":
                await transcript.add_reasoning(data["content"], int(event_id))
            case "tool_output":
                transcript.output(data["call_id"], data["content"])
            case "tool_call":
                await transcript.call(data["call_id"], data["tool"], data["params"])
            case "tool_result":
                transcript.result(data["call_id"], data["result"], is_error=data["is_error"])
            case "step":
                await self._step(data)
            case _:
                await self._take_rarer(name, data)
                self._changed()

    async def _step(self, data: Mapping[str, Any]) -> None:
        await self._transcript.end_block()
        if data["discards_from"] is not None:
            await self._transcript.void(data["discards_from"])
            await self._transcript.add("the answer broke off; the model is asked again", "note")

    async def _take_rarer(self, name: str, data: dict[str, Any]) -> None:
        figures = self.figures
        if name == "turn_start":
            figures.begin()
            figures.model = data["model"]
            figures.title = figures.title or plain(data["content"]).strip().split("\n")[0]
            await self._transcript.add(data["content"], "user")
        elif name == "permission_request":
            figures.asked[data["permission_id"]] = data
            self._transcript.wait(data["call_id"], waits=True)
        elif name == "permission_reply":
            answered = figures.asked.pop(data["permission_id"], None)
            if answered is not None:
                self._transcript.wait(answered["call_id"], waits=False)
        elif name == "error":
            await self._transcript.add(f"{data['message']} ({data['code']})", "error")
        elif name == "done":
            figures.end(data["usage"])
            await self._transcript.end_block()
            if data["status"] == "aborted":
                await self._transcript.add("aborted", "note")
        elif name == "session_updated":
            figures.title = data["changed"].get("title", figures.title)
            figures.model = data["changed"].get("resolved_model", figures.model)
        elif name == "resync":
            await self._transcript.add("the server has another log of this session; what is above may be old", "note")
