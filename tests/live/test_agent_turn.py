"""An agent at work: the model on the far side of real HTTP, tools on a real directory."""

import json

import pytest

from tests.live.client import names, text_of
from tests.live.conftest import ANTHROPIC_KEY, OPENAI_KEY
from tests.sse import check_turn

WRONG = "def area(width, height):\n    return width + height\n"
TESTS = "from shapes import area\n\nassert area(3, 4) == 12, area(3, 4)\nprint('all is well')\n"
RUN = "python3 -B test_shapes.py"
REPLIES = [
    [
        {"text": "I look at the file."},
        {"tool": "read", "params": {"path": "shapes.py"}},
        {"tool": "bash", "params": {"command": RUN}},
    ],
    [
        {"tool": "edit", "params": {"path": "shapes.py", "old_string": "width + height", "new_string": "width * height"}},
        {"usage": {"input": 200, "output": 30, "cached": 100}},
    ],
    [{"tool": "bash", "params": {"command": RUN, "description": "Runs the tests"}}],
    [{"text": "Mended: the tests "}, {"text": "pass."}, {"usage": {"input": 300, "output": 10}}],
]  # fmt: skip


@pytest.fixture(params=["anthropic", "openai"])
def wire(request):
    return request.getfixturevalue(f"{request.param}_wire")


@pytest.fixture
def model(wire):
    return "openai/wire-model" if wire.base_url.endswith("/v1") else "anthropic/claude-wire"


@pytest.fixture
def work(server, request):
    """A directory of the test's own, within what the server serves."""
    work = server.work / request.node.name.translate(str.maketrans("[]", "__"))
    work.mkdir()
    return work


def told(body):
    """A request body of either protocol: system prompt, offered tools, and the results that were fed back in order."""
    if "system" in body:
        system = body["system"] if isinstance(body["system"], str) else "".join(part["text"] for part in body["system"])
        tools = {tool["name"]: tool["input_schema"] for tool in body["tools"]}
        blocks = [block for message in body["messages"] for block in message["content"] if isinstance(block, dict)]
        results = [block["content"] for block in blocks if block["type"] == "tool_result"]
        results = [text if isinstance(text, str) else "".join(part["text"] for part in text) for text in results]
        return system, tools, results
    system = next(message["content"] for message in body["messages"] if message["role"] in {"system", "developer"})
    tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in body["tools"]}
    return system, tools, [message["content"] for message in body["messages"] if message["role"] == "tool"]


def test_a_model_reads_a_file_mends_it_and_runs_its_tests(client, wire, model, work):
    # Given a project with a failing test, and a model that knows what to do
    (work / "shapes.py").write_text(WRONG)
    (work / "test_shapes.py").write_text(TESTS)
    (work / "AGENTS.md").write_text("Widths are never negative.\n")
    prompt = wire.script(REPLIES)

    # When it is asked
    session = client.session(model=model, directory=str(work))
    events = client.turn(session, prompt)

    # Then each thing happens once, in its order
    check_turn(events, after=0)
    assert names(events) == [
        *["turn_start", "step", "text", "tool_call", "tool_result", "tool_output", "tool_result"],
        *["step", "tool_call", "tool_result"],
        *["step", "tool_call", "tool_output", "tool_result"],
        *["step", "text", "done"],
    ]
    calls = [event.data for event in events if event.name == "tool_call"]
    results = [event.data for event in events if event.name == "tool_result"]
    assert [call["tool"] for call in calls] == ["read", "bash", "edit", "bash"]
    assert [call["call_id"] for call in calls] == [result["call_id"] for result in results]
    assert [result["is_error"] for result in results] == [False] * 4
    assert "return width + height" in results[0]["result"]
    assert "AssertionError: 7" in results[1]["result"]
    assert "[exit code 1]" in results[1]["result"]
    assert results[3]["result"] == "all is well\n"
    assert text_of(events) == "I look at the file.Mended: the tests pass."
    assert events[-1].data["status"] == "completed"

    # And the file is changed on disk, and the session's diff shows it
    assert (work / "shapes.py").read_text() == WRONG.replace("+", "*")
    diff = client.call("GET", f"/api/session/{session}/diff").json["diff"]
    assert "-    return width + height\n+    return width * height\n" in diff

    # And the model was told where it is, what it may use, and what came of each call
    asked = [told(body) for body in wire.asked(prompt)]
    assert len(asked) == 4
    system, tools, nothing = asked[0]
    assert str(work) in system
    assert "Widths are never negative." in system
    assert tools.keys() == {"bash", "edit", "read", "write"}
    assert tools["edit"]["required"] == ["path", "old_string", "new_string"]
    assert nothing == []
    assert [result["result"] for result in results[:2]] == asked[1][2]
    assert [result["result"] for result in results] == [*asked[2][2], results[3]["result"]] == asked[3][2]
    assert all(own[:2] == (system, tools) for own in asked)

    # And the next turn has it in its history
    wire_history = json.dumps(client.get(session)["messages"])
    assert "Mended: the tests pass." in wire_history


def test_a_limit_of_the_provider_is_waited_out(client, wire, model):
    limited = {"refuse": {"status": 429, "type": "rate_limit_error", "message": "Slow down", "headers": {"Retry-After": "1"}}}  # fmt: skip
    prompt = wire.script([[limited], [{"text": "here I am"}]])

    events = client.turn(client.session(model=model), prompt)

    check_turn(events, after=0)
    assert names(events, pieces=True) == ["turn_start", "step", "step", "text", "done"]
    assert [event.data["attempt"] for event in events[1:3]] == [1, 2]
    assert events[-1].data["status"] == "completed"
    assert events[-1].data["duration"] >= 1000


def test_what_a_broken_answer_has_said_is_void_in_the_next_attempt(client, wire, model):
    prompt = wire.script([[{"text": "half a th"}, {"text": "ought"}, {"pause_s": 0.1}, {"cut": True}], [{"text": "a whole one"}]])  # fmt: skip
    session = client.session(model=model)

    events = client.turn(session, prompt)

    check_turn(events, after=0)
    assert names(events) == ["turn_start", "step", "text", "step", "text", "done"]
    first, second = (event for event in events if event.name == "step")
    assert (first.data["discards_from"], second.data["discards_from"]) == (None, first.seq)
    assert events[-1].data["status"] == "completed"
    # The message keeps what counts; the model never sees the rest again.
    assert client.get(session)["messages"][-1]["content"] == "a whole one"
    assert all("half a th" not in json.dumps(body) for body in wire.asked(prompt))


def test_a_refused_key_is_named_by_its_variable_and_shown_nowhere(client, server, wire, model):
    # Given a provider that repeats the key in its refusal
    key, variable = (
        (OPENAI_KEY, "OPENAI_API_KEY") if model.startswith("openai") else (ANTHROPIC_KEY, "ANTHROPIC_API_KEY")
    )
    kind = "invalid_request_error" if model.startswith("openai") else "authentication_error"
    refusal = {"status": 401, "type": kind, "message": f"Incorrect API key provided: {key}."}
    prompt = wire.script([[{"refuse": refusal}]])
    session = client.session(model=model)

    events = client.turn(session, prompt)

    check_turn(events, after=0)
    assert names(events, pieces=True) == ["turn_start", "step", "error", "done"]
    error = events[-2].data
    assert error["code"] == "PROVIDER_AUTH"
    assert variable in error["message"]
    assert events[-1].data["status"] == "failed"
    seen = [
        str(error),
        server.output(),
        *(str(client.call("GET", f"/api/{path}").data) for path in ("models", f"session/{session}")),
    ]
    assert not any(key in text for text in seen)
