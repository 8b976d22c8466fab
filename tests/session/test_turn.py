"""Whole turns with a scripted model and real tools: which events, in which order, and exactly one end."""

import threading
import time
from pathlib import Path

import pytest

from opencode.errors import ProviderError
from opencode.provider.port import (
    AssistantMessage,
    Finish,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    UserMessage,
)
from opencode.provider.scripted import Fail, Pause, Scripted, Wait
from tests.session.story import DEADLINE_S, OWNER, assert_whole_turn, call, eventually, names, of, said

BUSY = ProviderError("busy", code="PROVIDER_UNAVAILABLE", retryable=True, retry_after_s=0.01)
REFUSED = ProviderError("wrong key", code="PROVIDER_AUTH")


def results(events):
    return [(data["tool"], data["is_error"]) for data in of(events, "tool_result")]


# Turns that complete


def test_a_turn_of_text_alone(play):
    story = play([[Text("Hel"), Text("lo"), Usage(10, 4, 3)]])
    session = story.session()

    events = story.tell(session, "hi there")

    assert names(events) == ["turn_start", "step", "text", "text", "done"]
    assert_whole_turn(events)
    start, step, done = events[0].data, events[1].data, events[-1].data
    assert (start["content"], start["model"]) == ("hi there", "scripted/script")
    assert (step["step"], step["attempt"], step["discards_from"]) == (1, 1, None)
    assert (done["status"], done["tokens"]) == ("completed", 14)
    assert done["usage"] == {"input": 10, "output": 4, "cached": 3}
    user, assistant = story.messages(session)
    assert (user.role, user.content, user.id) == ("user", "hi there", start["message_id"])
    assert (assistant.role, assistant.content, assistant.status, assistant.tokens) == (
        "assistant",
        "Hello",
        "completed",
        14,
    )


def test_an_answer_without_a_word_completes_too(play):
    story = play([[Finish("stop")]])
    session = story.session()

    events = story.tell(session)

    assert names(events) == ["turn_start", "step", "done"]
    assert_whole_turn(events)
    assert story.messages(session)[1].content == ""


def test_a_turn_that_reads_edits_and_runs_real_files(play):
    story = play(
        [
            [Text("Look."), call("read", path="a.py"), Usage(10, 1)],
            [
                Reasoning("swap it"),
                call("edit", path="a.py", old_string="1", new_string="2"),
                call("bash", "call_2", command="cat a.py; echo done"),
                Usage(20, 2, 5),
            ],
            [Text("Fixed."), Usage(30, 3)],
        ]
    )
    story.put("a.py", "x = 1\n")
    session = story.session()

    events = story.tell(session)

    assert [name for name in names(events) if name != "tool_output"] == [
        *("turn_start", "step", "text", "tool_call", "tool_result"),
        *("step", "reasoning", "tool_call", "tool_call", "tool_result", "tool_result"),
        *("step", "text", "done"),
    ]
    done = assert_whole_turn(events).data
    assert (story.directory / "a.py").read_text() == "x = 2\n"
    assert results(events) == [("read", False), ("edit", False), ("bash", False)]
    assert "x = 2\ndone\n" in of(events, "tool_result")[2]["result"]
    assert "".join(data["content"] for data in of(events, "tool_output")) == "x = 2\ndone\n"
    assert [data["step"] for data in of(events, "step")] == [1, 2, 3]
    assert done["usage"] == {"input": 60, "output": 6, "cached": 5}
    assert (story.messages(session)[1].tokens, story.messages(session)[1].content) == (66, "Look.Fixed.")
    assert story.sessions.snapshot(OWNER, session.id, limit=1, before=None)[0].usage.tokens == 66


def test_the_model_gets_each_calls_result_in_order(play):
    story = play([[Text("Both."), call("list", "a"), call("read", "b", path="no.txt")], [Text("ok")]])
    story.put("x.txt", "")
    session = story.session(tools=("list", "read"))

    events = story.tell(session, "look")

    first, second = story.provider.requests
    assert first.messages == (UserMessage("look"),)
    assert [tool.name for tool in first.tools] == ["list", "read"]
    user, assistant, listed, failed = second.messages
    assert user == UserMessage("look")
    assert (assistant.content, [made.tool for made in assistant.calls]) == ("Both.", ["list", "read"])
    assert [listed.call_id, failed.call_id] == [made.call_id for made in assistant.calls]
    assert [listed.call_id, failed.call_id] == [data["call_id"] for data in of(events, "tool_call")]
    assert "x.txt" in listed.content
    assert (listed.is_error, failed.is_error) == (False, True)


