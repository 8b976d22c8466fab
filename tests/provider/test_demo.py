"""The guide at work: the real tools on a real copy of the example."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opencode.cancel import Cancel
from opencode.errors import Cancelled
from opencode.provider.demo import Demo
from opencode.provider.port import (
    AssistantMessage,
    Finish,
    ModelRequest,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
    UserMessage,
)
from opencode.tool.bash import Bash, tool_environment
from opencode.tool.edit import Edit
from opencode.tool.glob import Glob
from opencode.tool.grep import Grep, find_ripgrep
from opencode.tool.list import List
from opencode.tool.port import ToolContext, ToolOutcome
from opencode.tool.read import Read
from opencode.tool.toolbox import Toolbox
from opencode.tool.write import Write

EXAMPLE = Path(__file__).parents[2] / "examples" / "calculator"
HINT = "Set ANTHROPIC_API_KEY and restart."
ALL_TOOLS = ("bash", "read", "write", "edit", "grep", "glob", "list")
DEFAULT_TOOLS = ("bash", "edit", "read", "write")
MOST_CALLS = 20


def toolbox():
    search_path = os.environ.get("PATH", os.defpath)
    bash = Bash(environment=tool_environment(os.environ))
    return Toolbox([bash, Read(), Write(), Edit(), Grep(ripgrep=find_ripgrep(search_path)), Glob(), List()])


def ask(messages, tools=ALL_TOOLS, cancel=None):
    request = ModelRequest("guide", "You are…", tuple(messages), tuple(ToolSpec(name, "") for name in tools))
    return list(Demo(hint=HINT, delay_s=0).stream(request, cancel or Cancel()))


class Turn:
    """The loop's part in small: calls the provider and the tools until the provider stops."""

    def __init__(self, text, run, tools=ALL_TOOLS):
        self.messages = [UserMessage(text)]
        self.calls, self.results, self.text, self.reasoning = [], [], "", ""
        for self.rounds in range(1, MOST_CALLS + 1):
            deltas = ask(self.messages, tools)
            assert isinstance(deltas[-1], Finish)
            assert isinstance(deltas[-2], Usage)
            said = "".join(delta.content for delta in deltas if isinstance(delta, Text))
            self.text += said
            self.reasoning += "".join(delta.content for delta in deltas if isinstance(delta, Reasoning))
            calls = tuple(delta for delta in deltas if isinstance(delta, ToolCall))
            assert deltas[-1].reason == ("tool_calls" if calls else "stop")
            self.messages.append(AssistantMessage(said, calls))
            if not calls:
                return
            for call in calls:
                assert call.tool in tools
                outcome = run(call)
                self.calls.append((call.tool, call.params))
                self.results.append(outcome)
                self.messages.append(ToolResult(call.call_id, call.tool, outcome.content, outcome.is_error))
        raise AssertionError("the guide does not come to an end")


def turn(directory, text, tools=ALL_TOOLS):
    box = toolbox()
    return Turn(text, lambda call: box.run(call.tool, call.params, ToolContext(directory, Cancel())), tools)


@pytest.fixture(name="example")
def example_project(tmp_path):
    directory = tmp_path / "calculator"
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns("__pycache__"))
    return directory


@pytest.fixture(name="empty")
def empty_directory(tmp_path):
    directory = tmp_path / "empty"
    directory.mkdir()
    return directory


def test_plain_requests_are_carried_out_and_reported_from_the_results(example):
    text = (
        'list the files then read calculator.py lines 1-3 then search for "def " in calculator.py then find files'
        ' matching *.py then write notes.txt with "hello" then replace hello with bye in notes.txt then run cat notes.txt'
    )
    done = turn(example, text)

    assert [tool for tool, _ in done.calls] == ["list", "read", "grep", "glob", "write", "edit", "bash"]
    assert (example / "notes.txt").read_text() == "bye"
    assert "5 entries" in done.text
    assert "lines 1 to 3" in done.text
    assert "6 matches" in done.text
    assert "2 files" in done.text
    assert "the last: `bye`" in done.text
    assert done.text.endswith("All 7 steps are done.")


def test_looking_goes_through_bash_where_only_the_default_tools_are_offered(example):
    text = "list the files then search for def in calculator.py then find files matching *.py then search for nothing-like-this"
    done = turn(example, text, DEFAULT_TOOLS)
    assert {tool for tool, _ in done.calls} == {"bash"}
    assert "5 entries" in done.text
    assert "`calculator.py:9:def add(a, b):`" in done.text
    assert "2 files" in done.text
    assert "No match" in done.text
    assert "All 4 steps" in done.text


def test_quotes_reach_the_shell_unharmed(empty):
    (empty / "it's $HOME; `x`").mkdir()
    done = turn(empty, 'list the files in "it\'s $HOME; `x`"', DEFAULT_TOOLS)
    assert "There is nothing in it." in done.text


@pytest.mark.parametrize("special", ["a.b(c)", "x[0]", "$y^", "a|b", "c++", "\\d", "a-b c#d"])
def test_search_takes_text_literally(empty, special):
    (empty / "a.txt").write_text(f"1\n<{special}>\n")
    assert "1 match " in turn(empty, f'search for "{special}"').text
    assert "1 match " in turn(empty, f'search for "{special}"', DEFAULT_TOOLS).text


def test_tests_are_run_as_the_project_runs_them(example, empty):
    failing = turn(example, "run the tests then list the files")
    assert failing.calls[1] == ("bash", {"command": "python3 -m unittest -v"})
    assert "1 of 7 tests fails" in failing.text
    assert "Not done: “list the files”" in failing.text

    assert "no tests here" in turn(empty, "run the tests").text
    (empty / "Makefile").write_text("test:\n\t@echo 3 passed\n")
    assert "All 3 tests pass" in turn(empty, "run the tests").text


