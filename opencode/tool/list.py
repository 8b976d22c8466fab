"""Lists a folder."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any

from pydantic import Field

from opencode.tool import arguments
from opencode.tool.arguments import Word, printable
from opencode.tool.port import ToolContext
from opencode.tool.workspace import Entry, Workspace


class ListArguments(arguments.Arguments):
    path: Annotated[Word | None, Field(description="The folder; without it, the session's directory.")] = None


class List:
    """The tool `list`."""

    name = "list"

    def __init__(self, *, entry_limit: int = 500) -> None:
        self._entry_limit = entry_limit
        self.description = (
            "Lists what is in one folder: first the folders in it, with a slash after their names, then the files with"
            f" their sizes. At most {entry_limit:,} names; hidden ones are among them."
        )

    @cached_property
    def parameters(self) -> dict[str, Any]:
        return arguments.schema(ListArguments)

    def run(self, params: Mapping[str, Any], context: ToolContext) -> str:
        context.cancel.check()
        asked = arguments.parse(ListArguments, params)
        workspace = Workspace(context.directory, context.private)
        place = workspace.locate(asked.path or ".")
        entries = sorted(workspace.entries(place), key=lambda entry: (not entry.is_folder, entry.name))
        if not entries:
            return f"({place.path} is empty)"
        lines = [_line(entry) for entry in entries[: self._entry_limit]]
        if left_out := len(entries) - len(lines):
            lines.append(f"[{left_out:,} more are not shown; use glob to look for names]")
        return "\n".join(lines)


def _line(entry: Entry) -> str:
    name = printable(entry.name)
    if entry.is_folder:
        return f"{name}/"
    if entry.is_file:
        return f"{name}  ({entry.status.st_size:,} bytes)"
    return f"{name}  ({'symlink' if entry.is_link else 'not a regular file'})"
