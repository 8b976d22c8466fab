"""The tools by name, and the one place where their failures become results."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from opencode import telemetry
from opencode.errors import Cancelled, StoreError, ToolError
from opencode.tool.arguments import printable
from opencode.tool.port import Tool, ToolContext, ToolOutcome

logger = logging.getLogger(__name__)


class Toolbox:
    """Holds tools and runs them."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools = {tool.name: tool for tool in tools}

    @property
    def names(self) -> tuple[str, ...]:
        """The tools' names, in the order in which they were given."""
        return tuple(self._tools)

    def specs(self, names: Iterable[str]) -> Sequence[Tool]:
        """The tools of these names, in this order; ToolError for one that there is not."""
        return [self._find(name) for name in names]

    def run(self, name: str, params: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        """Run one call. Every failure comes back as a result with `is_error`, but for those that are not the tool's.

        Raises:
            Cancelled: the turn is to end.
            StoreError: what the tool said could not be stored; `StaleAttempt` where another process has the turn now.
        """
        context.cancel.check()
        try:
            tool = self._find(name)
            with telemetry.span(f"execute_tool {name}", **{"gen_ai.tool.name": name}):
                return ToolOutcome(tool.run(params, context))
        except (Cancelled, StoreError):
            raise
        except ToolError as exc:
            return ToolOutcome(str(exc), is_error=True)
        except OSError as exc:
            return ToolOutcome(_told(exc, context.directory), is_error=True)
        except Exception as exc:  # a fault in a tool must not end the turn; the log has the trace
            logger.exception("tool %s failed", name)
            return ToolOutcome(f"The tool {name} failed by a fault of its own ({type(exc).__name__}).", is_error=True)

    def _find(self, name: str) -> Tool:
        if tool := self._tools.get(name):
            return tool
        raise ToolError(f"There is no tool {printable(name)[:60]}; there are {', '.join(self._tools)}.")


def _told(exc: OSError, directory: Path) -> str:
    """The system's message, with the file named only where it lies in the session's directory."""
    reason = exc.strerror or type(exc).__name__
    if not isinstance(exc.filename, str | bytes):
        return f"{reason}."
    path = Path(os.fsdecode(exc.filename))
    roots = (directory, directory.resolve())
    inside = next((path.relative_to(root) for root in roots if path.is_relative_to(root)), None)
    return f"{printable(str(inside))}: {reason}." if inside else f"{reason}."
