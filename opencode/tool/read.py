"""Reads a text file, or a part of it, with line numbers."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Annotated, Any, BinaryIO

from pydantic import Field

from opencode.cancel import Cancel
from opencode.errors import ToolError
from opencode.tool import arguments
from opencode.tool.arguments import Word
from opencode.tool.port import ToolContext
from opencode.tool.workspace import Workspace, breathe

CHUNK_BYTES = 1_048_576
#: As far into a file a NUL byte is looked for: text has none.
PROBE_BYTES = 8192
MAX_CHARS_BYTES = 4
BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


class ReadArguments(arguments.Arguments):
    path: Annotated[Word, Field(description="The file.")]
    offset: Annotated[
        Annotated[int, Field(ge=1)] | None, Field(description="The first line to read; lines count from 1.")
    ] = None
    limit: Annotated[Annotated[int, Field(ge=1)] | None, Field(description="How many lines to read at most.")] = None


class Read:
    """The tool `read`. Limits: lines when the model names none, characters of a line, characters of a result."""

    name = "read"

    def __init__(self, *, line_limit: int = 2000, line_chars: int = 2000, output_limit: int = 100_000) -> None:
        self._line_limit = line_limit
        self._line_chars = line_chars
        self._output_limit = output_limit
        self.description = (
            f"Reads a text file and returns its lines, each after its number and a tab; at most {line_limit:,} lines"
            " unless limit says otherwise. When there is more, the result says with which offset to read on."
            " The numbers and tabs are not part of the file."
        )

    @cached_property
    def parameters(self) -> dict[str, Any]:
        return arguments.schema(ReadArguments)

    def run(self, params: Mapping[str, Any], context: ToolContext) -> str:
        context.cancel.check()
        asked = arguments.parse(ReadArguments, params)
        workspace = Workspace(context.directory, context.private)
        place = workspace.locate(asked.path)
        with workspace.stream(place) as stream:
            probe = stream.read(PROBE_BYTES)
            if b"\0" in probe:
                raise ToolError(f"{place.path} is a binary file (or UTF-16) and cannot be read as text.")
            if not probe:
                return f"({place.path} is empty)"
            stream.seek(0)
            lines = _Lines(stream, context.cancel, kept_bytes=self._line_chars * MAX_CHARS_BYTES)
            text = self._numbered(lines, asked.offset or 1, asked.limit)
        if not text:
            raise ToolError(f"{place.path} has only {lines.count:,} lines, so there is no line {asked.offset:,}.")
        return text

    def _numbered(self, lines: "_Lines", first: int, limit: int | None) -> str:
        limit = min(limit or self._line_limit, self._output_limit)  # a line has one character at least
        shown: list[str] = []
        room = self._output_limit
        for number, (line, length) in enumerate(islice(lines.after(first - 1), limit + 1), first):
            text = f"{number:6}\t{self._shown(line, length, first_line=number == 1)}\n"
            if shown and (number == first + limit or len(text) > room):
                shown.append(f"[the file goes on: read it with offset={number}]")
                break
            shown.append(text)
            room -= len(text)
        return "".join(shown)

    def _shown(self, line: bytes, length: int, *, first_line: bool) -> str:
        text = line.removesuffix(b"\r").decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
        if first_line:
            text = text.removeprefix(BOM)
        if length <= len(line) and len(text) <= self._line_chars:
            return text
        return f"{text[: self._line_chars]} [line cut; it has {length:,} bytes]"


class _Lines:
    """The lines of a file of any size, of each no more than `kept_bytes` in memory. Only LF ends a line."""

    def __init__(self, stream: BinaryIO, cancel: Cancel, *, kept_bytes: int) -> None:
        self._stream = stream
        self._cancel = cancel
        self._kept_bytes = kept_bytes
        #: Lines seen so far.
        self.count = 0

    def after(self, skipped: int) -> Iterator[tuple[bytes, int]]:
        """The beginning and the length of each line after the first `skipped`."""
        kept, length = b"", 0
        for chunk in self._from_line(skipped):
            *ends, rest = chunk.split(b"\n")
            for end in ends:
                self.count += 1
                yield kept + end[: self._kept_bytes - len(kept)], length + len(end)
                kept, length = b"", 0
            kept += rest[: self._kept_bytes - len(kept)]
            length += len(rest)
        if length:
            self.count += 1
            yield kept, length

    def _from_line(self, skipped: int) -> Iterator[bytes]:
        unended = False
        while chunk := self._stream.read(CHUNK_BYTES):
            breathe(self._cancel)
            if self.count < skipped:
                ends = chunk.count(b"\n")
                unended = not chunk.endswith(b"\n")
                if self.count + ends < skipped:
                    self.count += ends
                    continue
                chunk = chunk.split(b"\n", skipped - self.count)[-1]
                self.count = skipped
                unended = False
            yield chunk
        self.count += unended
