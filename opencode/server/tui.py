"""`/tui`: shared terminal screens (API section 5)."""

from flask import Blueprint, Response, g, request

from opencode.errors import InvalidRequest
from opencode.server import schemas, tui_schemas
from opencode.server.access import check_scope
from opencode.server.answers import BEAT_S, event_stream, screen_stream
from opencode.server.context import limits, owner, services, sessions
from opencode.server.routes import route
from opencode.session.screen import ScreenName
from opencode.session.terminal_input import Command, TerminalInput

tui = Blueprint("tui", __name__, url_prefix="/tui")

#: By type of input, the field that it needs and those that it may have.
_FIELDS: dict[str, tuple[str, set[str]]] = {
    "keypress": ("key", set()),
    "text": ("text", set()),
    "command": ("command", {"session_id", "permission_id", "response", "model"}),
}


@tui.get("/events")
@route(summary="Follow a screen", query=tui_schemas.ScreenFollowQuery, streams="screen")
def follow_screen(query: tui_schemas.ScreenFollowQuery) -> Response:
    with limits().open_stream(owner()) as stream:
        screens = services().screens
        screen = ScreenName(owner(), query.tui)
        screens.view(screen)  # or there is no room for it
        last_id = request.headers.get("Last-Event-ID", query.after)
        chunks = screens.follow(screen, last_id, beat_s=BEAT_S)
        return event_stream(screen_stream(chunks), stream.hand_over())


@tui.post("/input")
@route(
    summary="Type on a screen",
    body=tui_schemas.TuiInput,
    query=tui_schemas.ScreenQuery,
    answer=schemas.Success,
    codes=("SESSION_NOT_FOUND", "SESSION_BUSY", "PERMISSION_ANSWERED"),
    scope="write",
)
def type_on_screen(body: tui_schemas.TuiInput, query: tui_schemas.ScreenQuery) -> schemas.Success:
    _check_fields(body)
    screen = ScreenName(owner(), query.tui)
    terminal = TerminalInput(sessions(), services().screens, lambda: check_scope(g.caller, "approve"))
    if body.key is not None:
        terminal.press(screen, body.key)
    elif body.text is not None:
        terminal.paste(screen, body.text)
    elif body.command is not None:
        terminal.run(screen, Command(body.command, body.session_id, body.permission_id, body.response, body.model))
    return schemas.Success()


def _check_fields(body: tui_schemas.TuiInput) -> None:
    """Each type of input has fields of its own."""
    needed, possible = _FIELDS[body.type]
    given = set(body.model_dump(exclude_none=True)) - {"type"}
    wrong = [(field, "does not go") for field in sorted(given - possible - {needed})]
    if needed not in given:
        wrong.insert(0, (needed, "is needed"))
    if wrong:
        details = [{"field": field, "message": f"{what} with type {body.type!r}"} for field, what in wrong]
        raise InvalidRequest(f"{details[0]['field']}: {details[0]['message']}", details=details)


@tui.get("/state")
@route(summary="What a screen shows", query=tui_schemas.ScreenQuery, answer=tui_schemas.ScreenState)
def show_screen(query: tui_schemas.ScreenQuery) -> tui_schemas.ScreenState:
    return tui_schemas.ScreenState(**services().screens.state(ScreenName(owner(), query.tui)))
