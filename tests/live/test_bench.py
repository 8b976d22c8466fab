"""The benches that need nothing but this server run, at a small size: what they measure is for `make bench`."""

import subprocess
import sys

from tests.live.server import ROOT

NAMES = ("requests", "pages", "screens")


def test_the_benches_run():
    command = [sys.executable, "-m", "bench", *NAMES, "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stderr
    for name in NAMES:
        assert f"({name}: " in done.stderr
