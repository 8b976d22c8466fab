"""What the guide answers to a request: its text in pieces, and the calls of its tools."""

import re
from collections.abc import Iterator, Sequence

from opencode.cancel import Cancel
from opencode.ids import new_id
from opencode.provider.demo.answers import unclear
from opencode.provider.demo.plan import Action, Call, Context, Plan, resume
from opencode.provider.demo.requests import Unclear
from opencode.provider.demo.steps import carry_out
from opencode.provider.demo.understanding import understand
from opencode.provider.port import (
    AssistantMessage,
    Delta,
    Finish,
    Message,
    ModelRequest,
    ToolCall,
    ToolResult,
    Usage,
    UserMessage,
)

_CHARS_PER_TOKEN = 4
# A word and the white space after it.
_PIECE = re.compile(r"\S+\s*|\s+")


def answer(request: ModelRequest, cancel: Cancel, *, hint: str, delay_s: float) -> Iterator[Delta]:
    """See `Demo`; ends with the usage and why it ends, as every provider's answer does."""
    cancel.check()
    text, results = _standing(request.messages)
    context = Context(frozenset(tool.name for tool in request.tools), hint)
    actions = resume(_plan(text, context), results)
    for action in actions:
        yield from _deltas(action, cancel, delay_s)
    yield Usage(input=_tokens(_length(request)), output=_tokens(sum(_action_length(action) for action in actions)))
    yield Finish("tool_calls" if isinstance(actions[-1], Call) else "stop")


def _deltas(action: Action, cancel: Cancel, delay_s: float) -> Iterator[Delta]:
    if isinstance(action, Call):
        cancel.check()
        yield ToolCall(new_id("call"), action.tool, action.params)
        return
    kind = type(action)
    for piece in _PIECE.findall(action.content):
        yield kind(piece)
        if delay_s > 0:
            cancel.wait(delay_s)
        cancel.check()


def _standing(messages: Sequence[Message]) -> tuple[str, list[ToolResult]]:
    """The last request, and the results that came since."""
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if isinstance(message, UserMessage):
            return message.content, [after for after in messages[index:] if isinstance(after, ToolResult)]
    return "", []


def _plan(text: str, context: Context) -> Plan:
    steps = understand(text)
    if isinstance(steps, Unclear):
        return unclear(steps, context)
    return carry_out(steps, context)


def _length(request: ModelRequest) -> int:
    return len(request.system) + sum(_message_length(message) for message in request.messages)


def _message_length(message: Message) -> int:
    calls = message.calls if isinstance(message, AssistantMessage) else ()
    return len(message.content) + sum(_action_length(Call(call.tool, call.params)) for call in calls)


def _action_length(action: Action) -> int:
    if isinstance(action, Call):
        return len(action.tool) + sum(len(key) + len(str(value)) for key, value in action.params.items())
    return len(action.content)


def _tokens(characters: int) -> int:
    return -(-characters // _CHARS_PER_TOKEN)