def test_call_ids_that_a_provider_gives_twice_are_made_unique(play):
    story = play([[call("list"), call("list")], [call("list")], [Text("ok")]])
    session = story.session(tools=("list",))

    events = story.tell(session)

    assert_whole_turn(events)  # the ids of calls differ, and each has its result
    assert len(of(events, "tool_call")) == 3


def test_the_next_turn_holds_what_was_said_before(play):
    story = play([[Text("one"), call("list")], [Text("two")], [Text("three")]])
    session = story.session(tools=("list",))

    story.tell(session, "first")
    story.tell(session, "second")

    messages = story.provider.requests[-1].messages
    assert [type(message) for message in messages] == [
        UserMessage,
        AssistantMessage,
        ToolResult,
        AssistantMessage,
        UserMessage,
    ]
    assert [message.content for message in messages if not isinstance(message, ToolResult)] == [
        "first",
        "one",
        "two",
        "second",
    ]


# What a model may get wrong


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (ToolCall("c", "read", {}, malformed='{"path": '), "not a JSON object"),
        (ToolCall("c", "teleport", {}), "no tool 'teleport'"),
        (ToolCall("c", "grep", {"pattern": "x"}), "no tool 'grep' in this session"),
        (ToolCall("c", "read", {"path": 7}), "path"),
        (ToolCall("c", "read", {"path": "../secret"}), "outside"),
        (ToolCall("c", "read", {"path": "x", "mode": "w"}), "mode"),
    ],
    ids=["malformed", "unknown", "not offered", "wrong type", "outside", "unknown field"],
)
def test_a_wrong_call_is_answered_and_the_turn_goes_on(play, wrong, told):
    story = play([[wrong], [Text("sorry")]])
    session = story.session(tools=("read",))

    events = story.tell(session)

    assert names(events) == ["turn_start", "step", "tool_call", "tool_result", "step", "text", "done"]
    assert_whole_turn(events)
    (result,) = of(events, "tool_result")
    assert result["is_error"]
    assert told in result["result"]
    assert story.provider.requests[-1].messages[-1].is_error


# Providers that fail


def test_a_failure_before_the_first_word_is_asked_again_and_leaves_no_trace_in_the_message(play):
    story = play([[Fail(BUSY, times=2), Text("at last")]])
    session = story.session()

    events = story.tell(session)

    assert names(events) == ["turn_start", "step", "step", "step", "text", "done"]
    assert_whole_turn(events)
    assert [(data["step"], data["attempt"], data["discards_from"]) for data in of(events, "step")] == [
        (1, 1, None),
        (1, 2, events[1].seq),
        (1, 3, events[2].seq),
    ]
    assert story.messages(session)[1].content == "at last"
    assert len(story.messages(session)[1].parts) == 1


def test_words_before_a_failure_are_discarded_by_the_next_step_and_kept_as_interrupted_parts(play):
    story = play([[Reasoning("hm"), Text("half "), Usage(5, 1), Fail(BUSY, times=1), Text("whole"), Usage(6, 2)]])
    session = story.session()

    events = story.tell(session)

    assert names(events) == ["turn_start", "step", "reasoning", "text", "step", "reasoning", "text", "text", "done"]
    assert events[4].data["discards_from"] == events[1].seq
    done = assert_whole_turn(events).data
    message = story.messages(session)[1]
    assert message.content == said(events) == "half whole"
    assert [(part["type"], part["content"], part["status"]) for part in message.parts] == [
        ("reasoning", "hm", "interrupted"),
        ("text", "half ", "interrupted"),
        ("reasoning", "hm", "completed"),
        ("text", "half whole", "completed"),
    ]
    assert done["tokens"] == 14  # the failed attempt was paid for too


def test_what_was_interrupted_is_never_told_to_the_model_again(play):
    story = play([[Text("half"), Fail(BUSY, times=1), call("list")], [Text("end")], [Text("next")]])
    session = story.session(tools=("list",))

    story.tell(session, "a")
    story.tell(session, "b")

    for request in list(story.provider.requests)[2:]:
        assert [message.content for message in request.messages if isinstance(message, AssistantMessage)][:1] == [
            "half"
        ]


