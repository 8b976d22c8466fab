import threading

import pytest

from opencode.provider.anthropic import Anthropic
from opencode.provider.port import (
    AssistantMessage,
    Finish,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
    UserMessage,
)
from tests.provider.asking import PROMPT, ask, failure_of
from tests.wire.anthropic_server import AnthropicWire

KEY = "sk-ant-api03-secret"


@pytest.fixture
def talk():
    """Start a wire with replies and give the provider and the wire."""
    opened = []

    def start(*replies, timeout_s=10, **options):
        wire = AnthropicWire(list(replies), **options).__enter__()
        provider = Anthropic(api_key=KEY, base_url=wire.base_url, timeout_s=timeout_s)
        opened.append((provider, wire))
        return provider, wire

    yield start
    for provider, wire in opened:
        provider.close()
        wire.__exit__()


def sent(wire):
    return wire.requests[-1].body


def test_the_request_has_system_tools_limit_and_key(talk):
    provider, wire = talk([{"text": "hi"}], api_key=KEY)
    tool = ToolSpec("bash", "Runs a command.", {"type": "object", "properties": {"command": {"type": "string"}}})

    ask(provider, model="claude-sonnet-5-5", system="Be brief.", tools=(tool,), max_output_tokens=99)

    body = sent(wire)
    assert (body["model"], body["max_tokens"], body["stream"]) == ("claude-sonnet-5-5", 99, True)
    assert body["system"] == [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    assert body["tools"] == [{"name": "bash", "description": "Runs a command.", "input_schema": tool.parameters}]


def test_a_tool_without_parameters_has_an_empty_object_schema(talk):
    provider, wire = talk([{"text": "hi"}])

    ask(provider, tools=(ToolSpec("now", "Tells the time."),))

    assert sent(wire)["tools"][0]["input_schema"] == {"type": "object", "properties": {}}


def test_results_of_one_step_stand_together_in_one_user_message(talk):
    provider, wire = talk([{"text": "done"}])
    calls = (ToolCall("toolu_1", "read", {"path": "a"}), ToolCall("toolu_2", "read", {"path": "b"}))

    ask(
        provider,
        PROMPT,
        AssistantMessage("I look.", calls),
        ToolResult("toolu_1", "read", "text"),
        ToolResult("toolu_2", "read", "no such file", is_error=True),
    )

    assert sent(wire)["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {"path": "a"}},
                {"type": "tool_use", "id": "toolu_2", "name": "read", "input": {"path": "b"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "text"}]},
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_2",
                    "content": [{"type": "text", "text": "no such file"}],
                    "is_error": True,
                    "cache_control": {"type": "ephemeral"},
                },
            ],
        },
    ]


def test_empty_text_is_never_sent(talk):
    provider, wire = talk([{"text": "done"}])

    ask(
        provider,
        PROMPT,
        AssistantMessage("", (ToolCall("toolu_1", "bash", {}),)),
        ToolResult("toolu_1", "bash", ""),
        AssistantMessage(" \n"),
        UserMessage("Go on."),
        system="  ",
    )

    body = sent(wire)
    assert "system" not in body
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][2]["content"][0] == {"type": "tool_result", "tool_use_id": "toolu_1"}


def test_the_prompt_is_cached_up_to_its_last_block_and_earlier_marks_are_not_kept(talk):
    provider, wire = talk([{"text": "done"}])

    ask(provider, PROMPT, AssistantMessage("Yes."), UserMessage("And now?"))

    marks = [["cache_control" in block for block in message["content"]] for message in sent(wire)["messages"]]
    assert marks == [[False], [False], [True]]


def test_input_counts_what_was_read_from_and_written_to_the_cache(talk):
    provider, _ = talk([{"text": "hi"}, {"usage": {"input": 100, "cached": 60, "written": 30, "output": 8}}])

    usages = [delta for delta in ask(provider) if isinstance(delta, Usage)]

    assert usages == [Usage(input=100, output=1, cached=60), Usage(input=100, output=8, cached=60)]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("something_new", "stop"),
    ],
)
def test_every_stop_reason_ends_the_answer(talk, reason, finish):
    provider, _ = talk([{"text": "hi"}, {"finish": reason}])

    assert ask(provider)[-1] == Finish(finish)


def test_a_refusal_is_said_aloud(talk):
    provider, _ = talk([{"finish": "refusal"}])

    failure = failure_of(provider)

    assert failure.code == "PROVIDER_ERROR"
    assert "This was declined." in failure.message


def test_a_call_cut_by_the_output_limit_is_marked_as_malformed(talk):
    provider, _ = talk(
        [{"tool": "write", "params": '{"path": "a", "content": "lo', "call_id": "t"}, {"finish": "length"}]
    )

    deltas = ask(provider)

    assert ToolCall("t", "write", {}, malformed='{"path": "a", "content": "lo') in deltas
    assert deltas[-1] == Finish("length")


