"""Carrying out requests one after the other, with a line before and a line after each."""

from collections.abc import Sequence

from opencode.provider.demo import results
from opencode.provider.demo.answers import greeting, help_text
from opencode.provider.demo.calls import call_for
from opencode.provider.demo.plan import Call, Context, Plan
from opencode.provider.demo.requests import (
    FindFiles,
    Greeting,
    Help,
    ListFiles,
    ReadFile,
    ReplaceText,
    Request,
    RunCommand,
    RunTests,
    Search,
    Step,
    Tour,
    WriteFile,
)
from opencode.provider.demo.testing import run_tests
from opencode.provider.demo.tour import tour
from opencode.provider.demo.understanding import shorten
from opencode.provider.port import Text, ToolResult

_NAMES_SHOWN = 12
_LINES_SHOWN = 5
_LINE_CHARS = 160


def carry_out(steps: Sequence[Step], context: Context) -> Plan:
    """All steps in order; the first that fails ends it, and what was not done is named."""
    for number, step in enumerate(steps, 1):
        done = yield from _plan_of(step.request, context)
        left = steps[number:]
        if not done:
            if left:
                yield Text(f"\n\nI stop here. Not done: {'; '.join(f'“{other.source}”' for other in left)}.")
            return False
        if left:
            yield Text("\n\n")
    if len(steps) > 1:
        yield Text(f"\n\nAll {len(steps)} steps are done.")
    return True


def _plan_of(request: Request, context: Context) -> Plan:
    match request:
        case RunTests():
            return run_tests(context)
        case Tour():
            return tour(context)
        case Help():
            return help_text(context)
        case Greeting():
            return greeting(context)
    return _carry_out(request, context)


def _carry_out(request: Request, context: Context) -> Plan:
    tool, call = call_for(request, context)
    if call is None:
        yield Text(f"I would need the tool `{tool}` for that, and this session does not offer it.")
        return False
    detour = "" if call.tool == tool else f" (with `bash`, because this session does not offer `{tool}`)"
    yield Text(f"{_intention(request)}{detour}.\n\n")
    result = yield call
    if results.failed(result):
        yield Text(_failure(call, result))
        return False
    yield Text(_outcome(request, result))
    return True


def _intention(request: Request) -> str:
    match request:
        case ListFiles(path):
            words = f"I'll list {_code(path) if path else 'the files here'}"
        case ReadFile(path, first, last):
            which = "" if first is None else f" from line {first}" + (f" to {last}" if last is not None else "")
            words = f"I'll read {_code(path)}{which}"
        case Search(text, path):
            words = f"I'll search for {_code(text)}{f' in {_code(path)}' if path else ''}"
        case FindFiles(pattern):
            words = f"I'll look for files that match {_code(pattern)}"
        case WriteFile(path, content):
            words = f"I'll write {len(content):,} characters to {_code(path)}"
        case ReplaceText(path, old, new, everywhere):
            words = f"I'll replace {'every ' if everywhere else ''}{_code(old)} with {_code(new)} in {_code(path)}"
        case RunCommand(command):
            words = f"I'll run {_code(command)}"
        case _:
            words = "I'll do that"
    return words


def _failure(call: Call, result: ToolResult) -> str:
    if result.is_error:
        said = shorten(result.content, 300)
        hint = ""
        if call.tool == "edit" and not call.params.get("replace_all") and " times" in said:
            hint = ' To replace them all, say `replace all "…" with "…" in …`.'
        return f"That did not work: {said}{hint}"
    printed = results.lines(result)[:-1]
    last = f" Its last line: {_code(printed[-1])}." if printed else " It printed nothing."
    return f"The command failed with exit code {results.exit_code(result)}.{last}"


def _outcome(request: Request, result: ToolResult) -> str:
    match request:
        case ListFiles():
            return _listed(result)
        case ReadFile(path):
            return _was_read(path, result)
        case Search(text):
            return _found(results.matches(result), "match", "matches", f"for {_code(text)}", result)
        case FindFiles(pattern):
            return _found(results.files(result), "file", "files", f"for {_code(pattern)}", result)
        case RunCommand():
            return _ran(result)
    return shorten(result.content.partition("\n")[0], 200) or "Done."


def _listed(result: ToolResult) -> str:
    names = results.names(result)
    if not names:
        return "There is nothing in it."
    shown = ", ".join(_code(name) for name in names[:_NAMES_SHOWN])
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    rest = "".join(f" {note}" for note in results.notes(result))
    return f"{_count(len(names), 'entry', 'entries')}: {shown}{more}.{rest}"


def _was_read(path: str, result: ToolResult) -> str:
    numbered = results.numbered_lines(result)
    if not numbered:
        return f"{_code(path)} has no lines to show."
    first, last = numbered[0][0], numbered[-1][0]
    which = f"line {first}" if first == last else f"lines {first} to {last}"
    rest = "".join(f" {note}" for note in results.notes(result))
    return f"That was {_code(path)}, {which}; the text stands in the tool's result.{rest}"


def _found(found: Sequence[str], one: str, many: str, what: str, result: ToolResult) -> str:
    if not found:
        return f"No {one} {what}."
    shown = "".join(f"\n- {_code(line)}" for line in found[:_LINES_SHOWN])
    more = f"\n- and {len(found) - _LINES_SHOWN} more in the tool's result" if len(found) > _LINES_SHOWN else ""
    rest = "".join(f"\n{note}" for note in results.notes(result))
    return f"{_count(len(found), one, many)} {what}:{shown}{more}{rest}"


def _ran(result: ToolResult) -> str:
    printed = [] if result.content.strip() == "(no output)" else results.lines(result)
    if not printed:
        return "It ran, with exit code 0, and printed nothing."
    number = _count(len(printed), "line", "lines")
    return f"It ran, with exit code 0, and printed {number}, the last: {_code(printed[-1])}."


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _code(text: str) -> str:
    return f"`{shorten(text, _LINE_CHARS)}`"
