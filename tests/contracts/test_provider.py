"""What every model provider keeps, whatever stands behind it.

To add a provider, write a function that takes a stack and a reply (in the wire servers' words, `tests/wire/wire.py`)
and returns the provider and a request that makes it give this reply; it may skip what it cannot play. Name it in
SETUPS.
"""

import contextlib
import threading
import time

import pytest

from opencode.cancel import Cancel
from opencode.errors import Cancelled, ProviderError
from opencode.provider.anthropic import Anthropic
from opencode.provider.openai import OpenAI
from opencode.provider.port import Finish, Reasoning, Text, ToolCall, ToolSpec, Usage
from opencode.provider.script_steps import Pause
from opencode.provider.scripted import Scripted, Wait
from opencode.provider.tool_arguments import finished_call
from tests.provider.asking import asked, turned_once
from tests.wire.anthropic_server import AnthropicWire
from tests.wire.openai_server import OpenAIWire

TOOLS = (ToolSpec("bash", "Runs a command.", {"properties": {"command": {"type": "string"}}}),)


def anthropic(stack, reply):
    wire = stack.enter_context(AnthropicWire([reply], loop=True))
    provider = Anthropic(api_key="sk-ant-test", base_url=wire.base_url, timeout_s=10)
    stack.callback(provider.close)
    return provider, asked(tools=TOOLS)


def openai(stack, reply):
    wire = stack.enter_context(OpenAIWire([reply], loop=True))
    provider = OpenAI(api_key="sk-test", base_url=wire.base_url, timeout_s=10)
    stack.callback(provider.close)
    return provider, asked(tools=TOOLS)


def scripted(stack, reply):
    return Scripted([[_step_entry(entry) for entry in reply]], loop=True), asked(tools=TOOLS)


def _step_entry(entry):  # noqa: PLR0911 - a table
    match entry:
        case {"text": text}:
            return Text(text)
        case {"reasoning": text}:
            return Reasoning(text)
        case {"tool": tool}:
            return finished_call(entry.get("call_id", ""), tool, entry.get("params", {}))
        case {"usage": counts}:
            return Usage(counts["input"], counts["output"], counts["cached"])
        case {"finish": reason}:
            return Finish(reason)
        case {"wait": event}:
            return Wait(event)
        case {"silence": True}:
            return Pause(60)
        case {"cut": True}:
            return ProviderError("cut", code="PROVIDER_UNAVAILABLE", retryable=True)
        case {"refuse": _}:
            return ProviderError("slow down", code="PROVIDER_RATE_LIMIT", retryable=True, retry_after_s=2)


SETUPS = {"anthropic": anthropic, "openai": openai, "scripted": scripted}


@pytest.fixture(params=SETUPS)
def play(request):
    with contextlib.ExitStack() as stack:
        yield lambda *reply: SETUPS[request.param](stack, list(reply))


def kinds(deltas):
    return [type(delta) for delta in deltas]


def texts(deltas):
    return "".join(delta.content for delta in deltas if isinstance(delta, Text))


def at_each_text(deltas, then):
    for delta in deltas:
        if isinstance(delta, Text):
            then()


def test_text_is_given_while_the_model_is_still_writing(play):
    more = threading.Event()
    provider, request = play({"text": "one "}, {"wait": more}, {"text": "two"})

    seen = []
    for delta in provider.stream(request, Cancel()):
        seen.append(delta)
        # The second piece is written only after the first has been seen here.
        if isinstance(delta, Text):
            more.set()

    assert texts(seen) == "one two"
    assert sum(isinstance(delta, Text) for delta in seen) >= 2


def test_text_with_odd_characters_comes_unchanged(play):
    text = 'naïve 🙂\u2028next\u0085line\r\nquote " back\\slash'
    provider, request = play({"text": text})

    assert texts(provider.stream(request, Cancel())) == text


def test_reasoning_is_told_apart_from_text(play):
    provider, request = play({"reasoning": "hm"}, {"text": "yes"})

    deltas = list(provider.stream(request, Cancel()))

    assert Reasoning("hm") in deltas
    assert texts(deltas) == "yes"


def test_a_tool_call_is_given_once_and_whole(play):
    params = {"command": "grep -n 'ü' *.py", "options": {"deep": [1, 2, {"more": None}]}}
    provider, request = play({"text": "I look."}, {"tool": "bash", "params": params, "call_id": "call_1"})

    deltas = list(provider.stream(request, Cancel()))

    assert [delta for delta in deltas if isinstance(delta, ToolCall)] == [ToolCall("call_1", "bash", params)]
    assert deltas[-1] == Finish("tool_calls")