@pytest.mark.parametrize(
    ("status", "kind", "message", "expected"),
    [
        (401, "authentication_error", "invalid x-api-key", ("PROVIDER_AUTH", False)),
        (403, "permission_error", "no access", ("PROVIDER_AUTH", False)),
        (404, "not_found_error", "model: claude-0", ("PROVIDER_ERROR", False)),
        (400, "invalid_request_error", "max_tokens: too large", ("PROVIDER_ERROR", False)),
        (400, "invalid_request_error", "prompt is too long: 205000 tokens > 200000", ("CONTEXT_OVERFLOW", False)),
        (413, "request_too_large", "Request exceeds the maximum size", ("CONTEXT_OVERFLOW", False)),
        (429, "rate_limit_error", "too fast", ("PROVIDER_RATE_LIMIT", True)),
        (500, "api_error", "Internal server error", ("PROVIDER_UNAVAILABLE", True)),
        (503, "api_error", "Service unavailable", ("PROVIDER_UNAVAILABLE", True)),
        (529, "overloaded_error", "Overloaded", ("PROVIDER_UNAVAILABLE", True)),
    ],
)
def test_each_status_has_its_code_and_the_providers_own_words(talk, status, kind, message, expected):
    provider, wire = talk([{"refuse": {"status": status, "type": kind, "message": message}}])

    failure = failure_of(provider)

    assert (failure.code, failure.retryable) == expected
    assert message in failure.message
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    ("kind", "code", "retryable"),
    [
        ("overloaded_error", "PROVIDER_UNAVAILABLE", True),
        ("api_error", "PROVIDER_UNAVAILABLE", True),
        ("rate_limit_error", "PROVIDER_RATE_LIMIT", True),
        ("invalid_request_error", "PROVIDER_ERROR", False),
        ("unheard_of_error", "PROVIDER_UNAVAILABLE", True),
    ],
)
def test_an_error_within_the_stream_has_the_code_of_its_kind(talk, kind, code, retryable):
    provider, _ = talk([{"text": "one"}, {"fault": {"type": kind, "message": "so it is"}}])

    failure = failure_of(provider)

    assert (failure.code, failure.retryable) == (code, retryable)
    assert "so it is" in failure.message


def test_a_wrong_key_names_the_variable_and_never_the_key(talk):
    provider, _ = talk([{"text": "hi"}], api_key="another")

    failure = failure_of(provider)

    assert failure.code == "PROVIDER_AUTH"
    assert "ANTHROPIC_API_KEY" in failure.message
    assert KEY not in failure.message


def test_a_clean_end_before_the_answer_is_finished_is_a_cut_stream(talk):
    provider, _ = talk([{"text": "one"}, {"end": True}])

    failure = failure_of(provider)

    assert (failure.code, failure.retryable) == ("PROVIDER_UNAVAILABLE", True)


def test_a_line_that_is_no_json_is_an_error_that_another_try_does_not_mend(talk):
    provider, _ = talk([{"text": "one"}, {"raw": "event: content_block_delta\ndata: {oops\n\n"}])

    failure = failure_of(provider)

    assert (failure.code, failure.retryable) == ("PROVIDER_ERROR", False)


def test_events_of_the_future_are_passed_over(talk):
    future = 'event: novelty\ndata: {"type": "novelty", "deep": {"x": [1]}}\n\n'
    delta = '{"type": "content_block_delta", "index": 0, "delta": {"type": "new_delta", "x": 1}}'
    provider, _ = talk([{"text": "one"}, {"raw": future + f"data: {delta}\n\n"}])

    assert [delta for delta in ask(provider) if isinstance(delta, Text)] == [Text("one")]


def test_silence_beyond_the_time_out_is_worth_another_try(talk):
    provider, _ = talk([{"text": "one"}, {"silence": True}], timeout_s=0.1)

    failure = failure_of(provider)

    assert (failure.code, failure.retryable) == ("PROVIDER_UNAVAILABLE", True)
    assert "in time" in failure.message


def test_without_key_and_address_it_says_what_to_set_and_asks_nobody():
    provider = Anthropic(api_key=None, base_url=None, timeout_s=1)

    assert "ANTHROPIC_API_KEY" in provider.missing()
    assert failure_of(provider).code == "PROVIDER_NOT_CONFIGURED"


def test_an_address_of_ones_own_needs_no_key(talk, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "from-the-environment")
    _, wire = talk([{"text": "hi"}])
    provider = Anthropic(api_key=None, base_url=wire.base_url, timeout_s=5)

    assert provider.missing() is None
    ask(provider)
    provider.close()

    assert "from-the-environment" not in str(wire.requests[0].headers)


def test_many_streams_in_a_row_leave_nothing_behind(talk):
    provider, _ = talk([{"text": "hi"}], loop=True)
    provider.warm()
    before = threading.active_count()

    for _ in range(20):
        ask(provider)

    # The wire's handler of the last one may still be ending.
    assert threading.active_count() <= before + 2
