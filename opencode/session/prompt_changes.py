"""What typing makes of a screen's prompt line: changes as the store carries them out, which may be tried again."""

from collections.abc import Callable
from dataclasses import replace

from opencode.records import Prompt, Screen, ToShow
from opencode.session.line_editor import LineEditor
from opencode.session.screen import prompt_of, selected, toast
from opencode.storage.port import ChangeScreen

_Changed = tuple[Screen, list[ToShow]]


def edited(change: Callable[[LineEditor], None]) -> ChangeScreen:
    """The line editor does something, and the prompt is shown as it is then."""

    def edit(screen: Screen) -> _Changed:
        editor = LineEditor(screen.prompt)
        change(editor)
        after = replace(screen, prompt=editor.prompt)
        return after, [prompt_of(after)]

    return edit


def cleared(screen: Screen) -> _Changed:
    """The prompt is emptied; where there is nothing in it, nothing happens."""
    return edited(LineEditor.clear)(screen) if screen.prompt.text else (screen, [])


def taken(place: tuple[str, int] | None) -> ChangeScreen:
    """The prompt goes into the history, for who has pressed enter to send it; nothing happens where there is none.

    Where no session is active, that one becomes it which `place` names, with the number behind which it is shown;
    without that the prompt stays.
    """

    def take(screen: Screen) -> _Changed:
        if not screen.prompt.text.strip() or (screen.session_id is None and place is None):
            return screen, []
        after, shown = edited(LineEditor.sent)(screen)
        begun = [] if screen.session_id is not None or place is None else [selected(place)]
        return after, [*begun, *shown]

    return take


def given_back(text: Prompt, *, left: Prompt) -> ChangeScreen:
    """What was taken could not be sent: it stands in the prompt again, `left` being what was there since.

    Who has typed something meanwhile keeps that, and is told what was not sent.
    """

    def give_back(screen: Screen) -> _Changed:
        if screen.prompt == left:
            after = replace(screen, prompt=text)
            return after, [prompt_of(after)]
        if not screen.prompt.text:
            return edited(lambda editor: editor.set(text.text))(screen)
        message = f"Not sent, and not in the prompt either, where somebody types: {text.text}"
        return screen, [toast(message, level="error", prompt=text.text)]

    return give_back
