"""`/tui`: shared terminal screens (API section 5)."""

from flask import Blueprint, Response, request

from opencode.errors import InvalidRequest
from opencode.server import schemas
from opencode.server.answers import BEAT_S, event_stream, screen_stream
from opencode.server.context import limits, owner, services
from opencode.server.routes import route

tui = Blueprint("tui", __name__, url_prefix="/tui")


@tui.get("/events")
@route(summary="Follow a screen", query=schemas.ScreenQuery, streams="screen")
def follow_screen(query: schemas.ScreenQuery) -> Response:
    with limits().open_stream(owner()) as stream:
        screens = services().screens
        screen = screens.get(owner(), query.tui)
        chunks = screens.follow(screen, request.headers.get("Last-Event-ID"), beat_s=BEAT_S)
        return event_stream(screen_stream(chunks), stream.hand_over())


@tui.post("/input")
@route(
    summary="Type on a screen",
    body=schemas.TuiInput,
    query=schemas.ScreenQuery,
    answer=schemas.Success,
    codes=("SESSION_BUSY",),
    scope="write",
)
def type_on_screen(body: schemas.TuiInput, query: schemas.ScreenQuery) -> schemas.Success:
    screen = services().screens.get(owner(), query.tui)
    if body.type == "text" and body.text is not None:
        services().screens.text(screen, body.text)
    elif body.type == "keypress" and body.key is not None:
        services().screens.enter(screen)
    else:
        needed = "text" if body.type == "text" else "key"
        details = [{"field": needed, "message": "is needed"}]
        raise InvalidRequest(f"{needed}: is needed with type {body.type!r}", details=details)
    return schemas.Success()


@tui.get("/state")
@route(summary="What a screen shows", query=schemas.ScreenQuery, answer=schemas.ScreenState)
def show_screen(query: schemas.ScreenQuery) -> schemas.ScreenState:
    return schemas.ScreenState(**services().screens.get(owner(), query.tui).state())
