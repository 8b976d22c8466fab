"""Searches the contents of files, by the program `rg` in a process of its own."""

import re
import shutil
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from opencode.errors import ToolError
from opencode.openat import entrance, identity
from opencode.tool import arguments
from opencode.tool.arguments import Word, printable
from opencode.tool.port import ToolContext
from opencode.tool.process import Process, TimeIsUp
from opencode.tool.sandbox import Sandbox
from opencode.tool.workspace import Place, Workspace

#: rg's exit code when something went wrong, which includes a file that it could not read.
TROUBLE = 2
MESSAGE_LINES = 20

#: The same everywhere: no settings of the host's, nothing coloured, one match a line, the path ended by NUL.
_OPTIONS = [
    "--no-config",
    "--no-messages",
    "--no-ignore-messages",
    "--no-require-git",
    "--hidden",
    "--crlf",
    "--sort=path",
    "--color=never",
    "--no-heading",
    "--with-filename",
    "--line-number",
    "--null",
    "--max-columns-preview",
]

#: What means something in a glob.
_SPECIAL = re.compile(r"[][{}*?!\\]")
_ESCAPED = r"\\\g<0>"


def find_ripgrep(path: str) -> str:
    """The program `rg`: the one installed beside this Python, else one in the folders of `path`."""
    beside = Path(sys.executable).with_name("rg")
    return str(beside) if beside.is_file() else shutil.which("rg", path=path) or "rg"


class GrepArguments(arguments.Arguments):
    pattern: Annotated[Word, Field(description="A regular expression, in Rust's syntax; it matches within one line.")]
    path: Annotated[
        Word | None, Field(description="The folder or file to search; without it, the session's directory.")
    ] = None
    include: Annotated[Word | None, Field(description="Only files like this, such as *.py or *.{ts,tsx}.")] = None


class Grep:
    """The tool `grep`. `ripgrep` is the program, see `find_ripgrep`; with `sandbox` it runs in that, without network.

    `rg` opens files by their paths. In a sandbox, a symlink that a command puts in its way meanwhile leads nowhere.
    """

    name = "grep"

    def __init__(
        self,
        *,
        ripgrep: str,
        sandbox: Sandbox | None = None,
        timeout_s: float = 30,
        match_limit: int = 200,
        line_chars: int = 500,
    ) -> None:
        self._ripgrep = ripgrep
        self._sandbox = sandbox
        self._timeout_s = timeout_s
        self._match_limit = match_limit
        self._line_chars = line_chars
        self.description = (
            "Searches the contents of files for a regular expression and returns the matching lines as `path:line:"
            f" text`, at most {match_limit:,}. Leaves out binary files, .git and what .gitignore names."
        )

    @cached_property
    def parameters(self) -> dict[str, Any]:
        return arguments.schema(GrepArguments)

    def run(self, params: Mapping[str, Any], context: ToolContext) -> str:
        context.cancel.check()
        asked = arguments.parse(GrepArguments, params)
        workspace = Workspace(context.directory, context.private)
        place = workspace.locate(asked.path or ".")
        if workspace.is_folder(place):
            folder, target = place, "./"
        else:
            folder, target = Place(place.parts[:-1]), f"./{place.parts[-1]}"
        matches = _Matches(folder, limit=self._match_limit, line_chars=self._line_chars)
        with workspace.folder(folder) as descriptor:
            path = workspace.root.joinpath(*folder.parts)
            options = [*self._options(asked), *(_leave_out(private) for private in workspace.private_below(folder))]
            argv = [self._ripgrep, *_OPTIONS, *options, "--", target]
            if self._sandbox:
                argv = self._sandbox.reading(argv, path, identity(descriptor))
            process = Process(
                argv,
                directory=entrance(descriptor, path),
                environment={},
                cancel=context.cancel,
            )
            ending = self._search(process, matches)
        return matches.text(asked.pattern, ending)

    def _options(self, asked: GrepArguments) -> list[str]:
        options = [f"--regexp={asked.pattern}", f"--max-columns={self._line_chars}"]
        if asked.include and ("/" in asked.include or asked.include.startswith("!")):
            options.append(f"--glob={asked.include}")
        elif asked.include:
            # A type, because --glob would bring back files that .gitignore names.
            options += [f"--type-add=wanted:{asked.include}", "--type=wanted"]
        return [*options, "--glob=!.git"]

    def _search(self, process: Process, matches: "_Matches") -> str:
        """Fill `matches` and return what there is to say of the end of the search, if anything."""
        try:
            with process:
                for piece in process.output(self._timeout_s):
                    matches.add(piece)
                    if matches.more:
                        return f"[more match than the {self._match_limit:,} shown; narrow pattern, path or include]"
        except TimeIsUp:
            if not matches.lines:
                raise ToolError(
                    f"The search took longer than {self._timeout_s:g} s and found nothing until then; narrow path or"
                    " include."
                ) from None
            return f"[stopped after {self._timeout_s:g} s; there may be more matches]"
        if process.exit_code != TROUBLE:
            return ""
        if matches.messages and not matches.lines:
            raise ToolError("\n".join(matches.messages).removeprefix("rg: "))
        return "[some files could not be read]"


def _leave_out(path: str) -> str:
    return f"--glob=!/{_SPECIAL.sub(_ESCAPED, path)}"


class _Matches:
    """What rg has printed."""

    def __init__(self, folder: Place, *, limit: int, line_chars: int) -> None:
        self._prefix = f"{folder.path}/" if folder.parts else ""
        self._limit = limit
        self._line_chars = line_chars
        self._unfinished = b""
        self.lines: list[str] = []
        self.messages: list[str] = []
        #: There are more matches than are wanted.
        self.more = False

    def add(self, piece: bytes) -> None:
        *lines, self._unfinished = (self._unfinished + piece).split(b"\n")
        for line in lines:
            path, nul, match = line.partition(b"\0")
            if nul:
                self._add_match(path, match)
            elif len(self.messages) < MESSAGE_LINES:
                self.messages.append(line.decode("utf-8", "replace"))

    def _add_match(self, path: bytes, match: bytes) -> None:
        if len(self.lines) == self._limit:
            self.more = True
            return
        number, _, line = match.partition(b":")
        name = printable(path.removeprefix(b"./").decode("utf-8", "replace"))
        text = line.removesuffix(b"\r").decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
        if len(text) > self._line_chars:
            text = f"{text[: self._line_chars]} [line cut]"
        self.lines.append(f"{self._prefix}{name}:{number.decode()}: {text}")

    def text(self, pattern: str, ending: str) -> str:
        lines = self.lines or [f"No match for {pattern}"]
        return "\n".join([*lines, ending] if ending else lines)
