"""The agent loop: ask the model, append what streams, run its tools, until it stops or a limit does."""

import logging
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

from opencode.cancel import Cancel
from opencode.errors import Cancelled, StoreError, TurnError
from opencode.ids import new_id
from opencode.provider.port import Message, ModelRequest, Provider, ToolCall, ToolSpec
from opencode.records import Session, Turn, Usage
from opencode.session import events
from opencode.session.asking import Answer, Asking
from opencode.session.diff import TOO_LARGE
from opencode.session.pen import Pen
from opencode.session.permission import Gate
from opencode.session.prompt import answers, system_prompt
from opencode.storage.port import EndTurn, PutFileChanges
from opencode.tool.port import ToolContext, ToolOutcome, Tools

log = logging.getLogger(__name__)

Status = Literal["completed", "aborted", "failed"]
#: Files above this size are listed in the diff by name only.
_DIFF_BYTES = 1_000_000
#: How `Cancel.reason` says that the turn's seconds are spent.
OUT_OF_TIME = "out of time"
_UNFINISHED = ("pending", "running")
_NOT_RUN = ToolOutcome("Not run: the turn ended before it.", is_error=True)


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
    gate: Gate
    pen: Pen
    cancel: Cancel
    limits: Limits

    def run(self) -> Status:
        """Work until the end, whatever comes.

        Raises:
            StoreError: the end could not be stored; `StaleAttempt` where another attempt has taken over.
        """
        started = time.monotonic()
        error: TurnError | None = None
        try:
            self._loop()
            status: Status = "completed"
        except Cancelled as cancelled:
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
        self._end(status, error, int((time.monotonic() - started) * 1000))
        return status

    def _loop(self) -> None:
        missing = self.provider.missing()
        if missing is not None:
            raise TurnError(
                f"The model {self.turn.model} cannot be asked yet: {missing}.", code="PROVIDER_NOT_CONFIGURED"
            )
        system = system_prompt(self.session)
        offered = tuple(
            ToolSpec(tool.name, tool.description, tool.parameters) for tool in self.tools.specs(self.session.tools)
        )
        model = self.turn.model.partition("/")[2]
        asking = Asking(self.provider, self.pen, self.cancel, self.turn.id)
        for step in count(1):
            if step > self.limits.steps:
                raise self._limit("OPENCODE_MAX_STEPS", f"{self.limits.steps} steps")
            messages = (*self.history, *answers(self.pen.draft.parts))
            answer = asking.ask(ModelRequest(model, system, messages, offered), step)
            calls = self._store_answer(answer, step)
            if answer.finish == "length":
                raise TurnError("The model's answer was cut off at its output limit.", code="LIMIT_REACHED")
            if not calls:
                return
            for part, call in zip(calls, answer.calls, strict=True):
                self._call(part, call)
            if self.pen.draft.usage.tokens >= self.limits.tokens:
                raise self._limit("OPENCODE_MAX_TOKENS", f"{self.limits.tokens} tokens")

    def _store_answer(self, answer: Answer, step: int) -> list[dict[str, Any]]:
        """Store the step whole, before the first of its calls runs: from here it can be taken up again."""
        draft = self.pen.draft
        draft.usage = draft.usage.plus(answer.usage)
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
            )
            for call in answer.calls
        ]
        self.pen.write(
            *(
                events.ToolCall(turn_id=self.turn.id, tool=part["tool"], params=part["params"], call_id=part["call_id"])
                for part in parts
            ),
            fold=True,
        )
        return parts

    def _call(self, part: dict[str, Any], call: ToolCall) -> None:
        self.cancel.check()
        context = ToolContext(
            directory=Path(self.session.directory),
            cancel=self.cancel,
            output=lambda text: self.pen.stream(
                events.ToolOutput(turn_id=self.turn.id, call_id=part["call_id"], content=text)
            ),
        )
        try:
            outcome = self._outcome(part, call, context)
        except Cancelled:
            outcome = ToolOutcome("Stopped before it was done: the turn was aborted.", is_error=True)
        self.pen.write(self._result(part, outcome), changes=self._file_changes(context), fold=True)
        self.cancel.check()

    def _result(self, part: dict[str, Any], outcome: ToolOutcome) -> events.ToolResult:
        part["status"] = "error" if outcome.is_error else "completed"
        part["result"] = outcome.content
        self.pen.draft.touch(part)
        return events.ToolResult(
            turn_id=self.turn.id,
            result=outcome.content,
            tool=part["tool"],
            call_id=part["call_id"],
            is_error=outcome.is_error,
        )

    def _outcome(self, part: dict[str, Any], call: ToolCall, context: ToolContext) -> ToolOutcome:
        if call.malformed is not None:
            return ToolOutcome(
                f"The arguments of {call.tool} were not a JSON object: {call.malformed[:200]!r}. Call it again.",
                is_error=True,
            )
        if call.tool not in self.session.tools:
            offered = ", ".join(self.session.tools) or "none"
            return ToolOutcome(f"There is no tool {call.tool!r} in this session; there are: {offered}.", is_error=True)
        refusal = self.gate.refusal(self.session, self.turn, self.pen, self.cancel, part)
        if refusal is not None:
            return ToolOutcome(refusal, is_error=True)
        part["status"] = "running"
        self.pen.draft.touch(part)
        # A start record before anything begins: after a crash it tells a call that may have acted from one that cannot.
        self.pen.write(changes=self.pen.draft.take_changes(self.turn.id))
        return self.tools.run(call.tool, call.params, context)

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

    def _end(self, status: Status, error: TurnError | None, duration_ms: int) -> None:
        bodies: list[Any] = [
            self._result(part, _NOT_RUN) for part in self.pen.draft.parts if part["status"] in _UNFINISHED
        ]
        spent = self.pen.draft.usage
        usage = Usage(spent.input, spent.output, spent.cached, duration_ms)
        if error is not None:
            bodies.append(events.Error(turn_id=self.turn.id, message=error.message, code=error.code))
        bodies.append(lambda seq: self._done(status, usage, seq))
        end = EndTurn(
            self.turn.id, self.pen.draft.message_id, self.session.id, status, error.code if error else None, usage
        )
        self.pen.write(*bodies, changes=(end,), fold=True)

    def _done(self, status: Status, usage: Usage, seq: int) -> bytes:
        return events.Done(
            turn_id=self.turn.id,
            tokens=usage.tokens,
            duration=usage.turn_ms,
            status=status,
            usage={"input": usage.input, "output": usage.output, "cached": usage.cached},
            events=seq - self.turn.first_seq + 1,
        ).body()


def _kept(content: bytes | None) -> bytes | None:
    return content if content is None or len(content) <= _DIFF_BYTES else TOO_LARGE
