"""Make `.venv` and keep it in step with the requirement files: `python -m scripts.environment run|dev|bench`.

Runs in the Python that the environment is made with, before anything is installed. Says nothing but one line where
there is nothing to do. What was installed is noted in `.venv`, and the note is written only when all went well, so
that an interrupted installation is taken up again.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

from scripts import system_packages
from scripts.progress import Steps, Ticker

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = {
    "run": ("requirements.txt",),
    "dev": ("requirements.txt", "requirements-dev.txt"),
    "bench": ("requirements.txt", "requirements-dev.txt", "requirements-bench.txt"),
}
NOTE = "installed.json"
OLDEST = (3, 11)
_PROBE = "import sys, pip; print('%d.%d.%d' % sys.version_info[:3])"


class SetupError(Exception):
    """Stops the setup; the message names the way out."""


def fingerprint(root: Path, kind: str, python_version: str) -> str:
    """Changes whenever the environment has to be installed again."""
    digest = hashlib.sha256(python_version.encode())
    for name in REQUIREMENTS[kind]:
        digest.update((root / name).read_bytes())
    project = tomllib.loads((root / "pyproject.toml").read_text())
    for table in ("build-system", "project"):  # the rest is settings of tools
        digest.update(json.dumps(project.get(table), sort_keys=True).encode())
    return digest.hexdigest()


class Environment:
    """The project's `.venv`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / ".venv"
        self.python = self.path / "bin" / "python"
        self._note = self.path / NOTE

    def note(self) -> dict[str, str]:
        try:
            note = json.loads(self._note.read_text())
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def version(self) -> str:
        """The environment's Python, as "3.12.1"; empty where it does not run or has no pip."""
        try:
            probe = subprocess.run([self.python, "-c", _PROBE], capture_output=True, text=True, check=False)
        except OSError:
            return ""
        return probe.stdout.strip() if probe.returncode == 0 else ""

    def fault(self, *, wanted: tuple[int, ...] | None = None) -> str:
        """Why the environment cannot be kept; empty where it can. `wanted` is the version that the caller named."""
        if not os.path.lexists(self.path):
            return "there is none"
        version = self.version()
        if not version:
            return "its Python does not run or has no pip"
        if tuple(map(int, version.split("."))) < OLDEST:
            return f"its Python is {version}"
        if wanted and version != ".".join(map(str, wanted)):
            return f"its Python is {version}, not the one that PYTHON names"
        if self._home() != str(self.path):
            return "it was made at another place"  # the commands in bin name the old one
        return ""

    def _home(self) -> str:
        if home := self.note().get("home"):
            return home
        with contextlib.suppress(OSError):
            if str(self.path) in (self.path / "bin" / "activate").read_text():
                return str(self.path)
        return ""

    def current(self, kind: str) -> bool:
        """Whether all that `kind` needs is installed; what `dev` installs covers `run`, and `bench` covers both."""
        note, version = self.note(), self.version()
        kinds = list(REQUIREMENTS)
        covering = kinds[kinds.index(kind) :]
        return any(note.get(each) == fingerprint(self.root, each, version) for each in covering if each in note)

    def remember(self, kind: str) -> None:
        note = self.note() | {"home": str(self.path), kind: fingerprint(self.root, kind, self.version())}
        temporary = self._note.with_suffix(".new")
        temporary.write_text(json.dumps(note, indent=1))
        temporary.replace(self._note)

    def make(self) -> None:
        """Make it anew with the running Python."""
        module = environment_module()
        python = sys.executable
        if Path(sys.prefix) == self.path:  # activated: what runs here is about to go
            python = os.path.realpath(python)
        if self.path.is_symlink():
            self.path.unlink()
        elif self.path.exists():
            shutil.rmtree(self.path)
        command = [python, "-m", module, str(self.path)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode or not self.version():
            raise SetupError(f"{made.stdout}{made.stderr}\n{' '.join(command)} failed; its output is above.")

    def install(self, kind: str) -> None:
        """Install the requirements of `kind` and the project itself, in place."""
        command = [str(self.python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        command += ["--progress-bar", "off", "-e", "."]
        for name in REQUIREMENTS[kind]:
            command += ["-r", name]
        output: list[str] = []
        variables = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
        with subprocess.Popen(
            command,
            cwd=self.root,
            env=variables | {"PIP_USER": "0", "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as pip:
            follow(pip, output)
        if pip.returncode:
            raise SetupError(
                f"{''.join(output)}\npip could not install {' and '.join(REQUIREMENTS[kind])}; its output is above.\n"
                "The first run needs the network. Run the same command again to go on."
            )


def environment_module() -> str:
    """The module that makes environments with the running Python."""
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        return "venv"
    if importlib.util.find_spec("virtualenv"):
        return "virtualenv"
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    raise SetupError(
        f"{sys.executable} (Python {version}) cannot make virtual environments.\n"
        f"On Debian and Ubuntu: apt install python3-venv (or python{version}-venv). Or name another Python: "
        "make run PYTHON=/path/to/python3"
    )


def describe_pip(output: list[str]) -> str:
    """What pip is at, from what it has printed so far."""
    found = sum(line.startswith("Collecting ") for line in output)
    last = next((line.split() for line in reversed(output) if not line.startswith(" ")), ["starting"])
    if last[0] == "Installing":
        return f"unpacking {len(last) - 3} packages"
    name = last[1] if last[0] == "Collecting" else ""
    return f"{found} packages found, downloading {name}".rstrip()


def follow(pip: "subprocess.Popen[str]", output: list[str]) -> None:
    def read() -> None:
        for line in pip.stdout or ():
            output.append(line)  # noqa: PERF402 - the ticker reads the list meanwhile

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with Ticker(lambda: describe_pip(output)) as ticker:
        while reader.is_alive():
            reader.join(0.2)
            ticker.tick()


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Keep `make run` and `make test` in two terminals from making the same environment at once."""
    (root / ".work").mkdir(exist_ok=True)
    with (root / ".work" / "environment.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("waiting: another make is busy with .venv", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prepare(environment: Environment, kind: str) -> None:
    """Bring the environment to what `kind` needs, at the least cost."""
    wanted = sys.version_info[:3] if os.environ.get("PYTHON") else None
    fault = environment.fault(wanted=wanted)
    if not fault and environment.current(kind):
        print(f"environment: .venv is ready, Python {environment.version()}", flush=True)
        return
    steps = Steps(2 if fault else 1)
    if fault:
        steps.begin(f"making .venv with Python {'.'.join(map(str, sys.version_info[:3]))} ({fault})")
        environment.make()
        steps.end("made")
    steps.begin(f"installing {', '.join(REQUIREMENTS[kind])} and the project into .venv")
    environment.install(kind)
    environment.remember(kind)
    steps.end("installed")


def add_system_packages() -> None:
    """Install what only tests use; where that fails they skip and say so."""
    packages = system_packages.missing()
    if packages:
        steps = Steps(1)
        steps.begin(f"installing {', '.join(packages)} by apt, for tests")
        steps.end("installed" if system_packages.install(packages) else "not installed; the tests that need it skip")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in REQUIREMENTS:
        print("usage: python -m scripts.environment run|dev|bench", file=sys.stderr)
        return 2
    try:
        with alone(ROOT):
            prepare(Environment(ROOT), arguments[0])
            if arguments[0] == "dev":
                add_system_packages()
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
