"""What the agent loop asks of a tool."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from opencode.cancel import Cancel


@dataclass(frozen=True, slots=True)
class FileChange:
    """What a tool did to one file: its bytes before and after, None where there was or is no file.

    `path` is relative to the session's directory, with forward slashes.
    """

    path: str
    before: bytes | None
    after: bytes | None


@dataclass(slots=True)
class ToolContext:
    """What one call may use. `output` takes live output; `changes` collects what the call did to files.

    `directory` is absolute and resolved; `private` are folders and files that are closed to tools wherever they lie.
    """

    directory: Path
    cancel: Cancel
    output: Callable[[str], None] = lambda _text: None
    changes: list[FileChange] = field(default_factory=list)
    private: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What goes back to the model."""

    content: str
    is_error: bool = False


class Tool(Protocol):
    """One tool. Holds no state between calls and is safe to share by threads."""

    name: str
    description: str

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON Schema of the arguments."""

    def run(self, params: Mapping[str, Any], context: ToolContext) -> str:
        """Carry out one call and return the text for the model.

        `params` come from a model and are not to be trusted: they are checked here against the tool's own model.

        Raises:
            ToolError: the arguments are wrong or it cannot be done; the message tells the model what to do.
            Cancelled: soon after `context.cancel` is turned; nothing that the call started is left running.
        """


class Tools(Protocol):
    """The tools by name, and the one place where their failures become results."""

    @property
    def names(self) -> tuple[str, ...]:
        """The tools' names, in the order in which they are offered."""

    def specs(self, names: Iterable[str]) -> Sequence[Tool]:
        """The tools of these names; ToolError for one that there is not."""

    def run(self, name: str, params: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        """Run one call. Every failure comes back as a result with `is_error`, but for `Cancelled`, which is raised."""
