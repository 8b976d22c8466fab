"""Programs that run side by side, each in a process group of its own and with its output in a file."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parent.parent
RUN_LIMIT_S = 1800.0  # far above a good run on a busy machine: only a run that hangs meets it
GRACE_S = 10.0
# What make, or git where a hook calls us, hands on would reach the servers and tools that the tests start. Some hundred
# of those are Pythons, so bytecode is kept, too.
_DROPPED = re.compile(
    r"MAKE\w*|MFLAGS|RUN_\w+|PORT|HOST|DIR|GIT_(DIR|WORK_TREE|INDEX_FILE|PREFIX)|PYTHONDONTWRITEBYTECODE"
)


def start(command: Sequence[str], log: BinaryIO | int) -> "subprocess.Popen[bytes]":
    """A program in the project's folder, without what is not meant for it; both its outputs go to `log`."""
    variables = {name: value for name, value in os.environ.items() if not _DROPPED.fullmatch(name)}
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables.get('PATH', os.defpath)}"
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=variables | {"PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


class Run:
    """One program, to be started once."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._began_s = self.took_s = 0.0

    @property
    def ended(self) -> bool:
        return bool(self.took_s)

    @property
    def exit_code(self) -> int:
        """Of a run that has ended."""
        return self._process.returncode if self._process else 1

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        self._began_s = time.monotonic()
        with self._log.open("wb") as log:
            self._process = start(self._command, log)

    def running(self) -> bool:
        """Whether it still runs; one that takes too long is stopped here."""
        if self._process is None or self.took_s:
            return False
        if self._process.poll() is not None:
            self.took_s = time.monotonic() - self._began_s
        elif time.monotonic() - self._began_s > RUN_LIMIT_S:
            with self._log.open("a") as log:
                log.write(f"\nstopped: not done after {RUN_LIMIT_S:.0f} s\n")
            stop([self])
        return not self.took_s

    def signal(self, number: int) -> None:
        """To it and all that it started in its group."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def wait(self, seconds: float | None) -> None:
        """Until it has ended, or the time is up."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)

    def describe(self) -> str:
        """How far it has come."""
        return self.name


def run_all(runs: Sequence[Run], at_once: int, tick: Callable[[], None]) -> None:
    """Run them, in their order and so many at once; whatever interrupts that stops those that run."""
    waiting = list(runs)
    running: list[Run] = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(waiting.pop(0))
                running[-1].start()
            time.sleep(0.1)
            running = [run for run in running if run.running()]
            tick()
    except BaseException:
        stop(running)
        raise


def stop(runs: Sequence[Run]) -> None:
    """Ask them to end, all together, and end those that do not."""
    for run in runs:
        run.signal(signal.SIGINT)
    deadline_s = time.monotonic() + GRACE_S
    for run in runs:
        run.wait(max(0.0, deadline_s - time.monotonic()))
    for run in runs:
        run.signal(signal.SIGKILL)
        run.wait(None)


def describe(runs: Sequence[Run]) -> str:
    """How far they have come."""
    running = [run.describe() for run in runs if run.running()]
    ended = sum(run.ended for run in runs)
    return " · ".join([f"{ended} of {len(runs)} done", *running])