def test_several_calls_keep_their_order_and_their_arguments(play):
    provider, request = play(
        {"tool": "read", "params": {"path": "a"}, "call_id": "call_a"},
        {"tool": "read", "params": {"path": "b"}, "call_id": "call_b"},
        {"tool": "list", "call_id": "call_c"},
    )

    calls = [delta for delta in provider.stream(request, Cancel()) if isinstance(delta, ToolCall)]

    assert calls == [
        ToolCall("call_a", "read", {"path": "a"}),
        ToolCall("call_b", "read", {"path": "b"}),
        ToolCall("call_c", "list", {}),
    ]


def test_arguments_that_are_no_object_are_kept_as_they_were_written(play):
    provider, request = play({"tool": "bash", "params": '{"command": "ls', "call_id": "call_1"})

    calls = [delta for delta in provider.stream(request, Cancel()) if isinstance(delta, ToolCall)]

    assert calls == [ToolCall("call_1", "bash", {}, malformed='{"command": "ls')]


def test_usage_stands_before_the_end_and_counts_cached_tokens_in(play):
    provider, request = play({"text": "hello"}, {"usage": {"input": 120, "output": 7, "cached": 100}})

    deltas = list(provider.stream(request, Cancel()))

    assert [delta for delta in deltas if isinstance(delta, Usage)][-1] == Usage(input=120, output=7, cached=100)
    assert kinds(deltas).index(Finish) == len(deltas) - 1


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_the_last_item_says_why_the_model_stopped(play, reason):
    provider, request = play({"text": "hello"}, {"finish": reason})

    deltas = list(provider.stream(request, Cancel()))

    assert deltas[-1] == Finish(reason)
    assert kinds(deltas).count(Finish) == 1


def test_a_turned_switch_ends_a_silent_stream_at_once(play):
    provider, request = play({"text": "one"}, {"silence": True})
    cancel, writing = Cancel(), threading.Event()

    with turned_once(writing, cancel) as moment, pytest.raises(Cancelled) as caught:
        at_each_text(provider.stream(request, cancel), writing.set)
    ended = time.monotonic()

    assert caught.value.reason == "aborted"
    assert ended - moment[0] < 0.5


def test_a_switch_that_is_turned_by_the_reader_ends_the_stream(play):
    provider, request = play({"text": "one"}, {"text": "two"}, {"silence": True})
    cancel = Cancel()

    with pytest.raises(Cancelled):
        at_each_text(provider.stream(request, cancel), cancel.cancel)


def test_a_switch_that_was_turned_before_asks_nobody(play):
    provider, request = play({"text": "one"})
    cancel = Cancel()
    cancel.cancel("stopping")

    with pytest.raises(Cancelled) as caught:
        next(iter(provider.stream(request, cancel)))

    assert caught.value.reason == "stopping"


def test_a_refusal_before_the_first_item_says_whether_to_ask_again(play):
    provider, request = play({"refuse": {"status": 429, "message": "slow down", "headers": {"Retry-After": "2"}}})

    with pytest.raises(ProviderError) as caught:
        list(provider.stream(request, Cancel()))

    assert caught.value.code == "PROVIDER_RATE_LIMIT"
    assert caught.value.retryable
    assert caught.value.retry_after_s == 2


def test_a_stream_that_breaks_off_is_worth_another_try(play):
    provider, request = play({"text": "one"}, {"cut": True})
    seen = []

    with pytest.raises(ProviderError) as caught:
        seen.extend(provider.stream(request, Cancel()))

    assert caught.value.code == "PROVIDER_UNAVAILABLE"
    assert caught.value.retryable


def test_a_stream_left_early_leaves_the_provider_usable(play):
    more = threading.Event()
    provider, request = play({"text": "one"}, {"wait": more})

    stream = provider.stream(request, Cancel())
    while not isinstance(next(stream), Text):
        pass
    stream.close()
    more.set()

    assert texts(provider.stream(request, Cancel())) == "one"


def test_one_provider_serves_many_streams_at_once(play):
    together = threading.Barrier(4)
    provider, request = play({"text": "one "}, {"text": "two"})
    results = []

    def run():
        together.wait(10)
        results.append(texts(provider.stream(request, Cancel())))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == ["one two"] * 4


def test_what_is_usable_is_said_without_asking(play):
    provider, _ = play({"text": "one"})

    assert provider.missing() is None
    assert all(isinstance(model, str) and not model.startswith(f"{provider.name}/") for model in provider.models())
