"""Finds files by their names."""

import fnmatch
import heapq
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import Field

from opencode.errors import ToolError
from opencode.tool import arguments
from opencode.tool.arguments import Word
from opencode.tool.port import ToolContext
from opencode.tool.workspace import Entry, Place, Workspace, breathe

#: `{a,b}{c,d}…` multiplies; no honest pattern needs more.
ALTERNATIVES_LIMIT = 100
SKIPPED = frozenset({".git"})

_BRACES = re.compile(r"\{([^{}]*)\}")


class GlobArguments(arguments.Arguments):
    pattern: Annotated[Word, Field(description="Such as src/**/*.py, *.{ts,tsx} or test_?.py.")]
    path: Annotated[Word | None, Field(description="The folder to look in; without it, the session's directory.")] = (
        None
    )


class Glob:
    """The tool `glob`. `match_limit` files are shown; after `visit_limit` names the search gives up."""

    name = "glob"

    def __init__(self, *, match_limit: int = 200, visit_limit: int = 500_000) -> None:
        self._match_limit = match_limit
        self._visit_limit = visit_limit
        self.description = (
            "Finds files by name, newest first. * and ? stand for characters of one name, ** for any folders, {a,b} for"
            " either. A pattern without a slash matches names in every folder. Looks in hidden folders but not in"
            f" .git, and does not follow symlinks. Shows at most {match_limit:,} files."
        )

    @cached_property
    def parameters(self) -> dict[str, Any]:
        return arguments.schema(GlobArguments)

    def run(self, params: Mapping[str, Any], context: ToolContext) -> str:
        context.cancel.check()
        asked = arguments.parse(GlobArguments, params)
        patterns = [_Pattern.parse(text) for text in _alternatives(asked.pattern)]
        workspace = Workspace(context.directory, context.private)
        start = workspace.locate(asked.path or ".")
        walk = _Walk(workspace, context, self._visit_limit)
        found = [(-entry.status.st_mtime_ns, place.path) for place, entry in walk.files(start, patterns)]
        lines = [path for _, path in heapq.nsmallest(self._match_limit, found)] or [f"No file matches {asked.pattern}."]
        if len(found) > self._match_limit:
            lines.append(f"[{len(found) - self._match_limit:,} more match; use a narrower pattern]")
        if walk.gave_up:
            lines.append(f"[stopped after {self._visit_limit:,} names; look in a smaller folder]")
        return "\n".join(lines)


class _Walk:
    """Goes down only where a pattern can still match."""

    def __init__(self, workspace: Workspace, context: ToolContext, visit_limit: int) -> None:
        self._workspace = workspace
        self._context = context
        self._left = visit_limit
        self.gave_up = False

    def files(self, start: Place, patterns: "list[_Pattern]") -> Iterator[tuple[Place, Entry]]:
        waiting = [(start, [(pattern, pattern.start()) for pattern in patterns])]
        while waiting and not self.gave_up:
            folder, states = waiting.pop()
            breathe(self._context.cancel)
            for entry in self._entries(folder, required=folder == start):
                after = [(pattern, pattern.step(state, entry.name)) for pattern, state in states]
                if entry.is_folder:
                    alive = [(pattern, state) for pattern, state in after if state]
                    if alive and entry.name not in SKIPPED:
                        waiting.append((folder.child(entry.name), alive))
                elif any(pattern.accepts(state) for pattern, state in after):
                    yield folder.child(entry.name), entry

    def _entries(self, folder: Place, *, required: bool) -> list[Entry]:
        try:
            entries = self._workspace.entries(folder)
        except ToolError:  # removed meanwhile, or not readable: the others still count
            if required:
                raise
            return []
        self._left -= len(entries)
        self.gave_up = self._left < 0
        return entries


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One alternative, name by name; None stands for `**`.

    A state is the set of positions that the names so far may have reached, so that the work grows with the pattern's
    length and never with its combinations.
    """

    names: tuple[re.Pattern[str] | None, ...]

    @classmethod
    def parse(cls, text: str) -> "_Pattern":
        names = [name for name in text.split("/") if name not in {"", "."}]
        if text.startswith("/") or ".." in names:
            raise ToolError("`pattern` must not begin with / or hold ..; give the folder to look in as `path`.")
        if not names:
            raise ToolError("`pattern` names nothing; **/* matches every file.")
        if "/" not in text:
            names.insert(0, "**")
        return cls(tuple(None if name == "**" else re.compile(fnmatch.translate(name)) for name in names))

    def start(self) -> frozenset[int]:
        return self._skip_stars({0})

    def step(self, state: frozenset[int], name: str) -> frozenset[int]:
        reached: set[int] = set()
        for position in state:
            if position < len(self.names):
                wanted = self.names[position]
                if wanted is None:
                    reached.add(position)
                elif wanted.match(name):
                    reached.add(position + 1)
        return self._skip_stars(reached)

    def accepts(self, state: frozenset[int]) -> bool:
        """Whether the names so far match. A `**` at the end matches what is in a folder, however deep."""
        return len(self.names) in state

    def _skip_stars(self, positions: set[int]) -> frozenset[int]:
        reached = set(positions)
        for position in sorted(positions):
            while position < len(self.names) and self.names[position] is None:
                position += 1  # noqa: PLW2901 - `**` stands for no folder too
                reached.add(position)
        return frozenset(reached)


def _alternatives(pattern: str) -> list[str]:
    """The pattern for each choice of its braces, inner braces first."""
    waiting, done = [pattern], []
    while waiting:
        text = waiting.pop()
        if braces := _BRACES.search(text):
            head, tail = text[: braces.start()], text[braces.end() :]
            waiting += [f"{head}{choice}{tail}" for choice in braces[1].split(",")]
        else:
            done.append(text)
        if len(waiting) + len(done) > ALTERNATIVES_LIMIT:
            raise ToolError(f"`pattern` has more than {ALTERNATIVES_LIMIT} alternatives in its braces.")
    return done
