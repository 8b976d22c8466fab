"""Find Chromium for the browser tests, or install Debian's where that can be done: `python -m scripts.browser`.

Says nothing where there is one. Where there is none and none can be installed it says so, and the tests skip.
"""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from scripts.progress import Steps, Ticker

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / ".work" / "chromium.log"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LIMIT_S = 300.0
_OPTIONS = ("-y", "-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=2")
COMMANDS = (
    ("apt-get", *_OPTIONS, "update"),
    ("apt-get", *_OPTIONS, "install", "--no-install-recommends", "chromium"),
)
BY_HAND = "Install one for them: apt install chromium"


def find_chromium() -> str | None:
    """The path of an installed Chromium or Chrome."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def can_install() -> bool:
    """Whether Debian's can be installed: that takes apt and root."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install() -> int:
    """Run the commands one after the other, and show what they are at. The exit code of the one that failed, else 0."""
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("wb") as log, Ticker(_last_line) as ticker:
        for command in COMMANDS:
            process = subprocess.Popen(
                command,
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            stuck = threading.Timer(LIMIT_S, process.terminate)
            stuck.start()
            try:
                while process.poll() is None:
                    ticker.tick()
                    threading.Event().wait(0.2)
            except BaseException:
                process.terminate()
                process.wait()
                raise
            finally:
                stuck.cancel()
            if process.returncode:
                return process.returncode
    return 0


def _last_line() -> str:
    lines = LOG.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "starting")


def main() -> int:
    if find_chromium() is not None:
        return 0
    if not can_install():
        print(f"browser tests: there is no Chromium here, they will be skipped. {BY_HAND}", flush=True)
        return 0
    steps = Steps(1)
    steps.begin("installing Debian's Chromium for the browser tests, once; it takes a minute or two")
    code = install()
    found = find_chromium()
    steps.end(f"installed {found}" if found else f"apt-get failed ({code}), see {LOG.relative_to(ROOT)}. {BY_HAND}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
