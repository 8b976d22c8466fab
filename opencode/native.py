"""A thread of the operating system, also in a process where threads have been made greenlets.

For what stands still in C code, such as a disk that is waited for: a greenlet that does so stops all the others.
"""

import contextlib
import importlib.util
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from importlib.machinery import BuiltinImporter
from typing import Any, TypeVar

_Result = TypeVar("_Result")


def _untouched(name: str) -> Any:
    """A builtin module as the interpreter made it: what has replaced functions in the shared one is not in here."""
    spec = BuiltinImporter.find_spec(name)
    if spec is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    BuiltinImporter.exec_module(module)
    return module


class NativeThread:
    """Runs jobs one after the other, in a thread that is started for the first of them.

    **Contract:** a job uses nothing that belongs to greenlets: no lock, no log, no socket of theirs.
    """

    def __init__(self) -> None:
        self._jobs: deque[Callable[[], object] | None] = deque()
        self._calling = threading.Lock()
        self._started = False
        self._thread = _untouched("_thread")
        #: Held while there is nothing to do. It is no count: who takes it looks for all jobs.
        self._idle = self._thread.allocate_lock()
        self._idle.acquire()
        #: What a call waits by, made for the first.
        self._ends: tuple[socket.socket, socket.socket] | None = None

    def post(self, job: Callable[[], object]) -> None:
        """Have a job run, whenever that is. It must not raise."""
        self._put(job)

    def call(self, job: Callable[[], _Result]) -> _Result:
        """Run a job, and let others run meanwhile: what it returns or raises."""
        returned: list[_Result] = []
        raised: list[BaseException] = []

        def run() -> None:
            try:
                returned.append(job())
            except BaseException as exc:  # whatever it is, it is the caller's
                raised.append(exc)
            os.write(bell, b".")

        with self._calling:
            if self._ends is None:
                self._ends = socket.socketpair()
            bell = self._ends[1].fileno()
            self._put(run)
            self._ends[0].recv(1)
        if raised:
            raise raised[0]
        return returned[0]

    def close(self) -> None:
        """Run what was posted, then end."""
        if self._started:
            self.call(lambda: None)
            self._put(None)
        for end in self._ends or ():
            end.close()

    def _put(self, job: Callable[[], object] | None) -> None:
        if not self._started:
            self._thread.start_new_thread(self._run, ())
            self._started = True
        self._jobs.append(job)
        with contextlib.suppress(RuntimeError):  # it has been let go already, and sees this job too
            self._idle.release()

    def _run(self) -> None:
        while True:
            self._idle.acquire()
            while self._jobs:
                job = self._jobs.popleft()
                if job is None:
                    return
                job()
