"""`opencode attach` in a real terminal, which tmux provides."""

import os
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.live.server import environment, until

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed"),
]
DEADLINE_S = 60.0


class Tmux:
    """A tmux server of its own, with one window that runs one command."""

    def __init__(self, folder, command):
        self._socket = folder / "tmux"
        home = folder / "home"
        home.mkdir()
        self._environment = environment(home, TERM="xterm-256color", LC_ALL="C.UTF-8", COLORTERM="truecolor")
        script = f"{shlex.join(command)}; echo left with $?; read -r _"
        self("-f", os.devnull, "new-session", "-d", "-x", "100", "-y", "30", script)

    def __call__(self, *words):
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), *words],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout

    def keys(self, *keys):
        self("send-keys", *keys)

    def type(self, text):
        self("send-keys", "-l", text)

    def screen(self):
        return self("capture-pane", "-p")

    def shows(self, *texts):
        until(lambda: all(text in self.screen() for text in texts), DEADLINE_S, lambda: f"{texts} in\n{self.screen()}")


def test_a_turn_in_a_real_terminal(guide_server, tmp_path):
    url = f"http://127.0.0.1:{guide_server.port}"
    tmux = Tmux(tmp_path, [sys.executable, "-m", "opencode", "attach", url, "--tui", "tmux"])
    try:
        tmux.shows("● live at", "ask for something")
        tmux.type("run echo 'wörld 字'x")
        tmux.keys("BSpace", "Left", "Right")
        tmux.shows("run echo 'wörld 字'")
        tmux.keys("Enter")
        tmux.shows("✓ bash", "tokens in")
        tmux.keys("C-o")
        tmux.shows("▾ ✓ bash", "  wörld 字")
        tmux.keys("C-l")
        tmux.shows("Sessions")
        tmux.keys("Escape")
        tmux.keys("C-q")
        tmux.shows("left with 0")
    finally:
        tmux("kill-server")
