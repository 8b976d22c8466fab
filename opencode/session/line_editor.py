"""A prompt line: text, a cursor, and what was sent before. Lengths and the cursor are in code points."""

import unicodedata
from collections import deque

from opencode.errors import InvalidRequest
from opencode.records import Prompt

PROMPT_CHARS = 200_000
#: What was sent before, at most so many prompts, and together not longer than one prompt may be.
_HISTORY = 100
_TAB = "    "
_JOINER = "\u200d"
_LINE = "\n"


def _joined(text: str, index: int) -> bool:
    """Whether the characters on both sides of `index` are shown as one, so that no cursor stands between them.

    The common part of UAX 29: combining marks, emoji sequences and modifiers, flags, Hangul.
    """
    before, after = text[index - 1], text[index]
    if _LINE in {before, after}:
        return False
    if _is_flag_half(before) and _is_flag_half(after):
        first = index - 1
        while first > 0 and _is_flag_half(text[first - 1]):
            first -= 1
        return (index - first) % 2 == 1
    if before == _JOINER:
        return unicodedata.category(after) == "So"
    return (
        after == _JOINER
        or unicodedata.category(after) in {"Mn", "Me", "Mc"}
        or "\U0001f3fb" <= after <= "\U0001f3ff"  # skin tones
        or "\U000e0020" <= after <= "\U000e007f"  # tags, as in the flags of regions
        or "\u1160" <= after <= "\u11ff"  # Hangul vowels and finals
    )


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def cleaned(text: str) -> str:
    """Text as it may stand in a prompt: line breaks are LF; control characters, which could drive a terminal, go."""
    text = text.replace("\r\n", _LINE).replace("\r", _LINE)
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char) != "Cc")


class LineEditor:
    """What readline does, as far as a prompt needs it."""

    def __init__(self, prompt: Prompt | None = None) -> None:
        prompt = prompt or Prompt()
        self.text = prompt.text
        self.cursor = prompt.cursor
        self._history: deque[str] = deque(prompt.history, maxlen=_HISTORY)
        #: Where in the history the prompt stands; at its end is what is being typed now.
        self._place = prompt.place
        self._draft = prompt.draft

    @property
    def prompt(self) -> Prompt:
        """All of it, to go on from."""
        return Prompt(self.text, self.cursor, tuple(self._history), self._place, self._draft)

    def insert(self, text: str) -> None:
        """Put text at the cursor, `cleaned`.

        Raises:
            InvalidRequest: the prompt would become too long.
        """
        self.put(cleaned(text))

    def put(self, text: str) -> None:
        """As `insert`, of text that is clean."""
        if len(self.text) + len(text) > PROMPT_CHARS:
            message = f"the prompt can hold {PROMPT_CHARS} characters; send it, or clear it with ctrl+u"
            raise InvalidRequest(message, details=[{"field": "text", "message": message}])
        self._replace(self.cursor, self.cursor, text)

    def new_line(self) -> None:
        self.insert(_LINE)

    def tab(self) -> None:
        """Indent: four spaces."""
        self.insert(_TAB)

    def _replace(self, start: int, end: int, text: str) -> None:
        self.text = self.text[:start] + text + self.text[end:]
        self.cursor = start + len(text)
        self._place = len(self._history)

    def set(self, text: str) -> None:
        """Replace the whole prompt; the cursor stands at its end."""
        self._replace(0, len(self.text), text)

    def clear(self) -> None:
        self.set("")

    def _before(self, index: int) -> int:
        index -= 1
        while index > 0 and _joined(self.text, index):
            index -= 1
        return max(0, index)

    def _after(self, index: int) -> int:
        index += 1
        while index < len(self.text) and _joined(self.text, index):
            index += 1
        return min(len(self.text), index)

    def left(self) -> None:
        self.cursor = self._before(self.cursor)

    def right(self) -> None:
        self.cursor = self._after(self.cursor)

    def backspace(self) -> None:
        self._replace(self._before(self.cursor), self.cursor, "")

    def delete(self) -> None:
        """Remove what stands after the cursor."""
        start = self.cursor
        self._replace(start, self._after(start), "")

    def _line_start(self, index: int) -> int:
        return self.text.rfind(_LINE, 0, index) + 1

    def _line_end(self, index: int) -> int:
        end = self.text.find(_LINE, index)
        return len(self.text) if end < 0 else end

    def home(self) -> None:
        """To the start of the line."""
        self.cursor = self._line_start(self.cursor)

    def end(self) -> None:
        """To the end of the line."""
        self.cursor = self._line_end(self.cursor)

    def kill_to_end(self) -> None:
        """Remove the rest of the line; at its end, the line break."""
        start, end = self.cursor, self._line_end(self.cursor)
        self._replace(start, min(len(self.text), end + (start == end)), "")

    def kill_to_start(self) -> None:
        """Remove the line up to the cursor."""
        self._replace(self._line_start(self.cursor), self.cursor, "")

    def kill_word(self) -> None:
        """Remove the word before the cursor, and the space behind it."""
        start = self.cursor
        while start > 0 and self.text[start - 1].isspace():
            start -= 1
        while start > 0 and not self.text[start - 1].isspace():
            start -= 1
        self._replace(start, self.cursor, "")

    def up(self) -> None:
        """To the line above; from the first one, to what was sent before."""
        start = self._line_start(self.cursor)
        if start:
            above = self._line_start(start - 1)
            self._to_column(above, start - 1, self.cursor - start)
        elif self._place > 0:
            self._recall(self._place - 1)

    def down(self) -> None:
        """To the line below; from the last one, to what was sent later, and at last to what was being typed."""
        end = self._line_end(self.cursor)
        if end < len(self.text):
            column = self.cursor - self._line_start(self.cursor)
            self._to_column(end + 1, self._line_end(end + 1), column)
        elif self._place < len(self._history):
            self._recall(self._place + 1)

    def _to_column(self, start: int, end: int, column: int) -> None:
        self.cursor = min(start + column, end)
        while start < self.cursor < len(self.text) and _joined(self.text, self.cursor):
            self.cursor -= 1

    def _recall(self, place: int) -> None:
        if self._place == len(self._history):
            self._draft = self.text
        self.set(self._draft if place == len(self._history) else self._history[place])
        self._place = place

    def sent(self) -> None:
        """The prompt was sent: it goes into the history, and the line is empty."""
        if not self._history or self._history[-1] != self.text:
            self._history.append(self.text)
        while sum(map(len, self._history)) > PROMPT_CHARS:
            self._history.popleft()
        self._draft = ""
        self.clear()
