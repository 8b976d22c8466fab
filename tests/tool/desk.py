"""The seven tools at work on one directory, as the agent loop would call them."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from opencode.cancel import Cancel
from opencode.tool.bash import Bash, tool_environment
from opencode.tool.edit import Edit
from opencode.tool.glob import Glob
from opencode.tool.grep import Grep, find_ripgrep
from opencode.tool.list import List
from opencode.tool.port import FileChange, ToolContext, ToolOutcome
from opencode.tool.read import Read
from opencode.tool.toolbox import Toolbox
from opencode.tool.write import Write

RIPGREP = find_ripgrep(os.environ["PATH"])


def make_tools(**settings):
    """One of each; `settings` maps a tool's name to its keyword arguments."""
    return [
        Bash(**{"environment": tool_environment(os.environ)} | settings.get("bash", {})),
        Read(**settings.get("read", {})),
        Write(**settings.get("write", {})),
        Edit(**settings.get("edit", {})),
        Grep(**{"ripgrep": RIPGREP} | settings.get("grep", {})),
        Glob(**settings.get("glob", {})),
        List(**settings.get("list", {})),
    ]


class Desk:
    def __init__(self, directory: Path, **settings):
        self.directory = directory
        self.toolbox = Toolbox(make_tools(**settings))
        self.cancel = Cancel()
        self.live: list[str] = []
        self.changes: list[FileChange] = []
        self.private: tuple[Path, ...] = ()

    def context(self) -> ToolContext:
        return ToolContext(self.directory, self.cancel, self.live.append, self.changes, self.private)

    def call(self, name: str, /, **params) -> ToolOutcome:
        return self.toolbox.run(name, params, self.context())

    def works(self, name: str, /, **params) -> str:
        outcome = self.call(name, **params)
        assert not outcome.is_error, outcome.content
        return outcome.content

    def fails(self, name: str, /, **params) -> str:
        outcome = self.call(name, **params)
        assert outcome.is_error, outcome.content
        assert "fault of its own" not in outcome.content
        return outcome.content

    def put(self, path: str, content: str | bytes = "") -> Path:
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def names(self) -> set[str]:
        return {str(path.relative_to(self.directory)) for path in self.directory.rglob("*")}


ALONE = """
import os, sys
if sys.argv[1] == "gevent":
    from gevent import monkey
    monkey.patch_all()
import gc
import threading
from pathlib import Path
from tests.tool.desk import Desk

desk = Desk(Path(sys.argv[2]))
calls = compile(sys.argv[3], "calls", "exec")
turn = threading.Event()

def look():
    gc.collect()
    turn.wait(0.01)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return len(os.listdir("/proc/self/fd")), len(children.split())

def left():
    # The least of many looks: gevent closes a pipe, and takes leave of a child, in a later turn of its loop.
    return min(look() for _ in range(20))

exec(calls)  # what is opened once for all is open now
before = left()
for _ in range(5):
    exec(calls)
after = left()
print(after[0] - before[0], after[1])
"""


def left_behind(directory: Path, calls: str) -> tuple[int, int]:
    """How many more descriptors are open, and children there, after `calls` on a `desk` have been made again and again.

    In a process of its own: in this one, what other tests have left opens and closes descriptors meanwhile.
    """
    mode = "gevent" if os.environ.get("OPENCODE_TEST_GEVENT") else "threads"
    found = subprocess.run(
        [sys.executable, "-c", ALONE, mode, str(directory), calls],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    descriptors, children = found.stdout.split()
    return int(descriptors), int(children)


class Background:
    """A call in a thread of its own; under gevent, a greenlet."""

    def __init__(self, function):
        self.result = None
        self.error: BaseException | None = None
        self._function = function
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        try:
            self.result = self._function()
        except BaseException as exc:
            self.error = exc

    def join(self, within_s: float = 20):
        self.thread.join(within_s)
        assert not self.thread.is_alive(), "still running"
        return self.result


def until(condition, within_s: float = 20):
    """Wait for a condition to hold, and return what it gave."""
    deadline = time.monotonic() + within_s
    never = threading.Event()
    while not (held := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        never.wait(0.01)
    return held


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def pid_in(file: Path) -> int:
    """The process id that a command writes into a file, once it is there."""
    return int(until(lambda: file.exists() and file.read_text().endswith("\n") and file.read_text()))
