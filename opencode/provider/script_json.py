"""A script as a file: JSON in, steps out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from opencode.errors import ProviderError, SettingsError
from opencode.provider.port import Finish, Reasoning, Text, Usage
from opencode.provider.script_steps import Entry, Fail, Pause, Repeat, WaitForFile
from opencode.provider.tool_arguments import finished_call


class _Usage(msgspec.Struct, forbid_unknown_fields=True):
    input: int = 0
    output: int = 0
    cached: int = 0


class _Error(msgspec.Struct, forbid_unknown_fields=True):
    code: str
    message: str = "scripted failure"
    retryable: bool = False
    retry_after_s: float | None = None


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    text: str | None = None
    repeat: int = 1
    every_s: float = 0.0
    reasoning: str | None = None
    tool: str | None = None
    params: dict[str, Any] | str = {}
    call_id: str = ""
    usage: _Usage | None = None
    finish: Literal["stop", "tool_calls", "length"] | None = None
    error: _Error | None = None
    times: int | Literal["always"] = 1
    pause_s: float | None = None
    wait_file: str | None = None


class _Script(msgspec.Struct, forbid_unknown_fields=True):
    turns: list[list[_Entry]]
    loop: bool = False


def parse_script(text: str | bytes) -> tuple[list[list[Entry]], bool]:
    """Read a script: its steps, and whether it begins anew after the last.

    Raises:
        SettingsError: it is no script; the message says where.
    """
    try:
        script = msgspec.json.decode(text, type=_Script)
    except msgspec.DecodeError as exc:
        raise SettingsError(f"The model script is malformed: {exc}") from exc
    if not script.turns:
        raise SettingsError("The model script is malformed: `turns` is empty")
    return [[_entry(raw) for raw in step] for step in script.turns], script.loop


def _entry(raw: _Entry) -> Entry:
    given = [kind for kind in _BUILDERS if getattr(raw, kind) is not None]
    if len(given) != 1:
        raise SettingsError(f"The model script is malformed: an entry has exactly one of {', '.join(_BUILDERS)}")
    return _BUILDERS[given[0]](raw, getattr(raw, given[0]))


def _text(raw: _Entry, text: str) -> Entry:
    return Text(text) if raw.repeat == 1 and not raw.every_s else Repeat(raw.repeat, text, raw.every_s)


def _fail(raw: _Entry, said: _Error) -> Entry:
    error = ProviderError(said.message, code=said.code, retryable=said.retryable, retry_after_s=said.retry_after_s)
    return Fail(error, None if raw.times == "always" else raw.times)


_BUILDERS: dict[str, Callable[[_Entry, Any], Entry]] = {
    "text": _text,
    "reasoning": lambda _, text: Reasoning(text),
    "tool": lambda raw, name: finished_call(raw.call_id, name, raw.params),
    "usage": lambda _, count: Usage(count.input, count.output, count.cached),
    "finish": lambda _, reason: Finish(reason),
    "error": _fail,
    "pause_s": lambda _, seconds: Pause(seconds),
    "wait_file": lambda _, path: WaitForFile(Path(path)),
}
