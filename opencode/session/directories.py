"""Which directories sessions may use."""

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from opencode.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Directories:
    """The configured roots, resolved; `default` serves sessions that name none."""

    roots: tuple[Path, ...]
    default: Path

    def resolve(self, directory: str | None) -> Path:
        """The directory that a session asked for.

        Raises:
            InvalidRequest: it is outside the roots, or no directory. The answer is the same whether or not
                something is there outside the roots.
        """
        if directory is None:
            return self.default
        try:
            path = (self.default / directory).resolve()
            inside = any(path.is_relative_to(root) for root in self.roots)
            if inside and path.is_dir():
                return path
        except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, a loop of links
            inside = False
        reason = "is not a directory" if inside else "is outside the directories that sessions may use"
        raise InvalidRequest(
            f"directory {directory[:200]!r} {reason}: {', '.join(map(str, self.roots))} (OPENCODE_PROJECT_ROOTS).",
            details=[{"field": "directory", "message": reason}],
        )


def project_id(directory: str) -> str:
    """A stable id for a directory."""
    return f"prj_{blake2b(directory.encode(), digest_size=10).hexdigest()}"
