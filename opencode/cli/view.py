"""How a turn is shown: to a person at a terminal, to a pipe, as JSON."""

import json
from collections.abc import Mapping
from typing import IO, Any, Protocol

from rich.console import Console
from rich.text import Text as Line

from opencode.cli.printable import fitted, one_line, printable
from opencode.client import (
    Done,
    Error,
    Event,
    PermissionReply,
    PermissionRequest,
    Reasoning,
    Step,
    Text,
    ToolCall,
    ToolResult,
)

#: Of a tool's result: this many lines of its beginning, and of its end, where a command says how it went.
_SHOWN_LINES = 3
_MAIN_PARAMS = ("command", "path", "pattern")


class View(Protocol):
    """Shows the events of one turn as they come."""

    def show(self, event: Event) -> None:
        """Show it, where there is something to show."""

    def note(self, text: str) -> None:
        """Something beside the turn."""


class JsonView:
    """One line of JSON an event: `event`, `seq`, `session_id`, and `data` as it came.

    In ASCII: what escapes a terminal is escaped itself.
    """

    def __init__(self, out: IO[str], notes: Console, session_id: str) -> None:
        self._out = out
        self._notes = notes
        self._session_id = session_id

    def show(self, event: Event) -> None:
        line = {"event": event.name, "seq": event.seq, "session_id": self._session_id, "data": event.data}
        self._out.write(f"{json.dumps(line)}\n")
        self._out.flush()

    def note(self, text: str) -> None:
        self._notes.print(Line(printable(text)), soft_wrap=True)


class TextView:
    """The answer's text to `out`, what else happens to `notes`.

    `live`: text appears as it comes. Else it waits until it is certain: what is written to a file or a pipe cannot be
    taken back where the model has to be asked again.
    """

    def __init__(self, out: IO[str], notes: Console, session_id: str, *, live: bool) -> None:
        self._out = out
        self._notes = notes
        self._session_id = session_id
        self._live = live
        self._waiting: list[tuple[int, str]] = []
        self._at_start = True
        self._reasons = False

    def show(self, event: Event) -> None:
        match event:
            case Text():
                self._waiting.append((event.seq or 0, event.content))
                if self._live:
                    self._write()
            case Reasoning() if self._live:
                self._reasoning(printable(event.content))
            case Step():
                self._step(event)
            case ToolCall():
                self._write()
                self._end_line()
                self._line(Line.assemble(("● ", "cyan"), (event.tool, "bold"), " ", self._params(event.params)))
            case ToolResult():
                self._result(event)
            case PermissionReply():
                self._line(Line(f"  permission: {one_line(event.response, 20)}", style="dim"))
            case Error():
                self._line(Line(f"Error: {printable(event.message)} ({one_line(event.code, 40)})", style="red"))
            case Done():
                self._done(event)

    def note(self, text: str) -> None:
        self._line(Line(printable(text), style="yellow"))

    def _write(self) -> None:
        text = printable("".join(content for _seq, content in self._waiting))
        self._waiting.clear()
        if not text:
            return
        if self._reasons:
            self._end_line()
            self._reasons = False
        self._out.write(text)
        self._out.flush()
        self._at_start = text.endswith("\n")

    def _reasoning(self, text: str) -> None:
        if not self._reasons:
            self._end_line()
            self._reasons = True
        self._notes.print(Line(text, style="dim"), end="", soft_wrap=True)
        self._at_start = text.endswith("\n")

    def _end_line(self) -> None:
        """What comes next begins a line: in `out`, which on a terminal is the same as `notes`."""
        if not self._at_start:
            self._out.write("\n")
            self._out.flush()
            self._at_start = True

    def _line(self, line: Line) -> None:
        if self._live:
            self._end_line()
            self._reasons = False
        self._notes.print(line, soft_wrap=True)

    def _params(self, params: Mapping[str, Any]) -> str:
        shown = next((params[name] for name in _MAIN_PARAMS if isinstance(params.get(name), str)), None)
        return one_line(shown if shown is not None else json.dumps(params, ensure_ascii=False), self._notes.width - 12)

    def _step(self, step: Step) -> None:
        if step.discards_from is None:
            return
        if self._live:
            self._line(Line("The answer above broke off and is void; the model is asked again.", style="yellow"))
        void_from = step.discards_from
        self._waiting = [(seq, content) for seq, content in self._waiting if seq < void_from]

    def _result(self, event: ToolResult) -> None:
        lines = printable(event.result).rstrip("\n").split("\n")
        style = "red" if event.is_error else "dim"
        left_out = len(lines) - 2 * _SHOWN_LINES
        if left_out > 1:
            lines[_SHOWN_LINES:-_SHOWN_LINES] = [f"… {left_out} more lines"]
        for line in lines:
            self._line(Line(f"  {fitted(line, self._notes.width - 4)}", style=style))

    def _done(self, done: Done) -> None:
        self._write()
        self._end_line()
        seconds = done.duration / 1000
        self._line(Line(f"{done.status} · {done.tokens:,} tokens · {seconds:.1f} s · {self._session_id}", style="dim"))


def question(request: PermissionRequest) -> str:
    """What is asked, with the whole of what would be done: who answers must have seen it."""
    command = request.params.get("command")
    only = isinstance(command, str) and set(request.params) <= {"command", "description", "timeout_s"}
    what = str(command) if only else json.dumps(request.params, ensure_ascii=False, indent=2)
    shown = "\n".join(f"    {line}" for line in printable(what).split("\n"))
    return f"The model wants to use {one_line(request.tool, 40)}:\n{shown}\n"
