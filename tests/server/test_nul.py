"""NUL, which PostgreSQL takes in no text: whatever holds it gets the same answer on both databases, and is kept."""

import json
import re

import pytest

from opencode.provider.port import Reasoning, Text, ToolCall, Usage
from tests.server.talk import create, say

#: What differs from run to run: ids, times, durations.
_CHANCE = re.compile(
    r"\b(ses|msg|trn|call|per|tui)_[0-9a-z]{20,}(-\d+)?|\d{4}-\d\d-\d\dT[\d:.]+Z"
    r'|"(duration|turn_ms|seconds|request_id)\\?": ?[^,}]+|[0-9a-f]{32}'
)
_SCRIPT = [
    [
        Reasoning("why\0"),
        Text("one \0 two"),
        ToolCall("c1", "bash", {"command": "printf 'a\\0b'", "description": "z\0"}),
    ],
    [ToolCall("its\0id", "no\0tool", {"a\0": "\0b"}), ToolCall("c2", "write", {"path": "a\0b", "content": "c"})],
    [ToolCall("c3", "write", {"path": "nul.txt", "content": "x\0y"}), ToolCall("c4", "read", {"path": "nul.txt"})],
    [Text("done\0"), Usage(1, 2, 0)],
]
_READS = (
    "/api/session/{s}",
    "/api/session/{s}/diff",
    "/api/sessions",
    *("/api/sessions?q=ti%00t", "/api/sessions?q=con%00t", "/api/sessions?q=%E2%90%80"),
    *("/api/sessions?cursor=%00", "/api/sessions?cursor=ses_%00"),
    *("/api/session/a%00b", "/api/session/a%00b/message", "/api/session/a%00b/diff"),
    *("/api/session/{s}/turn/%00", "/api/session/{s}?before=%00", "/api/session/{s}/message?turn=%00"),
    *("/tui/state", "/tui/state?tui=%00"),
)
_WRITES = (
    ("PATCH", "/api/session/{s}", {"title": "new\0"}),
    ("PATCH", "/api/session/{s}", {"model": "openai/x\0y"}),
    ("POST", "/api/session", {"model": "openai/x\0y", "system": "\0"}),
    ("POST", "/api/session", {"model": "\0"}),
    ("POST", "/api/session", {"tools": ["\0"]}),
    ("POST", "/api/session", {"directory": "/\0"}),
    ("POST", "/api/session", {"permission": {"ba\0sh": "ask"}}),
    ("POST", "/api/session/{s}/message", {"content": "\0", "model": "openai/\0"}),
    ("POST", "/api/session/{s}/abort", {"turn_id": "\0"}),
    ("POST", "/api/session/{s}/fork", {"message_id": "\0"}),
    ("POST", "/api/session/{s}/fork", {}),
    ("POST", "/api/session/{s}/permission/%00", {"response": "once"}),
    ("POST", "/tui/input", {"type": "text", "text": "a\0b"}),
    ("POST", "/tui/input", {"type": "command", "command": "session.select", "session_id": "\0"}),
    ("DELETE", "/api/session/a%00b", None),
)


def _all_answers(client):
    session_id = create(client, title="ti\0tle", system="sys\0tem")
    events = say(client, session_id, "con\0tent").rest()
    assert events[-1].data["status"] == "completed"
    yield "events", [(event.name, event.data) for event in events]
    for method, path, body in (*(("GET", path, None) for path in _READS), *_WRITES):
        accept = {"Accept": "application/json"} if method == "POST" else {}
        answer = client.open(path.format(s=session_id), method=method, json=body, headers=accept)
        yield f"{method} {path} {body}", (answer.status_code, answer.get_data(as_text=True))
    kept = client.get(f"/api/session/{session_id}").json
    yield "kept", (kept["title"], kept["system"], [message["content"] for message in kept["messages"]][:2])


@pytest.mark.live
def test_what_holds_nul_is_answered_alike_on_both_databases_and_nothing_of_it_is_lost(make_app, postgres_url):
    embedded = dict(_all_answers(make_app(_SCRIPT).test_client()))
    (make_app.work / "nul.txt").unlink()
    shared = dict(_all_answers(make_app(_SCRIPT, database_url=postgres_url).test_client()))

    assert embedded.keys() == shared.keys()
    for what, answer in embedded.items():
        assert _CHANCE.sub("…", json.dumps(shared[what])) == _CHANCE.sub("…", json.dumps(answer)), what
    assert shared["kept"] == ("new\0", "sys\0tem", ["con\0tent", "one \0 twodone\0"])
    statuses = [answer[0] for what, answer in shared.items() if what.startswith(("GET", "PATCH", "POST", "DELETE"))]
    assert set(statuses) == {200, 400, 404}
