"""The agent loop: ask the model, append what streams, run its tools, until it stops or a limit does."""

import logging
import time
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

from opencode.cancel import Cancel
from opencode.changes import EndTurn, HandBack, PutFileChanges
from opencode.errors import Cancelled, StoreError, TurnError
from opencode.ids import new_id
from opencode.provider.port import Message, ModelRequest, Provider, ToolSpec
from opencode.records import Session, Turn, Usage
from opencode.session import events
from opencode.session.asking import Answer, Asking
from opencode.session.budget import Budget
from opencode.session.diff import TOO_LARGE
from opencode.session.directories import Directories
from opencode.session.pen import Draft, Pen
from opencode.session.permission import Gate
from opencode.session.prompt import answers, system_prompt
from opencode.session.resume import Start
from opencode.tool.port import ToolContext, ToolOutcome, Tools

log = logging.getLogger(__name__)

Status = Literal["completed", "aborted", "failed"]
#: Files above this size are listed in the diff by name only.
_DIFF_BYTES = 1_000_000
#: How `Cancel.reason` says that the turn's seconds are spent.
OUT_OF_TIME = "out of time"
#: How it says that the server stops and the turn is to go on at its next start.
HANDED_BACK = "handed back"
UNFINISHED = ("pending", "running")
_STOPPED = ToolOutcome("Stopped before it was done: the turn was aborted.", is_error=True)
UNKNOWN = ToolOutcome("Interrupted when the server ended; its outcome is unknown.", is_error=True)
_MALFORMED_CHARS = 200
NOT_RUN = ToolOutcome("Not run: the turn ended before it.", is_error=True)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a turn may spend: calls of the model, tokens in all, seconds."""

    steps: int
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnLoop:
    """One attempt at one turn. `run` always ends the turn's log with exactly one `done`."""

    session: Session
    turn: Turn
    history: tuple[Message, ...]
    provider: Provider
    tools: Tools
    directories: Directories
    gate: Gate
    pen: Pen
    cancel: Cancel
    limits: Limits
    budget: Budget
    start: Start = field(default_factory=Start)
    _started: float = field(default_factory=time.monotonic, init=False)

    def run(self) -> Status | None:
        """Work until the end, whatever comes; None where the turn was handed back instead, to go on later.

        Raises:
            StoreError: the end could not be stored; `StaleAttempt` where another attempt has taken over.
        """
        error: TurnError | None = None
        try:
            self._loop()
            status: Status = "completed"
        except Cancelled as cancelled:
            if cancelled.reason == HANDED_BACK:
                self.pen.write(changes=(HandBack(self.turn.id),))
                return None
            status = "aborted"
            if cancelled.reason == OUT_OF_TIME:
                status, error = "failed", self._limit("OPENCODE_TURN_TIMEOUT_S", f"{self.limits.seconds:g} seconds")
        except TurnError as failure:
            status, error = "failed", failure
        except StoreError:
            raise
        except Exception:  # a fault of ours must still end the turn, visibly
            log.exception("turn %s failed by a fault of the server", self.turn.id)
            status, error = "failed", TurnError("A fault of the server ended the turn.", code="TURN_INTERRUPTED")
        self._end(status, error)
        return status

    def _turn_ms(self) -> int:
        """What the turn has taken, earlier attempts as far as they were stored."""
        return self.turn.usage.turn_ms + int((time.monotonic() - self._started) * 1000)

    def _loop(self) -> None:
        missing = self.provider.missing()
        if missing is not None:
            raise TurnError(
                f"The model {self.turn.model} cannot be asked yet: {missing}.", code="PROVIDER_NOT_CONFIGURED"
            )
        system = system_prompt(self.session, self.directories)
        offered = tuple(
            ToolSpec(tool.name, tool.description, tool.parameters) for tool in self.tools.specs(self.session.tools)
        )
        model = self.turn.model.partition("/")[2]
        asking = Asking(self.provider, self.pen, self.cancel, self.turn.id)
        for part in self._unfinished():
            self._take_up(part)
        start = self.start
        for step in count(start.step):
            self._check_limits(step)
            messages = (*self.history, *answers(self.pen.draft.parts))
            answer = asking.ask(ModelRequest(model, system, messages, offered), start)
            calls = self._store_answer(answer, step)
            if answer.finish == "length":
                raise TurnError("The model's answer was cut off at its output limit.", code="LIMIT_REACHED")
            if not calls:
                return
            for part in calls:
                self._call(part)
            start = Start(step + 1)

    def _check_limits(self, step: int) -> None:
        if step > self.limits.steps:
            raise self._limit("OPENCODE_MAX_STEPS", f"{self.limits.steps} steps")
        if self.pen.draft.usage.tokens >= self.limits.tokens:
            raise self._limit("OPENCODE_MAX_TOKENS", f"{self.limits.tokens} tokens")
        self.budget.check(self.session, self._turn_ms() - self.pen.draft.usage.turn_ms)

    def _unfinished(self) -> list[dict[str, Any]]:
        return [part for part in self.pen.draft.parts if part["status"] in UNFINISHED]

    def _take_up(self, part: dict[str, Any]) -> None:
        """A call that an earlier attempt left: run it, unless it had begun. What may have acted is never run twice."""
        if part["status"] == "running":
            self.pen.write(self._result(part, UNKNOWN), fold=True)
        else:
            self._call(part)

    def _store_answer(self, answer: Answer, step: int) -> list[dict[str, Any]]:
        """Store the step whole, before the first of its calls runs: from here it can be taken up again."""
        draft = self.pen.draft
        draft.usage = replace(draft.usage.plus(answer.usage), turn_ms=self._turn_ms())
        for kind, content in answer.said:
            draft.add({"type": kind, "step": step, "content": content, "status": "completed"})
        parts = [
            draft.add(
                {
                    "type": "tool",
                    "step": step,
                    "call_id": new_id("call"),
                    "tool": call.tool,
                    "params": call.params,
                    "status": "pending",
                }
                | ({} if call.malformed is None else {"malformed": call.malformed[:_MALFORMED_CHARS]})
            )
            for call in answer.calls
        ]
        if not parts:
            return parts  # stored together with the turn's end: a crash in between would ask the model once more
        self.pen.write(
            *(
                events.ToolCall(turn_id=self.turn.id, tool=part["tool"], params=part["params"], call_id=part["call_id"])
                for part in parts
            ),
            fold=True,
        )
        return parts

    def _call(self, part: dict[str, Any]) -> None:
        self.cancel.check()
        context = ToolContext(
            directory=Path(self.session.directory),
            cancel=self.cancel,
            private=self.directories.private,
            output=lambda text: self.pen.stream(
                events.ToolOutput(turn_id=self.turn.id, call_id=part["call_id"], content=text).body()
            ),
        )
        try:
            outcome = self._outcome(part, context)
        except Cancelled as cancelled:
            if part["status"] == "pending" and cancelled.reason == HANDED_BACK:
                raise
            outcome = UNKNOWN if cancelled.reason == HANDED_BACK else _STOPPED
        self.pen.write(self._result(part, outcome), changes=self._file_changes(context), fold=True)
        self.cancel.check()

    def _result(self, part: dict[str, Any], outcome: ToolOutcome) -> events.ToolResult:
        return result(self.turn.id, self.pen.draft, part, outcome)

    def _outcome(self, part: dict[str, Any], context: ToolContext) -> ToolOutcome:
        tool = part["tool"]
        if "malformed" in part:
            told = f"The arguments of {tool} were not a JSON object: {part['malformed']!r}. Call it again."
            return ToolOutcome(told, is_error=True)
        if tool not in self.session.tools:
            offered = ", ".join(self.session.tools) or "none"
            return ToolOutcome(f"There is no tool {tool!r} in this session; there are: {offered}.", is_error=True)
        if not self.directories.hold(context.directory):
            told = f"{context.directory} is not a directory that sessions may use any more (OPENCODE_PROJECT_ROOTS)."
            return ToolOutcome(told, is_error=True)
        refusal = self.gate.refusal(self.session, self.turn, self.pen, self.cancel, part)
        if refusal is not None:
            return ToolOutcome(refusal, is_error=True)
        part["status"] = "running"
        self.pen.draft.touch(part)
        # A start record before anything begins: after a crash it tells a call that may have acted from one that cannot.
        self.pen.write(changes=self.pen.draft.take_changes(self.turn.id))
        return self.tools.run(tool, part["params"], context)

    def _file_changes(self, context: ToolContext) -> tuple[PutFileChanges, ...]:
        if not context.changes:
            return ()
        return (
            PutFileChanges(
                self.session.id,
                tuple((change.path, _kept(change.before), _kept(change.after)) for change in context.changes),
            ),
        )

    def _limit(self, setting: str, what: str) -> TurnError:
        return TurnError(f"The turn was stopped at its limit of {what} ({setting}).", code="LIMIT_REACHED")

    def _end(self, status: Status, error: TurnError | None) -> None:
        bodies: list[Any] = [self._result(part, NOT_RUN) for part in self._unfinished()]
        usage = self.pen.draft.usage = replace(self.pen.draft.usage, turn_ms=self._turn_ms())
        if error is not None:
            bodies.append(events.Error(turn_id=self.turn.id, message=error.message, code=error.code))
        bodies.append(lambda seq: done(self.turn, status, usage, seq))
        end = EndTurn(
            self.turn.id, self.pen.draft.message_id, self.session.id, status, error.code if error else None, usage
        )
        self.pen.write(*bodies, changes=(end,), fold=True)


def done(turn: Turn, status: Status, usage: Usage, seq: int) -> bytes:
    """The turn's last event, as the log's number `seq`, which its count of events needs."""
    return events.Done(
        turn_id=turn.id,
        tokens=usage.tokens,
        duration=usage.turn_ms,
        status=status,
        usage={"input": usage.input, "output": usage.output, "cached": usage.cached},
        events=seq - turn.first_seq + 1,
    ).body()


def result(turn_id: str, draft: Draft, part: dict[str, Any], outcome: ToolOutcome) -> events.ToolResult:
    """The end of a call: kept in its part of the message, and told."""
    part["status"] = "error" if outcome.is_error else "completed"
    part["result"] = outcome.content
    draft.touch(part)
    return events.ToolResult(
        turn_id=turn_id, result=outcome.content, tool=part["tool"], call_id=part["call_id"], is_error=outcome.is_error
    )


def _kept(content: bytes | None) -> bytes | None:
    return content if content is None or len(content) <= _DIFF_BYTES else TOO_LARGE
