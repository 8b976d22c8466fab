"""The server under measurement on one core, all that loads it on the other; processor time from the scheduler."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from tests.live.server import ROOT, Server, environment


def cores():
    """The core of the server, and that of its load; the same one where the machine has no second."""
    usable = sorted(os.sched_getaffinity(0))
    return {usable[0]}, {usable[-1]}


@contextlib.contextmanager
def pinned(core):
    """What is started within runs on `core` alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def processes(pid):
    """A process and all below it."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += processes(int(child))
    return found


def cpu_s(pid):
    """Seconds of processor that a process and those below it have used, to the nanosecond, as the scheduler counts."""
    total = 0
    for process in processes(pid):
        for path in Path(f"/proc/{process}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(path.read_text().split()[0])
    return total / 1e9


def rss_mb(pid):
    """Resident memory of a process and those below it, shared pages counted once a process."""
    total = 0
    for process in processes(pid):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return total * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextlib.contextmanager
def token_provider(home, *, seconds=600):
    """The provider's process; gives its base URL."""
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "bench.token_provider", "--seconds", str(seconds)]
    with pinned(cores()[1]):
        process = subprocess.Popen(command, cwd=ROOT, env=environment(home), stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def server(home, base_url, **variables):
    """`opencode serve` on a core of its own, with the provider behind it; `variables` go before what is set here."""
    given = {"OPENCODE_MODEL": "openai/bench", "OPENAI_API_KEY": "sk-bench", "OPENAI_BASE_URL": base_url}
    given |= {"OPENCODE_RATE_LIMIT": "off", "OPENCODE_LOG_LEVEL": "warning"}
    with pinned(cores()[0]):
        running = Server.serve(home, **given | variables).start()
    try:
        yield running.ready()
    finally:
        running.kill()
