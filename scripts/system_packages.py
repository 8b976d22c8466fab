"""What the checks use of the system's packages, where it is missing and may be installed: root, and apt.

A test that needs such a program skips where there is none, so nothing here is a failure.
"""

import os
import shutil
import subprocess

from scripts.progress import Ticker

#: Program: the package that brings it.
PACKAGES = {"bwrap": "bubblewrap"}
LIMIT_S = 180.0


def missing() -> list[str]:
    """The packages whose programs are not there, where this process may install them."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return []
    return [package for program, package in PACKAGES.items() if shutil.which(program) is None]


def install(packages: list[str]) -> bool:
    """Install packages by apt; whether all are there now."""
    install_them = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    # The lists of packages may be missing, as in most containers, or old.
    return _succeeds(install_them) or (_succeeds(["apt-get", "update"]) and _succeeds(install_them))


def _succeeds(command: list[str]) -> bool:
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        process = subprocess.Popen(
            command, env=quiet, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    except OSError:
        return False
    waited_s, step_s = 0.0, 0.5
    with process, Ticker(lambda: " ".join(command[:2])) as ticker:
        while waited_s < LIMIT_S:
            try:
                return process.wait(step_s) == 0
            except subprocess.TimeoutExpired:
                waited_s += step_s
                ticker.tick()
        process.terminate()  # apt lets go of its locks
    return False
