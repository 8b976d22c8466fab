"""The test suite in parts, which `scripts.check` runs side by side until all are done.

Every test runs plain, but for those marked `live` once more under gevent, as the server runs; of those that are marked
`once` the second time is left out. A part is some folders and files of one of these three kinds. The last part of each
kind is whatever the others leave, so that a new file is in one by itself.
"""

import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path

MARKS = {"plain": "not live", "gevent": "not live and not once", "live": "live"}
MODULES = {"plain": "pytest", "gevent": "scripts.pytest_gevent", "live": "pytest"}


@dataclass(frozen=True, slots=True)
class Part:
    """Tests of one kind below `paths`, those below `without` left out; all relative to the project."""

    kind: str
    name: str
    paths: tuple[str, ...] = ("tests",)
    without: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def module(self) -> str:
        return MODULES[self.kind]

    @property
    def patient(self) -> bool:
        """Whether it gives way where others want its core.

        Live tests mostly wait. What answers them is quick if it need not queue behind those who only compute.
        """
        return self.kind != "live"

    def arguments(self) -> list[str]:
        """For pytest."""
        return ["-m", MARKS[self.kind], *(f"--ignore={path}" for path in self.without), *self.paths]

    def takes(self, file: Path) -> bool:
        """Whether pytest would look for tests of this part in a file, relative to the project."""
        return _below(file, self.paths) and not _below(file, self.without)


def _below(file: Path, paths: tuple[str, ...]) -> bool:
    return any(file.is_relative_to(path) for path in paths)


def _divided(kind: str, parts: dict[str, tuple[str, ...]]) -> list[Part]:
    """These, and what they leave."""
    taken = tuple(path for paths in parts.values() for path in paths)
    return [*(Part(kind, name, paths) for name, paths in parts.items()), Part(kind, "rest", without=taken)]


_STREAMS = ("pump", "slow_clients", "readers", "streams")
_FAULTS = ("faults", "cluster", "ways_to_run", "fuzz", "typescript")
_LIVE = {
    "streams": tuple(f"tests/live/test_{name}.py" for name in _STREAMS),
    "terminal": ("tests/tui", "tests/contracts", "tests/session"),
    "faults": tuple(f"tests/live/test_{name}.py" for name in _FAULTS),
    "browser": ("tests/browser",),
    "commands": ("tests/cli", "tests/client"),
}
_REPEATED: dict[str, tuple[str, ...]] = {
    "tool": ("tests/tool", "tests/contracts"),
    "server": ("tests/server", "tests/security"),
}


def parts() -> list[Part]:
    """In the order in which they are begun: waiting and computing ones in turn, the longest first."""
    live = _divided("live", _LIVE)
    repeated = [
        part for pair in zip(*(_divided(kind, _REPEATED) for kind in ("gevent", "plain")), strict=True) for part in pair
    ]
    return [part for pair in itertools.zip_longest(live, repeated) for part in pair if part]


def side_by_side() -> int:
    """How many parts run at once: two to a core, since half of them mostly wait.

    Six are enough: the longest part takes a fifth of all. A container may have fewer cores than it sees.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(6, 2 * cores)
