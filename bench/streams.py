"""Who serves streams: this server and its peers, each started anew on the server's core."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
from dataclasses import dataclass

from bench.measured import cores, pinned
from bench.peers import DATA
from tests.live.client import Client
from tests.live.server import ROOT, Server, environment, free_port, until

START_S = 60


@dataclass(frozen=True, slots=True)
class Shape:
    """So many bursts of so many events, and how far apart."""

    count: int
    burst: int
    every_ms: int

    @property
    def events(self):
        return self.count * self.burst


class Ours:
    """`opencode serve`. Its events are pieces of a turn's text, and each is stored before it is sent."""

    path = ""

    def __init__(self, folder, shape, *, pump=True):
        text = json.loads(DATA)["content"]
        entries = [{"text": text, "repeat": shape.count, "every_s": shape.every_ms / 1000}]
        if shape.burst > 1:
            entries = [{"text": text, "repeat": shape.burst}, {"pause_s": shape.every_ms / 1000}] * shape.count
        script = folder / "script.json"
        script.write_text(json.dumps({"turns": [entries], "loop": True}))
        self.server = Server.serve(
            folder / "server",
            OPENCODE_MODEL="scripted/script",
            OPENCODE_SCRIPT=script,
            OPENCODE_RATE_LIMIT="off",
            OPENCODE_LOG_LEVEL="warning",
            OPENCODE_PUMP="on" if pump else "off",
        )
        self.session = ""

    def __enter__(self):
        with pinned(cores()[0]):
            self.server.start()
        self.server.ready()
        self.session = Client(self.server).session()
        self.path = f"/api/session/{self.session}/message"
        return self

    def __exit__(self, *_exc):
        self.server.kill()

    @property
    def pid(self):
        return self.server.pid

    @property
    def port(self):
        return self.server.port

    def publish(self):
        path = f"/api/session/{self.session}/message"
        answer = Client(self.server).call("POST", path, {"content": "go"}, {"Prefer": "respond-async"})
        assert answer.status == 202, answer.data

    def send_signal(self, number):
        os.kill(self.pid, number)

    def wait_for_exit(self, seconds):
        self.server.wait(seconds)

    def wait(self):
        """Until the turn has ended."""
        client = Client(self.server)
        until(lambda: client.get(self.session)["status"] == "idle", 60, "the end of the turn")


class Peer:
    """A module of `bench.peers`."""

    path = "/stream"

    def __init__(self, folder, shape, command):
        self._shape = shape
        self.port = free_port()
        self._command = [part.format(port=self.port) for part in command]
        self._environment = environment(folder)
        self._process = None

    def __enter__(self):
        with pinned(cores()[0]):
            self._process = subprocess.Popen(
                [sys.executable, *self._command], cwd=ROOT, env=self._environment, stderr=subprocess.DEVNULL
            )
        until(self._answers, START_S, lambda: f"{self._command} to answer")
        return self

    def __exit__(self, *_exc):
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()

    def _answers(self):
        assert self._process.poll() is None, f"{self._command} ended"
        with contextlib.suppress(OSError):
            return self._ask("GET", "/health") == 200
        return False

    def _ask(self, method, path):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
            connection.request(method, path)
            return connection.getresponse().status

    @property
    def pid(self):
        return self._process.pid

    def publish(self):
        shape = self._shape
        asked = f"count={shape.count}&burst={shape.burst}&every_ms={shape.every_ms}"
        assert self._ask("POST", f"/publish?{asked}") == 200

    def send_signal(self, number):
        self._process.send_signal(number)

    def wait_for_exit(self, seconds):
        self._process.wait(seconds)

    def wait(self):
        """It has nothing to end."""


_GUNICORN = (
    *("-m", "gunicorn", "-c", os.devnull, "-k", "gevent", "--worker-connections", "12000", "--backlog", "4096"),
    *("--log-level", "warning", "-b", "127.0.0.1:{port}", "bench.peers.queues_app:app"),
)
OURS = "this server"
STARLETTE = "sse-starlette, uvicorn"
QUEUES = "queue per subscriber, Flask, gevent"
RAW = "raw gevent sockets"
#: By name: makes it of a folder and a shape.
SERVERS = {
    OURS: Ours,
    f"{OURS}, OPENCODE_PUMP=off": lambda folder, shape: Ours(folder, shape, pump=False),
    STARLETTE: lambda folder, shape: Peer(folder, shape, ("-m", "bench.peers.sse_starlette_app", "{port}")),
    QUEUES: lambda folder, shape: Peer(folder, shape, _GUNICORN),
    RAW: lambda folder, shape: Peer(folder, shape, ("-m", "bench.peers.raw_gevent", "{port}")),
}
