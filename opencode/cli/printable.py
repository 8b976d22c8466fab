"""Text of models, tools and files on its way to a terminal."""

#: Bidirectional overrides and isolates can make text read as something else than it is.
_BIDI = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_REPLACEMENT = "\ufffd"
#: An escape sequence begins with a control character: each is shown as its picture (U+2400 and on) instead.
_SHOWN = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: "\u2421",
    **dict.fromkeys([*range(0x80, 0xA0), *_BIDI, 0x2028, 0x2029], _REPLACEMENT),
    # Half a character cannot be encoded.
    **dict.fromkeys(range(0xD800, 0xE000), _REPLACEMENT),
}


def printable(text: str) -> str:
    """The text with its control characters made visible; line feeds and tabs stay, other line ends become LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_SHOWN)


def one_line(text: str, width: int) -> str:
    """The text on one line of at most `width` characters."""
    return fitted(" ".join(printable(text).split()), width)


def fitted(line: str, width: int) -> str:
    """A line, cut to `width` characters."""
    line = line.expandtabs(4)
    return line if len(line) <= width else f"{line[: max(0, width - 1)]}…"