def test_a_failure_that_asking_again_does_not_help_ends_the_turn_and_keeps_what_was_said(play):
    story = play([[Text("so far"), Fail(REFUSED, times=None)]])
    session = story.session()

    events = story.tell(session)

    assert names(events) == ["turn_start", "step", "text", "error", "done"]
    assert_whole_turn(events)
    assert of(events, "error")[0]["code"] == "PROVIDER_AUTH"
    assert events[-1].data["status"] == "failed"
    message = story.messages(session)[1]
    assert (message.content, message.status) == ("so far", "failed")
    assert story.sessions.turn(OWNER, session.id, events[0].data["turn_id"]).error_code == "PROVIDER_AUTH"


def test_after_the_last_attempt_the_failure_stands_and_the_last_words_count(play):
    story = play([[Text("try"), Fail(BUSY, times=None)]])
    session = story.session()

    events = story.tell(session)

    assert names(events) == ["turn_start", *["step", "text"] * 4, "error", "done"]
    assert_whole_turn(events)
    assert of(events, "error")[0]["code"] == "PROVIDER_UNAVAILABLE"
    assert story.messages(session)[1].content == said(events) == "try"


def test_a_provider_that_asks_for_too_much_patience_is_not_waited_for(play):
    patient = ProviderError("later", code="PROVIDER_RATE_LIMIT", retryable=True, retry_after_s=3600)
    story = play([[Fail(patient, times=None)]])

    events = story.tell(story.session())

    assert names(events) == ["turn_start", "step", "error", "done"]
    assert of(events, "error")[0]["code"] == "PROVIDER_RATE_LIMIT"


class Faulty(Scripted):
    """A provider with a fault of its own, after its first words."""

    def stream(self, request, cancel):
        yield Text("before the fault")
        raise RuntimeError("secret=hunter2")


class Silent(Scripted):
    """A provider whose stream ends without saying that the model has finished."""

    def stream(self, request, cancel):
        self.requests.append(request)
        yield Text(f"broken {len(self.requests)}")
        if len(self.requests) > 1:
            yield Finish("stop")


class Unset(Scripted):
    def missing(self):
        return "set SCRIPT_API_KEY"


def test_a_fault_of_the_provider_ends_the_turn_visibly_without_a_secret_and_keeps_what_was_shown(play, caplog):
    story = play(Faulty([]))
    session = story.session()

    events = story.tell(session)

    assert names(events) == ["turn_start", "step", "text", "error", "done"]
    assert_whole_turn(events)
    assert of(events, "error")[0]["code"] == "TURN_INTERRUPTED"
    assert "hunter2" not in str(events)
    assert story.messages(session)[1].content == said(events) == "before the fault"
    assert "failed by a fault of the server" in caplog.text


def test_a_stream_that_just_ends_is_taken_for_broken_and_asked_again(play):
    story = play(Silent([]))
    session = story.session()

    events = story.tell(session)

    assert names(events) == ["turn_start", "step", "text", "step", "text", "done"]
    assert story.messages(session)[1].content == "broken 2"


def test_a_provider_without_its_key_ends_the_turn_with_what_to_set(play):
    story = play(Unset([]))
    session = story.session()

    events = story.tell(session)

    assert names(events) == ["turn_start", "error", "done"]
    assert_whole_turn(events)
    assert of(events, "error")[0]["code"] == "PROVIDER_NOT_CONFIGURED"
    assert "set SCRIPT_API_KEY" in of(events, "error")[0]["message"]
    assert story.sessions.create(OWNER).id != session.id  # the server is none the worse for it


# Limits


def test_the_limit_of_steps(play):
    story = play([[call("list")]] * 9, max_steps=2)
    events = story.tell(story.session(tools=("list",)))

    assert names(events) == ["turn_start", *["step", "tool_call", "tool_result"] * 2, "error", "done"]
    assert_whole_turn(events)
    assert of(events, "error")[0]["code"] == "LIMIT_REACHED"
    assert "2 steps (OPENCODE_MAX_STEPS)" in of(events, "error")[0]["message"]
    assert len(story.provider.requests) == 2


def test_the_limit_of_tokens(play):
    story = play([[call("list"), Usage(60, 40)]] * 9, max_tokens=150)
    events = story.tell(story.session(tools=("list",)))

    assert len(of(events, "step")) == 2
    assert_whole_turn(events)
    assert of(events, "error")[0]["code"] == "LIMIT_REACHED"
    assert "OPENCODE_MAX_TOKENS" in of(events, "error")[0]["message"]
    assert events[-1].data["tokens"] == 200


