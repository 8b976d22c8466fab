"""Make docs/attach.svg, the picture of `opencode attach`: `python -m scripts.tui_screenshot [FILE]`.

It starts a server on a copy of the example, types a request with a pilot's keys, and saves what the terminal shows.
"""

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from opencode.tui.app import AttachApp
from opencode.tui.connection import Connection, Refused, Unreachable

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "attach.svg"
SIZE = (104, 36)
_DEADLINE_S = 60.0


@contextmanager
def served_example(folder: Path) -> Iterator[str]:
    """The address of a server on a copy of the example; commands ask for permission."""
    work = shutil.copytree(ROOT / "examples" / "calculator", folder / "calculator")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "OPENCODE_DATA_DIR": str(folder / "data")}
    environ |= {"OPENCODE_MODEL": "demo/guide", "OPENCODE_RATE_LIMIT": "off", "OPENCODE_PERMISSION": "bash=ask"}
    command = [sys.executable, "-m", "opencode", "serve", str(work), "--port", str(port)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


async def until(condition: Callable[[], bool], pause: Callable[[float], object]) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("what was waited for did not come in time")
        await pause(0.1)  # type: ignore[misc] # the pilot's pause, or asyncio's


async def is_up(connection: Connection) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        try:
            await connection.call("GET", "/health")
        except (Refused, Unreachable):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return


def without_web_fonts(svg: str) -> str:
    """A picture of ours loads nothing from elsewhere."""
    svg = re.sub(r"@font-face\s*{.*?}", "", svg, flags=re.DOTALL)
    return svg.replace("font-family: Fira Code, monospace", "font-family: monospace")


async def picture(url: str) -> str:
    """The screen at the second question of the tour, as SVG."""
    async with Connection(url, None) as connection:
        await is_up(connection)
        app = AttachApp(connection)
        async with app.run_test(size=SIZE) as pilot:
            for request in ("show calculator.py", "run python3 -m unittest"):
                await pilot.press(*["space" if key == " " else key for key in request], "enter")
                await until(lambda: bool(app.figures.asked) or app.figures.status == "idle", pilot.pause)
            await until(lambda: bool(app.figures.asked), pilot.pause)
            await pilot.pause(0.5)
            return without_web_fonts(app.export_screenshot(title="opencode attach"))


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    with tempfile.TemporaryDirectory() as folder, served_example(Path(folder)) as url:
        target.write_text(asyncio.run(picture(url)), encoding="utf-8")
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
