"""Unified diffs of what tools did to files."""

from collections.abc import Iterable
from difflib import unified_diff

#: The store keeps this in place of a file that is too large to compare.
TOO_LARGE = b"\0too large to show"
#: Lines that are compared; difflib takes quadratic time, and this runs beside everyone's streams.
_LINES = 20_000


def unified(changes: Iterable[tuple[str, bytes | None, bytes | None]]) -> str:
    """Join the diffs of `(path, before, after)`; None stands for no file. Binary files are named only."""
    made = (_one(*change) for change in changes if change[1] != change[2] or change[1] == TOO_LARGE)
    return "".join(made)


def _one(path: str, before: bytes | None, after: bytes | None) -> str:
    old, new = (f"a/{path}" if before is not None else "/dev/null"), (f"b/{path}" if after is not None else "/dev/null")
    texts = [content or b"" for content in (before, after)]
    if any(b"\0" in text or text.count(b"\n") > _LINES for text in texts):
        return f"Files {old} and {new} differ\n"
    made = unified_diff(_lines(texts[0]), _lines(texts[1]), fromfile=old, tofile=new)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in made)


def _lines(content: bytes) -> list[str]:
    # By \n only: splitlines() also breaks on U+2028 and form feeds, which are no line ends to a diff.
    lines = content.decode(errors="replace").split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
