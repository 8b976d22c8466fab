"""The Messages API's request and its stream, to and from the port's types."""

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
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
    UserMessage,
)
from opencode.provider.tool_arguments import finished_call
from opencode.sse_reader import SseEvent

_CACHE = {"type": "ephemeral"}
_FINISH: dict[str, Literal["stop", "tool_calls", "length"]] = {
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}


def request_body(request: ModelRequest) -> dict[str, Any]:
    """Build what the SDK's `messages.create` takes."""
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_output_tokens,
        "messages": _messages(request.messages),
    }
    if request.system.strip():
        body["system"] = [{"type": "text", "text": request.system, "cache_control": _CACHE}]
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    return body


def _tool(tool: ToolSpec) -> dict[str, Any]:
    schema = {"type": "object", "properties": {}} | tool.parameters
    return {"name": tool.name, "description": tool.description, "input_schema": schema}


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Give each role its blocks: the results of one step must stand together in one user message."""
    shaped: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if isinstance(message, AssistantMessage) else "user"
        blocks = _blocks(message)
        if not blocks:
            continue
        if shaped and shaped[-1]["role"] == role:
            shaped[-1]["content"] += blocks
        else:
            shaped.append({"role": role, "content": blocks})
    if shaped:
        # The longest prefix that the next step repeats ends here.
        shaped[-1]["content"][-1]["cache_control"] = _CACHE
    return shaped


def _blocks(message: Message) -> list[dict[str, Any]]:
    # The API refuses empty text, and text of white space only.
    text = [{"type": "text", "text": message.content}] if message.content.strip() else []
    match message:
        case UserMessage():
            return text
        case AssistantMessage():
            uses = [
                {"type": "tool_use", "id": call.call_id, "name": call.tool, "input": call.params}
                for call in message.calls
            ]
            return [*text, *uses]
        case ToolResult():
            result: dict[str, Any] = {"type": "tool_result", "tool_use_id": message.call_id}
            if text:
                result["content"] = text
            if message.is_error:
                result["is_error"] = True
            return [result]


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Message(msgspec.Struct):
    usage: _Usage | None = None


class _Block(msgspec.Struct):
    type: str = ""
    id: str = ""
    name: str = ""
    text: str = ""
    thinking: str = ""
    input: dict[str, Any] = {}


class _StopDetails(msgspec.Struct):
    explanation: str | None = None


class _BlockDelta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _BlockDelta | None = None
    usage: _Usage | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Event)


class AnthropicAnswer:
    """One answer of the Messages API."""

    def __init__(self, source: Source) -> None:
        self.finished = False
        self._source = source
        self._stop_reason: str | None = None
        self._stop_details = _StopDetails()
        self._calls: dict[int, tuple[_Block, list[str]]] = {}
        self._counts = _Usage()

    def read(self, event: SseEvent) -> Iterator[Delta]:
        data = _decoder.decode(event.data)
        match data.type:
            case "content_block_delta" if data.delta:
                yield from self._read_delta(data.index, data.delta)
            case "content_block_start" if data.content_block:
                yield from self._start_block(data.index, data.content_block)
            case "content_block_stop":
                yield from self._stop_block(data.index)
            case "message_start" if data.message and data.message.usage:
                yield self._usage(data.message.usage)
            case "message_delta":
                if data.delta and data.delta.stop_reason:
                    self._stop_reason = data.delta.stop_reason
                    self._stop_details = data.delta.stop_details or self._stop_details
                if data.usage:
                    yield self._usage(data.usage)
            case "message_stop":
                self.finished = True
            case "error":
                raise failures.from_body(self._source, {"error": data.error})

    def end(self) -> Iterator[Delta]:
        if self._stop_reason is None:
            raise failures.cut_stream(self._source)
        if self._stop_reason == "refusal":
            raise failures.declined(self._source, self._stop_details.explanation or "stop_reason: refusal")
        for index in sorted(self._calls):
            yield from self._stop_block(index)
        yield Finish(_FINISH.get(self._stop_reason, "stop"))

    def _start_block(self, index: int, block: _Block) -> Iterator[Delta]:
        if block.type == "tool_use":
            self._calls[index] = (block, [])
        elif block.text:
            yield Text(block.text)
        elif block.thinking:
            yield Reasoning(block.thinking)

    def _read_delta(self, index: int, delta: _BlockDelta) -> Iterator[Delta]:
        if delta.text:
            yield Text(delta.text)
        elif delta.thinking:
            yield Reasoning(delta.thinking)
        elif delta.partial_json and index in self._calls:
            self._calls[index][1].append(delta.partial_json)

    def _stop_block(self, index: int) -> Iterator[ToolCall]:
        if index not in self._calls:
            return
        block, pieces = self._calls.pop(index)
        yield finished_call(block.id, block.name, "".join(pieces) or block.input)

    def _usage(self, counts: _Usage) -> Usage:
        """Counts are cumulative: what an event leaves out stands as it was."""
        for field in counts.__struct_fields__:
            value = getattr(counts, field)
            if value is not None:
                setattr(self._counts, field, value)
        read = self._counts.cache_read_input_tokens or 0
        written = self._counts.cache_creation_input_tokens or 0
        return Usage(
            # Anthropic counts only what the cache did not serve; the port counts the whole prompt.
            input=(self._counts.input_tokens or 0) + read + written,
            output=self._counts.output_tokens or 0,
            cached=read,
        )
