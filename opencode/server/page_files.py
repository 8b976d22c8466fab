"""Sending the files of pages."""

from pathlib import Path

from flask import Response, request

from opencode.errors import NotFound

_STATIC = Path(__file__).parent / "static"
#: By ending; not by the system's table, which may lack one.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


def page_file(name: str, folder: str = "") -> Response:
    """A file of `static/`, or of a folder in it.

    Raises:
        NotFound: there is none of that name.
    """
    path = _STATIC / folder / name
    # One of those that lie there, by its name alone: no way leads out of the folder.
    if path.parent != _STATIC / folder or path.suffix not in _TYPES or name not in _names(path.parent):
        raise NotFound(f"There is no file {name[:100]!r} of the page.")
    response = Response(path.read_bytes(), content_type=_TYPES[path.suffix])
    # Another version of the server brings another page: asked each time, sent where it has changed.
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
