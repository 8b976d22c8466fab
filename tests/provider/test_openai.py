import json

import pytest

from opencode.provider.openai import OpenAI
from opencode.provider.port import (
    AssistantMessage,
    Finish,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
    UserMessage,
)
from tests.provider.asking import PROMPT, ask, failure_of
from tests.wire.openai_server import OpenAIWire

KEY = "sk-proj-secret-key"


@pytest.fixture
def talk():
    """Start a wire with replies and give the provider and the wire."""
    opened = []

    def start(*replies, timeout_s=10, name="openai", key=KEY, **options):
        wire = OpenAIWire(list(replies), **options).__enter__()
        provider = OpenAI(api_key=key, base_url=wire.base_url, timeout_s=timeout_s, name=name, models=["m"])
        opened.append((provider, wire))
        return provider, wire

    yield start
    for provider, wire in opened:
        provider.close()
        wire.__exit__()


def sent(wire):
    return wire.requests[-1].body


def raw(*chunks, done=True):
    """A reply as a compatible server would write it, after the wire's own first chunk."""
    text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    return [{"raw": text + ("data: [DONE]\n\n" if done else "")}, {"end": True}]


def delta(finish_reason=None, **fields):
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish_reason}]}


def calls(deltas):
    return [item for item in deltas if isinstance(item, ToolCall)]


def test_the_request_has_system_history_tools_and_asks_for_usage(talk):
    provider, wire = talk([{"text": "done"}], api_key=KEY)
    tool = ToolSpec("read", "Reads a file.", {"type": "object", "properties": {"path": {"type": "string"}}})
    steps = (ToolCall("call_1", "read", {"path": "ä"}), ToolCall("call_2", "read", {}))

    ask(
        provider,
        PROMPT,
        AssistantMessage("", steps),
        ToolResult("call_1", "read", "text"),
        ToolResult("call_2", "read", "path is missing", is_error=True),
        AssistantMessage(""),
        UserMessage("Go on."),
        system="Be brief.",
        tools=(tool,),
    )

    body = sent(wire)
    assert body["stream_options"] == {"include_usage": True}
    assert body["tools"][0]["function"] == {
        "name": "read",
        "description": "Reads a file.",
        "parameters": tool.parameters,
    }
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "tool", "tool", "user"]
    assert body["messages"][2] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "read", "arguments": '{"path":"ä"}'}},
            {"id": "call_2", "type": "function", "function": {"name": "read", "arguments": "{}"}},
        ],
    }
    assert body["messages"][4]["content"] == "Error: path is missing"


@pytest.mark.parametrize(
    ("name", "model", "field"),
    [
        ("openai", "gpt-6.2-sol", "max_completion_tokens"),
        ("openai", "o4-mini", "max_completion_tokens"),
        ("openai", "mistral-small", "max_tokens"),
        ("openai", "gpt-oss-120b", "max_tokens"),
        ("ollama", "qwen3:8b", "max_tokens"),
    ],
)
def test_the_output_limit_goes_into_the_field_that_the_model_knows(talk, name, model, field):
    provider, wire = talk([{"text": "hi"}], name=name)

    ask(provider, model=model, max_output_tokens=50)

    assert {key: value for key, value in sent(wire).items() if key.startswith("max_")} == {field: 50}


def test_calls_whole_in_one_chunk_and_without_ids_get_ids(talk):
    one = {"index": 0, "function": {"name": "read", "arguments": '{"path": "a"}'}}
    two = {"index": 1, "function": {"name": "list", "arguments": {"path": "b"}}}
    provider, _ = talk(raw(delta(tool_calls=[one, two]), delta("tool_calls")))

    deltas = ask(provider)

    assert [(call.tool, call.params) for call in calls(deltas)] == [("read", {"path": "a"}), ("list", {"path": "b"})]
    assert all(call.call_id.startswith("call_") for call in calls(deltas))
    assert len({call.call_id for call in calls(deltas)}) == 2


def test_calls_that_share_an_index_are_told_apart_by_their_ids(talk):
    pieces = [
        {"index": 0, "id": "a", "function": {"name": "read", "arguments": '{"path": '}},
        {"index": 0, "id": "a", "function": {"arguments": '"x"}'}},
        {"index": 0, "id": "b", "function": {"name": "read", "arguments": '{"path": "y"}'}},
    ]
    provider, _ = talk(raw(*(delta(tool_calls=[piece]) for piece in pieces), delta("stop")))

    deltas = ask(provider)

    assert calls(deltas) == [ToolCall("a", "read", {"path": "x"}), ToolCall("b", "read", {"path": "y"})]
    assert deltas[-1] == Finish("tool_calls")


def test_pieces_without_index_belong_to_the_last_call(talk):
    pieces = [
        {"id": "a", "function": {"name": "read", "arguments": '{"path": '}},
        {"function": {"arguments": '"x"}'}},
        {"id": "b", "function": {"name": "list", "arguments": None}},
    ]
    provider, _ = talk(raw(*(delta(tool_calls=[piece]) for piece in pieces), delta("tool_calls")))

    assert calls(ask(provider)) == [ToolCall("a", "read", {"path": "x"}), ToolCall("b", "list", {})]


def test_interleaved_pieces_find_their_calls(talk):
    pieces = [
        {"index": 0, "id": "a", "function": {"name": "read", "arguments": ""}},
        {"index": 1, "id": "b", "function": {"name": "read", "arguments": '{"path":'}},
        {"index": 0, "function": {"arguments": '{"path": "x"}'}},
        {"index": 1, "function": {"arguments": ' "y"}'}},
    ]
    provider, _ = talk(raw(*(delta(tool_calls=[piece]) for piece in pieces), delta("tool_calls")))

    assert calls(ask(provider)) == [ToolCall("a", "read", {"path": "x"}), ToolCall("b", "read", {"path": "y"})]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_read_under_both_names(talk, field):
    provider, _ = talk(raw(delta(content=None, **{field: "hm"}), delta("stop", content="yes")))

    assert ask(provider) == [Reasoning("hm"), Text("yes"), Finish("stop")]


