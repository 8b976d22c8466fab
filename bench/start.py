"""From the command to the first answer, the schema current, and the memory of a server that nobody has asked yet.

python -m bench start [--quick]
"""

import contextlib
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path

from bench.measured import cores, cpu_s, pinned, processes, rss_mb
from bench.opencode_peer import Theirs, program
from bench.table import Table, against
from tests.live.server import Server

_START_S, _SETTLE_S = 60.0, 1.0
_BAR_S, _BAR_MB = 0.8, 90.0


def command(home):
    """`opencode serve`: the command checks, then goes on as gunicorn, which forks its worker."""
    return Server.serve(home, OPENCODE_LOG_LEVEL="warning")


def with_sdk(home):
    """The same with OpenAI's SDK, which is imported before the first answer; its address is not spoken to."""
    openai = {"OPENAI_API_KEY": "sk-bench", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    return Server.serve(home, OPENCODE_LOG_LEVEL="warning", OPENCODE_MODEL="openai/bench", **openai)


def under_gunicorn(home):
    """`gunicorn app:app`, as a platform starts it."""
    return Server.gunicorn(home, OPENCODE_LOG_LEVEL="warning")


WAYS = {"opencode serve": command, "opencode serve, OpenAI SDK": with_sdk, "gunicorn app:app": under_gunicorn}


def started(server):
    """Seconds to the first answer, of which so many of processor; MB of the process that serves."""
    pause = threading.Event()
    with pinned(cores()[0]):
        began = time.monotonic()
        server.start()
    try:
        while not server._answers():
            if time.monotonic() - began > _START_S:
                raise AssertionError(server.output())
            pause.wait(0.005)
        took, cpu = time.monotonic() - began, cpu_s(server.pid)
        pause.wait(_SETTLE_S)
        return took, cpu, max(rss_mb(pid) for pid in processes(server.pid)[1:])
    finally:
        server.kill()


def theirs(home):
    pause = threading.Event()
    began = time.monotonic()
    with contextlib.closing(Theirs(home, "http://127.0.0.1:9/v1")) as peer:
        # Its first look at a session waits for answers from the internet; this does not.
        while not peer.answers("/global/health"):
            pause.wait(0.005)
        took, cpu = time.monotonic() - began, cpu_s(peer.pid)
        pause.wait(_SETTLE_S)
        return took, cpu, rss_mb(peer.pid)


def medians(start, home, rounds):
    """The first start makes the store and is not counted."""
    home.mkdir()
    found = [start(home) for _ in range(rounds + 1)][1:]
    return [statistics.median(column) for column in zip(*found, strict=True)]


def run(*, quick):
    rounds = 2 if quick else 15
    made = Table(
        "Start, to the first answer",
        ("", "median, s", "CPU, s", "idle RSS, MB", "of opencode-ai's time, and CPU", "bar"),
    )
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores()[1])
    try:
        with tempfile.TemporaryDirectory() as folder:
            peer = None
            try:
                program()
                peer = medians(theirs, Path(folder) / "theirs", min(rounds, 3))
            except LookupError as exc:
                made.note = f"opencode-ai is left out: {exc}"
            for name, make in WAYS.items():
                took, cpu, rss = medians(
                    lambda home, make=make: started(make(home)), Path(folder) / make.__name__, rounds
                )
                share = f"{took / peer[0]:.2f}, {cpu / peer[1]:.2f}" if peer else ""
                bars = f"{against(took, _BAR_S, '{:.1f} s')}; {against(rss, _BAR_MB, '{:.0f} MB')}"
                made.add(name, f"{took:.2f}", f"{cpu:.2f}", f"{rss:.0f}", share, bars)
            if peer:
                made.add("opencode-ai", f"{peer[0]:.2f}", f"{peer[1]:.2f}", f"{peer[2]:.0f}", "1, 1", "")
                made.note = "Where there is no internet, opencode-ai waits for it at its start: then only CPU compares."
    finally:
        os.sched_setaffinity(0, before)
    return [made]
