import json
import threading
import time

import pytest

from opencode.cancel import Cancel
from opencode.errors import Cancelled, ProviderError, SettingsError
from opencode.provider.port import AssistantMessage, Finish, Reasoning, Text, ToolCall, Usage, UserMessage
from opencode.provider.scripted import Fail, Pause, Scripted
from tests.provider.asking import PROMPT, ask, asked, failure_of, turned_once

OVERLOADED = ProviderError("overloaded", code="PROVIDER_UNAVAILABLE", retryable=True, retry_after_s=0.5)


def script(*turns, **more):
    return Scripted.from_json(json.dumps({"turns": turns, **more}))


def test_the_step_follows_from_the_request_alone():
    scripted = Scripted([[Text("one")], [Text("two")]])

    second = ask(scripted, PROMPT, AssistantMessage("one"), UserMessage("more"))

    assert second == [Text("two"), Finish("stop")]
    assert ask(scripted) == [Text("one"), Finish("stop")]


def test_a_loop_begins_anew_after_the_last_step():
    scripted = Scripted([[Text("one")], [Text("two")]], loop=True)

    assert ask(scripted, PROMPT, AssistantMessage("one"), AssistantMessage("two"))[0] == Text("one")


def test_beyond_the_last_step_the_call_fails():
    scripted = Scripted([[Text("one")]])

    with pytest.raises(ProviderError, match="1 steps"):
        ask(scripted, PROMPT, AssistantMessage("one"))


def test_a_step_with_calls_finishes_with_them_unless_it_says_otherwise():
    call = ToolCall("call_1", "bash", {})

    assert ask(Scripted([[call]])) == [call, Finish("tool_calls")]
    assert ask(Scripted([[Finish("length"), call]])) == [call, Finish("length")]


def test_an_error_is_raised_once_for_each_conversation_and_then_passed():
    scripted = Scripted([[Text("half"), OVERLOADED, Text(" whole")]])

    failure = failure_of(scripted)

    assert (failure.code, failure.retryable, failure.retry_after_s) == ("PROVIDER_UNAVAILABLE", True, 0.5)
    assert ask(scripted) == [Text("half"), Text(" whole"), Finish("stop")]
    with pytest.raises(ProviderError):
        ask(scripted, UserMessage("another conversation"))


def test_an_error_may_come_several_times_or_always():
    twice = Scripted([[Fail(OVERLOADED, times=2), Text("ok")]])
    always = Scripted([[Fail(OVERLOADED, times=None)]])

    failure_of(twice)
    failure_of(twice)
    assert ask(twice)[0] == Text("ok")
    for _ in range(5):
        failure_of(always)


def test_a_turned_switch_ends_a_pause():
    cancel, ready = Cancel(), threading.Event()
    ready.set()

    with turned_once(ready, cancel), pytest.raises(Cancelled):
        list(Scripted([[Pause(60)]]).stream(asked(), cancel))


def test_the_requests_are_kept_for_a_look():
    scripted = Scripted([[Text("one")]])

    ask(scripted, system="Be brief.")

    assert [request.system for request in scripted.requests] == ["Be brief."]


def test_a_script_in_json_says_all_that_can_be_said():
    scripted = script(
        [
            {"reasoning": "hm"},
            {"text": "a"},
            {"tool": "bash", "params": {"command": "ls"}, "call_id": "call_1"},
            {"tool": "bash", "params": "{oops", "call_id": "call_2"},
            {"pause_s": 0},
            {"usage": {"input": 3, "output": 2, "cached": 1}},
            {"finish": "stop"},
        ]
    )

    assert ask(scripted) == [
        Reasoning("hm"),
        Text("a"),
        ToolCall("call_1", "bash", {"command": "ls"}),
        ToolCall("call_2", "bash", {}, malformed="{oops"),
        Usage(3, 2, 1),
        Finish("stop"),
    ]


def test_text_can_be_repeated_and_numbered():
    scripted = script([{"text": "tick {n} ", "repeat": 3}])

    assert ask(scripted)[:-1] == [Text("tick 1 "), Text("tick 2 "), Text("tick 3 ")]


def test_errors_in_json_are_as_in_python():
    error = {"code": "PROVIDER_RATE_LIMIT", "message": "slow", "retryable": True, "retry_after_s": 2}
    scripted = script([{"error": error}, {"text": "ok"}], [{"error": error, "times": "always"}])

    failure = failure_of(scripted)

    assert (failure.code, failure.message, failure.retry_after_s) == ("PROVIDER_RATE_LIMIT", "slow", 2)
    assert ask(scripted)[0] == Text("ok")
    for _ in range(2):
        with pytest.raises(ProviderError):
            ask(scripted, PROMPT, AssistantMessage("ok"))


def test_a_step_waits_for_a_file(tmp_path):
    go = tmp_path / "go"
    seen = []
    scripted = script([{"text": "one"}, {"wait_file": str(go)}, {"text": "two"}])

    for delta in scripted.stream(asked(), Cancel()):
        seen.append(delta)
        if delta == Text("one"):
            threading.Timer(0.05, go.touch).start()

    assert seen == [Text("one"), Text("two"), Finish("stop")]


def test_a_script_is_read_from_a_file(tmp_path):
    path = tmp_path / "script.json"
    path.write_text('{"turns": [[{"text": "ü"}]]}', encoding="utf-8")

    assert ask(Scripted.from_file(path))[0] == Text("ü")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"turns": []}',
        '{"turns": [[{}]]}',
        '{"turns": [[{"text": "a", "tool": "b"}]]}',
        '{"turns": [[{"txet": "a"}]]}',
        '{"turns": [[{"text": "a"}]], "more": 1}',
        '{"turns": [[{"finish": "never"}]]}',
    ],
)
def test_a_malformed_script_stops_the_start(text):
    with pytest.raises(SettingsError, match="script is malformed"):
        Scripted.from_json(text)


def test_a_missing_file_stops_the_start(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        Scripted.from_file(tmp_path / "none.json")


def test_a_slow_script_keeps_its_pace():
    started = time.monotonic()

    ask(script([{"text": "x", "repeat": 5, "every_s": 0.02}]))

    assert time.monotonic() - started >= 0.1
