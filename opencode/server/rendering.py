"""The process that renders Markdown for pages, and the door to it.

Parsers and lexers of foreign texts can be slow, some endlessly so; in a process of their own they delay no stream, and
can be ended.
"""

import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from pathlib import Path

import orjson

_PROGRAM = Path(__file__).with_name("markdown.py")
#: For all texts of a request. A screenful takes a hundredth of it.
LIMIT_S = 5.0


class Renderer:
    """Started by the first text, ended with the app or when it takes too long."""

    def __init__(self, *, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[[subprocess.Popen[bytes]], Renderer] | None = None

    def render(self, texts: list[str]) -> list[str | None]:
        """HTML in which nothing can run, for each text; None for all of them where they took too long."""
        with self._lock:
            process = self._started()
            # Kills the process, by which the line below ends.
            stop = threading.Timer(self._limit_s, process.kill)
            stop.daemon = True
            stop.start()
            try:
                answer = _ask(process, orjson.dumps(texts) + b"\n")
            finally:
                stop.cancel()
            if not answer.endswith(b"\n"):
                self.close()
                return [None] * len(texts)
            found: list[str | None] = orjson.loads(answer)
            return found

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-I", str(_PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"PYTHONUTF8": "1"},  # no keys: it reads what strangers write
            )
            self._end = weakref.finalize(self, _end, self._process)
        return self._process

    def close(self) -> None:
        """End the process; the next text starts another."""
        if self._end is not None:
            self._end()
        self._process = self._end = None


def _ask(process: "subprocess.Popen[bytes]", line: bytes) -> bytes:
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101 - as above
    with suppress(OSError):  # it was ended meanwhile: there is no answer then
        process.stdin.write(line)
        process.stdin.flush()
        return process.stdout.readline()
    return b""


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    with suppress(OSError), process:  # closes the pipes and waits; what a dead program did not take is of no use
        pass
