"""What follows a session."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from opencode.session.tail import Chunk, Tail


@dataclass(frozen=True, slots=True)
class Following:
    """A follower: where it begins, what it gives, and (`tail`, `stopping`) why it ended."""

    after: int
    chunks: Iterator[Chunk | None]
    resync: bool
    tail: Tail
    stopping: Callable[[], bool]
