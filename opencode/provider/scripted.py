"""A provider that replays a script: for tests of this project and of its clients. No model is asked.

A script is a list of steps, each of them one call of the model. Which one is played follows from the request alone
(as many are past as there are assistant messages in it), so that any number of conversations can run at once and a
restarted server goes on where it was. A step that leaves no assistant message behind is played again.

As JSON::

    {"loop": true, "turns": [
      [{"reasoning": "…"}, {"text": "…"}, {"tool": "bash", "params": {"command": "ls"}, "call_id": "call_1"},
       {"usage": {"input": 10, "output": 5, "cached": 0}}],
      [{"error": {"code": "PROVIDER_RATE_LIMIT", "message": "…", "retryable": true, "retry_after_s": 1}, "times": 1},
       {"text": "tick {n} ", "repeat": 100, "every_s": 0.02}, {"pause_s": 0.1}, {"wait_file": "/tmp/go"},
       {"finish": "length"}]]}

`params` may be a text: what a model wrote that is no JSON object. Without `call_id` each call gets a new one. Without
`finish` a step ends with `tool_calls` where it has any, else with `stop`. An error is raised the first `times` times
(1, or "always") that a conversation comes by, so that the attempt after it goes past it. Without `loop`, a call after
the last step fails.
"""

import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from opencode.cancel import Cancel
from opencode.errors import ProviderError, SettingsError
from opencode.provider.port import AssistantMessage, Delta, Finish, ModelRequest, Text, ToolCall, UserMessage
from opencode.provider.script_json import parse_script
from opencode.provider.script_steps import Entry, Fail, Pause, Repeat, Step, Wait, WaitForFile

__all__ = ["Entry", "Fail", "Pause", "Repeat", "Scripted", "Step", "Wait", "WaitForFile"]

_POLL_S = 0.02
_KEPT_REQUESTS = 64


class Scripted:
    """The provider `scripted`; any model name does. A bare `ProviderError` in a step is `Fail(error, times=1)`.

    `requests` are the last ones that came, for a test to look at.
    """

    def __init__(self, steps: Sequence[Step], *, loop: bool = False, name: str = "scripted") -> None:
        self.name = name
        self.requests: deque[ModelRequest] = deque(maxlen=_KEPT_REQUESTS)
        self._steps = steps
        self._loop = loop
        self._lock = threading.Lock()
        # By conversation, as far as a request tells which it is, and place in the script.
        self._failed: Counter[tuple[str, int, int, int]] = Counter()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a script in the form above. Raises `SettingsError` where it is malformed."""
        steps, loop = parse_script(text)
        return cls(steps, loop=loop)

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a script from a file. Raises `SettingsError` where there is none or it is malformed."""
        try:
            text = Path(path).read_bytes()
        except OSError as exc:
            raise SettingsError(f"The model script cannot be read: {exc}") from exc
        return cls.from_json(text)

    def missing(self) -> str | None:
        return None

    def models(self) -> list[str]:
        return ["script"]

    def stream(self, request: ModelRequest, cancel: Cancel) -> Iterator[Delta]:
        cancel.check()
        self.requests.append(request)
        number = sum(isinstance(message, AssistantMessage) for message in request.messages)
        if self._loop:
            number %= len(self._steps)
        elif number >= len(self._steps):
            raise ProviderError(f"The script has {len(self._steps)} steps, and no more.", code="PROVIDER_ERROR")
        reason: Finish | None = None
        called = False
        for place, entry in enumerate(self._steps[number]):
            if isinstance(entry, (ProviderError, Fail)):
                self._fail(entry, request, number, place)
                continue
            if isinstance(entry, Finish):
                reason = entry
                continue
            called = called or isinstance(entry, ToolCall)
            yield from _play(entry, cancel)
        cancel.check()
        yield reason or Finish("tool_calls" if called else "stop")

    def close(self) -> None:
        pass

    def _fail(self, entry: ProviderError | Fail, request: ModelRequest, number: int, place: int) -> None:
        fail = entry if isinstance(entry, Fail) else Fail(entry)
        first = next((message.content for message in request.messages if isinstance(message, UserMessage)), "")
        with self._lock:
            key = (first, len(request.messages), number, place)
            self._failed[key] += 1
            due = fail.times is None or self._failed[key] <= fail.times
        if due:
            error = fail.error
            # A new one each time: a raised exception carries its traceback.
            raise ProviderError(
                error.message, code=error.code, retryable=error.retryable, retry_after_s=error.retry_after_s
            )


def _play(entry: Delta | Pause | Wait | WaitForFile | Repeat, cancel: Cancel) -> Iterator[Delta]:
    cancel.check()
    match entry:
        case Pause(seconds):
            cancel.wait(seconds)
        case Wait(event):
            while not event.wait(_POLL_S):
                cancel.check()
        case WaitForFile(path):
            while not path.exists():
                cancel.wait(_POLL_S)
                cancel.check()
        case Repeat(times, text, every_s):
            for number in range(1, times + 1):
                yield Text(text.replace("{n}", str(number)))
                if every_s:
                    cancel.wait(every_s)
                cancel.check()
        case _:
            yield entry
    cancel.check()
