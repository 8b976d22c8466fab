"""The chat completions' request and its stream, to and from the port's types.

OpenAI's own servers are strict and the compatible ones are not: ids, indexes and finish reasons may be missing, tool
calls may come whole, arguments as objects, numbers as null.
"""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from opencode.provider import failures
from opencode.provider.failures import Source
from opencode.provider.port import (
    AssistantMessage,
    Delta,
    Finish,
    Message,
    ModelRequest,
    Reasoning,
    Text,
    ToolResult,
    ToolSpec,
    Usage,
    UserMessage,
)
from opencode.provider.tool_arguments import finished_call
from opencode.sse_reader import SseEvent

_DONE = b"[DONE]"


def request_body(request: ModelRequest, *, limit_field: str) -> dict[str, Any]:
    """Build what the SDK's `chat.completions.create` takes."""
    messages: list[dict[str, Any]] = []
    if request.system.strip():
        messages.append({"role": "system", "content": request.system})
    for message in request.messages:
        messages.extend(_message(message))
    body: dict[str, Any] = {
        "model": request.model,
        "messages": messages,
        "stream_options": {"include_usage": True},
        limit_field: request.max_output_tokens,
    }
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    return body


def _tool(tool: ToolSpec) -> dict[str, Any]:
    schema = {"type": "object", "properties": {}} | tool.parameters
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": schema},
    }


def _message(message: Message) -> Iterator[dict[str, Any]]:
    match message:
        case UserMessage():
            yield {"role": "user", "content": message.content}
        case ToolResult():
            # There is no field for it, and the text is all that the model sees.
            content = f"Error: {message.content}" if message.is_error else message.content
            yield {"role": "tool", "tool_call_id": message.call_id, "content": content}
        case AssistantMessage() if message.calls:
            calls = [
                {
                    "id": call.call_id,
                    "type": "function",
                    "function": {"name": call.tool, "arguments": msgspec.json.encode(call.params).decode()},
                }
                for call in message.calls
            ]
            yield {"role": "assistant", "content": message.content or None, "tool_calls": calls}
        case AssistantMessage() if message.content:
            yield {"role": "assistant", "content": message.content}


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _CallDelta(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _ChoiceDelta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    tool_calls: list[_CallDelta] | None = None


class _Choice(msgspec.Struct):
    delta: _ChoiceDelta | None = None
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


class _Call:
    """A tool call that is being put together."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.pieces: list[str] = []
        self.whole: dict[str, Any] | None = None

    def add(self, delta: _CallDelta) -> None:
        self.id = self.id or delta.id or ""
        if delta.function is None:
            return
        self.name = self.name or delta.function.name or ""
        if isinstance(delta.function.arguments, dict):
            self.whole = delta.function.arguments
        elif delta.function.arguments:
            self.pieces.append(delta.function.arguments)


_decoder = msgspec.json.Decoder(_Chunk)


class OpenAIAnswer:
    """One answer of a chat completions stream."""

    def __init__(self, source: Source) -> None:
        self.finished = False
        self._source = source
        self._finish_reason: str | None = None
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    def read(self, event: SseEvent) -> Iterator[Delta]:
        if event.data.strip() == _DONE:
            self.finished = True
            return
        chunk = _decoder.decode(event.data)
        if chunk.error:
            raise failures.from_body(self._source, {"error": chunk.error})
        if event.event == "error":
            raise failures.from_body(self._source, msgspec.json.decode(event.data))
        if chunk.choices:
            yield from self._read_choice(chunk.choices[0])
        # After the choices: the last chunk may carry both, and usage is of what is said so far.
        if chunk.usage:
            yield _usage(chunk.usage)

    def end(self) -> Iterator[Delta]:
        if self._finish_reason is None and not self.finished:
            raise failures.cut_stream(self._source)
        if self._finish_reason == "content_filter":
            raise failures.declined(self._source, "finish_reason: content_filter")
        for call in self._calls:
            arguments = call.whole if call.whole is not None else "".join(call.pieces)
            yield finished_call(call.id, call.name, arguments)
        yield Finish(self._finish())

    def _finish(self) -> Literal["stop", "tool_calls", "length"]:
        if self._finish_reason == "length":
            return "length"
        # Some servers say "stop" after tool calls.
        return "tool_calls" if self._calls else "stop"

    def _read_choice(self, choice: _Choice) -> Iterator[Delta]:
        delta = choice.delta
        if delta is not None:
            reasoning = delta.reasoning_content or delta.reasoning
            if reasoning and isinstance(reasoning, str):
                yield Reasoning(reasoning)
            if text := delta.content or delta.refusal:
                yield Text(text)
            for call in delta.tool_calls or ():
                self._call_of(call).add(call)
        self._finish_reason = choice.finish_reason or self._finish_reason

    def _call_of(self, delta: _CallDelta) -> _Call:
        """Find the call that a piece belongs to: by index, but another id is another call, whatever the index says."""
        call = self._calls[-1] if delta.index is None and self._calls else self._by_index.get(delta.index or 0)
        if call is None or (delta.id and call.id and delta.id != call.id):
            call = _Call()
            self._calls.append(call)
        if delta.index is not None:
            self._by_index[delta.index] = call
        return call


def _usage(counts: _Usage) -> Usage:
    details = counts.prompt_tokens_details
    return Usage(
        input=counts.prompt_tokens or 0,
        output=counts.completion_tokens or 0,
        cached=(details and details.cached_tokens) or 0,
    )
