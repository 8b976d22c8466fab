"""Writes a whole file."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any

from pydantic import Field

from opencode.errors import ToolError
from opencode.tool import arguments
from opencode.tool.arguments import Text, Word
from opencode.tool.port import FileChange, ToolContext
from opencode.tool.workspace import Workspace


class WriteArguments(arguments.Arguments):
    path: Annotated[Word, Field(description="The file.")]
    content: Annotated[Text, Field(description="All that the file shall hold.")]


class Write:
    """The tool `write`. `size_limit` is in bytes, for the old content as for the new."""

    name = "write"
    description = (
        "Creates a file, or replaces the whole content of one, and makes the folders that are missing."
        " To change a part of a file, use edit."
    )

    def __init__(self, *, size_limit: int = 5_000_000) -> None:
        self._size_limit = size_limit

    @cached_property
    def parameters(self) -> dict[str, Any]:
        return arguments.schema(WriteArguments)

    def run(self, params: Mapping[str, Any], context: ToolContext) -> str:
        context.cancel.check()
        asked = arguments.parse(WriteArguments, params)
        data = asked.content.encode()
        if len(data) > self._size_limit:
            raise ToolError(f"`content` has {len(data):,} bytes, over the limit of {self._size_limit:,}.")
        workspace = Workspace(context.directory, context.private)
        place = workspace.locate(asked.path)
        before = workspace.snapshot(place, size_limit=self._size_limit)
        if before and before.data == data:
            return f"{place.path} holds exactly this already."
        workspace.replace(place, data, before)
        context.changes.append(FileChange(place.path, before.data if before else None, data))
        return f"{'Replaced' if before else 'Created'} {place.path} ({len(data):,} bytes)."
