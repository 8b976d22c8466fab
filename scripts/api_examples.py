"""Record the examples of the API document from a running app: `python -m scripts.api_examples`.

They are what the app really answers, but for what differs from run to run: ids, times, durations and directories are
put in order. `tests/server/test_openapi.py` records them anew and compares.
"""

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask
from werkzeug.test import TestResponse

from opencode.errors import ApiError
from opencode.provider.port import Reasoning, Text, ToolCall, Usage
from opencode.provider.scripted import Step
from opencode.server.openapi import EXAMPLES
from opencode.storage.sql import open_store
from tests.conftest import Apps
from tests.server.talk import path, store_out_of_reach, stream

if TYPE_CHECKING:
    from flask.testing import FlaskClient

SCRIPT: list[Step] = [
    [Reasoning("The tests will tell."), ToolCall("call_1", "bash", {"command": "echo 3 passed"}), Usage(812, 24, 0)],
    [Text("All three "), Text("tests pass."), Usage(861, 9, 512)],
]
_TOKEN = "a token of sixteen characters or more"  # noqa: S105 - of an app that lives for a second
_JSON = {"Accept": "application/json"}
_DURATIONS = {"duration": 1843, "turn_ms": 1843, "seconds": 1.843, "uptime": 86400}


class Recorder:
    """Asks an app and keeps what it answers, by operation."""

    def __init__(self, app: Flask) -> None:
        self.client: FlaskClient = app.test_client()
        self.found: dict[str, dict[str, Any]] = {"answers": {}, "requests": {}, "errors": {}, "streams": {}}

    def ask(self, operation: str, *, body: Any = None, also: str = "", **options: Any) -> Any:
        """The answer in JSON. `operation` is the document's; names in braces stand in `options`."""
        method, _, template = operation.partition(" ")
        headers = options.pop("headers", _JSON)
        address = template.format(**options)
        response = self.client.open(address, method=method, json=body, headers=headers)
        if response.status_code not in {200, 202}:
            raise AssertionError((operation, response.text))
        if body is not None:
            self.found["requests"].setdefault(operation, body)
        self.found["answers"][f"{operation}{also}"] = response.json
        return response.json

    def stream(self, operation: str, response: TestResponse, last: str) -> list[Any]:
        """The text of a stream, to the event `last`."""
        opened = stream(response)
        seen = opened.until(last)
        response.close()
        frames = [f"id: {event.id}\nevent: {event.name}\ndata: {event.lines[0]}\n\n" for event in seen]
        self.found["streams"][operation] = "".join(frames)
        return seen

    def refused(self, response: TestResponse) -> None:
        body: Any = response.json
        error = body["error"]
        kinds = [own for own in ApiError.__subclasses__() if (own.code, own.status) == (error["code"], error["status"])]
        self.found["errors"][kinds[0].__name__] = body


def record(folder: Path) -> dict[str, Any]:
    """All examples, from apps whose stores and work lie in the folder."""
    empty = folder / "empty"
    open_store(None, empty).close()
    apps = Apps(folder, empty)
    try:
        recorder = Recorder(apps(SCRIPT))
        _record_sessions(recorder)
        _record_screen(recorder)
        _record_doors(recorder)
        _record_refusals(recorder, apps)
    finally:
        apps.stop_all()
    return tidy(recorder.found, str(apps.work))


def _record_sessions(recorder: Recorder) -> None:
    ask = recorder.ask
    session_id = ask("POST /api/session", body={"title": "A look around", "tools": ["bash", "read"]})["session_id"]
    message = "/api/session/{session_id}/message"
    begun = {"content": "Do the tests pass?"}
    response = recorder.client.post(message.format(session_id=session_id), json=begun)
    turn_id = recorder.stream(f"POST {message}", response, "done")[0].data["turn_id"]
    response = recorder.client.get(f"{message.format(session_id=session_id)}?turn={turn_id}")
    recorder.stream(f"GET {message}", response, "done")
    ids = {"session_id": session_id, "turn_id": turn_id}
    ask("GET /api/session/{session_id}", **ids)
    ask("GET /api/session/{session_id}/turn/{turn_id}", **ids)
    ask("GET /api/session/{session_id}/diff", **ids)
    answer = ask(f"POST {message}", body=begun, **ids)
    ask("POST /api/session/{session_id}/fork", body={"message_id": answer["message"]["id"]}, **ids)
    ask("GET /api/sessions")
    ask("POST /api/render", body={"texts": ["All **three** pass.", "```python\nassert 7 / 2 == 3.5\n```"]})
    ask("GET /api/session")
    ask("PATCH /api/session/{session_id}", body={"title": "The tests", "permission": {"bash": "ask"}}, **ids)
    headers = {"Prefer": "respond-async"}
    waiting = ask(f"POST {message}", body=begun, headers=headers, also=" 202", **ids)["turn_id"]
    opened = recorder.client.get(f"{message.format(**ids)}?turn={waiting}")
    permission_id = stream(opened).until("permission_request")[-1].data["permission_id"]
    opened.close()
    answering = "POST /api/session/{session_id}/permission/{permission_id}"
    busy = recorder.client.post(message.format(**ids), json=begun)
    recorder.refused(busy)
    ask(answering, body={"response": "once"}, permission_id=permission_id, **ids)
    late = recorder.client.post(
        path(f"/api/session/{session_id}/permission/{permission_id}"), json={"response": "reject"}
    )
    recorder.refused(late)
    stream(recorder.client.get(f"{message.format(**ids)}?turn={waiting}")).rest()
    ask("POST /api/session/{session_id}/abort", body={}, **ids)
    ask("DELETE /api/session/{session_id}", **ids)
    ask("GET /api/models")
    ask("GET /api/project")
    ask("GET /api/project/current")


