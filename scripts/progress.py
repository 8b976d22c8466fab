"""Steps with numbers and times, so that nobody sits before a silent screen."""

import sys
import time
from collections.abc import Callable
from typing import Self, TextIO

LINE_EVERY_S = 10.0  # without a terminal: often enough to see life, seldom enough to keep a log short
_INDENT = "      "


class Steps:
    """Counts the steps of one command; `begin` prints a line at once, `end` says how it went."""

    def __init__(self, total: int, out: TextIO | None = None) -> None:
        self._total = total
        self._number = 0
        self._out = out or sys.stdout
        self._began_s = 0.0

    def begin(self, title: str) -> None:
        self._number += 1
        self._began_s = time.monotonic()
        self.say(f"[{self._number}/{self._total}] {title}", indent="")

    def end(self, result: str) -> None:
        self.say(f"{result}, {time.monotonic() - self._began_s:.1f} s")

    def say(self, line: str, *, indent: str = _INDENT) -> None:
        print(f"{indent}{line}", file=self._out, flush=True)


class Ticker:
    """Shows how far a long step has come: one line that is rewritten on a terminal, a line now and then elsewhere.

    `tick` is called as often as the caller likes and asks `describe` only when something is to be shown.
    """

    def __init__(self, describe: Callable[[], str], out: TextIO | None = None) -> None:
        self._describe = describe
        self._out = out or sys.stdout
        self._live = self._out.isatty()
        self._began_s = self._shown_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._live:
            self._out.write("\r\033[K")
            self._out.flush()

    def tick(self) -> None:
        now_s = time.monotonic()
        if now_s - self._shown_s < (1.0 if self._live else LINE_EVERY_S):
            return
        self._shown_s = now_s
        line = f"{_INDENT}{now_s - self._began_s:.0f} s  {self._describe()}"
        self._out.write(f"\r\033[K{line[:100]}" if self._live else f"{line}\n")
        self._out.flush()
