"""A process that was made undumpable, looked at by another one of the same user."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from opencode import undumpable

pytestmark = pytest.mark.once

if not Path("/proc/self/environ").exists():
    pytest.skip("looks into /proc", allow_module_level=True)

PROCESS = """
import os, subprocess, sys
{source}
if sys.argv[1] == "closed":
    assert close_memory()
child = os.fork() if sys.argv[2] == "child" else 0
if child:
    os.waitpid(child, 0)
    os._exit(0)
look = "cd /proc/%d; cat environ maps auxv; ls -l fd/0" % os.getpid()
print(subprocess.run(["/bin/sh", "-c", look], env={{}}, capture_output=True, text=True, errors="replace"))
"""
# Root without capabilities is a user like others.
PLAIN = ["setpriv", "--bounding-set", "-all", "--"]


def seen(mode, which, *, user=None):
    """What a program that the process starts sees of it."""
    program = PROCESS.format(source=Path(undumpable.__file__).read_text())
    python = sys.executable if user is None else "/usr/bin/python3"
    argv = [python, "-I", "-c", program, mode, which]
    if user is None and os.geteuid() == 0:
        argv = [*PLAIN, *argv]
    identity = {} if user is None else {"user": user, "group": "nogroup", "extra_groups": []}
    ran = subprocess.run(
        argv, env={"KEY": "sk-1"}, cwd="/", stdout=subprocess.PIPE, text=True, check=True, timeout=60, **identity
    )
    return ran.stdout


USERS = [
    pytest.param(
        None, marks=pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="no setpriv")
    ),
    pytest.param(
        "nobody",
        marks=pytest.mark.skipif(
            os.geteuid() != 0 or not Path("/usr/bin/python3").exists(), reason="only root can become nobody"
        ),
    ),
]


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("which", ["itself", "child"])
def test_its_environment_memory_and_files_are_closed_to_what_it_starts(user, which):
    assert "sk-1" in seen("open", which, user=user)

    closed = seen("closed", which, user=user)

    assert "sk-1" not in closed
    assert "libc" not in closed
    assert closed.count("ermission denied") >= 4


APP = """
import ctypes
{source}
print("dumpable", ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
app.extensions["opencode"].stop(0)
"""


@pytest.mark.parametrize(
    "source",
    [
        "from opencode.server.factory import create_app; app = create_app()",
        "from opencode import Server; app = Server(port=0).app",
    ],
)
def test_an_app_that_is_set_up_from_the_environment_closes_its_process(tmp_path, source):
    environ = {"PATH": os.defpath, "OPENCODE_DATA_DIR": str(tmp_path / "data"), "OPENCODE_MODEL": "demo/guide"}
    (tmp_path / "work").mkdir()
    environ["OPENCODE_DIRECTORY"] = str(tmp_path / "work")
    root = Path(undumpable.__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-c", APP.format(source=source)],
        env=environ,
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )

    assert ran.stdout == "dumpable 0\n"
