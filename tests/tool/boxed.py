"""Desks whose commands run in bubblewrap, where that works."""

import os
from functools import cache
from pathlib import Path

import pytest

from opencode.tool.bash import tool_environment
from opencode.tool.sandbox import find_sandbox
from tests.tool.desk import RIPGREP, Desk


@cache
def found():
    """Whether bubblewrap works here, and what is said of it."""
    sandbox, said = find_sandbox(os.environ, network=True)
    return sandbox is not None, said


def require_bubblewrap():
    """Skip the module where there is none that works."""
    works, said = found()
    if not works:
        pytest.skip(said, allow_module_level=True)


def boxed(directory, *, network=True, home=None, private=(), readable=(), path=None, grace_s=1.0, environ=()):
    """A desk in a sandbox of its own; `home` is what the commands' user has for a home."""
    directory.mkdir(parents=True, exist_ok=True)
    given = {"PATH": path or os.environ["PATH"], "HOME": str(home or directory.parent / "home"), **dict(environ)}
    Path(given["HOME"]).mkdir(exist_ok=True)
    sandbox, said = find_sandbox(
        given, network=network, private=private, readable=[Path(RIPGREP).parent, *map(Path, readable)]
    )
    assert sandbox, said
    environment = tool_environment(given)
    desk = Desk(
        directory,
        bash={"environment": environment, "sandbox": sandbox, "grace_s": grace_s},
        grep={"ripgrep": RIPGREP, "sandbox": sandbox},
    )
    desk.private = tuple(private)
    return desk
