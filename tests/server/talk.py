"""What the tests of the server say to it, and what every answer of its must be like."""

import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any, cast

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.sse import Event, Stream

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
STATUSES = {
    "INVALID_REQUEST": {400, 406, 408, 414, 426, 431},
    "UNAUTHORIZED": {401},
    "FORBIDDEN": {403},
    "SESSION_NOT_FOUND": {404},
    "NOT_FOUND": {404},
    "METHOD_NOT_ALLOWED": {405},
    "SESSION_BUSY": {409},
    "PERMISSION_ANSWERED": {409},
    "IDEMPOTENCY_CONFLICT": {409},
    "PAYLOAD_TOO_LARGE": {413},
    "UNSUPPORTED_MEDIA_TYPE": {415},
    "RATE_LIMIT_EXCEEDED": {429},
    "INTERNAL_ERROR": {500},
    "UNAVAILABLE": {503},
}


def create(client: FlaskClient, headers: dict[str, str] | None = None, **body: Any) -> str:
    """A new session's id."""
    response = client.post("/api/session", json=body, headers=headers)
    assert response.status_code == 200, response.text
    answer: Any = response.json
    session_id: str = answer["session_id"]
    return session_id


def say(
    client: FlaskClient, session_id: str, content: str = "hi", headers: dict[str, str] | None = None, **body: Any
) -> Stream:
    """Start a turn and stream it."""
    response = client.post(f"/api/session/{session_id}/message", json={"content": content, **body}, headers=headers)
    return stream(response)


def follow(client: FlaskClient, session_id: str, query: str = "", headers: dict[str, str] | None = None) -> Stream:
    return stream(client.get(f"/api/session/{session_id}/message{query}", headers=headers))


def stream(response: TestResponse) -> Stream:
    """The open stream of a response; its headers are those of API section 3."""
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-cache, no-transform"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert "Content-Length" not in response.headers
    return Stream(cast("Iterable[bytes]", response.response))


def turn(client: FlaskClient, session_id: str, content: str = "hi", **body: Any) -> list[Event]:
    """A whole turn's events."""
    return say(client, session_id, content, **body).rest()


def refused(response: TestResponse, status: int, code: str, *words: str) -> dict[str, Any]:
    """The error of a response, after a look at its envelope; `words` stand in its message."""
    assert response.status_code == status, (response.status_code, response.text[:500])
    assert response.mimetype == "application/json"
    assert REQUEST_ID.fullmatch(response.headers["X-Request-Id"])
    body: Any = response.json
    assert list(body) == ["error"], body
    error: dict[str, Any] = body["error"]
    assert {"code", "message", "status"} <= set(error) <= {"code", "message", "status", "details", "request_id"}
    assert error["code"] == code, error
    assert error["status"] == status
    assert status in STATUSES[code]
    assert isinstance(error["message"], str)
    assert error["message"]
    assert "Traceback" not in response.text
    for word in words:
        assert word in error["message"], error["message"]
    return error


def routes(app: Flask) -> Iterator[tuple[str, str, Any]]:
    """Method, rule and contract of every route, from the URL map: new routes are not forgotten."""
    for rule in app.url_map.iter_rules():
        contract = getattr(app.view_functions[rule.endpoint], "contract", None)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield method, rule.rule, contract


def path(rule: str, session_id: str = "ses_missing") -> str:
    """A path that the rule takes, with the given session in it."""
    there = rule.replace("<name>", "index.html")
    return re.sub(r"<[^>]*>", "missing", re.sub(r"<(\w+:)?session_id>", session_id, there))


def stored(app: Flask) -> str:
    """Everything in the store, to compare with what is there later."""
    with closing(database(app)) as connection:
        return "\n".join(connection.iterdump())


def database(app: Flask) -> sqlite3.Connection:
    """A connection of one's own to the app's store."""
    settings = app.extensions["opencode"].settings
    return sqlite3.connect(settings.data_dir / "store.sqlite3")


_TABLES = ("marks", "permissions", "file_changes", "parts", "messages", "turns", "events", "sessions")


@contextmanager
def store_out_of_reach(app: Flask) -> Iterator[None]:
    """Every read and write of the app's store fails meanwhile."""
    with closing(database(app)) as connection:
        connection.execute("PRAGMA legacy_alter_table = ON")
        for table in _TABLES:
            connection.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
    try:
        yield
    finally:
        with closing(database(app)) as connection:
            connection.execute("PRAGMA legacy_alter_table = ON")
            for table in _TABLES:
                connection.execute(f"ALTER TABLE {table}_away RENAME TO {table}")