def test_an_answer_that_ends_within_the_limits_is_complete_even_where_it_spent_them(play):
    story = play([[Text("done"), Usage(100, 100)]], max_steps=1, max_tokens=150)

    assert story.tell(story.session())[-1].data["status"] == "completed"


@pytest.mark.parametrize("busy", [[Text("a"), Pause(60)], [call("bash", command="sleep 60")]], ids=["model", "tool"])
def test_the_limit_of_seconds(play, busy):
    story = play([busy], turn_timeout_s=0.2)
    began = time.monotonic()

    events = story.tell(story.session())

    assert time.monotonic() - began < DEADLINE_S / 2
    assert_whole_turn(events)
    assert names(events)[-2:] == ["error", "done"]
    assert events[-1].data["status"] == "failed"
    assert of(events, "error")[0]["code"] == "LIMIT_REACHED"
    assert "0.2 seconds (OPENCODE_TURN_TIMEOUT_S)" in of(events, "error")[0]["message"]


def test_an_answer_cut_off_at_its_output_limit_says_so_and_runs_none_of_its_calls(play):
    story = play([[Text("and then"), call("write", path="x", content="y"), Finish("length")]])
    session = story.session()

    events = story.tell(session)

    assert_whole_turn(events)
    assert of(events, "error")[0]["code"] == "LIMIT_REACHED"
    assert results(events) == [("write", True)]
    assert not (story.directory / "x").exists()
    assert story.messages(session)[1].content == "and then"


# Aborts


def test_an_abort_in_the_midst_of_text_ends_the_turn_and_keeps_the_text(play):
    story = play([[Text("half"), Wait(threading.Event())], [Text("after")]])
    session = story.session()
    turn = story.send(session)
    story.until(turn, "text")

    assert story.sessions.abort(OWNER, session.id) is True

    events = story.until_done(turn)
    assert names(events) == ["turn_start", "step", "text", "done"]
    assert assert_whole_turn(events).data["status"] == "aborted"
    message = story.messages(session)[1]
    assert (message.content, message.status) == ("half", "aborted")
    assert story.sessions.abort(OWNER, session.id) is False
    assert story.tell(session)[-1].data["status"] == "completed"


def test_an_abort_in_the_pause_before_another_attempt_keeps_the_text_since_nothing_replaces_it(play):
    slow = ProviderError("busy", code="PROVIDER_UNAVAILABLE", retryable=True, retry_after_s=50)
    story = play([[Text("half"), Fail(slow, times=None)]])
    session = story.session()
    turn = story.send(session)
    story.until(turn, "text")
    eventually(lambda: len(story.provider.requests) == 1)

    story.sessions.abort(OWNER, session.id)

    events = story.until_done(turn)
    assert names(events) == ["turn_start", "step", "text", "done"]
    assert story.messages(session)[1].content == said(events) == "half"


def test_an_abort_while_bash_runs_leaves_no_process_and_runs_no_further_call(play):
    story = play(
        [[call("bash", command="echo $$; sleep 300 & echo $!; wait"), call("write", "b", path="x", content="y")]]
    )
    session = story.session()
    turn = story.send(session)
    story.until(turn, "tool_output")
    pids = eventually(
        lambda: len(lines := "".join(data["content"] for data in outputs(story, session)).split()) == 2 and lines
    )

    story.sessions.abort(OWNER, session.id)

    events = story.until_done(turn)
    assert assert_whole_turn(events).data["status"] == "aborted"
    assert results(events) == [("bash", True), ("write", True)]
    eventually(lambda: not any(alive(int(pid)) for pid in pids))
    assert not (story.directory / "x").exists()


def outputs(story, session):
    return of(story.stored(session), "tool_output")


def alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_an_abort_names_a_turn_or_means_the_running_one(play):
    story = play([[Wait(threading.Event())]])
    session = story.session()
    turn = story.send(session)

    assert story.sessions.abort(OWNER, session.id, "trn_other") is False
    assert story.sessions.abort(OWNER, session.id, turn.id) is True
    assert story.until_done(turn)[-1].data["status"] == "aborted"


def test_many_aborts_at_once_end_the_turn_once(play):
    story = play([[Wait(threading.Event())]])
    session = story.session()
    turn = story.send(session)
    threads = [threading.Thread(target=story.sessions.abort, args=(OWNER, session.id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)

    assert_whole_turn(story.until_done(turn))
    assert names(story.stored(session)).count("done") == 1