def _record_screen(recorder: Recorder) -> None:
    recorder.ask("POST /tui/input", body={"type": "text", "text": "Do the tests pass?"})
    seen = recorder.ask("GET /tui/state")["last_event_id"]
    recorder.client.post("/tui/input", json={"type": "keypress", "key": "enter"})
    recorder.stream("GET /tui/events", recorder.client.get(f"/tui/events?after={seen}"), "done")


def _record_doors(recorder: Recorder) -> None:
    recorder.ask("POST /api/ticket", body={"path": "/tui/events"})
    recorder.ask("POST /api/login", body={"token": "the token"})
    recorder.ask("POST /api/logout", body={})
    recorder.ask("GET /health")
    recorder.ask("GET /health/ready")


def _record_refusals(recorder: Recorder, apps: Apps) -> None:
    client, refused = recorder.client, recorder.refused
    session_id = recorder.client.post("/api/session").json["session_id"]  # type: ignore[index] # it is an object
    message = f"/api/session/{session_id}/message"
    refused(client.post("/api/session", json={"tool": ["bash"]}))
    refused(client.get("/api/session", headers={"Host": "elsewhere.example"}))
    refused(client.get("/api/nothing"))
    refused(client.get("/api/session/ses_0"))
    refused(client.put("/api/session"))
    refused(client.post(message, json={"content": "x"}, headers={"Accept": "text/html"}))
    refused(client.get("/ws"))
    refused(client.post(message, data="content=x", content_type="application/x-www-form-urlencoded"))
    refused(client.get(f"/api/sessions?q={'x' * 9000}"))
    refused(client.get("/api/sessions", headers={"X-Long": "x" * 9000}))
    for title in ("One", "Another"):
        response = client.post("/api/session", json={"title": title}, headers={"Idempotency-Key": "7f3a"})
    refused(response)
    small = apps(SCRIPT, auth_tokens=(_TOKEN,), max_body_bytes=1024, rate_limit=True, rate_limit_max_requests=1)
    client, header = small.test_client(), {"Authorization": f"Bearer {_TOKEN}"}
    refused(client.get("/api/sessions"))
    refused(client.post("/api/session", json={"title": "x" * 2000}, headers=header))
    refused(client.get("/api/sessions", headers=header))
    broken = apps(SCRIPT)
    with store_out_of_reach(broken):
        refused(broken.test_client().get("/api/sessions"))


def tidy(found: Any, work: str) -> Any:
    """The same with ids, times and places that are the same each time."""
    text = json.dumps(found, ensure_ascii=False)
    text = text.replace(work, "/srv/calculator")
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "2026-11-22T20:42:57.427Z", text)
    text = re.sub(r"Come back in \d+ s", "Come back in 60 s", text)
    text = re.sub(r'(?<="ticket": ")[^"]+', "WyJrM29Od2pkU0lOS0txMUQ1Il0.aw3HPg.NqEEeqqAjwgz_NCTcM5-yRYZs3rTwOTM", text)
    names: dict[str, str] = {}
    for pattern, form in (
        (r"\b(ses|msg|trn|per|call)_[0-9a-z]{26}\b", "{kind}_01m8{count:022d}"),
        (r"\b(tui)_[0-9a-z]{26}(?=-\d)", "{kind}_01m8{count:022d}"),
        (r"\b(prj)_[0-9a-z]+\b", "{kind}_{count:016d}"),
    ):
        for match in re.finditer(pattern, text):
            count = sum(own.startswith(match[1]) for own in names) + 1
            names.setdefault(match[0], form.format(kind=match[1], count=count))
    for real, tidied in names.items():
        text = text.replace(real, tidied)
    return _steady(json.loads(text))


def _steady(value: Any) -> Any:
    """Durations and the like, in values and in the lines of a stream."""
    if isinstance(value, dict):
        return {name: _DURATIONS.get(name, _steady(own)) for name, own in value.items()}
    if isinstance(value, list):
        return [_steady(own) for own in value]
    if isinstance(value, str):
        return re.sub(r'"(duration|turn_ms)":\d+', lambda found: f'"{found[1]}":{_DURATIONS[found[1]]}', value)
    return value


def as_text(found: dict[str, Any]) -> str:
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        EXAMPLES.write_text(as_text(record(Path(folder))), encoding="utf-8")
    print(f"{EXAMPLES}: written")


if __name__ == "__main__":
    main()
