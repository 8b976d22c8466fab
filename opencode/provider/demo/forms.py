r"""How a request is recognised: a pattern on a phrase's mask, and what it makes of the named groups.

Patterns are matched against all of a phrase. They stay linear on hostile input: at most one lazy group each,
followed by a single `\s` and never by `\s+`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opencode.provider.demo.quoting import Phrase
from opencode.provider.demo.requests import Request

_WELL_KNOWN = {"makefile", "readme", "license", "dockerfile", "procfile", "changelog", "notice"}
_ALIASES = {"readme": "README.md", "rules": "AGENTS.md", "license": "LICENSE"}
_NO_PATH = {"me", "it", "this", "that", "them", "us", "you", "all", "everything", "file", "files", "test", "tests"}
_HERE = {"here", "there", "it", "this", "project", "directory", "folder", "repository", "repo", "workspace", "."}
_HERE |= {"files", "code", "everything", "source", "current"}


@dataclass(frozen=True, slots=True)
class Fields:
    """The named groups of a match, as they were written."""

    phrase: Phrase
    match: re.Match[str]

    def has(self, name: str) -> bool:
        return bool(self.match[name])

    def get(self, name: str) -> Phrase:
        return self.phrase.group(self.match, name) or Phrase("")

    def number(self, name: str) -> int | None:
        return int(self.match[name]) if self.match[name] else None

    def directory(self, name: str = "path") -> str | None:
        """A path, or None where it is left out or names where we are ("here", "this folder")."""
        path = self.get(name).path()
        return None if path.lower() in _HERE or not path else path

    def file(self, *, strict: bool = True) -> str | None:
        """The group `path` where it names a file; unless `strict`, any single word may be one."""
        phrase = self.get("path")
        path = phrase.path()
        if not path or phrase.quoted:
            return path or None
        if "file" in self.match.re.groupindex and self.has("file"):
            return path
        if path.lower() in _NO_PATH:
            return None
        if "." in path or "/" in path:
            return path
        known = path.lower() in _WELL_KNOWN
        if known and path.islower():
            return _ALIASES.get(path, path)
        return path if known or not strict else None


@dataclass(frozen=True, slots=True)
class Form:
    pattern: re.Pattern[str]
    build: Callable[[Fields], Request | None]


def form(pattern: str, build: Callable[[Fields], Request | None]) -> Form:
    return Form(re.compile(pattern, re.IGNORECASE | re.DOTALL | re.VERBOSE), build)


def recognise(phrase: Phrase, forms: Sequence[Form]) -> Request | None:
    """The first form that fits."""
    for candidate in forms:
        match = candidate.pattern.fullmatch(phrase.mask)
        request = candidate.build(Fields(phrase, match)) if match else None
        if request is not None:
            return request
    return None