def test_a_command_named_by_a_result_is_not_run_unless_it_is_one_of_ours():
    evil = Turn("run the tests", lambda _call: ToolOutcome("rm -rf /\n"))
    assert len(evil.calls) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("read missing.txt", "does not exist"),
        ("run exit 3", "exit code 3"),
        ("replace zzz with y in calculator.py", "does not occur"),
        ('replace "a" with "c" in calculator.py', "replace all"),
    ],
)
def test_a_failing_step_ends_the_chain_and_names_what_was_not_done(example, text, said):
    done = turn(example, f"{text} then write x.txt with y then ls")
    assert len(done.calls) == 1
    assert said in done.text
    assert "Not done: “write x.txt with y”; “ls”." in done.text
    assert not (example / "x.txt").exists()


def test_a_refused_permission_ends_the_chain():
    done = Turn("run ls then read a.md", lambda _call: ToolOutcome("The user rejected this call.", is_error=True))
    assert "The user rejected this call." in done.text
    assert "Not done: “read a.md”" in done.text


@pytest.mark.parametrize(
    "text", ["why is the sky blue?", "", "hello", "help", "x" * 1_000_000, "list the files then dance"]
)
def test_other_requests_get_three_that_work_here_and_the_hint(example, text):
    done = turn(example, text)
    offered = [line[3:-1] for line in done.text.rpartition("These work here:")[2].splitlines() if line.startswith("- ")]
    assert len(offered) == 3
    assert "not an AI" in done.text
    assert done.text.endswith(HINT)
    assert not {tool for tool, _ in done.calls} - {"list"}
    for request in offered:
        assert turn(example, request).calls[0][0] in ALL_TOOLS


def test_suggestions_can_be_carried_out_in_an_empty_directory(empty):
    text = turn(empty, "what?").text
    offered = [line[3:-1] for line in text.splitlines() if line.startswith("- ")]
    assert len(offered) == 3
    for request in offered:
        assert "That did not work" not in turn(empty, request).text


@pytest.mark.parametrize(
    "text", ["list the files", "read a.md", "run ls", "run the tests", "write a.md with x", "hi", "ls then ls"]
)
def test_without_tools_it_says_so_and_calls_none(text):
    done = Turn(text, pytest.fail, tools=())
    assert "offer" in done.text
    assert done.calls == []


def test_same_request_gives_the_same_deltas_but_for_ids():
    results = [
        UserMessage("ls then read a.md"),
        AssistantMessage("", ()),
        ToolResult("call_1", "list", "a.md  (3 bytes)"),
    ]

    def masked():
        return [ToolCall("", d.tool, d.params) if isinstance(d, ToolCall) else d for d in ask(results)]

    assert masked() == masked()
    assert ask(results)[-3] != ask(results)[-3]


def test_only_the_last_request_counts():
    history = [UserMessage("read a.md"), AssistantMessage("…"), ToolResult("c", "read", "1\tx"), UserMessage("run pwd")]
    calls = [delta for delta in ask(history) if isinstance(delta, ToolCall)]
    assert [(call.tool, call.params) for call in calls] == [("bash", {"command": "pwd"})]


def test_results_of_another_models_calls_are_not_taken_for_its_own():
    deltas = ask([UserMessage("read a.md"), AssistantMessage(""), ToolResult("c", "bash", "x")])
    assert "not from my plan" in "".join(delta.content for delta in deltas if isinstance(delta, Text))
    assert deltas[-1] == Finish("stop")


def test_text_streams_in_words_and_ends_with_usage_and_finish():
    deltas = ask([UserMessage("list the files")])
    assert [delta.content for delta in deltas[:3]] == ["I'll ", "list ", "the "]
    assert isinstance(deltas[-3], ToolCall)
    assert deltas[-2].input > 0
    assert deltas[-1] == Finish("tool_calls")


def test_cancel_ends_the_stream():
    cancel = Cancel()
    request = ModelRequest("guide", "", (UserMessage("help"),), ())
    stream = Demo(hint=HINT, delay_s=30).stream(request, cancel)
    next(stream)
    cancel.cancel("aborted")
    with pytest.raises(Cancelled):
        next(stream)
    with pytest.raises(Cancelled):
        ask([UserMessage("help")], cancel=cancel)


def test_it_is_always_configured():
    demo = Demo(hint=HINT)
    assert (demo.name, demo.models(), demo.missing()) == ("demo", ["guide"], None)
    demo.close()


WORDS = ["then", "run", "read", "write", "replace", "with", "in", "to", "the tests", "start", "list", "files", "search", "for",
         "a.py", "'", '"', "`", "```", "\n", "1. ", ":", ";", ",", "hello", "and", "é", "\0", "\ud800", "$", "lines 3-"]  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    text=st.one_of(st.text(), st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join)),
    contents=st.lists(st.tuples(st.one_of(st.text(), st.sampled_from(["[exit code 1]", "1\tx", "a:1: b", "calculator.py\ntest_calculator.py",
                                                                    "Ran 3 tests in 1s\nFAILED (failures=1)", "python3 -m unittest -v\n", "1\treturn a // b"])), st.booleans()), min_size=MOST_CALLS, max_size=MOST_CALLS),
    tools=st.sets(st.sampled_from(ALL_TOOLS)),
)  # fmt: skip
def test_any_text_and_any_results_come_to_an_end(text, contents, tools):
    replies = iter(contents)

    def run(_call):
        content, is_error = next(replies)
        return ToolOutcome(content, is_error)

    done = Turn(text, run, tuple(sorted(tools)))
    assert done.text
    done.text.encode()
