"""The requests that the guide understands."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ListFiles:
    path: str | None = None


@dataclass(frozen=True, slots=True)
class ReadFile:
    """`first` and `last` are line numbers, from 1; None means from the beginning, or to the end."""

    path: str
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Search:
    text: str
    path: str | None = None


@dataclass(frozen=True, slots=True)
class FindFiles:
    pattern: str


@dataclass(frozen=True, slots=True)
class WriteFile:
    path: str
    content: str


@dataclass(frozen=True, slots=True)
class ReplaceText:
    path: str
    old: str
    new: str
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class RunCommand:
    command: str


@dataclass(frozen=True, slots=True)
class RunTests:
    pass


@dataclass(frozen=True, slots=True)
class Tour:
    pass


@dataclass(frozen=True, slots=True)
class Help:
    pass


@dataclass(frozen=True, slots=True)
class Greeting:
    pass


@dataclass(frozen=True, slots=True)
class Incomplete:
    """Understood, but something is missing; `advice` says what."""

    advice: str


Request = (
    ListFiles
    | ReadFile
    | Search
    | FindFiles
    | WriteFile
    | ReplaceText
    | RunCommand
    | RunTests
    | Tour
    | Help
    | Greeting
    | Incomplete
)


@dataclass(frozen=True, slots=True)
class Step:
    """One request, with the words it was made in."""

    request: Request
    source: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """A message that is not carried out: the parts that were not understood, and what would help."""

    parts: tuple[str, ...]
    advice: tuple[str, ...] = ()
