"""Text with its quoted parts hidden, so that a pattern never matches inside of them."""

import re

# Linear on any input: no alternative can begin again inside what it has looked through, up to a fixed few times.
_QUOTED = re.compile(
    r"```(?:[^`]|`{1,2}(?!`))*```"
    r"|`[^`\n]+`"
    r'|"[^"]*"'
    r"|“[^“”]*”"
    r"|(?<!\w)'[^'\n]*'(?!\w)"
)
# Patterns take a run of white space in several ways; a long run would cost its length squared, or worse.
_LONG_GAP = re.compile(r"(?<=\s{40})\s+")
_BLOCK_HEAD = re.compile(r"```[\w+#.-]*[ \t]*\n")
_HIDDEN = "\x00"
_SENTENCE_END = ".,;:!?"
_FENCE = "```"


class Phrase:
    r"""A piece of a request: `text` as it was written, and `mask`, as long, with quoted spans hidden.

    A hidden span is neither a word nor white space, so `\S+` takes it in whole.
    """

    def __init__(self, text: str, mask: str | None = None) -> None:
        self.text = text
        self.mask = hide_quoted(text) if mask is None else mask

    def part(self, start: int, end: int) -> "Phrase":
        """The piece between two positions, without the white space around it."""
        piece = self.text[start:end]
        start += len(piece) - len(piece.lstrip())
        end = max(start, end - (len(piece) - len(piece.rstrip())))
        return Phrase(self.text[start:end], self.mask[start:end])

    def group(self, match: re.Match[str], name: str) -> "Phrase | None":
        """What a group of a match on `mask` stands for in `text`."""
        start, end = match.span(name)
        return self.part(start, end) if start >= 0 else None

    def stripped(self) -> "Phrase":
        return self.part(0, len(self.text))

    @property
    def quoted(self) -> bool:
        """Whether all of it is one quoted span."""
        return bool(self.text) and _QUOTED.fullmatch(self.text) is not None

    def content(self) -> str:
        """The text, without its quotes where all of it is quoted."""
        if not self.quoted:
            return self.text
        if not self.text.startswith(_FENCE):
            return self.text[1:-1]
        head = _BLOCK_HEAD.match(self.text)
        return self.text[head.end() if head else len(_FENCE) : -len(_FENCE)]

    def path(self) -> str:
        """The text as a path: unquoted, and without the punctuation that ends a sentence."""
        if set(self.text) <= {".", "/"}:
            return self.text
        bare = self.part(0, len(self.text.rstrip(_SENTENCE_END)))
        return bare.content().strip()


def hide_quoted(text: str) -> str:
    """The text, as long, with quoted spans hidden, and with them the greater part of long gaps."""
    mask = text
    for pattern in (_QUOTED, _LONG_GAP):
        mask = pattern.sub(lambda match: _HIDDEN * len(match.group()), mask)
    return mask


def clean(text: str) -> str:
    """Text that can be encoded and passed to a process: no lone surrogates, no NUL."""
    return text.encode("utf-8", "replace").decode("utf-8").replace(_HIDDEN, "�").replace("\r\n", "\n")
