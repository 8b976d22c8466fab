"""The server under fault, and the provider behind it: starting, killing, and what their processes leave behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench.fault_checks import processes
from tests.live.server import ROOT, Server, environment, until

#: How long what a dead server left may live: the supervisors' grace, and as long again for a busy machine.
GONE_S = 8.0
_RESTART_S = 120.0


@contextlib.contextmanager
def provider(home, *, seconds):
    """The provider's process: its base URL, and the file with its complaints."""
    home.mkdir(parents=True, exist_ok=True)
    report = home / "complaints"
    report.touch()
    command = [sys.executable, "-m", "bench.fault_provider", "--report", str(report), "--seconds", str(seconds)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(home), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process.stdout.readline().strip(), report
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Target(Server):
    """`opencode serve` on a port that stays the same over all its lives."""

    @classmethod
    def make(cls, home, base_url, **options):
        target = cls.serve(
            home,
            OPENCODE_MODEL="openai/wire-model",
            OPENCODE_RATE_LIMIT="off",
            OPENAI_API_KEY="sk-faults",
            OPENAI_BASE_URL=base_url,
            **options,
        )
        target.ledgers.mkdir(exist_ok=True)
        return target

    @property
    def ledgers(self):
        """A folder; its name is in the command line of every process that the tools start."""
        return self.home / "ledgers"

    @property
    def database(self):
        return Path(self.environment["OPENCODE_DATA_DIR"]) / "store.sqlite3"

    def worker(self):
        """The worker's number, None between two."""
        found = [pid for pid, (parent, _, state) in table().items() if parent == self.pid and state not in "ZX"]
        return found[-1] if found else None

    def up(self):
        """Start it, again and again while its orphan holds the port, and wait until its own worker answers."""
        deadline = time.monotonic() + _RESTART_S
        while True:
            self.start()
            try:
                until(self.serves, _RESTART_S, lambda: self.stderr()[-2000:])
            except AssertionError:
                # It ends by itself where the port is taken still; else it hangs.
                if self._process.poll() is None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return self

    def serves(self):
        """Whether a worker of its own answers."""
        if self._process.poll() is not None:
            raise AssertionError(f"it ended with {self._process.returncode}\n{self.stderr()[-2000:]}")
        return self.worker() is not None and self._answers()

    def strike(self, what):
        """SIGKILL to the `worker`, the `master` or `both`; the processes below the worker, which have to follow."""
        worker, below = self.worker(), {}
        if worker is not None:
            below = {pid: began for pid, began in family(worker).items() if pid != worker or what != "worker"}
        if what != "worker":
            self._process.kill()
        if what != "master" and worker is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        if what != "worker":
            self._process.wait()
        return below

    def restart(self):
        """Ask it to end, and start it anew."""
        self.terminate()
        self.wait()
        return self.up()

    def left_over(self, below=None, seconds=GONE_S):
        """What still runs of `below`, or of all that the tools have started, after the time that it has to end."""
        deadline = time.monotonic() + seconds
        while True:
            now = table()
            found = (
                processes(str(self.ledgers))
                if below is None
                else {pid: began for pid, began in below.items() if pid in now and now[pid][1] == began}
            )
            found = {pid: what for pid, what in found.items() if pid in now and now[pid][2] not in "ZX"}
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.05)

    def sweep(self):
        """End the server, and what a fault left behind: a run that fails leaves nothing either."""
        self.kill()
        for pid in processes(str(self.ledgers)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def table():
    """All processes: parent, start time and state."""
    found = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                found[int(place.name)] = (int(fields[1]), fields[19], fields[0])
    return found


def family(pid):
    """A process and all below it, with their start times."""
    now = table()
    found = {pid} & now.keys()
    while more := {child for child, (parent, _, _) in now.items() if parent in found} - found:
        found |= more
    return {member: now[member][1] for member in found}


def memory_kb(pid):
    """Resident memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
