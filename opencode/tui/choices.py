"""A list to choose from, over the screen."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

Choice = tuple[str, Content]


class Choices(ModalScreen[str | None]):
    """Gives the id of what was chosen, None for nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "leave", "Close")]
    DEFAULT_CSS = """
    Choices { align: center middle; }
    Choices > Vertical {
        width: 80%; max-width: 100; height: auto; max-height: 80%;
        border: round $primary; background: $surface;
    }
    Choices Static { padding: 0 1; text-style: bold; }
    Choices OptionList, Choices OptionList:focus { height: auto; max-height: 20; border: none; background: $surface; }
    """

    def __init__(self, title: str, choices: Sequence[Choice], *, current: str | None = None) -> None:
        super().__init__()
        self._title = title
        self._choices = list(choices)
        self._current = current

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(self._title), markup=False)
            # By place, since an id of a widget may not be any text.
            yield OptionList(*(Option(label) for _, label in self._choices), markup=False)

    def on_mount(self) -> None:
        options = self.query_one(OptionList)
        ids = [own for own, _ in self._choices]
        if self._current in ids:
            options.highlighted = ids.index(self._current)
        options.focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._choices[event.option_index][0])

    def action_leave(self) -> None:
        self.dismiss(None)
