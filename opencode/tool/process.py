"""A child process with a time limit, in a group of its own that never outlives the call."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from opencode.cancel import Cancel
from opencode.errors import ToolError

#: How late the end of the command, the time limit or an abort may be noticed while nothing is printed.
TICK_S = 0.05
CHUNK_BYTES = 65_536
#: What is still read from the pipe once the command has ended; Linux lets a pipe hold no more.
REST_BYTES = 1_048_576


class TimeIsUp(ToolError):
    """The process took longer than it may."""


class Process:
    """Runs `argv` from the start of a `with` block to its end, where every process of its group is ended.

    Reads with `select.poll` on a non-blocking pipe, and looks modules' functions up when they are used: this waits in
    the kernel in a thread, and lets other greenlets run once gevent has patched `select`, `subprocess` and `time`.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        directory: str,
        environment: Mapping[str, str],
        cancel: Cancel,
        grace_s: float = 1.0,
    ) -> None:
        self._argv = argv
        self._directory = directory
        self._environment = environment
        self._cancel = cancel
        self._grace_s = grace_s
        self._ended = False

    def __enter__(self) -> Self:
        self._pipe, writer = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - running what the model asks for is the purpose
                self._argv,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                start_new_session=True,
            )
        except BaseException as exc:
            os.close(self._pipe)
            if isinstance(exc, OSError):
                raise ToolError(f"{self._argv[0]} could not be started: {exc.strerror}.") from exc
            raise
        finally:
            os.close(writer)
        os.set_blocking(self._pipe, False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end_group()
            self._process.wait()
        finally:
            os.close(self._pipe)

    @property
    def exit_code(self) -> int | None:
        """As `subprocess` tells it: negative for a signal, None while the process runs."""
        return self._process.returncode

    def output(self, timeout_s: float) -> Iterator[bytes]:
        """What the process prints, as it does, until it exits; empty pieces mark the time while it is silent.

        Ends when the process itself has exited, even if children that it left behind keep the pipe open: these are
        ended first.

        Raises:
            TimeIsUp: it ran for `timeout_s` seconds.
            Cancelled: the switch was turned.
        """
        deadline = time.monotonic() + timeout_s
        poller = select.poll()
        poller.register(self._pipe, select.POLLIN)
        piece: bytes | None = b""
        pause_s = 0.001
        while self._process.poll() is None:
            self._cancel.check()
            if time.monotonic() >= deadline:
                raise TimeIsUp(f"It took longer than {timeout_s:g} s.")
            if piece is not None:
                piece = self._read() if poller.poll(TICK_S * 1000) else b""
                yield piece or b""
            else:  # the output was closed; the end of the process is near, as a rule
                self._cancel.wait(pause_s)
                pause_s = min(pause_s * 2, TICK_S)
                yield b""
        self._end_group()
        for _ in range(REST_BYTES // CHUNK_BYTES):
            if piece := self._read():
                yield piece

    def _read(self) -> bytes | None:
        """What is there now, perhaps nothing; None at the end."""
        try:
            return os.read(self._pipe, CHUNK_BYTES) or None
        except BlockingIOError:
            return b""

    def _end_group(self) -> None:
        if self._ended:
            return
        # Once only: when its last process is gone, the group's number may become somebody else's.
        self._ended = True
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
            except (ProcessLookupError, PermissionError):
                return
            if self._gone(self._grace_s):
                return

    def _gone(self, within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        pause_s = 0.001
        while time.monotonic() < deadline:
            self._process.poll()  # a process that nobody has waited for still counts as one of its group
            if not _lives(self._process.pid):
                return True
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, TICK_S)
        return False


def _lives(group: int) -> bool:
    """Whether a process of the group still runs.

    In a container whose first process does not wait for orphans, those that ended stay for ever as zombies, and
    `killpg` counts them; so where there is a /proc, it is asked.
    """
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    states = [_state(path) for path in Path("/proc").glob("[0-9]*/stat")]
    return not states or any(number == group and state not in "ZX" for state, number in states)


def _state(path: Path) -> tuple[str, int]:
    """The state and the group of a process; no group when it has gone."""
    try:
        # The program's name stands in parentheses and may hold anything, blanks and parentheses too.
        state, _parent, group = path.read_bytes().rpartition(b")")[2].split()[:3]
    except (OSError, ValueError):
        return "X", 0
    return state.decode(), int(group)
