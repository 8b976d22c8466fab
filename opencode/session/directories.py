"""Which directories sessions may use."""

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from opencode.errors import InvalidRequest
from opencode.openat import read_start


@dataclass(frozen=True, slots=True)
class Directories:
    """The configured roots, resolved; `default` serves sessions that name none.

    `private` are folders and files that are closed to sessions wherever they lie: the server's data and `/proc`.
    """

    roots: tuple[Path, ...]
    default: Path
    private: tuple[Path, ...] = ()

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
            inside = self.hold(path)
            if inside and path.is_dir():
                return path
        except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, a loop of links
            inside = False
        reason = "is not a directory" if inside else "is outside the directories that sessions may use"
        raise InvalidRequest(
            f"directory {directory[:200]!r} {reason}: {', '.join(map(str, self.roots))} (OPENCODE_PROJECT_ROOTS).",
            details=[{"field": "directory", "message": reason}],
        )

    def hold(self, path: Path) -> bool:
        """Whether a resolved path lies in a root and in nothing private."""
        return any(map(path.is_relative_to, self.roots)) and not any(map(path.is_relative_to, self.private))

    def read(self, path: Path, limit_bytes: int) -> bytes | None:
        """The beginning of a file that may be read here, else None. Symlinks are followed where they stay inside.

        What is opened is the path that was checked, whatever takes its place meanwhile; see `openat`.
        """
        try:
            real = path.resolve()
            return read_start(real, limit_bytes) if self.hold(real) else None
        except (OSError, ValueError, RuntimeError):
            return None


def project_id(directory: str) -> str:
    """A stable id for a directory."""
    return f"prj_{blake2b(directory.encode(), digest_size=10).hexdigest()}"
