"""`/tui`: shared terminal screens (API section 5)."""

from flask import Blueprint, Response, g, request

from opencode.errors import InvalidRequest
from opencode.server import schemas
from opencode.server.answers import BEAT_S, event_stream, screen_stream
from opencode.server.limits import Limits
from opencode.server.routes import route
from opencode.session.tui import Screens


def blueprint(screens: Screens, limits: Limits) -> Blueprint:
    """Make the blueprint over the given screens."""
    tui = Blueprint("tui", __name__, url_prefix="/tui")

    @tui.get("/events")
    @route(summary="Follow a screen", query=schemas.ScreenQuery, streams="screen")
    def follow_screen(query: schemas.ScreenQuery) -> Response:
        close = limits.open_stream(g.caller.owner)
        screen = screens.get(g.caller.owner, query.tui)
        chunks = screens.follow(screen, request.headers.get("Last-Event-ID"), beat_s=BEAT_S)
        return event_stream(screen_stream(chunks), close)

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
        screen = screens.get(g.caller.owner, query.tui)
        needed = "text" if body.type == "text" else "key"
        if getattr(body, needed) is None:
            raise InvalidRequest(
                f"{needed}: is needed with type {body.type!r}", details=[{"field": needed, "message": "is needed"}]
            )
        if body.text is not None and body.type == "text":
            screens.text(screen, body.text)
        else:
            screens.enter(screen)
        return schemas.Success()

    @tui.get("/state")
    @route(summary="What a screen shows", query=schemas.ScreenQuery, answer=schemas.ScreenState)
    def show_screen(query: schemas.ScreenQuery) -> schemas.ScreenState:
        return schemas.ScreenState(**screens.get(g.caller.owner, query.tui).state())

    return tui
