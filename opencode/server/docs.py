"""`/docs`: the API document for people, with a form to try each operation. Its files are these three, and no others."""

from pathlib import Path

from flask import Blueprint, Response, request

from opencode.errors import NotFound
from opencode.server.routes import route

docs = Blueprint("docs", __name__, url_prefix="/docs")

_FILES = Path(__file__).parent / "static" / "docs"
_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
    "docs.css": "text/css; charset=utf-8",
}


@docs.get("")
@route(summary="The API document for people", text="text/html", scope=None, page=True)
def show_docs() -> Response:
    return _file("index.html")


# Named so that the limiter does not count it: one look at the page is one request.
@docs.get("/<name>", endpoint="static")
@route(summary="A file of that page", text="text/plain", scope=None)
def docs_file(name: str) -> Response:
    return _file(name)


def _file(name: str) -> Response:
    if name not in _TYPES:
        raise NotFound(f"There is no file {name[:100]!r} of the page.")
    response = Response((_FILES / name).read_bytes(), content_type=_TYPES[name])
    # Another version of the server brings another page: asked each time, sent where it has changed.
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response
