"""One answer of the model: streamed into the log, asked for again where the stream broke."""

import random
from dataclasses import dataclass, field

from opencode.cancel import Cancel
from opencode.errors import ProviderError
from opencode.provider.port import Finish, ModelRequest, Provider, Reasoning, Text, ToolCall, Usage
from opencode.records import Usage as Spent
from opencode.session import events
from opencode.session.pen import Pen
from opencode.session.resume import Start

#: Calls of the model for one step, the first included.
_ATTEMPTS = 4
#: The first pause; doubled each time, with chance in it, so that many turns do not come back at once.
_PAUSE_S = 0.5
#: A provider that asks for more patience than this is not waited for.
_LONGEST_PAUSE_S = 60.0


@dataclass(slots=True)
class Answer:
    """What came of one call of the model."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    usage: Spent = field(default_factory=Spent)
    finish: str = ""

    @property
    def said(self) -> list[tuple[str, str]]:
        """What was streamed, by the kind of part that keeps it."""
        both = (("reasoning", "".join(self.thoughts)), ("text", "".join(self.texts)))
        return [(kind, content) for kind, content in both if content]


@dataclass(frozen=True, slots=True)
class Asking:
    """Asks for the answers of one turn."""

    provider: Provider
    pen: Pen
    cancel: Cancel
    turn_id: str

    def ask(self, request: ModelRequest, start: Start) -> Answer:
        """Get the answer to `request`, as the turn's step `start.step`.

        Each attempt begins with a `step` event; where one failed after its first words, the next one's
        `discards_from` voids them.

        Raises:
            ProviderError: it failed, and asking again does not help or did not.
            Cancelled: the turn is to end; what was said so far stands in the draft.
        """
        step, discards_from = start.step, start.discards_from
        self.cancel.check()
        for attempt in range(1, _ATTEMPTS + 1):
            number = start.attempt + attempt - 1
            event = events.Step(turn_id=self.turn_id, step=step, attempt=number, discards_from=discards_from)
            discards_from = self.pen.write(event).first_seq
            answer = Answer()
            try:
                self._stream(request, answer)
            except ProviderError as failure:
                pause_s = _pause_s(failure, attempt)
                cancelled = pause_s is not None and self.cancel.wait(pause_s)
                # What nothing replaces stays part of the message; what is asked for anew is void.
                self._keep(answer, step, interrupted=pause_s is not None and not cancelled)
                if pause_s is None:
                    raise
                if cancelled:
                    self.cancel.check()
            except Exception:  # whatever ends it, what was shown stays part of the message
                self._keep(answer, step, interrupted=False)
                raise
            else:
                return answer
        raise AssertionError("the last attempt returns or raises")

    def _stream(self, request: ModelRequest, answer: Answer) -> None:
        text, thought = (events.pieces(kind, self.turn_id) for kind in (events.Text, events.Reasoning))
        for delta in self.provider.stream(request, self.cancel):
            match delta:
                case Text(content):
                    answer.texts.append(content)
                    self.pen.stream(text(content))
                case Reasoning(content):
                    answer.thoughts.append(content)
                    self.pen.stream(thought(content))
                case ToolCall():
                    answer.calls.append(delta)
                case Usage():
                    answer.usage = Spent(delta.input, delta.output, delta.cached)
                case Finish(reason):
                    answer.finish = reason
        if not answer.finish:
            raise ProviderError("The answer broke off.", code="PROVIDER_UNAVAILABLE", retryable=True)

    def _keep(self, answer: Answer, step: int, *, interrupted: bool) -> None:
        draft = self.pen.draft
        draft.usage = draft.usage.plus(answer.usage)
        status = "interrupted" if interrupted else "completed"
        for kind, content in answer.said:
            draft.add({"type": kind, "step": step, "content": content, "status": status})


def _pause_s(failure: ProviderError, attempt: int) -> float | None:
    """How long to wait before asking again, None where that is no use."""
    if not failure.retryable or attempt == _ATTEMPTS:
        return None
    if failure.retry_after_s is not None:
        return failure.retry_after_s if failure.retry_after_s <= _LONGEST_PAUSE_S else None
    return float(_PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, no secret
