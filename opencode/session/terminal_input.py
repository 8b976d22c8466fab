"""What is typed on a screen: keys, pasted text and commands (API section 5)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

from opencode.errors import ApiError, InvalidRequest, NotFound
from opencode.session.line_editor import LineEditor
from opencode.session.permission import Response
from opencode.session.screen import Screen
from opencode.session.service import SessionService
from opencode.session.tui import Screens

CommandName = Literal[
    "session.new",
    "session.select",
    "session.delete",
    "session.list",
    "abort",
    "prompt.clear",
    "permission.reply",
    "model.select",
]
#: Keys that change the prompt line only.
EDITING: dict[str, Callable[[LineEditor], None]] = {
    "shift+enter": LineEditor.new_line,
    "tab": LineEditor.tab,
    "backspace": LineEditor.backspace,
    "delete": LineEditor.delete,
    "left": LineEditor.left,
    "right": LineEditor.right,
    "up": LineEditor.up,
    "down": LineEditor.down,
    "home": LineEditor.home,
    "end": LineEditor.end,
    "ctrl+a": LineEditor.home,
    "ctrl+e": LineEditor.end,
    "ctrl+k": LineEditor.kill_to_end,
    "ctrl+u": LineEditor.kill_to_start,
    "ctrl+w": LineEditor.kill_word,
}
#: Keys that do more than that.
ACTING = ("enter", "escape", "ctrl+c", "ctrl+n")
_REPLIES: dict[str, Response] = {"y": "once", "n": "reject", "a": "always"}
_LISTED = 20
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Command:
    """A command with its arguments; which of them it takes is in the API guide."""

    name: CommandName
    session_id: str | None = None
    permission_id: str | None = None
    response: Response | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class TerminalInput:
    """Carries out what one caller types. What is refused is shown on the screen too, as a `toast`.

    `check_approve` is called before a permission request is answered; it raises where the caller may not.
    """

    sessions: SessionService
    screens: Screens
    check_approve: Callable[[], None]

    def press(self, screen: Screen, key: str) -> None:
        """Press one key.

        Raises:
            InvalidRequest: there is no such key.
            ApiError: what the key does was refused (`SESSION_BUSY`, for one); the prompt is kept.
        """
        _check_key(key)
        with self._telling(screen):
            if key == "escape" or (key == "ctrl+c" and not screen.editor.text):
                self._abort(screen)
            elif key in _REPLIES and not screen.editor.text and self.screens.pending(screen):
                self._reply(screen, None, _REPLIES[key])
            else:
                with screen.turn_taking:
                    self._press(screen, key)

    def _press(self, screen: Screen, key: str) -> None:
        if key == "enter":
            self._submit(screen)
        elif key == "ctrl+n":
            self._new(screen, None)
        elif key == "ctrl+c":
            self._edit(screen, LineEditor.clear)
        elif key in EDITING:
            self._edit(screen, EDITING[key])
        else:
            self._edit(screen, lambda editor: editor.insert(key))

    def paste(self, screen: Screen, text: str) -> None:
        """Put text into the prompt, line breaks and all; nothing is sent.

        Raises:
            InvalidRequest: the prompt would become too long.
        """
        with self._telling(screen), screen.turn_taking:
            self._edit(screen, lambda editor: editor.insert(text))

    def _edit(self, screen: Screen, change: Callable[[LineEditor], None]) -> None:
        with screen.lock:
            change(screen.editor)
            self.screens.show_prompt(screen)

    def _submit(self, screen: Screen) -> None:
        content = screen.editor.text.strip()
        if not content:
            return
        session_id = screen.session_id or self._new(screen, None)
        if screen.relay is None:
            self.screens.select(screen, session_id)
        self.sessions.send(screen.owner, session_id, content)
        self._edit(screen, LineEditor.sent)

    def _new(self, screen: Screen, model: str | None) -> str:
        session = self.sessions.create(screen.owner, model=model or screen.model)
        self.screens.select(screen, session.id)
        return session.id

    def run(self, screen: Screen, command: Command) -> None:
        """Carry out a command.

        Raises:
            InvalidRequest: an argument that it needs is missing.
            ApiError: it was refused.
        """
        with self._telling(screen):
            match command.name:
                case "session.new":
                    with screen.turn_taking:
                        self._new(screen, command.model)
                case "session.select":
                    with screen.turn_taking:
                        self.screens.select(screen, _needed("session_id", command.session_id))
                case "session.delete":
                    self.sessions.delete(screen.owner, _needed("session_id", command.session_id or screen.session_id))
                case "session.list":
                    self._list(screen)
                case "abort":
                    self._abort(screen)
                case "prompt.clear":
                    with screen.turn_taking:
                        self._edit(screen, LineEditor.clear)
                case "permission.reply":
                    response: Response = _needed("response", command.response)
                    self._reply(screen, command.permission_id, response)
                case "model.select":
                    self._choose_model(screen, _needed("model", command.model))

    def _abort(self, screen: Screen) -> None:
        if screen.session_id is None or not self.sessions.abort(screen.owner, screen.session_id):
            self._toast(screen, "Nothing is running here.")

    def _reply(self, screen: Screen, permission_id: str | None, response: Response) -> None:
        self.check_approve()
        pending = self.screens.pending(screen)
        permission_id = permission_id or (pending[0].id if pending else None)
        if permission_id is None or screen.session_id is None:
            raise NotFound("No permission request is waiting in this screen's session.")
        self.sessions.answer(screen.owner, screen.session_id, permission_id, response)

    def _choose_model(self, screen: Screen, model: str) -> None:
        resolved = str(self.sessions.models.resolve(model))
        if screen.session_id is not None:
            self.sessions.update(screen.owner, screen.session_id, {"model": model})
        with screen.lock:
            screen.model = model
            self._toast(screen, f"Model: {resolved}", model=model)

    def _list(self, screen: Screen) -> None:
        page = self.sessions.page(screen.owner, limit=_LISTED, cursor=None, query=None)
        listed = [{"id": own.id, "title": own.title, "status": own.status} for own in page.sessions]
        count = f"the newest {_LISTED}" if page.next_cursor else str(len(listed))
        self._toast(screen, f"Sessions: {count}", sessions=listed)

    def _toast(self, screen: Screen, message: str, *, level: str = "info", **more: object) -> None:
        self.screens.show(screen, "toast", {"message": message, "level": level, **more})

    @contextmanager
    def _telling(self, screen: Screen) -> Iterator[None]:
        """Whoever looks at the screen sees why nothing happened, not only the one who typed."""
        try:
            yield
        except ApiError as exc:
            self._toast(screen, exc.message, level="error", code=exc.code)
            raise


def _check_key(key: str) -> None:
    if key in EDITING or key in ACTING or (len(key) == 1 and key.isprintable()):
        return
    message = f"unknown key {key!r}; known are single printable characters, {', '.join([*ACTING, *EDITING])}"
    raise InvalidRequest(f"key: {message}", details=[{"field": "key", "message": message}])


def _needed(field: str, value: _Value | None) -> _Value:
    if value is None:
        details = [{"field": field, "message": "is needed"}]
        raise InvalidRequest(f"{field}: is needed with this command", details=details)
    return value
