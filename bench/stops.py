"""SIGTERM with 500 open streams: whether each gets its end, and how long it takes."""

import contextlib
import selectors
import signal
import socket
import statistics
import tempfile
import time
from pathlib import Path

from bench.streams import OURS, SERVERS, STARLETTE, Shape
from bench.table import Table, against

STREAMS = 500
LIMIT_S = 60
LAST_CHUNK = b"0\r\n\r\n"


def stop(name, folder):
    """Seconds until the process has ended, and how many of the streams got the end of their body."""
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(SERVERS[name](folder, Shape(1, 1, 1)))
        reading = stack.enter_context(selectors.DefaultSelector())
        for _ in range(STREAMS):
            stream = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT_S))
            stream.sendall(f"GET {server.path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
            assert stream.recv(12) == b"HTTP/1.1 200"
            reading.register(stream, selectors.EVENT_READ, bytearray())
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        whole = 0
        while reading.get_map():
            assert time.monotonic() - began < LIMIT_S, f"{len(reading.get_map())} streams are open still"
            for key, _ in reading.select(1):
                with contextlib.suppress(ConnectionError):
                    data = key.fileobj.recv(65_536)
                    key.data.extend(data)
                    if data and not key.data.endswith(LAST_CHUNK):
                        continue
                whole += key.data.endswith(LAST_CHUNK)
                reading.unregister(key.fileobj)
        server.wait_for_exit(LIMIT_S)
        return time.monotonic() - began, whole


def run(*, quick):
    rounds = 1 if quick else 3
    table = Table(
        f"SIGTERM with {STREAMS} open streams", ("server", "seconds to the exit", "streams with a whole body")
    )
    with tempfile.TemporaryDirectory() as name:
        for server in (OURS, f"{OURS}, OPENCODE_PUMP=off", STARLETTE):
            found = [stop(server, Path(name) / f"{len(server)}-{number}") for number in range(rounds)]
            seconds = statistics.median(each for each, _ in found)
            table.add(server, f"{seconds:.2f}", f"{min(whole for _, whole in found)} of {STREAMS}")
            if server == OURS:
                table.note = f"Seconds to the exit {against(seconds, 2)}."
    return [table]
