"""A child process with a time limit that never outlives the call."""

import contextlib
import logging
import math
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from opencode.cancel import Cancel
from opencode.errors import ToolError
from opencode.tool import supervisor

#: How late the time limit or an abort may be noticed.
TICK_S = 0.05
CHUNK_BYTES = 65_536
#: What is still read from the pipe once the process has ended; Linux lets a pipe hold no more.
REST_BYTES = 1_048_576
#: What a supervisor may take beyond its own limits, and killing in its stead.
LATE_S = 2.0
#: What is kept of a supervisor's words; a traceback among them is for the log.
WORDS_BYTES = 8192
_WORDS = re.compile(rb"^(started|failed|exited) (-?[0-9]{1,9})$", re.MULTILINE)

log = logging.getLogger(__name__)


class TimeIsUp(ToolError):
    """The process took longer than it may."""


class Lost(ToolError):
    """The process was ended because its supervisor was; its exit code is not known."""


class Process:
    """Runs `argv` from the start of a `with` block to its end; for a program that starts no others.

    Reads with `select.poll` on non-blocking pipes, and looks modules' functions up when they are used: this waits in
    the kernel in a thread, and lets other greenlets run once gevent has patched `select`, `subprocess` and `time`.
    """

    def __init__(self, argv: Sequence[str], *, directory: str, environment: Mapping[str, str], cancel: Cancel) -> None:
        self._argv = argv
        self._directory = directory
        self._environment = environment
        self._cancel = cancel
        self._open = contextlib.ExitStack()
        #: What is to be written, and where.
        self._order = b""
        self._control = -1

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as theirs:
            try:
                self._process = self._start(theirs)
            except BaseException:
                self._open.close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._open:
            self._end()

    @property
    def exit_code(self) -> int | None:
        """As `subprocess` tells it: negative for a signal, None while the process runs."""
        return self._process.returncode

    def output(self, timeout_s: float) -> Iterator[bytes]:
        """What the process prints, as it does, until it has ended; empty pieces mark the time while it is silent.

        Raises:
            TimeIsUp: it ran for `timeout_s` seconds.
            Cancelled: the switch was turned.
            Lost: its supervisor was ended.
            ToolError: it could not be started.
        """
        deadline = time.monotonic() + timeout_s
        poller = select.poll()
        poller.register(self._pipe, select.POLLIN)
        poller.register(self._status, select.POLLIN)
        if self._order:
            poller.register(self._control, select.POLLOUT)
        running = True
        while running:
            self._cancel.check()
            self._check(deadline, timeout_s)
            piece: bytes | None = b""
            for source, _ in poller.poll(TICK_S * 1000):
                if source == self._status:
                    running = self._listen()
                elif source == self._control:
                    if not self._write():
                        poller.unregister(source)
                elif (piece := _read(source)) is None:
                    poller.unregister(source)
            yield piece or b""
        for _ in range(REST_BYTES // CHUNK_BYTES):
            if piece := _read(self._pipe):
                yield piece
        self._conclude()

    def _connect(self, theirs: contextlib.ExitStack) -> tuple[int, int]:
        """A pipe from the process."""
        reader, writer = os.pipe()
        self._open.callback(os.close, reader)
        theirs.callback(os.close, writer)
        os.set_blocking(reader, False)
        return reader, writer

    def _start(self, theirs: contextlib.ExitStack) -> "subprocess.Popen[bytes]":
        self._pipe, output = self._connect(theirs)
        #: Ends when the process does.
        self._status, status = self._connect(theirs)
        try:
            return subprocess.Popen(
                cwd=self._directory, start_new_session=True, **self._program(output, status, theirs)
            )
        except OSError as exc:
            raise ToolError(f"{self._argv[0]} could not be started: {exc.strerror}.") from exc

    def _program(self, output: int, status: int, _theirs: contextlib.ExitStack) -> dict[str, Any]:
        """What is to be started, and with which ends of the pipes."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, "pass_fds": [status]}
        return {"args": self._argv, "env": self._environment} | streams

    def _check(self, deadline: float, timeout_s: float) -> None:
        if time.monotonic() >= deadline:
            raise TimeIsUp(f"It took longer than {timeout_s:g} s.")

    def _listen(self) -> bool:
        """Hear what there is on the status; False when it ends."""
        return _read(self._status) is not None

    def _write(self) -> bool:
        """Write what fits of the order; whether there is more."""
        try:
            self._order = self._order[os.write(self._control, self._order) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:  # its end is heard from the status
            self._order = b""
        return bool(self._order)

    def _conclude(self) -> None:
        self._process.wait()

    def _end(self) -> None:
        if self._process.poll() is None:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # gevent's loop may have taken leave of it meanwhile
            self._process.send_signal(number)


class Supervised(Process):
    """A process that may start others, all of which end with it, and when this server is killed; see `supervisor`."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        directory: str,
        environment: Mapping[str, str],
        cancel: Cancel,
        grace_s: float = 1.0,
        sandboxed: bool = False,
    ) -> None:
        super().__init__(argv, directory=directory, environment=environment, cancel=cancel)
        self._grace_s = grace_s
        self._order = supervisor.order(argv, environment, grace_s, sandboxed=sandboxed)
        self._words = b""
        self._ends_by = math.inf

    @property
    def exit_code(self) -> int | None:
        return self._heard(b"exited")

    def _program(self, output: int, status: int, theirs: contextlib.ExitStack) -> dict[str, Any]:
        order, self._control = os.pipe()
        theirs.callback(os.close, order)
        self._hang_up = self._open.enter_context(contextlib.ExitStack())
        self._hang_up.callback(os.close, self._control)
        os.set_blocking(self._control, False)
        # Its own environment is empty: it has no need of one, and hands on the command's as it came.
        argv = [sys.executable, "-I", "-S", supervisor.__file__]
        return {"args": argv, "env": {}, "stdin": order, "stdout": output, "stderr": status}

    def _check(self, deadline: float, timeout_s: float) -> None:
        # The limit is the command's; what it leaves behind may take a little longer to end.
        if self.exit_code is None:
            super()._check(deadline, timeout_s)
        elif time.monotonic() >= self._ends_by:
            raise Lost("What the command left behind could not be ended.")

    def _listen(self) -> bool:
        words = _read(self._status)
        # The command could write here as well: what it says must neither harm nor grow.
        self._words = (self._words + (words or b""))[:WORDS_BYTES]
        if self.exit_code is not None:
            self._ends_by = min(self._ends_by, self._end_at_the_latest())
        return words is not None

    def _end_at_the_latest(self) -> float:
        return time.monotonic() + self._grace_s + supervisor.LAST_S + LATE_S

    def _heard(self, word: bytes) -> int | None:
        number = dict(_WORDS.findall(self._words)).get(word)
        return None if number is None else int(number)

    def _conclude(self) -> None:
        errno = self._heard(b"failed")
        if errno is not None:
            raise ToolError(f"{self._argv[0]} could not be started: {os.strerror(errno)}.")
        if self.exit_code is None:
            raise Lost("The process that watches over the command was killed, and the command with it.")

    def _end(self) -> None:
        self._hang_up.close()
        self._signal(signal.SIGCONT)  # the command may have stopped it
        deadline = self._end_at_the_latest()
        poller = select.poll()
        poller.register(self._status, select.POLLIN)
        while self._listen():
            if time.monotonic() >= deadline:
                self._signal(signal.SIGKILL)
                break
            poller.poll(TICK_S * 1000)
        if self._process.wait() == 0:
            return
        # Orphans in sessions of their own cannot be told from other processes any more; all others can.
        log.warning("a command's supervisor was lost: %s", self._words.decode("utf-8", "replace"))
        command = self._heard(b"started")
        if command is not None:
            supervisor.kill(lambda: supervisor.survivors(command, command), within_s=LATE_S)


def _read(source: int) -> bytes | None:
    """What is there now, perhaps nothing; None at the end."""
    try:
        return os.read(source, CHUNK_BYTES) or None
    except BlockingIOError:
        return b""
