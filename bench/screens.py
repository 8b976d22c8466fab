"""What a key costs on a shared screen, and what it costs to look at one: `python -m bench screens`.

The server on one core, who types and looks on the other. A turn of 5,000 deltas is shown to 20 who look at the screen,
to 20 who follow the session itself, and to nobody; the difference to nobody is what looking costs.
"""

import contextlib
import json
import tempfile
import time
from pathlib import Path

from bench.measured import cores, cpu_s, pinned
from bench.table import Table
from bench.turn_load import Reading, Stream, connect, percentile, request
from tests.live.client import Client
from tests.live.server import Server

_LOOKERS = 20
_DEADLINE_S = 120
_END = b"event: done\n"


def keys(server, count):
    """Milliseconds from a key's request to its answer, until who looks has it, and of the server's processor."""
    client, answered, seen = Client(server), [], []
    with contextlib.closing(connect(server.port, request("GET", server.port, "/tui/events?tui=keys"))) as looking:
        looking.setblocking(True)
        while b"\nid: " not in looking.recv(65_536):
            pass
        used = cpu_s(server.pid)
        for _ in range(count):
            began = time.perf_counter()
            answer = client.call("POST", "/tui/input?tui=keys", {"type": "keypress", "key": "x"})
            answered.append((time.perf_counter() - began) * 1000)
            assert answer.status == 200, answer.data
            data = b""
            while b"event: prompt" not in data or not data.endswith(b"\n\n\r\n"):
                data += looking.recv(65_536)
            seen.append((time.perf_counter() - began) * 1000)
        used = cpu_s(server.pid) - used
    return answered, seen, used / count * 1000


def shown(server, path, deltas):
    """Seconds of the server's processor for one turn while so many read `path` with it; nothing may be missing."""
    client = Client(server)
    session = client.session()
    client.call("POST", "/tui/input", {"type": "command", "command": "session.select", "session_id": session})
    with Reading() as reading:
        streams = [
            Stream(connect(server.port, request("GET", server.port, path.format(session))), _END)
            for _ in range(_LOOKERS if path else 0)
        ]
        for stream in streams:
            reading.add(stream)
        reading.run(1.0)
        began = cpu_s(server.pid)
        body = {"content": "go", "when_busy": "reject"}
        asked = request("POST", server.port, f"/api/session/{session}/message", body, accept="application/json")
        streams.append(Stream(connect(server.port, asked), b'"tokens"'))
        reading.add(streams[-1])
        reading.finish(_DEADLINE_S)
        used = cpu_s(server.pid) - began
    for stream in streams[:-1]:
        assert len(stream.ages) >= deltas, f"{len(stream.ages)} of {deltas} deltas came"
    return used


def run(*, quick):
    deltas, pressed = (1000, 100) if quick else (5000, 500)
    typing = Table("A key on a screen", ("", "p50, ms", "p99, ms"))
    looking = Table(
        f"{deltas:,} deltas to {_LOOKERS} viewers", ("who looks", "CPU an event and viewer, µs", "of a follower's")
    )
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        # In the form that the reader looks for; how old they are is not asked here.
        step = [{"text": "t=0.000001 ", "repeat": deltas, "every_s": 0.001}]
        (home / "script.json").write_text(json.dumps({"turns": [step], "loop": True}))
        given = {"OPENCODE_MODEL": "scripted/script", "OPENCODE_SCRIPT": home / "script.json"}
        with pinned(cores()[0]):
            server = Server.serve(home / "server", OPENCODE_RATE_LIMIT="off", OPENCODE_LOG_LEVEL="warning", **given)
            server.start()
        with pinned(cores()[1]), contextlib.closing(contextlib.ExitStack()) as stack:
            stack.callback(server.kill)
            server.ready()
            keys(server, 20)
            answered, seen, used_ms = keys(server, pressed)
            for row, times in (("answered", answered), ("seen by who looks", seen)):
                typing.add(row, f"{percentile(times, 0.5):.2f}", f"{percentile(times, 0.99):.2f}")
            typing.note = f"The server's processor works {used_ms:.2f} ms for each, connection and request included."
            nobody = shown(server, "", deltas)
            used = {
                who: (shown(server, path, deltas) - nobody) / deltas / _LOOKERS * 1e6
                for who, path in (("at the session", "/api/session/{}/message"), ("at the screen", "/tui/events"))
            }
            for who, each in used.items():
                looking.add(who, f"{each:.1f}", f"{each / used['at the session']:.2f}")
    return [typing, looking]
