"""Text that others wrote, made safe for a terminal."""

import re
import unicodedata

_SEQUENCES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-Z\\^_]")
#: They turn the order of what follows, so that it reads otherwise than it is.
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_MARK = "\ufffd"


def plain(text: str) -> str:
    """Without terminal sequences; other control characters become a visible mark, and CR a line break."""
    text = _SEQUENCES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    if text.isprintable():
        return text
    return "".join(_MARK if _is_unsafe(char) else char for char in text)


def _is_unsafe(char: str) -> bool:
    return char in _REORDERING or (char not in "\n\t" and unicodedata.category(char) == "Cc")


def shortened(text: str, width: int) -> str:
    """One line of at most `width` characters."""
    line = " ".join(plain(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def count(number: int) -> str:
    """A number of tokens, as people read it."""
    thousand = 1000
    return str(number) if number < 10 * thousand else f"{number / thousand:.1f}k"
