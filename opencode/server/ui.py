"""The page at `/`, and what it needs beside the API that everybody has: its files, and Markdown as HTML.

The page speaks the public API only; `POST /api/render` is part of it.
"""

from typing import TYPE_CHECKING, cast

from flask import Blueprint, Response, current_app

from opencode.server import schemas
from opencode.server.page_files import page_file
from opencode.server.routes import route

if TYPE_CHECKING:
    from opencode.server.rendering import Renderer

ui = Blueprint("ui", __name__)


@ui.get("/")
@route(summary="The page for people", text="text/html", scope=None, page=True)
def index() -> Response:
    return page_file("index.html")


# Named so that the limiter does not count it: one look at the page is one request.
@ui.get("/static/<name>", endpoint="static")
@route(summary="A file of the page", text="text/plain", scope=None)
def page_part(name: str) -> Response:
    return page_file(name)


@ui.post("/api/render")
@route(summary="Markdown as HTML in which nothing can run", body=schemas.Render, answer=schemas.Rendered)
def render(body: schemas.Render) -> schemas.Rendered:
    renderer = cast("Renderer", current_app.extensions["opencode-renderer"])
    return schemas.Rendered(html=renderer.render(list(body.texts)))
