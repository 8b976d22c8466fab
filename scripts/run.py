"""Start the server for `make run`, on a directory of one's own or on a fresh copy of the example.

This process becomes the server, so that Ctrl-C and SIGTERM reach it directly.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "calculator"
# What make adds, and what it was told: a make that the agent runs must not inherit it, and PORT in the environment
# would mean that a hosting platform has set it.
_DROPPED = re.compile(r"MAKE\w*|MFLAGS|RUN_(DIR|HOST|PORT)|DIR|HOST|PORT|PYTHON")
_GIT = ("git", "-c", "user.name=example", "-c", "user.email=example@localhost", "-c", "commit.gpgsign=false")
_GIT_QUIET = ("-c", "core.hooksPath=/dev/null", "-c", "init.defaultBranch=main")


def claim(parent: Path) -> Path:
    """Find a place for the copy that no running server uses; the claim ends with this process.

    The lock passes to the server with the process, so that a second `make run` takes `calculator-2`.
    """
    parent.mkdir(exist_ok=True)
    for number in range(1, 100):
        name = EXAMPLE.name if number == 1 else f"{EXAMPLE.name}-{number}"
        lock = os.open(parent / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        os.set_inheritable(lock, True)
        return parent / name
    raise SystemExit(f"{parent} holds too many running copies of the example")


def fresh_copy(source: Path, target: Path) -> None:
    """Copy the example and commit it, so that the first diff shows the agent's work and nothing else."""
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".pytest_cache"))
    outside = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "The example as it comes"]):
        done = subprocess.run(
            [*_GIT, *_GIT_QUIET, *command], cwd=target, env=outside, capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(f"git {command[0]} failed, the example has no history: {done.stderr.strip()}", file=sys.stderr)
            return


def server_environment(environ: Mapping[str, str], *, example: bool) -> dict[str, str]:
    """The environment without make's traces; for the example with this project's Python first on PATH."""
    variables = {name: value for name, value in environ.items() if not _DROPPED.fullmatch(name)}
    if example:
        variables["PATH"] = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{environ.get('PATH', os.defpath)}"
    return variables


def server_command(directory: Path, environ: Mapping[str, str]) -> list[str]:
    command = [str(ROOT / ".venv" / "bin" / "opencode"), "serve", str(directory)]
    if host := environ.get("RUN_HOST"):
        command += ["--host", host]
    if port := environ.get("RUN_PORT"):
        command += ["--port", port]
    return command


def main() -> NoReturn:
    chosen = os.environ.get("RUN_DIR", "")
    if chosen:
        directory = Path(chosen).expanduser().resolve()
        if not directory.is_dir():
            sys.exit(f"DIR={chosen}: there is no such directory")
    else:
        directory = claim(ROOT / ".work")
        fresh_copy(EXAMPLE, directory)
        print(f"workspace: a fresh copy of examples/{EXAMPLE.name} in {directory}", flush=True)
    command = server_command(directory, os.environ)
    os.execve(command[0], command, server_environment(os.environ, example=not chosen))  # noqa: S606 - no shell wanted


if __name__ == "__main__":
    main()
