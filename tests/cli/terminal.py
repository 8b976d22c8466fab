"""A command in a terminal of its own: what it writes, and what is typed."""

import contextlib
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl

from tests.live.server import until

_LIMIT_S = 60.0
#: The terminal becomes the session's by the first open of it; and Ctrl-C works in it, even where the tests themselves
#: were started in the background, with it ignored.
_ITS_OWN = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.close(os.open(os.ttyname(0), os.O_RDWR))
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """The command is the leader of a session whose terminal this is, as in a window of its own."""

    def __init__(self, command, *, cwd, env, columns=100):
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self._written = b""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _ITS_OWN, *command],
            cwd=cwd,
            env=env | {"TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        os.close(self._master)

    def _read(self):
        while select.select([self._master], [], [], 0)[0]:
            try:
                data = os.read(self._master, 65_536)
            except OSError:  # the other side is closed
                return
            if not data:
                return
            self._written += data

    @property
    def text(self):
        """All that was written so far."""
        self._read()
        return self._written.decode("utf-8", "replace").replace("\r\n", "\n")

    def shows(self, text):
        """Wait for it to be written."""
        until(lambda: text in self.text, _LIMIT_S, lambda: f"{text!r} in {self.text!r}")

    def type(self, keys):
        os.write(self._master, keys.encode())

    def terminate(self):
        self._process.send_signal(signal.SIGTERM)

    def exit_code(self):
        """Wait for it to end, reading on: a full terminal would hold it."""
        deadline = time.monotonic() + _LIMIT_S
        while time.monotonic() < deadline:
            self._read()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(0.05)
        raise AssertionError(f"it still runs: {self.text!r}")
