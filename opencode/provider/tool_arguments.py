"""A tool call's arguments, as a model wrote them."""

from typing import Any

import msgspec

from opencode.ids import new_id
from opencode.provider.port import ToolCall


def finished_call(call_id: str, tool: str, arguments: str | dict[str, Any]) -> ToolCall:
    """Make the call out of its collected arguments: none at all is an empty object, and a missing id is made."""
    call_id = call_id or new_id("call")
    if isinstance(arguments, dict):
        return ToolCall(call_id, tool, arguments)
    if not arguments.strip():
        return ToolCall(call_id, tool, {})
    try:
        return ToolCall(call_id, tool, msgspec.json.decode(arguments, type=dict[str, Any]))
    except (msgspec.DecodeError, UnicodeError):
        return ToolCall(call_id, tool, {}, malformed=arguments)
