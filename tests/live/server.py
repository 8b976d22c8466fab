"""Real server processes, started in each of the four ways, and how to wait for what they do."""

import contextlib
import http.client
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
START_S = 60.0
STOP_S = 25.0
#: On Linux no server outlives the tests, not even where these are killed: it is then asked to end.
_BOUND = """
import contextlib, ctypes, os, signal, sys
with contextlib.suppress(AttributeError):
    ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))
os.execvp(sys.argv[1], sys.argv[1:])
"""
_KEPT = ("LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")


def until(condition, seconds, what):
    """Poll until `condition()` is true and give what it said; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for: {what() if callable(what) else what}")
        pause.wait(0.02)


def free_port():
    """A port of both loopback addresses, below those that the system hands out to others meanwhile."""
    for _ in range(100):
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.socket() as four:
            four.bind(("0.0.0.0", port))
            if not socket.has_ipv6:
                return port
            with socket.socket(socket.AF_INET6) as six:
                six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                with contextlib.suppress(OSError):  # no IPv6 here
                    six.bind(("::1", port))
                return port
    raise AssertionError("no free port")


def environment(home, **variables):
    """What a server is given: nothing of the caller's keys and settings, no probe for local model servers."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    ours = {
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(home),
        "PYTHONUNBUFFERED": "1",
        "OPENCODE_DATA_DIR": str(home / "data"),
        "OPENCODE_MODEL": "demo/guide",
    }
    given = {name: str(value) for name, value in variables.items() if value is not None}
    return {**kept, **ours, **given}


def descendants(pid):
    """The numbers of all processes below one, stopped as they are found so that none makes another meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = []
    for child in [number for number, parent in parents.items() if parent == pid]:
        with contextlib.suppress(ProcessLookupError):
            found += [child, *descendants(child)]
    return found


class Server:
    """A process and its children. `home` is its own folder: home directory, store and output; `work` is what it serves."""

    def __init__(self, home, command, *, port, work=None, token=None, **variables):
        self.home = home
        self.work = work or home / "work"
        self.port = port
        self.token = token
        self.command = command
        home.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(exist_ok=True)
        self.environment = environment(home, **variables)
        self._process = None

    #: What its clients trust, where it is spoken to through TLS.
    tls = None
    #: Where it is started.
    cwd = ROOT

    # The four ways to run it.

    @classmethod
    def serve(cls, home, *flags, work=None, **options):
        """`opencode serve DIR --port …`."""
        port = free_port()
        command = [sys.executable, "-m", "opencode", "serve", str(work or home / "work"), "--port", str(port), *flags]
        return cls(home, command, port=port, work=work, **options)

    @classmethod
    def gunicorn(cls, home, *flags, host="127.0.0.1", **options):
        """`gunicorn -b … app:app`."""
        port = free_port()
        command = [sys.executable, "-m", "gunicorn", "-b", f"{host}:{port}", *flags, "app:app"]
        return cls(home, command, port=port, OPENCODE_DIRECTORY=home / "work", **options)

    @classmethod
    def flask(cls, home, *flags, **options):
        """`flask run --port …`."""
        port = free_port()
        command = [sys.executable, "-m", "flask", "run", "--port", str(port), *flags]
        return cls(home, command, port=port, OPENCODE_DIRECTORY=home / "work", **options)

    @classmethod
    def procfile(cls, home, **options):
        """The Procfile, as a platform that sets `PORT` starts it."""
        port = free_port()
        command = [sys.executable, "-m", "honcho", "--env", os.devnull, "start", "web"]
        return cls(home, command, port=port, PORT=port, OPENCODE_DIRECTORY=home / "work", **options)

    # Its life.

    def start(self):
        """Start it, and return at once: `ready` waits."""
        with (self.home / "stdout").open("ab") as out, (self.home / "stderr").open("ab") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOUND, *self.command],
                cwd=self.cwd,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        return self

    def ready(self):
        """Wait until it answers."""
        until(self._answers, START_S, lambda: f"{self.command} to answer\n{self.output()}")
        return self

    def _answers(self):
        if self._process.poll() is not None:
            raise AssertionError(f"{self.command} ended with {self._process.returncode}\n{self.output()}")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        if self.tls is not None:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=self.tls)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        return False

    @property
    def pid(self):
        return self._process.pid

    def terminate(self):
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds=STOP_S):
        """Its exit code."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.command} runs after {seconds:g} s\n{self.output()}") from None

    def kill(self):
        """End it at once, with all that it started: honcho's children have groups of their own."""
        if self._process is not None and self._process.poll() is None:
            for pid in [*descendants(self._process.pid), self._process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()

    def __enter__(self):
        try:
            return self.start().ready()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, *_exc):
        self.kill()

    # What it says.

    def stdout(self):
        return (self.home / "stdout").read_text(errors="replace")

    def stderr(self):
        return (self.home / "stderr").read_text(errors="replace")

    def output(self):
        return f"--- stdout\n{self.stdout()}\n--- stderr\n{self.stderr()}"

    def says(self, pattern, seconds=10.0):
        """Wait for it to write what matches."""
        return until(lambda: re.search(pattern, self.output()), seconds, lambda: f"{pattern} in\n{self.output()}")

    def workers(self):
        """The numbers of gunicorn's workers, in the order in which they came."""
        return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.output())]


def run(command, home, *, seconds=30.0, cwd=ROOT, **variables):
    """A command that is to end by itself: its exit code and what it wrote."""
    home.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(home, **variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@contextlib.contextmanager
def side_by_side(servers):
    """Servers by name: started all together, since each takes its time, and given when all answer."""
    try:
        for server in servers.values():
            server.start()
        for server in servers.values():
            server.ready()
        yield
    finally:
        for server in servers.values():
            server.kill()
