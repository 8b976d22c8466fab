"""`opencode attach`: one shared screen of a server (API section 5), in a terminal."""

import asyncio
import time
from typing import Any, ClassVar
from urllib.parse import quote

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Footer, Static

from opencode.tui.choices import Choices
from opencode.tui.connection import Connection, Link, Refused, Unreachable
from opencode.tui.keyboard import Keyboard
from opencode.tui.lines import link_line, model_label, question, session_label
from opencode.tui.plain import count, plain, shortened
from opencode.tui.prompt_line import PromptLine
from opencode.tui.session_view import Figures, SessionView
from opencode.tui.transcript import Transcript

_WELCOME = (
    "Type a request and press enter; it begins a session. What you type is seen by everyone who looks at this screen."
)
_HINT = "ask for something · enter sends · alt+enter begins a new line"
_OFTEN = 1.0


class AttachApp(App[str]):
    """Shows the screen `name` of the server; gives the reason where it could not go on."""

    TITLE = "opencode"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", priority=True),
        Binding("ctrl+l", "sessions", "Sessions"),
        Binding("ctrl+t", "models", "Models"),
        Binding("ctrl+o", "toggle_tools", "Fold output"),
        Binding("pageup", "scroll(-1)", "Scroll", key_display="PgUp/PgDn"),
        Binding("pagedown", "scroll(1)", show=False),
    ]
    CSS = """
    #title { height: 1; padding: 0 1; background: $panel; color: $text; }
    #title Static { width: auto; }
    #title #name { width: 1fr; }
    #asked {
        display: none; height: auto; max-height: 50%; margin: 0 1; padding: 0 1;
        border-left: thick $warning; background: $warning-muted;
    }
    #asked.-shown { display: block; }
    #status { height: 1; padding: 0 2; }
    #status Static { width: auto; }
    #status #link { width: 1fr; }
    """

    def __init__(self, connection: Connection, *, name: str = "default", session_id: str | None = None) -> None:
        super().__init__()
        self._connection = connection
        self._query = {"tui": name}
        self._wanted = session_id
        self.session_id: str | None = None
        self._links: dict[str, Link] = {"screen": Link("connecting")}
        self._keyboard = Keyboard(self._send, self._may_merge)
        self.last_notice = ""
        self._noticed_at = 0.0

        # Kept by hand, since a list over the screen hides them from queries.
        self._prompt = PromptLine(_HINT)
        self._transcript = Transcript()
        self._view = SessionView(self._transcript, self._redraw)
        self._title_line, self._model_line, self._link_line, self._figures_line, self._question = (
            Static("", id=own, markup=False) for own in ("name", "model", "link", "figures", "question")
        )
        self._asked = VerticalScroll(self._question, id="asked", can_focus=False)

    def compose(self) -> ComposeResult:
        yield Horizontal(self._title_line, self._model_line, id="title")
        yield self._transcript
        yield self._asked
        yield self._prompt
        yield Horizontal(self._link_line, self._figures_line, id="status")
        yield Footer()

    @property
    def figures(self) -> Figures:
        """What is known of the session that is shown."""
        return self._view.figures

    async def on_mount(self) -> None:
        self._prompt.focus()
        await self._transcript.add(_WELCOME, "note")
        self._redraw()
        self.set_interval(_OFTEN, self._redraw)
        self.run_worker(self._keyboard.run(), group="keyboard")
        self.run_worker(self._follow_screen(), group="screen")

    # The screen

    async def _follow_screen(self) -> None:
        try:
            # An id that no screen has brings a `resync` with the whole state, and the events from there on.
            await self._connection.follow("/tui/events", self._query, "new-0", self._on_screen_event, self._on_link)
        except (Refused, Unreachable) as exc:
            self.exit(message=None, result=str(exc), return_code=1)

    def _on_link(self, link: Link, stream: str = "screen") -> None:
        self._links[stream] = link
        self._redraw()

    async def _on_screen_event(self, name: str, data: dict[str, Any], _event_id: str) -> None:
        match name:
            case "prompt":
                self._prompt.show(data["text"], data["cursor"])
            case "resync":
                await self._take_state(data)
            case "session_selected":
                self._open(data["session_id"])
            case "session_deleted" if data["session_id"] == self.session_id:
                await self._leave_session()
            case "toast":
                self._notice(data["message"], is_error=data["level"] == "error")

    async def _take_state(self, state: dict[str, Any]) -> None:
        self._prompt.show(state["prompt"], state["cursor"])
        wanted, self._wanted = self._wanted, None
        if wanted is not None and wanted != state["session_id"]:
            self._keyboard.command("session.select", session_id=wanted)
        elif state["session_id"] is None:
            await self._leave_session()
        else:
            self._open(state["session_id"])

    # The session

    def _open(self, session_id: str) -> None:
        if session_id != self.session_id:
            self.session_id = session_id
            self.run_worker(self._follow_session(session_id), group="session", exclusive=True)

    async def _leave_session(self) -> None:
        self.session_id = None
        self.workers.cancel_group(self, "session")
        self._links.pop("session", None)
        self._view = SessionView(self._transcript, self._redraw)
        await self._transcript.clear()
        await self._transcript.add(_WELCOME, "note")
        self._redraw()

    async def _follow_session(self, session_id: str) -> None:
        path = f"/api/session/{quote(session_id, safe='')}"
        try:
            detail = await self._ask(path, {"limit": 50})
            # Only now: what is asked for before is listed, and what is asked for after it comes as an event.
            state = await self._ask("/tui/state", self._query)
            asked = state["permissions"] if state["session_id"] == session_id else []
            await self._view.open(detail, asked)
            await self._connection.follow(
                f"{path}/message",
                {},
                str(detail["seq"]),
                self._view.take,
                lambda link: self._on_link(link, "session"),
            )
        except (Refused, Unreachable) as exc:  # the stream too may be another's
            if self.session_id == session_id:
                self.session_id = None
                self._notice(f"The session cannot be shown: {exc}", is_error=True)

    async def _ask(self, path: str, query: dict[str, Any]) -> dict[str, Any]:
        """What there is no going on without: asked for again, as long as it is not finally refused."""
        while True:
            try:
                return await self._connection.call("GET", path, query=query)
            except Unreachable:  # the line at the bottom says so
                await asyncio.sleep(_OFTEN)
            except Refused as exc:
                if not exc.is_temporary:
                    raise
                self._notice(exc.message, is_error=True)
                await asyncio.sleep(exc.retry_after_s)

    # The keyboard

    def _may_merge(self) -> bool:
        return bool(self._prompt.text) or not self.figures.asked

    def on_prompt_line_typed(self, event: PromptLine.Typed) -> None:
        if event.key is not None:
            self._keyboard.press(event.key)
        elif event.text is not None:
            self._keyboard.type(event.text)

    async def _send(self, one: dict[str, Any]) -> None:
        try:
            await self._connection.call("POST", "/tui/input", body=one, query=self._query)
        except Refused as exc:
            self._notice(exc.message, is_error=True)
        except Unreachable:
            self._notice("Not sent: there is no connection to the server.", is_error=True)

    def _notice(self, message: str, *, is_error: bool = False) -> None:
        """Say something once: a refusal comes as an answer and on the screen."""
        now, message = time.monotonic(), plain(message)
        if message != self.last_notice or now - self._noticed_at > _OFTEN:
            self.notify(message, severity="error" if is_error else "information", markup=False)
        self.last_notice, self._noticed_at = message, now

    # What can be done here and concerns nobody else

    def action_toggle_tools(self) -> None:
        self._transcript.toggle_tools()

    def action_scroll(self, pages: int) -> None:
        if pages < 0:
            self._transcript.scroll_page_up()
        else:
            self._transcript.scroll_page_down()

    async def action_sessions(self) -> None:
        await self._choose("/api/sessions", "sessions")

    async def action_models(self) -> None:
        await self._choose("/api/models", "models")

    async def _choose(self, path: str, what: str) -> None:
        try:
            listed = (await self._connection.call("GET", path))[what]
        except (Refused, Unreachable) as exc:
            self._notice(str(exc), is_error=True)
            return
        command, field, current = "session.select", "session_id", self.session_id
        if what == "models":
            command, field, current = "model.select", "model", self.figures.model
        labels = [(one["id"], model_label(one) if what == "models" else session_label(one)) for one in listed]
        if not labels:
            self._notice("There are no sessions yet.")
            return

        def send(chosen: str | None) -> None:
            if chosen is not None:
                self._keyboard.command(command, **{field: chosen})

        self.push_screen(Choices(what.capitalize(), labels, current=current), send)

    # Drawing

    def _redraw(self) -> None:
        figures = self.figures
        self._title_line.update(Content.assemble(("opencode ", "bold $primary"), (shortened(figures.title, 80), "dim")))
        self._model_line.update(Content(plain(figures.model)))
        self._link_line.update(link_line(self._links.values(), self._connection.url))
        self._figures_line.update(self._figures_text())
        self._asked.set_class(bool(figures.asked), "-shown")
        self._prompt.set_class(bool(figures.asked), "-waiting")
        for one in list(figures.asked.values())[:1]:
            self._question.update(question(one))

    def _figures_text(self) -> Content:
        figures = self.figures
        parts = []
        if figures.asked:
            parts.append("waits for you")
        elif figures.started_at is not None:
            parts.append(f"running {time.monotonic() - figures.started_at:.0f} s · esc aborts")
        cached = f" ({count(figures.cached)} cached)" if figures.cached else ""
        if figures.tokens_out:
            parts.append(f"{count(figures.tokens_in)} tokens in{cached} · {count(figures.tokens_out)} out")
        return Content.assemble((" · ".join(parts), "dim"))
