"""The prompt line of a shared screen: it shows what the server says that it holds, and sends it what is typed."""

from dataclasses import dataclass

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from opencode.tui.plain import plain

#: Names of keys as the server knows them (API section 5), by the terminal's.
_KEYS = {
    name: name
    for name in (
        *("enter", "shift+enter", "backspace", "delete", "left", "right", "up", "down", "home", "end", "tab"),
        *("escape", "ctrl+a", "ctrl+e", "ctrl+k", "ctrl+u", "ctrl+w", "ctrl+c", "ctrl+n"),
    )
} | {
    # Few terminals tell shift+enter from enter.
    "ctrl+j": "shift+enter",
    "alt+enter": "shift+enter",
    "ctrl+h": "backspace",
    "ctrl+d": "delete",
    "alt+backspace": "ctrl+w",
}
_LINES = 8


class PromptLine(Widget, can_focus=True):
    """Shows at most eight lines, those around the cursor."""

    DEFAULT_CSS = """
    PromptLine {
        height: auto; min-height: 3; max-height: 10; padding: 0 1;
        border: round $primary;
    }
    PromptLine.-waiting { border: round $warning; }
    """

    @dataclass
    class Typed(Message):
        """A key's name, or text."""

        key: str | None = None
        text: str | None = None

    def __init__(self, hint: str) -> None:
        super().__init__()
        self.text = ""
        self.cursor = 0
        self._hint = hint

    def show(self, text: str, cursor: int) -> None:
        """Show this text; the cursor is counted in code points."""
        self.text, self.cursor = text, cursor
        self.refresh(layout=True)

    def render(self) -> Content:
        if not self.text:
            return Content.assemble((" ", "reverse"), (f" {self._hint}", "dim"))
        before, after = self.text[: self.cursor], self.text[self.cursor :]
        under, rest = (" ", after) if not after or after[0] == "\n" else (after[0], after[1:])
        above = before.split("\n")[-_LINES:]
        below = rest.split("\n")[: max(1, _LINES - len(above) + 1)]
        return Content.assemble(plain("\n".join(above)), (plain(under), "reverse"), plain("\n".join(below)))

    def on_key(self, event: events.Key) -> None:
        name = _KEYS.get(event.key)
        if name is not None:
            typed = self.Typed(key=name)
        elif event.is_printable and event.character:
            typed = self.Typed(text=event.character)
        else:
            return
        event.stop()
        event.prevent_default()
        self.post_message(typed)

    def on_paste(self, event: events.Paste) -> None:
        event.stop()
        self.post_message(self.Typed(text=event.text))
