"""The page at `/`, and what it needs beside the API that everybody has: its files, and Markdown as HTML.

The page speaks the public API only; `POST /api/render` is part of it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from flask import Blueprint, Response, current_app, request
from werkzeug.security import safe_join

from opencode.errors import NotFound
from opencode.server import schemas
from opencode.server.routes import route

if TYPE_CHECKING:
    from opencode.server.rendering import Renderer

ui = Blueprint("ui", __name__)

_FILES = Path(__file__).parent / "static"
#: By ending; not by the system's table, which may lack one.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@ui.get("/")
@route(summary="The page for people", text="text/html", scope=None, page=True)
def index() -> Response:
    return _file("index.html")


@ui.get("/static/<path:name>")
@route(summary="A file of the page", text="text/plain", scope=None)
def static(name: str) -> Response:
    return _file(name)


@ui.post("/api/render")
@route(summary="Markdown as HTML in which nothing can run", body=schemas.Render, answer=schemas.Rendered)
def render(body: schemas.Render) -> schemas.Rendered:
    renderer = cast("Renderer", current_app.extensions["opencode-renderer"])
    return schemas.Rendered(html=renderer.render(list(body.texts)))


def _file(name: str) -> Response:
    path = safe_join(str(_FILES), name)
    kind = _TYPES.get(Path(name).suffix)
    if path is None or kind is None or not Path(path).is_file():
        raise NotFound(f"There is no file {name[:100]!r} of the page.")
    response = Response(Path(path).read_bytes(), content_type=kind)
    # A new version of the server brings a new page: asked each time, and sent where it has changed.
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response
