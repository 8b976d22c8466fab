"""The guided tour of the example project: its failing test, the bug, the fix, the proof.

The bug is known beforehand, and said to be; that it is there, and what came of each step, is read from the results.
"""

from opencode.provider.demo import results
from opencode.provider.demo.calls import call_for
from opencode.provider.demo.plan import Call, Context, Plan
from opencode.provider.demo.requests import ListFiles
from opencode.provider.demo.testing import UNITTEST, verdict
from opencode.provider.demo.understanding import shorten
from opencode.provider.port import Reasoning, Text, ToolResult

MODULE = "calculator.py"
TESTS = "test_calculator.py"
BUG = "return a // b"
FIX = "return a / b"
BREAK = f'replace "{FIX}" with "{BUG}" in {MODULE}'

_NEEDED = ("bash", "read", "edit")
_DIFF = (
    f"if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then git diff --no-color -- {MODULE};"
    " else echo 'not a git repository'; fi"
)
_NAMES_SHOWN = 12


def tour(context: Context) -> Plan:
    missing = [tool for tool in _NEEDED if tool not in context.tools]
    if missing:
        names = " and ".join(f"`{tool}`" for tool in missing)
        yield Text(f"The tour needs {names}, which this session does not offer. Nothing was done.")
        return False
    yield Reasoning("No model thinks here: “start” is the guided tour, a fixed plan that looks at each real result.\n")
    if not (yield from _look_around(context)) or not (yield from _see_the_failure()):
        return False
    if not (yield from _find_the_bug()) or not (yield from _fix_it()):
        return False
    yield from _show_the_change()
    return True


def _look_around(context: Context) -> Plan:
    yield Text(
        "Welcome to the tour. I am the built-in guide, not an AI, but every call you see is real. A turn begins with"
        " `turn_start`, each call of the model with `step`; these words are `text` events, and the line before them"
        " was `reasoning`.\n\nFirst I look at what is here: a `tool_call` says what is asked of a tool, a"
        " `tool_result` what came back.\n\n"
    )
    _, call = call_for(ListFiles(), context)
    if call is None:  # the tour has `bash`, and with it a way to list
        return False
    result = yield call
    if results.failed(result):
        yield Text(f"That did not work, so the tour ends here: {shorten(result.content, 300)}")
        return False
    names = results.names(result)
    if {MODULE, TESTS} <= set(names):
        return True
    shown = ", ".join(f"`{shorten(name)}`" for name in names[:_NAMES_SHOWN])
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    yield Text(
        f"{f'Here I see {shown}{more}' if names else 'This directory is empty'}. The tour needs the example project"
        f" (`{MODULE}` and `{TESTS}`), and that is not here: `make run` makes a fresh copy of it and starts the server"
        " there. Say `help` for what works anywhere."
    )
    return False


def _see_the_failure() -> Plan:
    yield Text(
        f"The example is here: `{MODULE}` and `{TESTS}`. I run its tests. While a command runs, its lines arrive as"
        " `tool_output`; the whole is in the `tool_result`.\n\n"
    )
    result = yield Call("bash", {"command": UNITTEST, "description": "Runs the tests of the example"})
    report = results.test_report(result)
    yield Text(verdict(result))
    if report.passed:
        yield Text(
            " So the bug is fixed already, and there is nothing for the tour to mend. To break it again and take the"
            f" tour, type: {BREAK} then start"
        )
        return False
    if not report.failing:
        yield Text(" Without a failing test to mend the tour ends here.")
        return False
    yield Text("\n\n")
    return True


def _find_the_bug() -> Plan:
    yield Text(f"So something in `{MODULE}` is wrong. I read it: again a `tool_call` and its `tool_result`.\n\n")
    result = yield Call("read", {"path": MODULE})
    if results.failed(result):
        yield Text(f"That did not work, so the tour ends here: {shorten(result.content, 300)}")
        return False
    found = [number for number, line in results.numbered_lines(result) if line.strip() == BUG]
    if len(found) == 1:
        yield Text(f"Line {found[0]} says `{BUG}`: `//` rounds down, so 7 divided by 2 is 3 and not 3.5.\n\n")
        return True
    yield Text(
        f"I only know one bug, `{BUG}`, and it stands {f'{len(found)} times' if found else 'nowhere'} in this file:"
        " the test fails for another reason. That is one for a real model, or for you; I change nothing."
    )
    return False


def _fix_it() -> Plan:
    yield Text(
        f"I replace it with `{FIX}`. The tool `edit` changes exactly that text, and refuses if it is not unique.\n\n"
    )
    result = yield Call("edit", {"path": MODULE, "old_string": BUG, "new_string": FIX})
    if results.failed(result):
        yield Text(f"That did not work, so the tour ends here: {shorten(result.content, 300)}")
        return False
    yield Text("Changed. Whether it helps, the tests say:\n\n")
    result = yield Call("bash", {"command": UNITTEST, "description": "Runs the tests again"})
    yield Text(f"{verdict(result)}\n\n")
    if not results.test_report(result).passed:
        yield Text("The change did not do it, so the tour ends here.")
        return False
    return True


def _show_the_change() -> Plan:
    yield Text("Last, the change itself, as git sees it.\n\n")
    result = yield Call("bash", {"command": _DIFF, "description": "Shows the change"})
    yield Text(_seen_change(result))
    yield Text(
        "\n\nThat was a whole turn. Its last event is `done`, with the time taken and the tokens (mine are an estimate,"
        " one for four characters). `GET /api/session/<id>/diff` shows what the session changed, and"
        " `GET /api/session/<id>/message?after=0` plays all of these events again."
    )
    return True


def _seen_change(result: ToolResult) -> str:
    removed = any(line.startswith("-") and BUG in line for line in results.lines(result))
    added = any(line.startswith("+") and FIX in line for line in results.lines(result))
    if removed and added and not results.failed(result):
        return f"The diff has one line out, `{BUG}`, and one in, `{FIX}`."
    return (
        f"Git has no diff of it here (no repository, or the file is not in it). In `{MODULE}`, `{BUG}` became `{FIX}`."
    )
