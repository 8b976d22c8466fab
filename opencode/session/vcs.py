"""Reading a repository's state from its files.

No program is started for it: `git` runs filters and hooks that the repository itself configures.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Repository:
    """`branch` is None on a detached head."""

    type: str
    branch: str | None


def find(directory: Path) -> Repository | None:
    """The git repository that `directory` lies in."""
    for place in (directory, *directory.parents):
        git = place / ".git"
        try:
            if git.is_file():  # a worktree or submodule: `gitdir: <path>`
                git = place / git.read_text().removeprefix("gitdir:").strip()
            if (git / "HEAD").is_file():
                head = (git / "HEAD").read_text().strip()
                return Repository("git", head.removeprefix("ref: refs/heads/") if head.startswith("ref: ") else None)
        except (OSError, UnicodeDecodeError):
            return None
    return None
