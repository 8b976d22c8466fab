"""`/docs`: the API document for people, with a form to try each operation."""

from flask import Blueprint, Response

from opencode.server.page_files import page_file
from opencode.server.routes import route

docs = Blueprint("docs", __name__)


@docs.get("/docs")
@route(summary="The API document for people", text="text/html", scope=None, page=True)
def show_docs() -> Response:
    return page_file("index.html", "docs")


# Named so that the limiter does not count it: one look at the page is one request.
@docs.get("/static/docs/<name>", endpoint="static")
@route(summary="A file of that page", text="text/plain", scope=None)
def docs_file(name: str) -> Response:
    return page_file(name, "docs")
