"""What is typed on a screen: keys, pasted text and commands (API section 5)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from opencode.errors import ApiError, InvalidRequest, NotFound, OpenCodeError, StoreError
from opencode.session.line_editor import LineEditor, cleaned
from opencode.session.permission import Response
from opencode.session.prompt_changes import cleared, edited, given_back, taken
from opencode.session.screen import ScreenName, toast
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

    def press(self, screen: ScreenName, key: str) -> None:
        """Press one key.

        Raises:
            InvalidRequest: there is no such key.
            ApiError: what the key does was refused (`SESSION_BUSY`, for one); the prompt is kept.
        """
        _check_key(key)
        with self._telling(screen):
            if key in EDITING:
                self.screens.change(screen, edited(EDITING[key]))
            elif key == "enter":
                with self.screens.entering(screen):
                    self._submit(screen)
            elif key == "ctrl+n":
                self._new(screen, None)
            elif key == "escape" or (key == "ctrl+c" and not self.screens.change(screen, cleared).events):
                self._abort(screen)
            elif key in _REPLIES and self._is_asked(screen):
                self._reply(screen, None, _REPLIES[key])
            elif key != "ctrl+c":
                self.screens.change(screen, edited(lambda editor: editor.insert(key)))

    def _is_asked(self, screen: ScreenName) -> bool:
        found = self.screens.find(screen)
        return found is not None and not found.screen.prompt.text and bool(found.permissions)

    def paste(self, screen: ScreenName, text: str) -> None:
        """Put text into the prompt, line breaks and all; nothing is sent.

        Raises:
            InvalidRequest: the prompt would become too long.
        """
        clean = cleaned(text)
        with self._telling(screen):
            self.screens.change(screen, edited(lambda editor: editor.put(clean)))

    def _submit(self, screen: ScreenName) -> None:
        """Take the prompt, then send it: what two send at once, at whatever servers, is sent once."""
        found = self.screens.find(screen)
        if found is None or not found.screen.prompt.text.strip():
            return
        own = found.screen
        made = None if own.session_id else self.sessions.create(screen.owner, model=own.model)
        changed = self.screens.change(screen, taken(None if made is None else (made.id, 0)))
        session_id = changed.after.session_id
        if made is not None and session_id != made.id:  # somebody elsewhere was faster
            self.sessions.delete(screen.owner, made.id)
        if not changed.events or session_id is None:
            return
        try:
            self.sessions.send(screen.owner, session_id, changed.before.prompt.text.strip())
        except OpenCodeError:
            with suppress(StoreError):  # then it is in the history still
                self.screens.change(screen, given_back(changed.before.prompt, left=changed.after.prompt))
            raise

    def _new(self, screen: ScreenName, model: str | None) -> None:
        session = self.sessions.create(screen.owner, model=model or self.screens.view(screen).screen.model)
        self.screens.select(screen, session.id)

    def run(self, screen: ScreenName, command: Command) -> None:
        """Carry out a command.

        Raises:
            InvalidRequest: an argument that it needs is missing.
            ApiError: it was refused.
        """
        with self._telling(screen):
            match command.name:
                case "session.new":
                    self._new(screen, command.model)
                case "session.select":
                    self.screens.select(screen, _needed("session_id", command.session_id))
                case "session.delete":
                    session_id = command.session_id or self._session_id(screen)
                    self.sessions.delete(screen.owner, _needed("session_id", session_id))
                case "session.list":
                    self._list(screen)
                case "abort":
                    self._abort(screen)
                case "prompt.clear":
                    self.screens.change(screen, edited(LineEditor.clear))
                case "permission.reply":
                    response: Response = _needed("response", command.response)
                    self._reply(screen, command.permission_id, response)
                case "model.select":
                    self._choose_model(screen, _needed("model", command.model))

    def _session_id(self, screen: ScreenName) -> str | None:
        return self.screens.view(screen).screen.session_id

    def _abort(self, screen: ScreenName) -> None:
        session_id = self._session_id(screen)
        if session_id is None or not self.sessions.abort(screen.owner, session_id):
            self.screens.show(screen, toast("Nothing is running here."))

    def _reply(self, screen: ScreenName, permission_id: str | None, response: Response) -> None:
        self.check_approve()
        view = self.screens.view(screen)
        permission_id = permission_id or (view.permissions[0].id if view.permissions else None)
        session_id = view.screen.session_id
        if permission_id is None or session_id is None:
            raise NotFound("No permission request is waiting in this screen's session.")
        self.sessions.answer(screen.owner, session_id, permission_id, response)

    def _choose_model(self, screen: ScreenName, model: str) -> None:
        resolved = str(self.sessions.models.resolve(model))
        session_id = self._session_id(screen)
        if session_id is not None:
            self.sessions.update(screen.owner, session_id, {"model": model})
        said = toast(f"Model: {resolved}", model=model)
        self.screens.change(screen, lambda own: (replace(own, model=model), [said]))

    def _list(self, screen: ScreenName) -> None:
        page = self.sessions.page(screen.owner, limit=_LISTED, cursor=None, query=None)
        listed = [{"id": own.id, "title": own.title, "status": own.status} for own in page.sessions]
        count = f"the newest {_LISTED}" if page.next_cursor else str(len(listed))
        self.screens.show(screen, toast(f"Sessions: {count}", sessions=listed))

    @contextmanager
    def _telling(self, screen: ScreenName) -> Iterator[None]:
        """Whoever looks at the screen sees why nothing happened, not only the one who typed."""
        try:
            yield
        except ApiError as exc:
            self.screens.show(screen, toast(exc.message, level="error", code=exc.code))
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
