"""Reading a repository's state from its files.

No program is started for it: `git` runs filters and hooks that the repository itself configures.
"""

from dataclasses import dataclass
from pathlib import Path

from opencode.session.directories import Directories

#: More than any branch's name or path takes.
_LINE_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Repository:
    """`branch` is None on a detached head, and where the repository's own folder may not be read."""

    type: str
    branch: str | None


def find(directory: Path, directories: Directories) -> Repository | None:
    """The git repository that `directory` lies in, as far as it lies in what sessions may use."""
    for place in (directory, *directory.parents):
        if not directories.hold(place):
            return None
        try:
            git = (place / ".git").resolve()
            if directories.hold(git) and git.is_file():  # a worktree or submodule: `gitdir: <path>`
                pointer = _line(git, directories).removeprefix("gitdir:").strip()
                git = (place / pointer).resolve()
            if not directories.hold(git):
                return Repository("git", None)
            head = _line(git / "HEAD", directories)
        except (OSError, ValueError, RuntimeError):
            return None
        if head:
            return Repository("git", head.removeprefix("ref: refs/heads/") if head.startswith("ref: ") else None)
    return None


def _line(path: Path, directories: Directories) -> str:
    return (directories.read(path, _LINE_BYTES) or b"").decode().strip()
