"""What a script is made of, beside the deltas themselves."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from opencode.errors import ProviderError
from opencode.provider.port import Delta


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing comes for a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing comes until the event is set."""

    event: threading.Event


@dataclass(frozen=True, slots=True)
class WaitForFile:
    """Nothing comes until the file exists: how a test steers a server in another process."""

    path: Path


@dataclass(frozen=True, slots=True)
class Repeat:
    """`text` many times over, `{n}` in it replaced by the number, which counts from 1."""

    times: int
    text: str
    every_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Fail:
    """The call fails here, the first `times` times that a conversation comes by; None is always."""

    error: ProviderError
    times: int | None = 1


Entry = Delta | ProviderError | Pause | Wait | WaitForFile | Repeat | Fail
Step = Sequence[Entry]