def test_usage_may_come_with_the_last_choice_or_after_it_and_count_the_cache(talk):
    counts = {"prompt_tokens": 30, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 20}}
    provider, _ = talk(
        raw({**delta("stop", content="x"), "usage": counts}),
        raw(delta("stop", content="x"), {"choices": [], "usage": {**counts, "prompt_tokens_details": None}}),
    )

    assert ask(provider) == [Text("x"), Usage(30, 4, 20), Finish("stop")]
    assert ask(provider) == [Text("x"), Usage(30, 4, 0), Finish("stop")]


def test_an_end_without_done_after_a_finish_reason_is_an_end(talk):
    provider, _ = talk(raw(delta("stop", content="x"), done=False))

    assert ask(provider) == [Text("x"), Finish("stop")]


def test_done_without_a_finish_reason_is_an_end(talk):
    provider, _ = talk(raw(delta(content="x")))

    assert ask(provider) == [Text("x"), Finish("stop")]


def test_an_end_with_neither_is_a_cut_stream(talk):
    provider, _ = talk(raw(delta(content="x"), done=False))

    failure = failure_of(provider)

    assert (failure.code, failure.retryable) == ("PROVIDER_UNAVAILABLE", True)


def test_a_filtered_answer_is_said_aloud(talk):
    provider, _ = talk([{"finish": "content_filter"}])

    assert failure_of(provider).code == "PROVIDER_ERROR"


@pytest.mark.parametrize(
    ("refusal", "code", "retryable"),
    [
        ({"status": 401, "code": "invalid_api_key"}, "PROVIDER_AUTH", False),
        ({"status": 429, "code": "rate_limit_exceeded"}, "PROVIDER_RATE_LIMIT", True),
        ({"status": 429, "type": "insufficient_quota", "code": "insufficient_quota"}, "PROVIDER_RATE_LIMIT", False),
        ({"status": 404, "code": "model_not_found"}, "PROVIDER_ERROR", False),
        ({"status": 400, "code": "context_length_exceeded"}, "CONTEXT_OVERFLOW", False),
        (
            {"status": 400, "message": "the request exceeds the available context size (512 tokens)"},
            "CONTEXT_OVERFLOW",
            False,
        ),
        ({"status": 400, "body": {"error": "registry.ollama.ai/x does not support tools"}}, "PROVIDER_ERROR", False),
        ({"status": 422, "body": {"detail": [{"loc": ["body"], "msg": "field required"}]}}, "PROVIDER_ERROR", False),
        ({"status": 400, "body": {"object": "error", "message": "bad template", "code": 400}}, "PROVIDER_ERROR", False),
        ({"status": 307, "headers": {"Location": "http://127.0.0.1:9/"}}, "PROVIDER_ERROR", False),
        ({"status": 502, "body": "<h1>Bad Gateway</h1>"}, "PROVIDER_UNAVAILABLE", True),
        ({"status": 408}, "PROVIDER_UNAVAILABLE", True),
    ],
)
def test_each_refusal_has_its_code(talk, refusal, code, retryable):
    provider, wire = talk([{"refuse": refusal}])

    failure = failure_of(provider)

    assert (failure.code, failure.retryable) == (code, retryable)
    assert len(wire.requests) == 1


@pytest.mark.parametrize("form", ["data: {}\n\n", "event: error\ndata: {}\n\n"])
def test_an_error_within_the_stream_ends_it(talk, form):
    error = json.dumps({"error": {"message": "boom", "type": "server_error", "code": 500}})
    provider, _ = talk([{"raw": form.replace("{}", error)}])

    failure = failure_of(provider)

    assert (failure.code, failure.retryable) == ("PROVIDER_UNAVAILABLE", True)
    assert "boom" in failure.message


def test_a_line_that_is_no_json_is_an_error_that_another_try_does_not_mend(talk):
    provider, _ = talk([{"raw": "data: <html>\n\n"}])

    failure = failure_of(provider)

    assert (failure.code, failure.retryable) == ("PROVIDER_ERROR", False)


def test_a_wrong_key_names_the_variable_and_never_the_key(talk):
    provider, _ = talk([{"text": "hi"}], api_key="another")

    failure = failure_of(provider)

    assert failure.code == "PROVIDER_AUTH"
    assert "OPENAI_API_KEY" in failure.message
    assert KEY not in failure.message


def test_a_local_server_needs_no_key_and_gets_nothing_from_the_environment(talk, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-from-the-environment")
    provider, wire = talk([{"text": "hi"}], name="ollama", key=None)

    ask(provider)

    assert provider.missing() is None
    assert provider.models() == ["m"]
    assert "from-the-environment" not in str(wire.requests[0].headers)


def test_a_server_that_is_not_there_is_named_without_its_credentials():
    provider = OpenAI(api_key=None, base_url="http://me:word@127.0.0.1:9/v1", timeout_s=1, name="ollama")

    failure = failure_of(provider)
    provider.close()

    assert (failure.code, failure.retryable) == ("PROVIDER_UNAVAILABLE", True)
    assert "ollama (127.0.0.1:9)" in failure.message
    assert "word" not in failure.message


def test_without_key_it_says_what_to_set_and_asks_nobody():
    provider = OpenAI(api_key=None, base_url=None, timeout_s=1)

    assert "OPENAI_API_KEY" in provider.missing()
    assert failure_of(provider).code == "PROVIDER_NOT_CONFIGURED"
