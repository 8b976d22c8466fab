"""Replaces a piece of text in a file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Annotated, Any

from pydantic import Field

from opencode.errors import ToolError
from opencode.tool import arguments
from opencode.tool.arguments import Text, Word
from opencode.tool.port import FileChange, ToolContext
from opencode.tool.workspace import Workspace

BOM = b"\xef\xbb\xbf"
LF, CR = "\n", "\r"
SNIPPET_LINES = 20
SNIPPET_LINE_CHARS = 200
CONTEXT_LINES = 2
#: Of many places that match, so many are named.
PLACES_NAMED = 5

_LINE_BREAK = re.compile(r"\r?\n")
_NUMBERED = re.compile(r" *\d+\t")


class EditArguments(arguments.Arguments):
    path: Annotated[Word, Field(description="The file.")]
    old_string: Annotated[Text, Field(description="The text to replace, exactly as it stands in the file.")]
    new_string: Annotated[Text, Field(description="The text to put there.")]
    replace_all: Annotated[
        bool | None, Field(description="Replace every occurrence; without it there must be exactly one.")
    ] = None


class Edit:
    """The tool `edit`. `size_limit` is in bytes, for the file before and after."""

    name = "edit"
    description = (
        "Replaces old_string by new_string in a file. old_string must be exactly what the file holds, with its"
        " indentation and without the line numbers that read shows, and must occur once: take in neighbouring lines to"
        " make it so, or set replace_all. The file's line endings are kept."
    )

    def __init__(self, *, size_limit: int = 5_000_000) -> None:
        self._size_limit = size_limit

    @cached_property
    def parameters(self) -> dict[str, Any]:
        return arguments.schema(EditArguments)

    def run(self, params: Mapping[str, Any], context: ToolContext) -> str:
        context.cancel.check()
        asked = arguments.parse(EditArguments, params)
        if not asked.old_string:
            raise ToolError("`old_string` is empty. To create or replace a whole file, use write.")
        if asked.old_string == asked.new_string:
            raise ToolError("`old_string` and `new_string` are the same: there is nothing to change.")
        workspace = Workspace(context.directory, context.private)
        place = workspace.locate(asked.path)
        with workspace.stream(place):  # says why when there is no such file
            before = workspace.snapshot(place, size_limit=self._size_limit)
        if before is None:
            raise ToolError(f"{place.path} does not exist any more.")
        text = _decoded(before.data, place.path)
        change = _planned(text, asked, place.path)
        data = (BOM if before.data.startswith(BOM) else b"") + self._applied(text, change, place.path)
        workspace.replace(place, data, before)
        context.changes.append(FileChange(place.path, before.data, data))
        times = "1 replacement" if change.times == 1 else f"{change.times:,} replacements"
        return f"Edited {place.path}: {times}.\n{_snippet(text, change)}"

    def _applied(self, text: str, change: "_Change", path: str) -> bytes:
        # Asked before it is done: many replacements by something long would fill the memory.
        length = len(text) + change.times * (len(change.new) - len(change.old))
        data = text.replace(change.old, change.new).encode() if length <= self._size_limit else b""
        if max(length, len(data)) > self._size_limit:
            raise ToolError(f"{path} would grow over the limit of {self._size_limit:,} bytes.")
        return data


@dataclass(frozen=True, slots=True)
class _Change:
    """A replacement in the file's own line endings, known to match `times` times."""

    old: str
    new: str
    times: int


def _decoded(data: bytes, path: str) -> str:
    try:
        return data.removeprefix(BOM).decode()
    except UnicodeDecodeError as exc:
        raise ToolError(f"{path} is not UTF-8 (byte {exc.start:,}) and cannot be edited as text.") from None


def _planned(text: str, asked: EditArguments, path: str) -> _Change:
    old, new = asked.old_string, asked.new_string
    wants_crlf = "\r\n" in text and (text.count("\n") == text.count("\r\n") or old not in text)
    if wants_crlf:
        old, new = (_LINE_BREAK.sub("\r\n", part) for part in (old, new))
    times = text.count(old)
    if times == 0:
        raise ToolError(f"`old_string` does not occur in {path}. {_hint(text, asked)}")
    if times > 1 and not asked.replace_all:
        lines = ", ".join(str(number) for number in islice(_line_numbers(text, old), PLACES_NAMED))
        more = ", …" if times > PLACES_NAMED else ""
        raise ToolError(
            f"`old_string` occurs {times:,} times in {path} (lines {lines}{more}). Take in more of the lines around the"
            " one that you mean, or set replace_all to change them all."
        )
    if old == new:
        raise ToolError("`old_string` and `new_string` differ in line endings only, and the file's are kept.")
    return _Change(old, new, times)


def _line_numbers(text: str, old: str) -> list[int]:
    found: list[int] = []
    at = text.find(old)
    while at >= 0 and len(found) <= PLACES_NAMED:
        found.append(text.count("\n", 0, at) + 1)
        at = text.find(old, at + len(old))
    return found


def _hint(text: str, asked: EditArguments) -> str:
    """Why it may not have been found."""
    wanted = [line.strip() for line in asked.old_string.strip().split("\n")]
    if all(_NUMBERED.match(line) for line in asked.old_string.rstrip().split("\n")):
        return "Leave out the line numbers and tabs that read puts before the lines."
    # One search in one string: comparing line by line is quadratic where many lines are alike.
    bare = "\n".join(["", *(line.strip() for line in text.split("\n")), ""])
    at = bare.find("\n".join(["", *wanted, ""]))
    if at >= 0:
        line = bare.count("\n", 0, at) + 1
        return f"The same text with other white space stands at line {line}: read the file for it."
    if asked.new_string and _LINE_BREAK.sub("\n", asked.new_string) in _LINE_BREAK.sub("\n", text):
        return "But `new_string` does: perhaps the change was made already. Read the file again."
    return "Read the file again and copy the text exactly."


def _snippet(text: str, change: _Change) -> str:
    """The first place that changed, as a diff shows it."""
    at = text.index(change.old)
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at + len(change.old))
    end = len(text) if end < 0 else end
    old = text[start:end].split("\n")
    new = (text[start:at] + change.new + text[at + len(change.old) : end]).split("\n")
    head = _alike(old, new)
    tail = _alike(old[head:][::-1], new[head:][::-1])
    above = [*text[:start].rsplit("\n", CONTEXT_LINES + 1)[-CONTEXT_LINES - 1 : -1], *old[:head]]
    below = [*old[len(old) - tail :], *text[end + 1 :].split("\n", CONTEXT_LINES)][:CONTEXT_LINES]
    while below and not below[-1]:
        below.pop()
    shown = [f"@@ line {text.count(LF, 0, start) + head + 1} @@"]
    for sign, lines in (
        (" ", above[-CONTEXT_LINES:]),
        ("-", old[head : len(old) - tail]),
        ("+", new[head : len(new) - tail]),
        (" ", below),
    ):
        shown += [f"{sign}{line.rstrip(CR)[:SNIPPET_LINE_CHARS]}" for line in lines[:SNIPPET_LINES]]
        if len(lines) > SNIPPET_LINES:
            shown.append(f"{sign}[{len(lines) - SNIPPET_LINES} more lines]")
    return "\n".join(shown)


def _alike(some: list[str], others: list[str]) -> int:
    """How many lines both begin with."""
    pairs = zip(some, others, strict=False)
    return next((number for number, (one, other) in enumerate(pairs) if one != other), min(len(some), len(others)))
